"""Writing to a person: encodings, colour, and progress while a search takes long."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from verifier.errors import UsageError
from verifier.files import replace_file, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

Colour = Literal["auto", "always", "never"]

#: What stands for the few signs that are no ASCII, where the output cannot show them.
_ASCII = str.maketrans({"│": "|", "↯": "!", "↩": "<-", "✗": "X", "→": "->", "…": "..."})
_STYLES = {
    r"(?m)^[\w-]+: (?P<v>proved)\b": "bold green",
    r"(?m)^[\w-]+: (?P<v>refuted)\b": "bold red",
    r"(?m)^[\w-]+: (?P<v>unknown|vacuous)\b": "bold yellow",
    r"(?m)↯ .*?(?=  |$)": "bold yellow",
    r"(?m)↩ .*$": "green",
    r"(?m)✗ .*$": "bold red",
    r"(?m)^\s*broken: .*$": "bold red",
    r"(?m)^.*not as expected.*$": "red",
    r"(?m)\berror: ": "bold red",
}


def plain(text: str, encoding: str | None) -> str:
    """Text that the encoding can show and that cannot steer a terminal."""
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    encoding = encoding or "ascii"
    if "utf" not in encoding.lower():
        text = text.translate(_ASCII)
    return text.encode(encoding, "backslashreplace").decode(encoding)


class OutputError(Exception):
    """What was to be said cannot be written, and why: the disk is full, for example."""


class Terminal:
    """Where a command writes: verdicts to stdout or to the file ``output``, errors and progress to stderr.

    Raises OutputError where it cannot, for a file as soon as that is plain.
    """

    def __init__(self, colour: Colour = "auto", output: str | None = None) -> None:
        self._colour = colour
        self._output = None if output is None else Path(output)
        self._kept: list[str] = []
        if self._output is not None:
            with _as_output_error():
                target_of(self._output)

    def say(self, text: str = "") -> None:
        if self._output is None:
            self._write(sys.stdout, text)
        else:
            self._kept.append(f"{plain(text, 'utf-8')}\n")

    def close(self) -> None:
        """All is said: only now the file changes."""
        if self._output is not None:
            with _as_output_error():
                replace_file(self._output, "".join(self._kept).encode())

    def complain(self, text: str) -> None:
        sys.stdout.flush()
        self._write(sys.stderr, text)

    def _write(self, stream: TextIO, text: str) -> None:
        shown = plain(text, stream.encoding)
        try:
            if self._coloured(stream):
                _console(stream).print(_painted(shown), soft_wrap=True)
            else:
                stream.write(f"{shown}\n")
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the output: {error.strerror}") from error

    def _coloured(self, stream: TextIO) -> bool:
        if self._colour != "auto":
            return self._colour == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def _as_output_error() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise OutputError(error.message) from error


def _console(stream: TextIO) -> Any:
    from rich.console import Console

    return Console(file=stream, force_terminal=True, color_system="standard", highlight=False, no_color=False)


def _painted(text: str) -> Any:
    from rich.text import Text

    painted = Text(text)
    for pattern, style in _STYLES.items():
        painted.highlight_regex(pattern, style)
    return painted


class Progress:
    """Tells on stderr how far a search is, once it has taken a second: a status line, or now and then a line.

    Called with the states explored and waiting; a context, so that the status line goes away.
    """

    def __init__(self, what: str, quiet: bool = False, first: float = 1.0, every: float = 10.0) -> None:
        self._what = what
        self._quiet = quiet
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        self._every = every
        self._next = self._began + (first if self._live else every)
        self._status: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the status line away, so that something can be written."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __call__(self, explored: int, waiting: int) -> None:
        now = time.monotonic()
        if self._quiet or now < self._next:
            return
        self._next = now + (0.25 if self._live else self._every)
        seconds = now - self._began
        text = f"{self._what}: {explored} states explored, {waiting} waiting, {seconds:.0f} s"
        self._show(plain(text, sys.stderr.encoding))

    def _show(self, text: str) -> None:
        if not self._live:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        elif self._status is None:
            from rich.console import Console
            from rich.markup import escape

            self._status = Console(stderr=True).status(escape(text))
            self._status.start()
        else:
            from rich.markup import escape

            self._status.update(escape(text))
