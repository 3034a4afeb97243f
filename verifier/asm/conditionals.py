"""``.if`` and its kin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.budget import DEPTH
from verifier.asm.data import decode_string
from verifier.asm.expression import parse
from verifier.asm.macros import compact
from verifier.asm.operands import split

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.asm.lines import Line
    from verifier.asm.state import Assembly

SYMBOL = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_COMPARED: dict[str, Callable[[int], bool]] = {
    "if": lambda v: v != 0,
    "ifne": lambda v: v != 0,
    "ifeq": lambda v: v == 0,
    "ifge": lambda v: v >= 0,
    "ifgt": lambda v: v > 0,
    "ifle": lambda v: v <= 0,
    "iflt": lambda v: v < 0,
}
#: Their arguments have to be right even where text is skipped.
_OTHERS = ("ifdef", "ifndef", "ifnotdef", "ifc", "ifnc", "ifeqs", "ifnes", "ifb", "ifnb")
_OPENERS = frozenset((*_COMPARED, *_OTHERS))
NAMES = frozenset((*(f".{n}" for n in _OPENERS), ".elseif", ".else", ".endif"))


@dataclass(slots=True)
class _Branch:
    """``outer``: whether the text around is read; ``taken``: whether a branch was read already."""

    opening: Line
    outer: bool
    live: bool
    taken: bool
    seen_else: bool = False


class Conditionals:
    """The open conditionals, innermost last."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._open: list[_Branch] = []

    @property
    def live(self) -> bool:
        """Whether text is read at all here."""
        return not self._open or self._open[-1].live

    @property
    def depth(self) -> int:
        return len(self._open)

    def unwind(self, depth: int) -> None:
        """Forgets what was opened since (``.exitm``)."""
        del self._open[depth:]

    def check_closed(self, depth: int) -> None:
        if len(self._open) > depth:
            raise self._open[-1].opening.error("this conditional is never closed", "close it with .endif")

    def handle(self, name: str, line: Line, arguments: Line, floor: int) -> None:
        """One directive of `NAMES`; ``floor``: how many were open where this file or macro body began."""
        word = name[1:]
        if word in _OPENERS:
            if len(self._open) >= DEPTH:
                raise line.error(f"conditionals are nested more than {DEPTH} deep")
            outer = self.live
            live = (outer or word in _OTHERS) and self._holds(word, line, arguments) and outer
            self._open.append(_Branch(line, outer, live, live))
            return
        if len(self._open) <= floor:
            raise line.error(f"{name} without .if")
        branch = self._open[-1]
        if word != "elseif" and arguments.text:
            raise arguments.error(f"text after {name}")
        if word == "endif":
            self._open.pop()
            return
        if branch.seen_else:
            raise line.error(f"{name} after .else")
        branch.seen_else = word == "else"
        eligible = branch.outer and not branch.taken
        branch.live = eligible and (word == "else" or self._holds("if", line, arguments))
        branch.taken |= branch.live

    def _holds(self, word: str, line: Line, arguments: Line) -> bool:
        if word in _COMPARED:
            if not arguments.text:
                raise line.error(f".{word} needs an expression")
            value = self._assembly.constant(parse(arguments, self._assembly))
            if value is None:
                raise arguments.error(
                    "this is not known yet where it is read",
                    "only constants and symbols set above it can decide",
                )
            return _COMPARED[word](value)
        if word in ("ifb", "ifnb"):
            return (not arguments.text) == (word == "ifb")
        if word in ("ifdef", "ifndef", "ifnotdef"):
            if not SYMBOL.fullmatch(arguments.text):
                raise line.error(f".{word} needs a name")
            defined = self._assembly.symbols.entry_or_none(arguments.text) is not None
            return defined == (word == "ifdef")
        equal = _equal_strings if word in ("ifeqs", "ifnes") else _equal_texts
        return equal(line, arguments) == (word in ("ifc", "ifeqs"))


def _equal_texts(line: Line, arguments: Line) -> bool:
    """What stands before and after the first comma, wherever that is, with no more blanks than GNU as sees."""
    first, comma, second = compact(arguments.text).partition(",")
    if not comma:
        raise line.error("two texts are compared, separated by a comma")
    return first.strip() == second.strip()


def _equal_strings(line: Line, arguments: Line) -> bool:
    parts = list(split(arguments))
    if len(parts) != 2:
        raise line.error("two strings are compared, separated by a comma")
    return decode_string(parts[0]) == decode_string(parts[1])
