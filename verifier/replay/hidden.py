"""Code that is not shown, played by the debugger: it does what the choices of a move say, within its contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.asm.program import Instruction
    from verifier.machine.config import MachineConfig
    from verifier.trace.run import ConcreteState, Move, Start

_MASK = (1 << 64) - 1
#: Choices that are about where control goes and what is blocked, not about values.
_WAYS = ("hole.iret", "hole.ends")


def is_hidden(instruction: Instruction | None) -> bool:
    """Whether no machine can execute this: a hole, or its entrance."""
    return instruction is not None and instruction.mnemonic in ("hole_enter", "hole_body")


def unblocks(move: Move) -> bool:
    """Whether hidden code executes an IRET in a move, or an IRET that is shown begins and faults (rule E3)."""
    return ("hole.iret", 1) in move.choices or ("fault.in_iret", 1) in move.choices


def ran_on(
    machine: MachineConfig, start: Start, state: ConcreteState, move: Move
) -> tuple[dict[str, int], dict[int, bytes]]:
    """The cells and the stretches of memory that the hidden code at rip sets before an event strikes in it."""
    contract = machine.contracts[machine.program.instructions[state.rip].hole or ""]
    values = iter(value for kind, value in move.choices if kind.startswith("hole.") and kind not in _WAYS)
    cells = {cell: next(values) for cell in contract.clobbers}
    assert all(value < 1 << CELLS[cell] for cell, value in cells.items())
    places = list(_places(machine, start, state))
    return cells, {address: next(values).to_bytes(size, "little") for address, size in places}


def _places(machine: MachineConfig, start: Start, state: ConcreteState) -> Iterator[tuple[int, int]]:
    """Where hidden code writes: the words of its stack, upwards, then what it names (`verifier.trace.run`)."""
    contract = machine.contracts[machine.program.instructions[state.rip].hole or ""]
    for offset in range(0, contract.stack, 8):
        yield (state.cells["rsp"] + offset) & _MASK, 8
    for name in contract.writes:
        found = machine.datum(name)
        assert found is not None, name
        region, datum = found
        yield start.bases[region.name] + datum.offset & _MASK, datum.size
    for name in contract.regions:
        yield from _pieces(start.bases[name], machine.regions[name].size)
    first = state.cells["rsp"] + contract.stack + 8 * (len(contract.saves) + len(contract.gives))
    for i, operand in enumerate(contract.operands):
        yield from _pieces(state.read(first + 8 * i & _MASK, 8), operand.size)


def _pieces(address: int, size: int) -> Iterator[tuple[int, int]]:
    for done in range(0, size, 8):
        yield address + done & _MASK, min(8, size - done)
