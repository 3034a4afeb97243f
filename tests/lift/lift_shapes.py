"""Every form that the encoder's table has, and random lines of each.

A form is what can be told apart in an `Instruction`: mnemonic, condition, operand size, the sort of each operand and
the prefix. The forms follow from the table alone, so none can be forgotten.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lift_decode import ARENA, ARENA_SIZE, CODE

from verifier.asm import assemble_text
from verifier.asm.encode.kinds import IMM, MOFFS, REL, SIZE, Kind
from verifier.asm.encode.registers import CONTROL, DEBUG, GENERAL, REGISTERS, SEGMENT
from verifier.asm.encode.rows import CANDIDATES, Row
from verifier.asm.program import Imm, Mem, Operand, Reg
from verifier.errors import AsmError
from verifier.lift import supported

if TYPE_CHECKING:
    from verifier.asm.program import Instruction

REGISTER, MEMORY, IMMEDIATE, TARGET = "r", "m", "i", "j"
_SEGMENT_REGISTERS = ("es", "cs", "ss", "ds", "fs", "gs")
_STACK = ("push", "pop", "call")
_PREFIXES = {"lock": ("", "lock"), "rep": ("", "rep", "repne")}
_EDGES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 0x7F, 0x80, 0xFF)


@dataclass(frozen=True, order=True)
class Form:
    """``width`` in bits, 0 where there is no operand size; ``sorts``: r, m, i, j or a special register's name."""

    mnemonic: str
    condition: str
    width: int
    sorts: tuple[str, ...]
    prefix: str

    def __str__(self) -> str:
        parts = (self.prefix, self.mnemonic, self.condition, str(self.width or ""), " ".join(self.sorts))
        return " ".join(filter(None, parts))


@dataclass(frozen=True)
class Way:
    """A line of the table that leads to a form; ``sorts`` has one entry per written operand."""

    name: str
    row: Row
    size: int
    sorts: tuple[str, ...]
    prefix: str


def form_of(instruction: Instruction) -> Form:
    return Form(
        instruction.mnemonic,
        instruction.condition or "",
        instruction.width,
        tuple(map(_sort, instruction.operands)),
        "".join(instruction.prefixes),
    )


def _sort(operand: Operand) -> str:
    if isinstance(operand, Reg):
        return REGISTER if REGISTERS[operand.name].file == GENERAL else operand.name
    return MEMORY if isinstance(operand, Mem) else IMMEDIATE if isinstance(operand, Imm) else TARGET


# the forms of the table


@cache
def forms() -> dict[Form, tuple[Way, ...]]:
    """Every form of a supported mnemonic, with the ways to write it."""
    found: dict[Form, list[Way]] = {}
    for name, candidates in CANDIDATES.items():
        for candidate in candidates:
            row = candidate.row
            if row.mnemonic not in supported():
                continue
            for size in _sizes(row, candidate.size):
                for form, way in _written(name, row, size):
                    found.setdefault(form, []).append(way)
    return {form: tuple(found[form]) for form in sorted(found)}


def _sizes(row: Row, suffix: int | None) -> tuple[int, ...]:
    return (suffix,) if suffix is not None else row.sizes or (0,)


def _written(name: str, row: Row, size: int) -> list[tuple[Form, Way]]:
    result = []
    for sorts in itertools.product(*(_choices(kind) for kind in row.kinds)):
        for prefix in _prefixes(row, sorts):
            shown = () if row.has("bare") else sorts
            form = Form(row.mnemonic, row.condition or "", _width(row, size), shown, prefix)
            written = sorts[1:] if row.has("one") else sorts[:-1] if row.has("twice") else sorts
            result.append((form, Way(name, row, size, written, prefix)))
    return result


def _choices(kind: Kind) -> tuple[str, ...]:
    """The sorts of operand that a kind takes."""
    if kind.place == REL:
        return (TARGET,)
    if kind.place == IMM or kind.constant is not None:
        return (IMMEDIATE,)
    if kind.only and kind.file == SEGMENT:
        return (kind.only,)
    names = {
        None: (),
        GENERAL: (REGISTER,),
        SEGMENT: tuple(name for name in _SEGMENT_REGISTERS if name != kind.excluded),
        CONTROL: tuple(name for name, register in REGISTERS.items() if register.file == CONTROL),
        DEBUG: tuple(sorted({r.name for r in REGISTERS.values() if r.file == DEBUG})),
    }[kind.file]
    return (*names, MEMORY) if kind.memory else names


