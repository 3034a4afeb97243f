"""`table` read into rows, and the mnemonics that lead to each."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from verifier.asm.encode.kinds import KINDS, Kind
from verifier.asm.encode.table import TABLE
from verifier.asm.program import CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUFFIXES = {"b": 8, "w": 16, "l": 32, "q": 64}

#: Other spellings of the conditions (Vol. 2D, B.1.4.7).
_CONDITION_SYNONYMS = {
    "b": ("c", "nae"),
    "ae": ("nc", "nb"),
    "e": ("z",),
    "ne": ("nz",),
    "be": ("na",),
    "a": ("nbe",),
    "p": ("pe",),
    "np": ("po",),
    "l": ("nge",),
    "ge": ("nl",),
    "le": ("ng",),
    "g": ("nle",),
}
_MANDATORY = (b"\x66", b"\xf3", b"\xf2")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: ``sizes`` in bits, none if there is no operand size; ``opcode`` without prefix."""

    mnemonic: str
    condition: str | None
    sizes: tuple[int, ...]
    kinds: tuple[Kind, ...]
    mandatory: bytes
    opcode: bytes
    near: bytes
    sized_opcode: bool
    digit: int | None
    flags: frozenset[str]

    def has(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def arity(self) -> int:
        """The number of operands written."""
        return len(self.kinds) - (self.has("one") or self.has("twice"))

    @property
    def default_size(self) -> int:
        """The operand size when neither suffix nor register tells: GNU as takes 32 bits where it can."""
        if not self.sizes:
            return 0
        if self.has("d64"):
            return 64
        return 32 if 32 in self.sizes else self.sizes[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that a mnemonic can mean; ``size`` is the operand size its suffix says, or None."""

    row: Row
    size: int | None


def _split(opcode: str) -> tuple[bytes, bytes]:
    code = bytes.fromhex(opcode)
    return (code[:1], code[1:]) if code[:1] in _MANDATORY and len(code) > 1 else (b"", code)


def _row(line: str, mnemonic: str, condition: str | None) -> Row:
    _, sizes, kinds, opcode, *flags = line.split()
    values = {flag[0]: flag[1:] for flag in flags if flag[0] in "/="}
    near = next((flag.removeprefix("near=") for flag in flags if flag.startswith("near=")), "")
    mandatory, code = _split(opcode.removesuffix("w"))
    number = CONDITIONS.index(condition) if condition else 0
    digit = values.get("/")
    return Row(
        mnemonic=values.get("=", mnemonic),
        condition=condition,
        sizes=tuple(SUFFIXES[letter] for letter in sizes if letter != "-"),
        kinds=tuple(KINDS[kind] for kind in kinds.split(",") if kind != "-"),
        mandatory=mandatory,
        opcode=_plus(code, number),
        near=_plus(bytes.fromhex(near), number),
        sized_opcode=opcode.endswith("w"),
        digit=int(digit) if digit else None,
        flags=frozenset(flags),
    )


def _plus(opcode: bytes, number: int) -> bytes:
    return opcode[:-1] + bytes([opcode[-1] + number]) if opcode else opcode


def _expand(line: str) -> Iterator[tuple[tuple[str, ...], Row]]:
    """The rows of a line, each with the names it goes by (without size suffix)."""
    names = tuple(line.split(maxsplit=1)[0].split("/"))
    if not names[0].endswith("CC"):
        yield names, _row(line, names[0], None)
        return
    stem = names[0].removesuffix("CC")
    for condition in CONDITIONS:
        spellings = (condition, *_CONDITION_SYNONYMS.get(condition, ()))
        yield tuple(stem + spelling for spelling in spellings), _row(line, stem + "cc", condition)


def _index() -> Mapping[str, tuple[Candidate, ...]]:
    whole: dict[str, list[Candidate]] = {}
    suffixed: dict[str, list[Candidate]] = {}
    letters = {size: letter for letter, size in SUFFIXES.items()}
    for line in filter(None, TABLE.splitlines()):
        for names, row in _expand(line):
            for name in names:
                whole.setdefault(name, []).append(Candidate(row, None))
                for size in () if row.has("whole") else row.sizes:
                    suffixed.setdefault(name + letters[size], []).append(Candidate(row, size))
    return MappingProxyType(
        {name: (*whole.get(name, ()), *suffixed.get(name, ())) for name in whole.keys() | suffixed.keys()}
    )


#: Every mnemonic with the rows it can mean, in the order in which they are tried.
CANDIDATES = _index()
