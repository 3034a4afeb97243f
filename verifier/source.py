"""Positions in source text, and the caret excerpts that errors show."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Characters of a line that an excerpt shows, and how many of them before a place far to the right.
_SHOWN = 200
_CONTEXT = 60
_CUT = "..."


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one source line.

    ``line`` and ``column`` count from 1; ``end`` is the column after the last character; ``text`` is the whole
    line as written. Code without a source text has ``line`` 0, a ``file`` that names its place in an object, and a
    disassembled line as its ``text``. ``origin`` is the place that expanded to this line (macro, include, repeat),
    innermost first.
    """

    file: str
    line: int
    column: int
    end: int
    text: str
    origin: Span | None = None

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def excerpt(self) -> list[str]:
        """The source line with a caret line below it, then one line per expansion it came from."""
        text, skipped = self._window()
        shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)
        number = f"{self.line or '':5} | "
        before = self.column - 1 - skipped
        pad = "".join("\t" if c == "\t" else " " for c in shown[:before])
        carets = "^" * max(1, min(self.end - skipped, len(shown) + 1) - before - 1)
        lines = [number + shown, " " * 5 + " | " + pad + carets]
        origin = self.origin
        for _ in range(3):
            if origin is None:
                break
            lines.append(f"      expanded from {origin.where}: {origin.text.strip()[:100]}")
            origin = origin.origin
        return lines

    def _window(self) -> tuple[str, int]:
        """As much of the line as fits, and by how many columns it is shifted to the left."""
        text = self.text.rstrip("\n")
        if self.column <= _CONTEXT or self.end <= _SHOWN:
            return text[:_SHOWN], 0
        first = self.column - 1 - _CONTEXT
        return _CUT + text[first : first + _SHOWN], first - len(_CUT)

    def narrow(self, column: int, end: int) -> Span:
        """The same line, another stretch of it."""
        return replace(self, column=column, end=end)
