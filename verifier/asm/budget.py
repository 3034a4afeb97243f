"""Limits on what a text may expand to, so that no input can exhaust memory or time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.lines import Line
    from verifier.source import Span

FILE_BYTES = 8 << 20
#: Of one line, joined or expanded.
LINE_CHARACTERS = 16_384
LINES = 100_000
CHARACTERS = 16 << 20
#: Of lines that macros and repeats produce.
EXPANDED_CHARACTERS = 2 << 20
#: Characters of tokens that preprocessor macros may produce.
MACRO_CHARACTERS = 1_000_000
#: Files that are opened on behalf of the text, again and again perhaps.
INCLUDES = 2_000
#: Nested includes, conditionals and expansions.
DEPTH = 200
#: Nested parentheses and operators in an expression, and symbols defined by symbols in its evaluation.
EXPRESSION_DEPTH = 60
EVALUATION_DEPTH = 300
SECTION_BYTES = 16 << 20
INSTRUCTIONS = 100_000
#: Items looked at while jump sizes are chosen.
RELAX_STEPS = 4_000_000
LARGEST_ALIGNMENT = 1 << 21


class Budget:
    """Counts down what one assembly may still use; every `AsmError` it raises names the place that asked."""

    def __init__(self) -> None:
        self.lines = LINES
        self.characters = CHARACTERS
        self.expanded_characters = EXPANDED_CHARACTERS
        self.macro_characters = MACRO_CHARACTERS
        self.includes = INCLUDES
        self.bytes = SECTION_BYTES
        self.instructions = INSTRUCTIONS

    def line(self, line: Line) -> None:
        """One more line of text, expanded or read."""
        self.lines -= 1
        self.characters -= len(line)
        if self.lines < 0:
            raise line.error(f"the text expands to more than {LINES:,} lines", _BOMB)
        if self.characters < 0:
            raise line.error(f"the text expands to more than {CHARACTERS >> 20} MB", _BOMB)

    def expanded_line(self, line: Line) -> None:
        """One more line that a macro or a repeat produced."""
        self.line(line)
        self.expanded_characters -= len(line)
        if self.expanded_characters < 0:
            raise line.error(f"macros and repeats expand to more than {EXPANDED_CHARACTERS >> 20} MB", _BOMB)

    def include(self, span: Span) -> None:
        self.includes -= 1
        if self.includes < 0:
            raise AsmError(f"more than {INCLUDES:,} files are included", span, "files that include each other twice?")

    def foresee(self, lines: int, span: Span) -> None:
        """Refuse early what is bound to need more lines than are left."""
        if lines > self.lines:
            raise AsmError(f"this expands to more than {LINES:,} lines", span, _BOMB)

    def macro_text(self, characters: int, line: Line) -> None:
        """What one step of a preprocessor macro's expansion produced."""
        self.macro_characters -= characters + 1
        if self.macro_characters < 0:
            raise line.error(f"macros expand to more than {MACRO_CHARACTERS:,} characters", _BOMB)

    def emit(self, count: int, span: Span) -> None:
        """``count`` more bytes in some section."""
        self.bytes -= count
        if self.bytes < 0:
            raise AsmError(f"the sections hold more than {SECTION_BYTES >> 20} MB", span)

    def instruction(self, span: Span) -> None:
        self.instructions -= 1
        if self.instructions < 0:
            raise AsmError(f"the text assembles to more than {INSTRUCTIONS:,} instructions", span, _BOMB)


_BOMB = "a repeat count or a macro that calls itself is probably wrong"
