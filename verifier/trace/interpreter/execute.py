"""One instruction: its block's operations on a `Work`, then its terminator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from verifier.errors import LiftError
from verifier.ir.evaluate import evaluate
from verifier.ir.ops import Access
from verifier.machine.config import MSR_CELLS, TSC_AUX
from verifier.trace.interpreter.holes import Holes
from verifier.trace.interpreter.memory import GENERAL_PROTECTION, canonical
from verifier.trace.interpreter.returns import Returns
from verifier.trace.interpreter.work import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Block, Operation, Value
    from verifier.machine.config import MachineConfig
    from verifier.trace.interpreter.deliver import Delivery
    from verifier.trace.interpreter.memory import Memory
    from verifier.trace.interpreter.segments import Selectors
    from verifier.trace.interpreter.work import Work
    from verifier.trace.run import Start

class _Skip(Exception):
    """The instruction turns out to do nothing (``skip_if``)."""


class Execution:
    """One instruction under way. A `Fault` or `Mishap` leaves ``work`` half done, to be thrown away."""

    def __init__(self, work: Work, block: Block, memory: Memory, selectors: Selectors) -> None:
        self.work = work
        self.block = block
        self.skipped = False
        self._memory = memory
        self._selectors = selectors
        self._values: dict[Value, int] = {}
        self._puts: dict[str, int] = {}

    def run_operations(self) -> None:
        """Everything but the terminator. Cells change together at the end; RF goes to 0 unless it was put."""
        self.work.cells["inhibit"] = 0
        try:
            for operation in self.block:
                result = self._perform(operation)
                if operation.result is not None:
                    assert result is not None, operation
                    self._values[operation.result] = result
        except _Skip:
            self.skipped = True
            self._puts.clear()
        self._selectors.check(self._puts, self.work)
        self._puts.setdefault("rf", 0)
        self.work.cells.update(self._puts)

    def argument(self, index: int = 0) -> int:
        """The value of one of the terminator's arguments."""
        return self._values[self.block.terminator.args[index]]

    def _perform(self, operation: Operation) -> int | None:
        perform = self._PERFORM.get(operation.opcode)
        args = tuple(self._values[a] for a in operation.args)
        if perform is not None:
            return perform(self, operation, args)
        assert operation.result is not None, operation
        widths = tuple(a.width for a in operation.args)
        return evaluate(operation.opcode, args, widths, operation.result.width, operation.attr)

    def _const(self, operation: Operation, _args: tuple[int, ...]) -> int:
        assert isinstance(operation.attr, int)
        return operation.attr

    def _undef(self, operation: Operation, _args: tuple[int, ...]) -> int:
        assert operation.result is not None
        return self.work.choices.take("undef", operation.result.width)

    def _get(self, operation: Operation, _args: tuple[int, ...]) -> int:
        assert isinstance(operation.attr, str)
        return self.work.cells[operation.attr]

    def _put(self, operation: Operation, args: tuple[int, ...]) -> None:
        assert isinstance(operation.attr, str)
        self._puts[operation.attr] = args[0]

    def _load(self, operation: Operation, args: tuple[int, ...]) -> int:
        assert isinstance(operation.attr, Access)
        assert operation.result is not None
        size = operation.result.width // 8
        return self._memory.load(self.work, args[0], size, operation.attr)

    def _store(self, operation: Operation, args: tuple[int, ...]) -> None:
        assert isinstance(operation.attr, Access)
        size = operation.args[1].width // 8
        self._memory.store(self.work, args[0], size, args[1], operation.attr)

    def _fault_if(self, operation: Operation, args: tuple[int, ...]) -> None:
        assert isinstance(operation.attr, int)
        if args[0]:
            raise Fault(operation.attr, args[1])

    def _skip_if(self, _operation: Operation, args: tuple[int, ...]) -> None:
        if args[0]:
            raise _Skip

    def _rdmsr(self, _operation: Operation, args: tuple[int, ...]) -> int:
        self._expect_cpl0()
        cell = MSR_CELLS.get(args[0])
        if cell is None:
            return self._memory.read_msr(self.work, self._place_of_msr(args[0]))
        return self._puts.get(cell, self.work.cells[cell])

    def _tsc_aux(self, _operation: Operation, args: tuple[int, ...]) -> int:
        place = self._memory.place_of_msr(TSC_AUX)
        return args[0] if place is None else self._memory.read_msr(self.work, place) & 0xFFFF_FFFF

    def _descriptor(self, operation: Operation, args: tuple[int, ...]) -> int:
        return self._selectors.look(str(operation.attr), args[0], self.work.cells["cpl"], args[1])

    def _wrmsr(self, _operation: Operation, args: tuple[int, ...]) -> None:
        self._expect_cpl0()
        cell = MSR_CELLS.get(args[0])
        if cell is None:
            self._memory.write(self.work, self._place_of_msr(args[0]), 8, args[1])
            return
        if not canonical(args[1]):
            raise Fault(GENERAL_PROTECTION)
        self._puts[cell] = args[1]

    def _expect_cpl0(self) -> None:
        if self.work.cells["cpl"] != 0:
            raise Fault(GENERAL_PROTECTION)

    def _place_of_msr(self, index: int) -> int:
        """The address of the word that stands for a model-specific register."""
        place = self._memory.place_of_msr(index)
        if place is None:
            hint = "list it in machine.msrs; the bases of FS and GS need not be listed"
            raise LiftError(f"MSR {index:#x} is not modelled", self.block.instruction.span, hint)
        return place

    _PERFORM: dict[str, Callable[[Execution, Operation, tuple[int, ...]], int | None]] = {  # noqa: RUF012
        "const": _const,
        "undef": _undef,
        "get": _get,
        "put": _put,
        "load": _load,
        "store": _store,
        "fault_if": _fault_if,
        "skip_if": _skip_if,
        "rdmsr": _rdmsr,
        "tsc_aux": _tsc_aux,
        "descriptor": _descriptor,
        "wrmsr": _wrmsr,
    }


