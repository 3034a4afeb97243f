"""Lines of text whose characters know where they were written, through comments, macros and repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.budget import LINE_CHARACTERS
from verifier.errors import AsmError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verifier.asm.files import SourceFile
    from verifier.source import Span


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Text with the source offset of every character (and one more: of the end).

    Characters that an expansion produced all have the offset of the word that was expanded.
    ``source`` is the file the offsets refer to; ``origin`` the expansion that produced the line.
    """

    text: str
    offsets: Sequence[int]
    source: SourceFile
    origin: Span | None = None

    def __getitem__(self, part: slice) -> Line:
        """A contiguous part (step 1)."""
        start, stop, _ = part.indices(len(self.text))
        return Line(self.text[start:stop], self.offsets[start : stop + 1], self.source, self.origin)

    def __len__(self) -> int:
        return len(self.text)

    def strip(self) -> Line:
        start = len(self.text) - len(self.text.lstrip())
        return self[start : max(start, len(self.text.rstrip()))]

    def span(self, start: int = 0, stop: int | None = None) -> Span:
        """Where the characters from ``start`` to ``stop`` were written."""
        stop = len(self.text) if stop is None else stop
        end = self._end(max(stop - 1, 0)) if self.text else self.offsets[-1]
        return self.source.span(self.offsets[min(start, len(self.text))], end, self.origin)

    def error(
        self, message: str, hint: str | None = None, start: int = 0, stop: int | None = None
    ) -> AsmError:
        return AsmError(message, self.span(start, stop), hint)

    def within(self, origin: Span) -> Line:
        """The same characters, as part of an expansion."""
        return Line(self.text, self.offsets, self.source, origin)

    def written(self) -> str:
        """The characters as they stand in the file, before any expansion within the line."""
        if not self.text:
            return ""
        return self.source.text[self.offsets[0] : self._end(len(self.text) - 1)].strip()

    def _end(self, index: int) -> int:
        """The offset just after the word that character ``index`` came from."""
        here = self.offsets[index]
        return next((o for o in self.offsets[index + 1 :] if o > here), here + 1)


def physical(source: SourceFile) -> Iterator[Line]:
    """The lines of a file as they stand; `AsmError` for one that no person wrote."""
    for start, text in source.lines():
        if len(text) > LINE_CHARACTERS:
            raise AsmError(
                f"a line is longer than {LINE_CHARACTERS:,} characters", source.span(start, start + 80)
            )
        yield Line(text, range(start, start + len(text) + 1), source)


def joined(parts: Sequence[Line], origin: Span | None = None) -> Line:
    """One line from pieces of the same file; the last piece's end is the end."""
    text = "".join(p.text for p in parts)
    offsets = [o for p in parts for o in p.offsets[:-1]]
    offsets.append(parts[-1].offsets[-1])
    if len(text) > LINE_CHARACTERS:
        raise parts[0].error(f"a joined line is longer than {LINE_CHARACTERS:,} characters")
    return Line(text, offsets, parts[0].source, origin or parts[0].origin)


def rewritten(line: Line, changes: Sequence[tuple[int, int, str]], origin: Span | None = None) -> Line:
    """The line with each ``[start:stop]`` replaced, in order; new text has the place of the old."""
    texts: list[str] = []
    offsets: list[int] = []
    at = 0
    for start, stop, text in [*changes, (len(line), len(line), "")]:
        texts += (line.text[at:start], text)
        offsets += line.offsets[at:start]
        offsets += [line.offsets[start]] * len(text)
        at = stop
    if len(offsets) > LINE_CHARACTERS:
        raise line.error(f"a line expands to more than {LINE_CHARACTERS:,} characters")
    offsets.append(line.offsets[-1])
    return Line("".join(texts), offsets, line.source, origin or line.origin)
