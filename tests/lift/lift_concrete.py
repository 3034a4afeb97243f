"""Runs one `Block` on numbers, and tells apart what it leaves undefined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.ir.evaluate import evaluate
from verifier.ir.ops import BINARY, COMPARE, UNARY

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Access, Block, Operation
    from verifier.machine.config import Segment

MASK = (1 << 64) - 1
MSRS = {0xC000_0100: "fs_base", 0xC000_0101: "gs_base", 0xC000_0102: "kernel_gs_base"}
_PURE = BINARY | COMPARE | UNARY | {"ite", "concat", "extract", "zext", "sext"}
WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))


@dataclass
class State:
    """Cells, memory bytes from ``origin`` on, and where control is or how it left.

    ``rip`` is ``fault N`` after a fault, with its ``error`` code. ``loads`` and ``stores``: address and size of each.
    ``segments``: the descriptors that are known where it runs.
    ``lenient``: bad accesses read 0 and write nothing; ``beside`` says that one was none of the memory's.
    """

    cells: dict[str, int]
    memory: bytearray
    origin: int
    rip: int | str = 0
    error: int = 0
    loads: list[tuple[int, int]] = field(default_factory=list)
    stores: list[tuple[int, int]] = field(default_factory=list)
    lenient: bool = False
    beside: bool = False
    segments: tuple[Segment, ...] = ()

    def copy(self) -> State:
        cells, memory = dict(self.cells), bytearray(self.memory)
        return State(cells, memory, self.origin, self.rip, lenient=self.lenient, segments=self.segments)

    def told(self, selector: int) -> bool:
        """Whether it is known what LSL and its like find of a selector; a null one is."""
        return selector < 4 or any(s.selector & ~3 == selector & ~3 for s in self.segments)

    def place(self, address: int, size: int, access: Access) -> slice:
        """The bytes of an access; #SS(0) or #GP(0) if one of them is not canonical (rules A2, A4)."""
        ends = address, (address + size - 1) & MASK
        start = address - self.origin
        good = all(map(canonical, ends))
        inside = 0 <= start <= len(self.memory) - size
        self.beside = self.beside or (good and not inside)
        if self.lenient:
            return slice(start, start + size) if inside else slice(0, 0)
        if not good:
            raise Fault(12 if access.stack else 13, 0)
        assert inside, hex(address)
        return slice(start, start + size)


def canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


class Fault(Exception):
    """Vector and error code."""


class Skip(Exception):
    pass


def run(block: Block, before: State, undefined: Callable[[int], int]) -> State:
    """The state after; ``rip`` is an address, ``fault N``, or the terminator that is left to the machine."""
    after = before.copy()
    values: list[int] = []
    puts: dict[str, int] = {}
    try:
        for o in block:
            args = tuple([values[a.index] for a in o.args])
            if o.opcode == "get":
                result = before.cells[o.attr]
            elif o.opcode in _PURE:
                result = evaluate(o.opcode, args, tuple([a.width for a in o.args]), o.result.width, o.attr)
            else:
                result = _perform(o, args, before, after, puts, undefined)
            if o.result is not None:
                assert 0 <= result < 1 << o.result.width, o
                values.append(result)
        after.cells |= puts
        after.rip = _finish(block, [values[a.index] for a in block.terminator.args])
    except Fault as fault:
        stopped = before.copy()
        vector, stopped.error = fault.args
        stopped.rip = f"fault {vector}"
        stopped.loads, stopped.stores, stopped.beside = after.loads, after.stores, after.beside
        return stopped
    except Skip:
        after = before.copy()
        after.rip = block.instruction.next_address
    return after


def _perform(
    o: Operation,
    args: tuple[int, ...],
    before: State,
    after: State,
    puts: dict[str, int],
    undefined: Callable[[int], int],
) -> int:
    match o.opcode:
        case "const":
            return o.attr
        case "undef":
            return undefined(o.result.width)
        case "load":
            size = o.result.width // 8
            after.loads.append((args[0], size))
            return int.from_bytes(after.memory[after.place(args[0], size, o.attr)], "little")
        case "store":
            size = o.args[1].width // 8
            place = after.place(args[0], size, o.attr)
            after.stores.append((args[0], size))
            after.memory[place] = args[1].to_bytes(size, "little")[: place.stop - place.start]
        case "put":
            assert 0 <= args[0] < 1 << CELLS[o.attr]
            puts[o.attr] = args[0]
        case "fault_if":
            if args[0] and not before.lenient:
                raise Fault(o.attr, args[1] if o.attr in WITH_ERROR_CODE else 0)
        case "skip_if":
            if args[0]:
                raise Skip
        case "rdmsr":
            return before.cells[MSRS[args[0]]]
        case "tsc_aux":
            return args[0]
        case "descriptor":
            return _descriptor(o.attr, args[0], before, args[1])
        case "wrmsr":
            if not canonical(args[1]):
                raise Fault(13, 0)  # rule I9
            puts[MSRS[args[0]]] = args[1]
        case _:
            raise AssertionError(o)
    return 0


