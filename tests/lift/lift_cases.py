"""Random lines of a form, and random and edge states to run them from.

A *group* is one line with one choice of the registers that its addresses depend on; its states differ in all else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lift_concrete import MSRS, State, run
from lift_decode import ARENA, ARENA_SIZE
from lift_shapes import Form, line

from verifier.asm.program import GENERAL_REGISTERS, Mem, Reg
from verifier.errors import LiftError
from verifier.ir.cells import CELLS
from verifier.lift import lift

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.asm.program import Instruction
    from verifier.ir.ops import Block
    from verifier.machine.config import Segment

MASK = (1 << 64) - 1
MIDDLE = ARENA + ARENA_SIZE // 2
STATUS = ("cf", "pf", "af", "zf", "sf", "of")
_EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_WIDE = (1 << 63, (1 << 63) - 1, MASK, 0x8080_8080_8080_8080, 0xFFFF_FFFF_0000_0000)
_CANONICAL_EDGES = (1 << 47, MASK - (1 << 47) + 1)
_IMPLICIT = ("rsp", "rbp", "rsi", "rdi", "rbx")
_COUNTS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 0xFF)
_BIT_TESTS = ("bt", "bts", "btr", "btc")
_STRINGS = ("cmps", "scas", "movs", "stos", "lods")
_TF = 0x100


@dataclass(frozen=True)
class Group:
    """``pins``: the cells that an address of the line depends on."""

    instruction: Instruction
    block: Block
    pins: tuple[str, ...]
    states: tuple[State, ...]


@dataclass(frozen=True)
class World:
    """Where states are run. ``cells``: what holds there besides random registers and flags; ``suits``: whether a line
    may be run there; ``settle``: what makes a state of a mnemonic worth running, where it is another than elsewhere;
    ``deviations``: outcomes, ours and the oracle's, that are known to differ because the oracle leaves the manual;
    ``wrong``: cells that it gets wrong, by mnemonic; ``segments``: descriptors that it has for sure.
    """

    name: str
    cells: Callable[[random.Random], dict[str, int]]
    suits: Callable[[Instruction], bool]
    settle: Mapping[str, Settle]
    deviations: Mapping[tuple[str, str], str] = field(default_factory=dict)
    wrong: Mapping[str, frozenset[str]] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()


def groups(form: Form, world: World, count: int, each: int) -> Iterator[Group]:
    """``count`` groups of ``each`` states, always the same."""
    source = random.Random(f"{world.name} {form}")
    for number in range(count):
        for _ in range(400):
            group = _group(form, world, number, each, source)
            if group is not None:
                yield group
                break


def _group(form: Form, world: World, number: int, each: int, source: random.Random) -> Group | None:
    instruction = line(form, source, number)
    if instruction is None or not world.suits(instruction):
        return None
    try:
        block = lift(instruction)
    except LiftError:
        return None
    states = states_for(instruction, block, world, each, source)
    return Group(instruction, block, address_cells(block), states) if states else None


def states_for(
    instruction: Instruction, block: Block, world: World, each: int, source: random.Random
) -> tuple[State, ...]:
    """States that agree on the cells that addresses depend on; none where that did not come out well."""
    pins = address_cells(block)
    first = _state(instruction, world, source)
    _aim(instruction, pins, first.cells, source)
    loads = _loads(block, first)
    if loads is None:
        return ()
    states = []
    for _ in range(each * 4):
        state = _state(instruction, world, source)
        state.cells |= {name: first.cells[name] for name in pins}
        state.loads = loads
        if _settled(instruction, block, pins, loads, state, world, source):
            states.append(state)
        if len(states) == each:
            return tuple(states)
    return ()


def address_cells(block: Block) -> tuple[str, ...]:
    """The cells that the address of an access depends on, or the number of a model-specific register."""
    made = {o.result: o for o in block if o.result is not None}
    todo = [o.args[0] for o in block if o.opcode in ("load", "store", "rdmsr", "wrmsr")]
    found, seen = set(), set()
    while todo:
        value = todo.pop()
        operation = made[value]
        if operation.opcode == "get":
            found.add(str(operation.attr))
        if value not in seen:
            seen.add(value)
            todo += operation.args
    return tuple(sorted(found))


def number(source: random.Random) -> int:
    match source.randrange(4):
        case 0:
            return source.choice(_EDGES)
        case 1:
            return source.choice(_WIDE)
        case 2:
            return source.getrandbits(source.choice((8, 16, 32)))
        case _:
            return source.getrandbits(64)


def _state(instruction: Instruction, world: World, source: random.Random) -> State:
    cells = dict.fromkeys(CELLS, 0)
    for flag in (*STATUS, "df"):
        cells[flag] = source.getrandbits(1)
    for name in GENERAL_REGISTERS:
        cells[name] = number(source)
    cells |= world.cells(source)
    if cells["rsp"] >> 20 == 4:  # there the program lies that runs this on the CPU, with its stack for signals
        cells["rsp"] |= 1 << 40
    memory = bytearray(source.randbytes(ARENA_SIZE))
    return State(cells, memory, ARENA, instruction.address, segments=world.segments)


# addresses


def _place(source: random.Random) -> int:
    """Where an access goes: in the arena, straddling words or not; or across the edge of the canonical addresses."""
    if source.random() < 0.12:
        return (source.choice(_CANONICAL_EDGES) + source.randrange(-18, 18)) & MASK
    if source.random() < 0.04:
        return source.getrandbits(64)
    place = MIDDLE + source.randrange(-0x180, 0x180)
    return place & -16 if source.random() < 0.25 else place


def _aim(instruction: Instruction, pins: tuple[str, ...], cells: dict[str, int], source: random.Random) -> None:
    for name in _IMPLICIT:
        if name in pins:
            cells[name] = _place(source)
    mems = [o for o in instruction.operands if isinstance(o, Mem)]
    for mem in mems:
        place = _place(source)
        if mem.segment in ("fs", "gs"):
            base = f"{mem.segment}_base"
            cells[base] = source.choice((source.randrange(0x80), cells[base]))
            place = (place - cells[base]) & MASK
        _solve(mem, place, cells, source)
    if instruction.mnemonic in ("rdmsr", "wrmsr"):
        cells["rcx"] = source.choice(tuple(MSRS)) | source.getrandbits(32) << 32
    if instruction.mnemonic in _BIT_TESTS and mems and isinstance(instruction.operands[0], Reg):
        register, low = instruction.operands[0].name, (1 << instruction.width) - 1
        cells[register] = (cells[register] & ~low) | (source.randrange(-0x800, 0x800) & low)


def _solve(mem: Mem, place: int, cells: dict[str, int], source: random.Random) -> None:
    """Give the registers of a memory operand values such that it points at the place."""
    size = 1 << mem.address_width
    rest = place - mem.disp
    if mem.base is None and mem.index is None:
        return
    if mem.base == mem.index and mem.base is not None:
        factor = mem.scale + 1
        cells[mem.base] = (rest >> 1) if factor == 2 else rest * pow(factor, -1, size)
    elif mem.base is None:
        cells[str(mem.index)] = rest // mem.scale
    else:
        if mem.index is not None:
            if source.random() < 0.5 or mem.base == "rsp":
                cells[mem.index] = source.randrange(-0x10, 0x10) & MASK
            rest -= cells[mem.index] * mem.scale
        cells[mem.base] = rest
    for name in filter(None, (mem.base, mem.index)):
        cells[name] %= size
        if mem.address_width == 32:
            cells[name] |= source.getrandbits(32) << 32


# what makes a state worth running


def _settled(
    instruction: Instruction,
    block: Block,
    pins: tuple[str, ...],
    loads: list[tuple[int, int]],
    state: State,
    world: World,
    source: random.Random,
) -> bool:
    """Special cases of an instruction, in place; whether its addresses are still those of the group."""
    wanted = world.settle.get(instruction.mnemonic) or _SETTLE.get(instruction.mnemonic, _counts)
    repeated = {"rep", "repne"} & set(instruction.prefixes)
    if repeated:
        state.cells["rcx"] = source.randrange(6)
    before = {name: state.cells[name] for name in pins}
    if source.random() < 0.4:
        poke(state, loads, number(source))
    wanted(instruction, loads, state, source)
    if any(state.cells[name] != value for name, value in before.items()):
        return False
    return not repeated or _stays_inside(block, state)


def _loads(block: Block, state: State) -> list[tuple[int, int]] | None:
    """Address and size of each read, whatever the others do; None if an access is to memory that the tests have not."""
    state = state.copy()
    state.lenient = True
    after = run(block, state, lambda _width: 0)
    return None if after.beside else after.loads


def _stays_inside(block: Block, state: State) -> bool:
    """Whether a repeated instruction only accesses memory that the tests have."""
    after = state.copy()
    after.lenient = True
    for _ in range(8):
        after = run(block, after, lambda _width: 0)
        if after.beside or after.rip != block.address:
            break
    return not after.beside


def poke(state: State, loads: list[tuple[int, int]], value: int) -> None:
    """Put a value where the instruction reads first."""
    for address, size in loads[:1]:
        start = address - state.origin
        if 0 <= start <= len(state.memory) - size:
            state.memory[start : start + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _counts(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """Of shifts: around the widths."""
    if source.random() < 0.5 and "%cl" in instruction.text:
        state.cells["rcx"] = state.cells["rcx"] & ~0xFF | source.choice(_COUNTS)


def _divide(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """Dividends whose quotient often fits."""
    cells, low = state.cells, (1 << instruction.width) - 1
    if source.random() < 0.3:
        cells["rax"] &= 0x7F
    if source.random() < 0.6:
        negative = instruction.mnemonic == "idiv" and cells["rax"] >> (instruction.width - 1) & 1
        cells["rdx"] = cells["rdx"] & ~low | (low if negative else 0)


def _compare_exchange(
    instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random
) -> None:
    """Often equal."""
    if source.random() < 0.6:
        return
    cells, width = state.cells, instruction.width
    half = width if instruction.mnemonic == "cmpxchg" else {"cmpxchg8b": 32}.get(instruction.mnemonic, 64)
    destination = instruction.operands[-1]
    if isinstance(destination, Reg):
        found = cells[destination.name] >> (8 if destination.high else 0)
    elif not loads or not 0 <= loads[0][0] - ARENA <= ARENA_SIZE - 16:
        return
    else:
        found = int.from_bytes(state.memory[loads[0][0] - ARENA :][:16], "little")
    low = (1 << half) - 1
    cells["rax"] = cells["rax"] & ~low & MASK | found & low
    if instruction.mnemonic != "cmpxchg" and source.random() < 0.8:
        cells["rdx"] = cells["rdx"] & ~low & MASK | found >> half & low


def _strings(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    if source.random() < 0.5:
        state.memory[:] = bytes((state.cells["rax"] & 0xFF,)) * len(state.memory)
        state.cells["rax"] = int.from_bytes(state.memory[:8], "little")


def _loops(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    if source.random() < 0.5:
        state.cells["rcx"] = source.choice((0, 1, 1 << 32, (1 << 32) + 1))


def target(source: random.Random) -> int:
    """Where an indirect branch may go: anywhere but to mapped code or below the first page."""
    if source.random() < 0.25:
        return (source.choice(_CANONICAL_EDGES) + source.choice((-1, 0, 1, source.randrange(-64, 64)))) & MASK
    high = source.getrandbits(1)
    place = source.randrange(1 << 46, 1 << 47)
    return place | 0xFFFF_8000_0000_0000 if high else place


def _branches(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    for operand in instruction.operands:
        if isinstance(operand, Reg) and operand.name != "rsp":
            state.cells[operand.name] = target(source)
    poke(state, loads, target(source))


def _flags_image(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """No TF: a trap would follow."""
    poke(state, loads, source.getrandbits(64) & ~_TF)


def _bit_fields(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """Starts and lengths that are small."""
    operand = instruction.operands[0]
    if isinstance(operand, Reg) and source.random() < 0.7:
        state.cells[operand.name] = source.choice(_COUNTS) | source.choice(_COUNTS) << 8


def _model_specific(
    instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random
) -> None:
    cells = state.cells
    value = source.choice((target(source), source.getrandbits(47), source.getrandbits(64)))
    cells["rax"], cells["rdx"] = (
        source.getrandbits(32) << 32 | value >> low & 0xFFFF_FFFF for low in (0, 32)
    )


def _bases(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    operand = instruction.operands[0]
    if isinstance(operand, Reg):
        state.cells[operand.name] = source.choice((target(source), source.getrandbits(47), source.getrandbits(64)))


def _descriptors(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """Often a selector that is known there, of any RPL, or null."""
    if source.random() < 0.8:
        known = [s.selector & ~3 for s in state.segments]
        selector = source.choice((0, *known, *known)) | source.randrange(4) | source.getrandbits(16) << 16
        operand = instruction.operands[0]
        if isinstance(operand, Reg):
            state.cells[operand.name] = selector
        poke(state, loads, selector)


Settle = Callable[["Instruction", list[tuple[int, int]], State, random.Random], None]
_SETTLE: dict[str, Settle] = {
    "div": _divide, "idiv": _divide,
    **dict.fromkeys(("cmpxchg", "cmpxchg8b", "cmpxchg16b"), _compare_exchange),
    **dict.fromkeys(_STRINGS, _strings),
    **dict.fromkeys(("jrcxz", "jecxz", "loop", "loope", "loopne"), _loops),
    **dict.fromkeys(("ret", "jmp", "call"), _branches),
    "popf": _flags_image,
    **dict.fromkeys(("bextr", "bzhi"), _bit_fields),
    **dict.fromkeys(("rdmsr", "wrmsr"), _model_specific),
    **dict.fromkeys(("wrfsbase", "wrgsbase"), _bases),
    **dict.fromkeys(("lar", "lsl", "verr", "verw"), _descriptors),
}  # fmt: skip
