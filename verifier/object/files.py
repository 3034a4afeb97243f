"""Files that hold code already assembled, told apart by what they begin with."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from verifier.asm.files import decode
from verifier.errors import AsmError
from verifier.object import limits
from verifier.object.elf import read_elf
from verifier.object.headers import MAGIC
from verifier.object.listing import is_listing, read_listing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from verifier.object.contents import Object

#: Bytes that tell what a file is.
_HEAD = 4096
#: What other files begin with, and what to say of them.
_OTHERS = (
    (b"!<arch>\n", "an archive of objects", "take the objects out of it (ar x) and list them"),
    (b"!<thin>\n", "an archive of objects", "list the objects themselves"),
    (b"BC\xc0\xde", "a compiler's intermediate code", "compile it to machine code"),
    (b"MZ", "a PE file", "ELF objects and executables are read; of a kernel image, vmlinux"),
    (b"\x1f\x8b", "compressed", "unpack it first"),
    (b"\xfd7zXZ", "compressed", "unpack it first"),
    (b"(\xb5/\xfd", "compressed", "unpack it first"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O file", "ELF objects and executables are read"),
)


def read_objects(files: Sequence[Path], root: Path) -> list[Object]:
    """What each file holds; its name is told from the folder ``root``. Raises AsmError for what is none of them."""
    return [_read(path, path.relative_to(root).as_posix()) for path in files]


def is_object(path: Path) -> bool:
    """Whether a file begins as an object does, or as the listing of one."""
    try:
        if not path.is_file():  # a pipe would keep us waiting
            return False
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except (OSError, ValueError):
        return False
    return head.startswith(MAGIC) or is_listing(head.decode("utf-8", "replace"))


def _read(path: Path, name: str) -> Object:
    try:
        if path.exists() and not path.is_file():
            raise AsmError(f"{name} is no regular file")
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size > limits.FILE_BYTES:
                raise AsmError(f"{name} is larger than {limits.FILE_BYTES >> 20} MB")
            head = stream.read(8)
            stream.seek(0)
            if head.startswith(MAGIC):
                return read_elf(stream, size, name)
            return _text(stream, head, size, name)
    except OSError as error:
        raise AsmError(f"cannot read {name}: {error.strerror}") from error


def _text(stream: IO[bytes], head: bytes, size: int, name: str) -> Object:
    for magic, what, hint in _OTHERS:
        if head.startswith(magic):
            raise AsmError(f"{name} is {what}", None, hint)
    hint = "an ELF object or executable is wanted, or what 'objdump -dr' prints; assembly text goes to program.source"
    if size > limits.LISTING_BYTES or b"\0" in head:
        raise AsmError(f"{name} is no object file", None, hint)
    text = decode(stream.read(), name)
    if not is_listing(text):
        raise AsmError(f"{name} is no object file, and no listing of one", None, hint)
    return read_listing(text, name)
