"""Reading source files: only inside the root folder, only text, only of reasonable size."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.asm.budget import FILE_BYTES, LINES
from verifier.errors import AsmError, nearest
from verifier.source import Span

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    """A text with a name to show; positions in it are character offsets.

    ``path`` is the resolved path (None for text from no file); ``origin`` the include that opened it.
    """

    name: str
    text: str
    path: Path | None = None
    origin: Span | None = None
    _starts: list[int] = field(init=False, repr=False)
    _shown: dict[int, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        starts = [0]
        while (at := self.text.find("\n", starts[-1])) >= 0:
            starts.append(at + 1)
        object.__setattr__(self, "_starts", starts)

    def lines(self) -> list[tuple[int, str]]:
        """Each physical line with its offset, line ends removed."""
        ends = [*self._starts[1:], len(self.text) + 1]
        found = [(s, self.text[s : e - 1].rstrip("\r")) for s, e in zip(self._starts, ends, strict=True)]
        return found if found[-1][1] else found[:-1]

    def span(self, start: int, end: int, origin: Span | None = None) -> Span:
        """The stretch from offset ``start`` to ``end``, cut at the end of its line."""
        index = bisect_right(self._starts, start) - 1
        begin = self._starts[index]
        stop = self._starts[index + 1] - 1 if index + 1 < len(self._starts) else len(self.text)
        if index not in self._shown:  # a line may have thousands of statements, each with spans
            self._shown[index] = self.text[begin:stop].rstrip("\r")
        line = self._shown[index]
        column = start - begin + 1
        return Span(
            self.name, index + 1, column, max(column, min(end, stop) - begin + 1), line, origin or self.origin
        )


class Reader:
    """Opens files below one root folder and remembers their names."""

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise AsmError(f"cannot use the folder {root}: {reason(error)}") from error
        self.names: list[str] = []

    def open(self, path: Path, span: Span | None = None) -> SourceFile:
        """The text of ``path``; `AsmError` at ``span`` if outside the root, missing, binary or too large."""
        try:
            resolved = path.resolve()
            inside = resolved.is_relative_to(self.root)
            found = inside and resolved.is_file()
            if inside and not found:
                resolved.stat()
        except (OSError, RuntimeError, ValueError) as error:
            raise AsmError(
                f"cannot open {_short(path)}: {reason(error)}", span, _neighbour(path, self.root)
            ) from error
        if not inside:
            hint = f"only files below {self.root.name or self.root}/ are read, symbolic links resolved"
            raise AsmError(f"{_short(path)} is outside the folder tree", span, hint)
        if not found:
            raise AsmError(f"{_short(path)} is not a regular file", span)
        name = resolved.relative_to(self.root).as_posix()
        source = SourceFile(name, self._text(resolved, span), resolved, span)
        if name not in self.names:
            self.names.append(name)
        return source

    def include(self, name: str, including: Sequence[Path], span: Span) -> SourceFile:
        """The file that an include names: beside the including file, else below the root."""
        if "\0" in name or not name:
            raise AsmError("not a file name", span)
        folders = [path.parent for path in including[-1:]] + [self.root]
        wanted = next((f / name for f in folders if self._holds(f / name)), folders[0] / name)
        try:
            source = self.open(wanted, span)
        except AsmError as error:
            message = error.message.replace(_short(wanted), _short(Path(name)))
            raise AsmError(message, span, error.hint) from error
        if source.path in including:
            raise AsmError(f"{name} includes itself", span)
        return source

    def _holds(self, path: Path) -> bool:
        """Whether the path is a file inside the root."""
        try:
            resolved = path.resolve()
            return resolved.is_relative_to(self.root) and resolved.is_file()
        except (OSError, RuntimeError, ValueError):
            return False

    def _text(self, path: Path, span: Span | None) -> str:
        try:
            with path.open("rb") as stream:
                data = stream.read(FILE_BYTES + 1)
        except OSError as error:
            raise AsmError(f"cannot read {path.name}: {reason(error)}", span) from error
        name = path.relative_to(self.root).as_posix()
        if len(data) > FILE_BYTES:
            raise AsmError(f"{name} is larger than {FILE_BYTES >> 20} MB", span)
        return decode(data, name, span)


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else text[:200] + "…"


def decode(data: bytes, name: str, span: Span | None = None) -> str:
    """Bytes as text; `AsmError` at the place of what is not UTF-8 and of what `check_text` refuses."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = error.object[: error.start].decode()
        raise _no_text("not UTF-8: this is no text file", head, name, span) from None
    check_text(text, name, span)
    return text


def check_text(text: str, name: str, span: Span | None = None) -> None:
    """Refuse NUL bytes, which no assembly text has, and more lines than any has; ``span`` asked for the text."""
    if "\0" in text:
        head = text[: text.index("\0")]
        raise _no_text("a NUL byte: this is no text file", head, name, span)
    if text.count("\n") > LINES:
        raise AsmError(f"{name} has more than {LINES:,} lines", span)


def _no_text(message: str, head: str, name: str, origin: Span | None) -> AsmError:
    """An error at the character after ``head``, whose last line is text still."""
    start = head.rfind("\n") + 1
    column = len(head) - start + 1
    text = f"{head[start:]}\ufffd"
    place = Span(name, head.count("\n") + 1, column, column + 1, text, origin)
    return AsmError(message, place, "assembly texts are UTF-8")


def reason(error: Exception) -> str:
    """Why the operating system refused, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _neighbour(path: Path, root: Path) -> str | None:
    """The nearest file name in the same folder, if that folder is one we may look into."""
    try:
        folder = path.parent.resolve(strict=True)
        if not folder.is_relative_to(root):
            return None
        return nearest(path.name, [entry.name for entry in folder.iterdir()])
    except (OSError, RuntimeError, ValueError):
        return None
