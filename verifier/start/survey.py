"""What the code that some entries lead to needs from outside, and what of it is not supported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE, Imm, Mem, Target
from verifier.errors import AsmError, LiftError, UsageError, nearest
from verifier.lift import lift
from verifier.object import Patching, link
from verifier.object.code import successors
from verifier.object.link import alternatives_of
from verifier.start.fields import Parts

if TYPE_CHECKING:
    from verifier.asm.program import Instruction, Operand, Program
    from verifier.object.contents import Object
    from verifier.start.fields import Part

#: Each symbol that no object defines gets a stretch of addresses of its own, above the text and within its reach.
_FIRST, _STRETCH = TEXT_BASE + (1 << 28), 1 << 16
_MOST_SYMBOLS = 20_000
_MOST_INSTRUCTIONS = 50_000
_ADDRESSES = 1 << 64
#: What a specification can name.
NAME = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*", re.ASCII)


@dataclass(slots=True)
class Use:
    """How the code uses a symbol that no object defines, or calls a function of an executable.

    ``called`` and ``jumped_to``: where control goes there directly; ``accessed``: where it is read or written, ``size``
    bytes from the symbol on, ``percpu`` if through GS; ``address_taken``: where its address is a value. All in words.
    """

    name: str
    called: list[str] = field(default_factory=list)
    jumped_to: list[str] = field(default_factory=list)
    accessed: list[str] = field(default_factory=list)
    address_taken: list[str] = field(default_factory=list)
    size: int = 0
    percpu: bool = False

    @property
    def is_code(self) -> bool:
        return bool(self.called or self.jumped_to) and not self.size


@dataclass(frozen=True, slots=True)
class Survey:
    """``instructions``: how many direct control flow leads to, ``nops`` of them; ``uses``: by name, in the order in
    which they are met; ``problems``: what is not supported, with its place; ``indirect``: jumps and calls whose targets
    only the search finds; ``alternatives``: feature -> the places that are replaced with or without it; ``parts``: what
    is used of an executable's own data that has to be named; ``tables``: what is read there by an index, and where.
    """

    program: Program
    entries: tuple[str, ...]
    instructions: int
    nops: int
    uses: Mapping[str, Use]
    problems: tuple[str, ...]
    indirect: tuple[str, ...]
    alternatives: Mapping[int, list[str]]
    mnemonics: frozenset[str]
    parts: tuple[Part, ...] = ()
    tables: Mapping[str, list[str]] = field(default_factory=dict)


def survey(objects: Sequence[Object], entries: Sequence[str]) -> Survey:
    """Raises UsageError for an entry that no object has, AsmError for objects that do not fit together."""
    defined = {s.name for o in objects for s in o.symbols if s.section != "undefined"}
    undefined = sorted({s.name for o in objects for s in o.symbols if s.section == "undefined" and s.name} - defined)
    if len(undefined) > _MOST_SYMBOLS:
        raise UsageError(f"more than {_MOST_SYMBOLS:,} symbols are not defined: link some of the objects first")
    places = {name: _FIRST + _STRETCH * n for n, name in enumerate(undefined)}
    program = link(objects, text_base=None, externals=places, patching=Patching(True))
    linked = any(o.linked for o in objects)
    functions = _functions(program, entries) if linked else {}
    for entry in entries:
        if program.address_of(entry) not in program.instructions:
            raise UsageError(f"--entry {entry}: no code has this name", None, nearest(entry, program.symbols))
    return _Path(program, undefined, functions, linked).survey(objects, tuple(entries))


def _functions(program: Program, entries: Sequence[str]) -> dict[int, str]:
    """What an executable has as functions, by address: entries call them, and contracts stand for them."""
    names = {s.value: s.name for s in program.symbols.values() if s.type == "func" and NAME.fullmatch(s.name)}
    return {at: name for at, name in names.items() if name not in entries}


class _Path:
    def __init__(self, program: Program, undefined: list[str], functions: Mapping[int, str], linked: bool) -> None:
        self._program = program
        self._undefined = undefined
        self._functions = functions
        self._linked = linked
        self._parts = Parts(program)
        self._uses: dict[str, Use] = {}
        self._problems: list[str] = []

    def survey(self, objects: Sequence[Object], entries: tuple[str, ...]) -> Survey:
        path = list(self._follow([self._program.symbols[e].value for e in entries]))
        for instruction in path:
            self._look(instruction)
        addresses = {a for i in path for a in range(i.address, i.next_address)}
        found: dict[int, list[str]] = {}
        for alternative in alternatives_of(objects):
            if not addresses.isdisjoint(range(alternative.address, alternative.end)):
                found.setdefault(alternative.feature, []).append(self._program.describe(alternative.address))
        indirect = tuple(f"{self._program.describe(i.address)}: {i.text}" for i in path if i.indirect)
        nops = sum(i.mnemonic == "nop" for i in path)
        mnemonics = frozenset(i.mnemonic for i in path)
        parts = tuple(self._parts.found.values()) if self._linked else ()
        tables = self._parts.tables if self._linked else {}
        return Survey(
            self._program, entries, len(path), nops, self._uses, tuple(self._problems), indirect, found, mnemonics,
            parts, tables,
        )  # fmt: skip

    def _follow(self, waiting: list[int]) -> Iterator[Instruction]:
        """What direct control flow leads to, in the order of addresses within each stretch."""
        seen: set[int] = set()
        while waiting and len(seen) < _MOST_INSTRUCTIONS:
            address = waiting.pop()
            if address in seen or address not in self._program.instructions:
                continue
            seen.add(address)
            try:
                instruction = self._program.instructions[address]
            except AsmError as error:
                self._problem(address, error)
                continue
            yield instruction
            waiting += reversed([a for a in successors(instruction) if a not in self._functions])

    def _problem(self, address: int, error: AsmError | LiftError) -> None:
        shown = " ".join(error.span.text.split()) if error.span else f"{address:x}"
        self._problems.append(f"{self._program.describe(address)}: {error.message} ({shown})")

    def _look(self, instruction: Instruction) -> None:
        try:
            lift(instruction)
        except LiftError as error:
            self._problem(instruction.address, error)
        for operand in instruction.operands:
            self._operand(instruction, operand)

    def _operand(self, instruction: Instruction, operand: Operand) -> None:
        where = self._program.describe(instruction.address)
        match operand:
            case Target():
                name = self._functions.get(operand.address)
                use = self._use(operand.address)[0] if name is None else self._uses.setdefault(name, Use(name))
                if use is not None:
                    (use.called if instruction.mnemonic == "call" else use.jumped_to).append(where)
            case Imm():
                value = operand.value - (1 << operand.width) if operand.value >> operand.width - 1 else operand.value
                use, _ = self._use(value % _ADDRESSES)
                if use is not None and operand.width >= 32:
                    use.address_taken.append(where)
            case Mem():
                self._memory(operand, where)

    def _memory(self, operand: Mem, where: str) -> None:
        use, offset = self._use(operand.disp % _ADDRESSES)
        if use is None:
            self._parts.look(operand, where)
            return
        if not operand.width:
            use.address_taken.append(where)
            return
        use.accessed.append(where)
        use.size = max(use.size, offset + operand.width // 8)
        use.percpu |= operand.segment == "gs"

    def _use(self, address: int) -> tuple[Use | None, int]:
        """The symbol that an address belongs to, and how far from it."""
        number, offset = divmod(address - _FIRST, _STRETCH)
        if not 0 <= number < len(self._undefined):
            return None, 0
        name = self._undefined[number]
        return self._uses.setdefault(name, Use(name)), offset
