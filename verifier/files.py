"""Files that a user names: written whole or not at all, read up to a size, looked for in one folder tree only."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from errno import EACCES, ENOENT
from pathlib import Path

from verifier.errors import UsageError


def replace_file(path: Path, data: bytes, durable: bool = True) -> None:
    """Make ``path`` a regular file that holds ``data``.

    Whatever happens, killing the process included, the name holds either what it held before or all of ``data``.
    What is left behind then is at most a ``.*.part`` file beside it. ``durable``: also when the power fails (slow:
    for single files, not for thousands). A symbolic link stays one: the file that it leads to is replaced. Raises
    UsageError where the operating system refuses, and for what is there and no regular file.
    """
    target = target_of(path)
    try:
        _replace(target, data, durable)
    except OSError as error:
        raise _refused(path, error) from None


def read_file(path: Path, most: int) -> bytes:
    """What a regular file holds. Raises UsageError where it cannot be read, and for more than ``most`` bytes."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{_short(path)}: not a regular file")
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{_short(path)}: {_why(error)}") from None
    if len(data) > most:
        raise UsageError(f"{_short(path)}: larger than {most >> 20} MB")
    return data


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder tree, symbolic links resolved, and can be looked up."""
    try:
        path.exists()
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL byte
        return False


def target_of(path: Path) -> Path:
    """The file that is meant, symbolic links resolved. Raises UsageError if it is plain that it cannot be written."""
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise UsageError(f"cannot write {_short(path)}: it is there, and no regular file")
        if not target.parent.is_dir():
            raise NotADirectoryError(ENOENT, os.strerror(ENOENT))
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links and a NUL byte among them
        raise _refused(path, error) from None
    return target


def _refused(path: Path, error: Exception) -> UsageError:
    return UsageError(f"cannot write {_short(path)}: {_why(error)}")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _replace(target: Path, data: bytes, durable: bool) -> None:
    part = target.parent / f".{secrets.token_hex(8)}.part"
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(number)
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if durable:
        _keep_name(target.parent)


def _keep_name(folder: Path) -> None:
    """A new name is durable once its folder is."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}…"
