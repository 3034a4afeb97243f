"""What code that is not shown does: exactly what the choices say, within its contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import InternalError, SpecError
from verifier.ir.cells import CELLS
from verifier.trace.interpreter.work import MASK64

if TYPE_CHECKING:
    from verifier.asm.program import Instruction
    from verifier.machine.config import Contract, MachineConfig
    from verifier.trace.interpreter.memory import Memory
    from verifier.trace.interpreter.work import Work


class Holes:
    """Runs the hidden code of the holes."""

    def __init__(self, machine: MachineConfig, memory: Memory) -> None:
        self._machine = machine
        self._memory = memory

    def contract(self, instruction: Instruction) -> Contract:
        contract = self._machine.contracts.get(instruction.hole or "")
        if contract is None:
            raise SpecError(f"no contract for the hole {instruction.hole}", instruction.span)
        return contract

    def enter(self, work: Work, instruction: Instruction) -> None:
        contract = self.contract(instruction)
        values = [work.cells[cell] for cell in contract.saves]
        bytes_used = contract.stack + 8 * len(values)
        work.cells["rsp"] = (work.cells["rsp"] - bytes_used) & MASK64
        for i, value in enumerate(values):
            self._memory.write(work, (work.cells["rsp"] + contract.stack + 8 * i) & MASK64, 8, value)
        work.rip = instruction.next_address

    def leave(self, work: Work, instruction: Instruction) -> None:
        self.run_on(work, instruction)
        contract = self.contract(instruction)
        address = work.cells["rsp"] + contract.stack
        for cell in contract.saves:
            work.cells[cell] = self._memory.pop(work, address & MASK64, 8)
            address += 8
        work.cells["rsp"] = address & MASK64
        work.rip = instruction.next_address

    def run_on(self, work: Work, instruction: Instruction) -> None:
        """Let the hidden code run for a while: everything it clobbers takes the value that is chosen."""
        contract = self.contract(instruction)
        lowest = work.cells["rsp"]
        for cell in contract.clobbers:
            work.cells[cell] = work.choices.take(f"hole.{cell}", CELLS[cell])
        if contract.stack:
            self._memory.expect_writable(lowest, contract.stack)
        for offset in range(0, contract.stack, 8):
            self._memory.write(work, (lowest + offset) & MASK64, 8, work.choices.take("hole.memory", 64))
        for name in contract.writes:
            found = self._machine.datum(name)
            if found is None:
                raise InternalError(f"contract {contract.name} writes the unknown datum {name}")
            region, datum = found
            value = work.choices.take("hole.memory", 8 * datum.size)
            self._memory.write(work, self._memory.bases[region.name] + datum.offset, datum.size, value)
