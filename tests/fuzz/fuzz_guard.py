"""Watches what one input makes the product do: files opened, code executed, processes and connections begun."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Audit events that no input may cause, by the words they begin with (``sys.addaudithook``).
FORBIDDEN = (
    "exec",
    "compile",
    "import",
    "pickle.",
    "marshal.",
    "code.",
    "ctypes.dlopen",
    "subprocess.",
    "socket.",
    "urllib.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "shutil.",
    "tempfile.",
)
LISTED = ("os.listdir", "os.scandir")
#: Of Linux's account of this process: how much memory it has.
HARMLESS = ("/proc/self/statm",)


class Misdeed(Exception):
    """An input made the product do what no input may."""


class Slow(Exception):
    """An input keeps the product busy for too long."""


class Guard:
    """``tree``: the only folder in which files may be opened, and only to be read."""

    def __init__(self, tree: Path, seconds: int) -> None:
        self._tree = tree.resolve()
        self._seconds = seconds
        self._watching = False
        self._misdeeds: list[str] = []
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, _too_slow)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises Misdeed at the end for what was done within; Slow as soon as it takes too long."""
        self._misdeeds.clear()
        signal.alarm(self._seconds)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.alarm(0)
        if self._misdeeds:
            raise Misdeed("; ".join(self._misdeeds))

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watching:
            return
        if event == "open" or event in LISTED:
            self._opened(event, arguments)
        elif event.startswith(FORBIDDEN):
            self._misdeeds.append(f"{event}{arguments!r}"[:300])

    def _opened(self, event: str, arguments: tuple[object, ...]) -> None:
        name = arguments[0]
        if not isinstance(name, (str, bytes)) or os.fsdecode(name) in HARMLESS:
            return
        flags = arguments[2] if event == "open" else os.O_RDONLY
        inside = Path(os.path.realpath(os.fsdecode(name))).is_relative_to(self._tree)
        if not inside or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            self._misdeeds.append(f"{event}{arguments!r}"[:300])


def _too_slow(*_: object) -> None:
    raise Slow
