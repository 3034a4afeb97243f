"""Runs one `Block` on numbers, and tells apart what it leaves undefined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.ir.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Block, Operation


@dataclass
class State:
    """Cells, memory bytes from ``origin`` on, and where control is or how it left."""

    cells: dict[str, int]
    memory: bytearray
    origin: int
    rip: int | str = 0
    msrs: dict[int, int] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.cells), bytearray(self.memory), self.origin, self.rip, dict(self.msrs))


class Fault(Exception):
    pass


class Skip(Exception):
    pass


def run(block: Block, before: State, undefined: Callable[[int], int]) -> State:
    """The state after; ``rip`` is an address, ``fault N``, or the terminator that is left to the machine."""
    after = before.copy()
    values: list[int] = []
    puts: dict[str, int] = {}
    try:
        for o in block:
            args = tuple(values[a.index] for a in o.args)
            result = _perform(o, args, before, after, puts, undefined)
            if o.result is not None:
                assert 0 <= result < 1 << o.result.width, o
                values.append(result)
    except Fault as fault:
        stopped = before.copy()
        stopped.rip = f"fault {fault}"
        return stopped
    except Skip:
        after = before.copy()
        after.rip = block.instruction.next_address
        return after
    after.cells |= puts
    after.rip = _finish(block, [values[a.index] for a in block.terminator.args])
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
        case "get":
            return before.cells[o.attr]
        case "undef":
            return undefined(o.result.width)
        case "load":
            start = args[0] - after.origin
            assert 0 <= start <= len(after.memory) - 8, hex(args[0])
            return int.from_bytes(after.memory[start : start + o.result.width // 8], "little")
        case "store":
            start, size = args[0] - after.origin, o.args[1].width // 8
            assert 0 <= start <= len(after.memory) - 8, hex(args[0])
            after.memory[start : start + size] = args[1].to_bytes(size, "little")
        case "put":
            assert 0 <= args[0] < 1 << CELLS[o.attr]
            puts[o.attr] = args[0]
        case "fault_if":
            if args[0]:
                raise Fault(o.attr)
        case "skip_if":
            if args[0]:
                raise Skip
        case "rdmsr":
            return before.msrs[args[0]]
        case "wrmsr":
            after.msrs[args[0]] = args[1]
        case _:
            return evaluate(o.opcode, args, tuple(a.width for a in o.args), o.result.width, o.attr)
    return 0


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
            return args[0]
        case _:
            return end.opcode if end.attr is None else f"{end.opcode} {end.attr}"


def differences(outcome: Outcome, observed: State) -> dict[str, tuple[object, object]]:
    """What is defined in our outcome and different in the observed state: name -> (ours, observed)."""
    ours, found = outcome.after, {}
    for cell, value in observed.cells.items():
        if (value ^ ours.cells[cell]) & ~outcome.undefined.get(cell, 0):
            found[cell] = (hex(ours.cells[cell]), hex(value))
    if ours.rip != observed.rip:
        found["rip"] = (ours.rip, observed.rip)
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
    """Run with all undefined bits 0, then 1, then mixed: bits that differ are undefined.

    A block that branches to itself is run again, as a REP instruction is.
    """
    fills = (lambda w: 0, lambda w: (1 << w) - 1, lambda w: 0x5A5A_5A5A_5A5A_5A5A & ((1 << w) - 1))
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
