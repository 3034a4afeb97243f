"""What code that is not shown does: exactly what the choices say, within its contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import InternalError, SpecError
from verifier.ir.cells import CELLS
from verifier.ir.evaluate import evaluate
from verifier.ir.ops import Access
from verifier.machine.events import BROKEN_CONTRACT, NO_RETURN
from verifier.trace.interpreter.work import MASK64, Fault, Mishap
from verifier.trace.run import Disagreement

if TYPE_CHECKING:
    from verifier.asm.program import Instruction
    from verifier.ir.formula import Formula
    from verifier.ir.ops import Operation
    from verifier.machine.config import Contract, MachineConfig
    from verifier.trace.interpreter.memory import Memory
    from verifier.trace.interpreter.work import Work

_STACK = Access(stack=True)


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
        for wanted in contract.requires:
            if not self._value(work, wanted, contract):
                raise Mishap(BROKEN_CONTRACT, f"{contract.name} requires {wanted.text}")
        values = [work.cells[cell] for cell in contract.saves]
        values += [self._value(work, formula, contract) for formula in contract.notes]
        bytes_used = contract.stack + 8 * len(values)
        work.cells["rsp"] = (work.cells["rsp"] - bytes_used) & MASK64
        for i, value in enumerate(values):
            self._memory.store(work, (work.cells["rsp"] + contract.stack + 8 * i) & MASK64, 8, value, _STACK)
        work.rip = instruction.next_address

    def leave(self, work: Work, instruction: Instruction) -> None:
        contract = self.contract(instruction)
        if contract.returns == "never" or (contract.returns == "maybe" and work.choices.take("hole.ends", 1)):
            raise Mishap(NO_RETURN, f"{contract.name} does not return")
        self.run_on(work, instruction)
        address = work.cells["rsp"] + contract.stack
        for cell in contract.saves:
            work.cells[cell] = self._memory.pop(work, address & MASK64, 8)
            address += 8
        for cell, _ in contract.gives:
            work.cells[cell] = self._memory.pop(work, address & MASK64, 8) & ((1 << CELLS[cell]) - 1)
            address += 8
        work.cells["rsp"] = (address + 8 * len(contract.operands)) & MASK64
        work.rip = instruction.next_address

    def run_on(self, work: Work, instruction: Instruction) -> None:
        """Let the hidden code run for a while: everything it clobbers takes the value that is chosen."""
        contract = self.contract(instruction)
        lowest = work.cells["rsp"]
        if contract.irets and work.nmi_blocked:
            work.nmi_blocked = not work.choices.take("hole.iret", 1)
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
        for name in contract.regions:
            self._fill(work, self._memory.bases[name], self._machine.regions[name].size)
        first = lowest + contract.stack + 8 * (len(contract.saves) + len(contract.gives))
        for i, operand in enumerate(contract.operands):
            try:
                address = self._memory.pop(work, (first + 8 * i) & MASK64, 8)
            except Fault:
                raise Mishap("wild-write", f"the stack of {contract.name} is not canonical") from None
            self._fill(work, address, operand.size)

    def _fill(self, work: Work, address: int, size: int) -> None:
        """Any bytes, in pieces of eight."""
        self._memory.expect_writable(address, size)
        for done in range(0, size, 8):
            piece = min(8, size - done)
            self._memory.write(work, address + done, piece, work.choices.take("hole.memory", 8 * piece))

    def _value(self, work: Work, formula: Formula, contract: Contract) -> int:
        """What a formula is worth where control enters."""
        values: list[int] = []
        try:
            for operation in formula.operations:
                values.append(self._result(work, operation, tuple(values[a.index] for a in operation.args)))
        except (Fault, Mishap):
            raise Disagreement(f"the contract of {contract.name} reads memory that is not there") from None
        return values[-1]

    def _result(self, work: Work, operation: Operation, args: tuple[int, ...]) -> int:
        assert operation.result is not None
        width = operation.result.width
        match operation.opcode, operation.attr:
            case "const", int(value):
                return value
            case "get", "nmi_blocked":
                return int(work.nmi_blocked)
            case "get", str(cell):
                return work.cells[cell]
            case "base" | "top" as edge, str(region):
                size = self._machine.regions[region].size if edge == "top" else 0
                return (self._memory.bases[region] + size) & MASK64
            case "load", Access() as access:
                return self._memory.load(work, args[0], width // 8, access)
        return evaluate(operation.opcode, args, tuple(a.width for a in operation.args), width, operation.attr)