def _descriptor(query: str, selector: int, state: State, otherwise: int) -> int:
    """SDM vol. 2: LSL, LAR, VERR and VERW of data and code that is not conforming, all of it readable."""
    if selector < 4:
        return 0
    for segment in state.segments:
        if segment.selector & ~3 == selector & ~3:
            visible = segment.dpl >= state.cells["cpl"] and segment.dpl >= selector & 3
            good = visible and not (query == "verw" and (segment.kind == "code" or not segment.writable))
            limit = segment.limit if query == "lsl" else otherwise & 0xFFFF_FFFF
            return good << 32 | limit
    return otherwise


def _finish(block: Block, args: list[int]) -> int | str:
    end, following = block.terminator, block.instruction.next_address
    match end.opcode:
        case "next":
            return following
        case "jump":
            return end.attr
        case "branch":
            return end.attr if args[0] else following
        case "jump_indirect":
            if not canonical(args[0]):
                raise Fault(13, 0)  # rule A3
            return args[0]
        case "exception":
            raise Fault(end.attr, 0)
        case _:
            return end.opcode if end.attr is None else f"{end.opcode} {end.attr}"


def differences(outcome: Outcome, observed: State) -> dict[str, tuple[object, object]]:
    """What is defined in our outcome and different in the observed state: name -> (ours, observed)."""
    ours, found = outcome.after, {}
    for cell, value in observed.cells.items():
        if (value ^ ours.cells[cell]) & ~outcome.undefined.get(cell, 0):
            found[cell] = (hex(ours.cells[cell]), hex(value))
    if (ours.rip, ours.error) != (observed.rip, observed.error):
        found["rip"] = ((ours.rip, ours.error), (observed.rip, observed.error))
    if ours.memory != observed.memory:
        for n, byte in enumerate(observed.memory):
            if byte != ours.memory[n] and n not in outcome.undefined_bytes:
                found[f"byte {ours.origin + n:#x}"] = (ours.memory[n], byte)
    return found


@dataclass(frozen=True)
class Outcome:
    """``after``; a mask of undefined bits per cell that has some; the offsets of undefined memory bytes."""

    after: State
    undefined: dict[str, int]
    undefined_bytes: frozenset[int]


def run_undefined(block: Block, before: State, limit: int = 64) -> Outcome:
    """Run with all undefined bits 0, then 1, then mixed, then flags 1 and all else 0: what differs is undefined.

    A block that branches to itself is run again, as a REP instruction is.
    """
    fills = (
        lambda w: 0,
        lambda w: (1 << w) - 1,
        lambda w: 0x5A5A_5A5A_5A5A_5A5A & ((1 << w) - 1),
        lambda w: 1 << w - 1 if w in (1, 33) else 0,  # 33: ZF above what a descriptor tells
    )
    states = []
    for fill in fills if any(o.opcode == "undef" for o in block) else fills[:1]:
        state = run(block, before, fill)
        for _ in range(limit):
            if state.rip != block.address:
                break
            state = run(block, state, fill)
        states.append(state)
    first = states[0]
    undefined: dict[str, int] = {}
    undefined_bytes: set[int] = set()
    for other in states[1:]:
        assert other.rip == first.rip, block.instruction.text
        if other.memory != first.memory:
            undefined_bytes |= {n for n, byte in enumerate(other.memory) if byte != first.memory[n]}
        for cell, value in other.cells.items():
            if value != first.cells[cell]:
                undefined[cell] = undefined.get(cell, 0) | (value ^ first.cells[cell])
    return Outcome(first, undefined, frozenset(undefined_bytes))


def pack(cells: dict[str, int]) -> int:
    return 2 | sum(cells[name] << low for name, (low, _) in RFLAGS_LAYOUT.items())


def unpack(image: int) -> dict[str, int]:
    return {name: image >> low & ((1 << width) - 1) for name, (low, width) in RFLAGS_LAYOUT.items()}