class Terminators:
    """Where control goes when an instruction's operations are done."""

    def __init__(self, machine: MachineConfig, start: Start, memory: Memory, delivery: Delivery) -> None:
        self._returns = Returns(machine, memory, start.rules)
        self._delivery = delivery
        self.holes = Holes(machine, memory)

    def finish(self, run: Execution) -> None:
        if run.skipped:
            self._next(run)
        else:
            self._FINISH[run.block.terminator.opcode](self, run)

    def _next(self, run: Execution) -> None:
        run.work.rip = run.block.instruction.next_address

    def _jump(self, run: Execution) -> None:
        run.work.rip = self._number(run)

    def _branch(self, run: Execution) -> None:
        if run.argument():
            self._jump(run)
        else:
            self._next(run)

    def _jump_indirect(self, run: Execution) -> None:
        target = run.argument()
        if not canonical(target):
            raise Fault(GENERAL_PROTECTION)
        run.work.rip = target

    def _iret(self, run: Execution) -> None:
        self._returns.iret(run.work, self._number(run))
        run.work.nmi_blocked = False

    def _sysret(self, run: Execution) -> None:
        self._returns.sysret(run.work, self._number(run), run.block.instruction)

    def _lret(self, run: Execution) -> None:
        self._returns.lret(run.work, self._number(run), run.block.instruction)

    def _syscall(self, run: Execution) -> NoReturn:
        raise LiftError("syscall inside entry code is not supported", run.block.instruction.span)

    def _interrupt(self, run: Execution) -> None:
        this = run.block.instruction
        self._delivery.software(run.work, self._number(run), this.next_address, this.address)

    def _exception(self, run: Execution) -> NoReturn:
        raise Fault(self._number(run))

    def _halt(self, run: Execution) -> None:
        self._next(run)
        run.work.detail = "halted until the next event"

    def _hole_enter(self, run: Execution) -> None:
        self.holes.enter(run.work, run.block.instruction)

    def _hole_body(self, run: Execution) -> None:
        self.holes.leave(run.work, run.block.instruction)

    @staticmethod
    def _number(run: Execution) -> int:
        attr = run.block.terminator.attr
        assert isinstance(attr, int), run.block.terminator
        return attr

    _FINISH: dict[str, Callable[[Terminators, Execution], None]] = {  # noqa: RUF012
        "next": _next,
        "jump": _jump,
        "branch": _branch,
        "jump_indirect": _jump_indirect,
        "iret": _iret,
        "sysret": _sysret,
        "lret": _lret,
        "syscall": _syscall,
        "interrupt": _interrupt,
        "exception": _exception,
        "halt": _halt,
        "hole_enter": _hole_enter,
        "hole_body": _hole_body,
    }
