"""One move of a run: what may happen at this boundary, and what it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift import lift
from verifier.machine.events import EVENTS, PAGE_FAULT_USER, SOFTWARE
from verifier.trace.interpreter.deliver import Delivery
from verifier.trace.interpreter.execute import Execution, Terminators
from verifier.trace.interpreter.memory import Memory
from verifier.trace.interpreter.segments import Selectors
from verifier.trace.interpreter.work import Choices, Fault, Mishap, Work
from verifier.trace.run import Disagreement, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.asm.program import Instruction
    from verifier.ir.ops import Block
    from verifier.machine.config import Contract, MachineConfig
    from verifier.machine.events import Event
    from verifier.trace.run import ConcreteState, Move, Start

#: Cell ``inhibit`` after MOV SS and POP SS: a shadow that also holds back the TF trap (S3).
SS_SHADOW = 2
#: Its values that hold back maskable interrupts (S1, S3).
SHADOWS = (1, SS_SHADOW)
#: Its value after an instruction that cast no shadow because of one before it (S4).
SPENT = 3
#: The bit by which that is so: by the shadow before, and the one it would have cast (S4). STI in the shadow of STI
#: finds IF=1, and so casts none anyway (S1).
IN_A_ROW = {
    (2, 2): "ss_after_ss_casts_none",
    (1, 2): "ss_after_sti_casts_none",
    (2, 1): "sti_after_ss_casts_none",
    (SPENT, 1): "rows_cast_once",
    (SPENT, 2): "rows_cast_once",
}


class Interpreter:
    """Re-executes the moves of a run on one machine. Keeps no state but the lifted blocks.

    ``lift`` turns an instruction into its block; the default is `verifier.lift.lift`.
    """

    def __init__(
        self, machine: MachineConfig, start: Start, lift: Callable[[Instruction], Block] = lift
    ) -> None:
        self._machine = machine
        self._home = start.home
        self._home_cpl = start.state.cells["cpl"]
        self._rules = start.rules
        self._lift = lift
        self._blocks: dict[int, Block] = {}
        self._memory = Memory(machine, start)
        self._selectors = Selectors(machine)
        self._delivery = Delivery(machine, start, self._memory)
        self._terminators = Terminators(machine, start, self._memory, self._delivery)

    def step(self, state: ConcreteState, move: Move) -> Outcome:
        """What one move leads to.

        Raises `Disagreement` if the move is not possible in this state or its choices are not those that were
        asked for, and `verifier.errors.LiftError` for what is not supported.
        """
        choices = Choices(move.choices)
        if move.latch:
            outcome = self._latch(state, move, choices)
        elif move.action == "execute":
            outcome = self._execute(state, choices)
        else:
            outcome = self._strike(state, move, choices)
        choices.finish()
        return outcome

    # what may happen

    def _at_home(self, state: ConcreteState | Work) -> bool:
        """Whether control is in the interrupted context."""
        cpl = state.cells["cpl"]
        outside = cpl == 3 or not self._machine.program.covers(state.rip)
        return state.rip == self._home and cpl == self._home_cpl and outside

    def _instruction(self, state: ConcreteState) -> Instruction | None:
        """The program's instruction that is next, if control is in the program."""
        if state.cells["cpl"] != 0 or self._at_home(state):
            return None
        return self._machine.program.instructions.get(state.rip)

    @staticmethod
    def _expect_no_pending_nmi(state: ConcreteState, action: str) -> None:
        """A pending NMI comes at the first boundary after the block ends (N7), or after a shadow (S2, S3)."""
        if state.nmi_pending and not state.nmi_blocked and state.cells["inhibit"] not in SHADOWS:
            raise Disagreement(f"{action} at {state.rip:#x}, where a pending NMI is delivered first")

    def _latch(self, state: ConcreteState, move: Move, choices: Choices) -> Outcome:
        """An NMI that arrives while NMIs are blocked; one that is pending already absorbs it (N3)."""
        if move.action != "nmi" or not state.nmi_blocked:
            raise Disagreement(f"{move.action} cannot be latched at {state.rip:#x}")
        if not self._at_home(state) and self._instruction(state) is None:
            raise Disagreement(f"{state.rip:#x} is no boundary of this run")
        work = Work.of(state, choices)
        work.nmi_pending = True
        return work.outcome()

    # an instruction

    def _execute(self, state: ConcreteState, choices: Choices) -> Outcome:
        instruction = self._instruction(state)
        if instruction is None:
            raise Disagreement(f"no instruction of the program is executed at {state.rip:#x}")
        self._expect_no_pending_nmi(state, "execute")
        block = self._block(instruction)
        work = Work.of(state, choices)
        try:
            run = Execution(work, block, self._memory, self._selectors)
            run.run_operations()
            self._terminators.finish(run)
        except Mishap as mishap:
            return self._ended(Work.of(state, choices), mishap)
        except Fault as fault:
            return self._faulted(state, Work.of(state, choices), block, fault)
        return self._completed(state, work, block)

    def _faulted(self, state: ConcreteState, work: Work, block: Block, fault: Fault) -> Outcome:
        """Nothing of the instruction remains, but any iret unblocks NMIs, before the handler runs (N4)."""
        if block.terminator.opcode == "iret":
            work.nmi_blocked = False

        def deliver() -> None:
            self._delivery.fault(work, fault, state.rip)
            if self._holds_trap(state) and self._rules.get("fault_keeps_held_trap", 0):
                self._delivery.single_step(work)

        return self._concluded(work, deliver)

    def _completed(self, state: ConcreteState, work: Work, block: Block) -> Outcome:
        traps = self._traps(state, work, block)
        in_a_row = IN_A_ROW.get((state.cells["inhibit"], work.cells["inhibit"]), "")
        if self._rules.get(in_a_row, 0):
            work.cells["inhibit"] = SPENT
        outcome = self._concluded(work, lambda: None)
        if outcome.ended in (None, "home") and traps:
            return self._concluded(work, lambda: self._delivery.single_step(work))
        return outcome

    @staticmethod
    def _holds_trap(before: ConcreteState) -> bool:
        """Whether a load of SS has held back the #DB of TF at this boundary (S3, S4)."""
        return before.cells["tf"] == 1 and before.cells["inhibit"] in (SS_SHADOW, SPENT)

    def _traps(self, before: ConcreteState, after: Work, block: Block) -> bool:
        """Whether a #DB follows an instruction (I4), at once or held back by an SS load before it (S3, S6).

        INT n clears TF and so has no trap of its own; one that is held may be lost by it (S6, S7).
        """
        if block.terminator.opcode == "interrupt":
            name = "int_keeps_held_trap" if after.delivered[-1] in SOFTWARE else "fault_keeps_held_trap"
            return self._holds_trap(before) and self._rules.get(name, 0) == 1
        if after.cells["inhibit"] == SS_SHADOW:
            return self._holds_trap(before) and self._rules.get("ss_after_ss_traps", 0) == 1
        return before.cells["tf"] == 1

    def _block(self, instruction: Instruction) -> Block:
        if instruction.address not in self._blocks:
            self._blocks[instruction.address] = self._lift(instruction)
        return self._blocks[instruction.address]

    # an event

    def _strike(self, state: ConcreteState, move: Move, choices: Choices) -> Outcome:
        event = EVENTS.get(move.action)
        if event is None:
            raise Disagreement(f"no event is called {move.action}")
        instruction = self._instruction(state)
        if instruction is None and not self._at_home(state):
            raise Disagreement(f"{state.rip:#x} is no boundary of this run")
        self._expect_possible(state, event, instruction)
        work = Work.of(state, choices)

        def deliver() -> None:
            if self._in_hole(instruction):
                assert instruction is not None
                self._terminators.holes.run_on(work, instruction)
            if event.name == "nmi" and work.nmi_blocked:
                raise Disagreement(f"nmi is delivered at {state.rip:#x}, where NMIs are still blocked")
            if event.maskable and not work.cells["if"]:
                raise Disagreement(f"{event.name} at {state.rip:#x}, where IF=0 masks it")
            if event.name == "machine_check":
                self._delivery.begin_machine_check(work)
            error = self._caused(work, event)
            self._unblock_by_iret(work, event, instruction)
            self._delivery.event(work, event, state.rip, error)
            if self._holds_trap(state) and self._rules.get(self._keeper(event), 0):
                self._delivery.single_step(work)

        return self._concluded(work, deliver)

    def _expect_possible(self, state: ConcreteState, event: Event, instruction: Instruction | None) -> None:
        """Masks and priorities that hidden code cannot change."""
        if not event.asynchronous and not self._is_raised(state, event, instruction):
            raise Disagreement(f"{event.name} is injected at {state.rip:#x}, where nothing may raise it")
        if instruction is None and event.saved_rf and not state.cells["rf"]:
            raise Disagreement(f"{event.name} of the interrupted context, whose RF is not what its frame says (E4)")
        if event.held_by_ss and state.cells["inhibit"] == SS_SHADOW:
            raise Disagreement(f"{event.name} at {state.rip:#x}, in the shadow of MOV SS")
        contract = self._contract_here(instruction)
        if contract is not None and event.name in contract.never:
            raise Disagreement(f"{event.name} strikes in {contract.name}, which never has one")
        if event.name == "nmi" and state.nmi_blocked and not (contract is not None and contract.irets):
            raise Disagreement(f"nmi is delivered at {state.rip:#x}, where NMIs are blocked")
        if event.maskable and state.cells["inhibit"] in SHADOWS:
            raise Disagreement(f"{event.name} at {state.rip:#x}, in the shadow of STI or MOV SS")
        if event.name not in ("nmi", "machine_check"):
            self._expect_no_pending_nmi(state, event.name)

    @staticmethod
    def _in_hole(instruction: Instruction | None) -> bool:
        return instruction is not None and instruction.mnemonic == "hole_body"

    def _contract_here(self, instruction: Instruction | None) -> Contract | None:
        """That of the hidden code that control is in."""
        if instruction is None or not self._in_hole(instruction):
            return None
        return self._terminators.holes.contract(instruction)

    def _is_raised(self, state: ConcreteState, event: Event, instruction: Instruction | None) -> bool:
        """Whether the specification lets a fault or trap strike here: by itself, or by hidden code."""
        if instruction is None:
            return event.name in self._machine.raised_outside
        contract = self._contract_here(instruction)
        if contract is not None and event.name in contract.may_raise:
            return True
        return state.rip in self._machine.raised.get(event.name, ())

    @staticmethod
    def _caused(work: Work, event: Event) -> int | None:
        """The error code; a page fault loads CR2 (any canonical address), a #DB the low bits of DR6 (E1, E2)."""
        error = None
        if event.error_code:
            error = work.choices.take("fault.error_code", 32) & event.error_bits
            if event.name == "page_fault" and work.cells["cpl"] != 3:
                error &= ~PAGE_FAULT_USER
        if event.name == "page_fault":
            address = work.choices.take("fault.cr2", 48)
            work.cells["cr2"] = address | (0xFFFF << 48 if address >> 47 else 0)
        if event.name == "debug":
            work.cells["dr6"] = work.cells["dr6"] & ~15 | work.choices.take("debug.breakpoints", 4)
        return error

    def _unblock_by_iret(self, work: Work, event: Event, instruction: Instruction | None) -> None:
        """A fault with an error code at an IRET comes before it begins, or in it: then NMIs are unblocked (E3)."""
        if not work.nmi_blocked or not event.error_code or instruction is None:
            return
        if self._block(instruction).terminator.opcode == "iret" and work.choices.take("fault.in_iret", 1):
            work.nmi_blocked = False

    @staticmethod
    def _keeper(event: Event) -> str:
        """The rule that a #DB held back by a load of SS survives an event by (S6, S7)."""
        kind = "int" if event.software else "fault" if event.saved_rf else "event"
        return f"{kind}_keeps_held_trap"

    # where it leads

    def _concluded(self, work: Work, act: Callable[[], None]) -> Outcome:
        """Do the last part of a step, and say where control is then."""
        try:
            act()
        except Mishap as mishap:
            return self._ended(work, mishap)
        if self._at_home(work):
            return work.outcome("home")
        if work.cells["cpl"] == 0 and work.rip in self._machine.program.instructions:
            return work.outcome()
        return work.outcome("wild-jump", f"control goes to {work.rip:#x} at CPL {work.cells['cpl']}")

    @staticmethod
    def _ended(work: Work, mishap: Mishap) -> Outcome:
        return work.outcome(mishap.kind, mishap.detail)