def _prefixes(row: Row, sorts: tuple[str, ...]) -> tuple[str, ...]:
    if row.has("lock"):
        return _PREFIXES["lock"] if MEMORY in sorts else ("",)
    return _PREFIXES["rep"] if row.has("rep") else ("",)


def _width(row: Row, size: int) -> int:
    if row.mnemonic == "nop":
        return 0
    return 16 if row.has("as16") else 32 if row.has("as32") else size


# random lines


def line(form: Form, source: random.Random, number: int) -> Instruction | None:
    """An instruction of the form at `CODE`, the ways to write it in turn; None where none came of many attempts."""
    ways = forms()[form]
    for attempt in range(64):
        way = ways[(number + attempt // 8) % len(ways)]
        operands = [_operand(way, i, source) for i in range(len(way.sorts))]
        star = "*" if way.row.has("star") else ""
        text = f"{way.prefix} {way.name} {star}{', '.join(operands)}".strip()
        try:
            instruction = next(iter(assemble_text(f"{text}\n", text_base=CODE)))
        except AsmError:
            continue
        if form_of(instruction) == form:
            return instruction
    return None


def _operand(way: Way, position: int, source: random.Random) -> str:
    kinds = way.row.kinds[1:] if way.row.has("one") else way.row.kinds
    kind, sort = kinds[position], way.sorts[position]
    match sort:
        case "r":
            return f"%{_register(kind, way.size, source)}"
        case "m":
            return _memory(kind, way.name.startswith(_STACK), source)
        case "i":
            return f"${_immediate(kind, way.size, source)}"
        case "j":
            return f".{source.choice((0x20, 0x40, 0x7F, 0x81, 0x1000, -0x200, 0x7FFF_0000)):+#x}"
    return f"%{sort}"


@cache
def _named(width: int) -> tuple[str, ...]:
    return tuple(name for name, r in REGISTERS.items() if r.file == GENERAL and r.width == width)


def _register(kind: Kind, size: int, source: random.Random) -> str:
    widths = [size if width == SIZE else width for width in kind.widths]
    names = [n for width in widths for n in _named(width) if kind.only in (None, REGISTERS[n].name)]
    if kind.only:
        names = [n for n in names if not REGISTERS[n].high]
    few = [n for n in names if REGISTERS[n].name in ("rax", "rcx", "rdx")]
    return source.choice(few if few and source.random() < 0.3 else names)


def _immediate(kind: Kind, size: int, source: random.Random) -> int:
    if kind.constant is not None:
        return kind.constant
    bits = min(kind.field, kind.field if kind.strict or not size else max(size, 8))
    match source.randrange(4):
        case 0:
            value = source.choice(_EDGES)
        case 1:
            value = source.choice((1 << (bits - 1), (1 << bits) - 1, (1 << (bits - 1)) - 1)) - source.randrange(2)
        case 2:
            value = source.getrandbits(min(bits, 8))
        case _:
            value = source.getrandbits(bits)
    value &= (1 << bits) - 1
    extended = not kind.strict and value >> (bits - 1)
    return value - (1 << bits) if extended else value


def _memory(kind: Kind, on_stack: bool, source: random.Random) -> str:
    """``on_stack``: often based on RSP, which the instruction moves."""
    if kind.pointer:
        return f"(%{kind.pointer})"
    if on_stack and source.random() < 0.4:
        return f"{source.randrange(-64, 64)}(%rsp{source.choice(('', ',%rcx,2', ',%rax,8'))})"
    near = ARENA + source.randrange(ARENA_SIZE - 16)
    segment = source.choice(("",) * 12 + ("%fs:", "%gs:", "%gs:", "%ds:", "%ss:", "%es:", "%cs:"))
    if kind.place == MOFFS:
        return f"{segment}{near:#x}"
    width = 32 if source.random() < 0.12 else 64
    base, index = (source.choice(_named(width)) for _ in range(2))
    disp = source.choice(("", f"{source.randrange(-128, 128):#x}", f"{source.getrandbits(32) - (1 << 31):#x}"))
    scaled = f"%{index},{source.choice((1, 2, 4, 8))}"
    return segment + source.choice(
        (
            f"{disp}(%{base})",
            f"{disp}(%{base})",
            f"{disp}(%{base},{scaled})",
            f"{disp or 0}(,{scaled})",
            f"{near:#x}",
            f"{near - CODE:#x}(%rip)",
            f"{source.randrange(-64, 64)}(%rsp)",
            f"{disp}(%rbp)",
        )
    )
