"""What an instruction or an event does to a state: every outcome, with no search (docs/machine-model.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.ir.ops import Access
from verifier.lift import lift
from verifier.machine.config import MSR_CELLS, MSRS, TSC_AUX
from verifier.machine.events import BY_VECTOR, EVENTS, MCG_STATUS, PAGE_FAULT_USER, Event
from verifier.recheck import hidden
from verifier.recheck.deliver import Strike, deliver, of_event, of_fault
from verifier.recheck.expression import Expr, and_, concat, const, eq, extract, ite, not_, operation, or_, sext
from verifier.recheck.ghost import HOME
from verifier.recheck.returns import expect_loadable, iret, seen_by, sysret
from verifier.recheck.step import Fault, Impossible, Mishap, State, Step, Undecided
from verifier.recheck.world import canonical, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verifier.ir.ops import Attr, Block, Operation, Value
    from verifier.machine.config import Contract
    from verifier.recheck.solver import Solver
    from verifier.recheck.world import Word, World

EXECUTE = "execute"
_STACK = Access(stack=True)
_DR6_BS = 1 << 14
_AFTER_STI, _AFTER_SS = const(1, 2), const(2, 2)
#: No shadow, after an instruction whose own did not count (S4).
_SPENT = const(3, 2)
_SOFTWARE = {3: "breakpoint", 4: "overflow"}


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One way a step can go. ``ended`` None: on to ``step.at``, which is `HOME` where the run is over; else the kind
    of a mishap, with ``detail``."""

    step: Step
    ended: str | None = None
    detail: str = ""


class _Held(Exception):
    """The event is held back: nothing happens."""


class Machine:
    """Every outcome of every step of one machine."""

    def __init__(self, world: World, solver: Solver) -> None:
        self._world = world
        self._solver = solver
        self._blocks: dict[int, Block] = {}

    def instruction(self, state: State) -> Iterator[Outcome]:
        """Every way the next instruction can go. Raises Undecided."""
        block = self.block(state.at)
        yield from self._outcomes(state, lambda step: _execute(step, block))

    def block(self, at: int) -> Block:
        """What the instruction at an address does."""
        found = self._blocks.get(at)
        if found is None:
            found = self._blocks[at] = lift(self._world.machine.program.instructions[at])
        return found

    def event(self, state: State, name: str) -> Iterator[Outcome]:
        """Every way an event can strike at this boundary, if it can arise at all. Raises Undecided."""
        event, contract = EVENTS[name], self._hole(state)
        if not event.asynchronous and not self._raised(state, name, contract):
            return
        if contract is not None and name in contract.never:
            return
        if event.blocks_nmi and state.nmi_blocked and not (contract is not None and contract.irets):
            return  # N2; one that is held pending strikes where the block ends
        at_iret = state.at != HOME and self.block(state.at).terminator.opcode == "iret"
        yield from self._outcomes(state, lambda step: _strike(step, event, contract, at_iret))

    def resume(self, state: State, target: Expr) -> Iterator[Outcome]:
        """Every way on from the end of a routine: control goes to an address."""
        yield from self._outcomes(state, lambda step: step.transfer(target))

    def _raised(self, state: State, name: str, contract: Contract | None) -> bool:
        """Whether the specification lets a fault or trap strike here."""
        machine = self._world.machine
        if state.at == HOME:
            return name in machine.raised_outside
        return state.at in machine.raised.get(name, ()) or (contract is not None and name in contract.may_raise)

    def _hole(self, state: State) -> Contract | None:
        """The contract of the hidden code that control is in."""
        if state.at == HOME:
            return None
        instruction = self._world.machine.program.instructions[state.at]
        inside = instruction.mnemonic == "hole_body"
        return self._world.machine.contracts[str(instruction.hole)] if inside else None

    def _outcomes(self, state: State, act: Callable[[Step], None]) -> Iterator[Outcome]:
        pending: list[tuple[bool, ...]] = [()]
        while pending:
            step = Step(self._world, self._solver, state, pending.pop())
            try:
                act(step)
            except Mishap as mishap:
                yield Outcome(step, mishap.kind, mishap.detail)
            except (_Held, Impossible):
                pass
            else:
                yield Outcome(step)
            pending += step.open


# events


def _strike(step: Step, event: Event, contract: Contract | None, at_iret: bool) -> None:
    if event.held_by_ss and step.decide(eq(step.get("inhibit"), _AFTER_SS)):
        raise _Held  # S3
    if contract is not None:
        hidden.run_on(step, contract)
    if event.blocks_nmi and step.nmi_blocked:
        raise _Held
    _hold_back(step, event)
    if event.name == "machine_check":
        _check_in_progress(step)
    trap = _trap_held(step)
    rip = step.next
    error = _cause(step, event)
    if at_iret and error is not None and step.nmi_blocked:
        step.nmi_blocked = not step.decide(step.choose(1))  # E3
    step.struck = {name: step.get(name) for name in CELLS}
    if event.saved_rf:
        step.struck["rf"] = const(1, 1)
    deliver(step, of_event(step, event.name, rip, error))
    kept = "int" if event.software else "fault" if event.saved_rf else "event"
    if step.decide(and_(trap, rule(f"{kept}_keeps_held_trap"))):  # S6, S7
        _single_step(step)


def _hold_back(step: Step, event: Event) -> None:
    """Raises _Held where an event does not strike after all (rules S1, S3, E4)."""
    shadow = or_(eq(step.get("inhibit"), _AFTER_STI), eq(step.get("inhibit"), _AFTER_SS))
    if event.maskable and not step.decide(and_(step.get("if"), not_(shadow))):
        raise _Held
    if step.at == HOME and event.saved_rf and not step.decide(step.get("rf")):
        raise _Held


def _check_in_progress(step: Step) -> None:
    """Rule E7."""
    offset = step.world.machine.msr(MCG_STATUS)
    if offset is None:
        return
    if step.decide(extract(step.word((MSRS, offset)), 2, 2)):
        raise Mishap("shutdown", "machine_check while MCG_STATUS.MCIP is set")
    open_bits = step.choose(4)
    bits = (const(0, 60), extract(open_bits, 3, 3), const(1, 1), extract(open_bits, 1, 0))
    step.write((MSRS, offset), concat(*bits))


def _cause(step: Step, event: Event) -> Expr | None:
    """The error code if there is one; CR2 and the low bits of DR6 (rules E1, E2)."""
    error = None
    if event.error_code:
        possible = event.error_bits
        if event.name == "page_fault" and step.cpl < 3:
            possible -= PAGE_FAULT_USER
        error = and_(step.choose(32), const(possible, 32))
    if event.name == "page_fault":
        step.put("cr2", sext(step.choose(48), 64))
    if event.name == "debug":
        step.put("dr6", concat(extract(step.get("dr6"), 63, 4), step.choose(4)))
    return error


def _trap_held(step: Step) -> Expr:
    """The condition that a load of SS has held back the #DB of TF (S3, S4)."""
    return and_(step.get("tf"), extract(step.get("inhibit"), 1, 1))


def _single_step(step: Step) -> None:
    """Rules I4 and I5."""
    step.put("dr6", or_(step.get("dr6"), const(_DR6_BS, 64)))
    deliver(step, of_event(step, "debug", step.next))


# instructions


def _execute(step: Step, block: Block) -> None:
    trapping, held, shadow = step.get("tf"), _trap_held(step), step.get("inhibit")
    step.number("inhibit", 0)
    try:
        _Body(step, block).run()
        trap = _trap_after(step, block, trapping, held, shadow)
    except Fault as fault:
        step.undo()
        deliver(step, of_fault(step, fault, const(step.at, 64)))
        trap = and_(held, rule("fault_keeps_held_trap"))  # S7
    if step.decide(trap):
        _single_step(step)


def _trap_after(step: Step, block: Block, trapping: Expr, held: Expr, shadow: Expr) -> Expr:
    """The condition that a #DB follows a completed instruction (I4, S3, S6, S7)."""
    cast = step.get("inhibit")
    step.put("inhibit", _shadow_left(shadow, cast))
    if block.terminator.opcode != "interrupt":
        in_a_row = and_(held, rule("ss_after_ss_traps"))
        return ite(eq(cast, _AFTER_SS), in_a_row, trapping)
    entered = step.delivered[-1] in ("breakpoint", "overflow", "software_interrupt")
    return and_(held, rule("int_keeps_held_trap" if entered else "fault_keeps_held_trap"))


def _shadow_left(before: Expr, cast: Expr) -> Expr:
    """Rule S4: a shadow that an instruction casts, or none where that was in the shadow before, or after such a one."""
    sti_ends = ite(eq(before, _AFTER_SS), rule("sti_after_ss_casts_none"), const(0, 1))
    in_shadow = ite(eq(before, _AFTER_SS), rule("ss_after_ss_casts_none"), rule("ss_after_sti_casts_none"))
    ss_ends = ite(eq(before, const(0, 2)), const(0, 1), in_shadow)
    ends = ite(eq(cast, _AFTER_SS), ss_ends, sti_ends)
    ends = ite(eq(before, _SPENT), rule("rows_cast_once"), ends)
    return ite(eq(cast, const(0, 2)), cast, ite(ends, _SPENT, cast))


class _Body:
    """The operations of one block, and its terminator."""

    def __init__(self, step: Step, block: Block) -> None:
        self._step = step
        self._block = block
        self._values: dict[Value, Expr] = {}
        self._puts: dict[str, Expr] = {}

    def run(self) -> None:
        """All reads but loads see the state before; cells change together, and RF becomes 0 unless it is put."""
        for o in self._block.operations:
            args = tuple([self._values[a] for a in o.args])
            if o.opcode == "skip_if" and self._step.decide(args[0]):
                self._step.number("rf", 0)
                self._step.go(self._next())
                return
            if o.result is not None:
                self._values[o.result] = self._value(o, args, o.result.width)
            else:
                self._effect(o, args)
        for cell in ("ds", "es", "fs", "gs", "ss"):
            if cell in self._puts:
                expect_loadable(self._step, cell, self._puts[cell])  # I11
        self._step.number("rf", 0)
        for cell, value in self._puts.items():
            self._step.put(cell, value)
        self._finish()

    def _next(self) -> Expr:
        return const(self._block.instruction.next_address, 64)

    def _value(self, o: Operation, args: tuple[Expr, ...], width: int) -> Expr:
        match o.opcode, o.attr:
            case "const", int(value):
                return const(value, width)
            case "get", str(name):
                return self._step.get(name)
            case "undef", _:
                return self._step.choose(width)
            case "load", Access() as access:
                return self._step.load(args[0], width // 8, access)
            case "rdmsr", _:
                return self._read_msr(args[0])
            case "tsc_aux" | "descriptor", query:
                return self._processor(query, args)
            case "concat", _:
                return concat(*args)
            case opcode, (int(high), int(low)):
                return operation(opcode, args, width, (high, low))
            case opcode, _:
                return operation(opcode, args, width)

    def _processor(self, query: Attr, args: tuple[Expr, ...]) -> Expr:
        """What the processor tells of a descriptor, or of itself where there is no ``query`` (I13, I14)."""
        if query is not None:
            return seen_by(self._step, str(query), *args)
        offset = self._step.world.machine.msr(TSC_AUX)
        return args[0] if offset is None else self._step.read((MSRS, offset), 4)

    def _effect(self, o: Operation, args: tuple[Expr, ...]) -> None:
        match o.opcode, o.attr:
            case "put", str(name):
                self._puts[name] = args[0]
            case "store", Access() as access:
                self._step.store(args[0], args[1], access)
            case "fault_if", int(vector):
                if self._step.decide(args[0]):
                    raise Fault(vector, args[1])
            case "wrmsr", _:
                self._write_msr(args[0], args[1])
            case "skip_if", _:
                pass
            case _:
                raise AssertionError(o)

    def _read_msr(self, index: Expr) -> Expr:
        cell = MSR_CELLS.get(index.value) if index.is_const else None
        return self._step.read(self._msr(index), 8) if cell is None else self._step.get(cell)

    def _write_msr(self, index: Expr, value: Expr) -> None:
        cell = MSR_CELLS.get(index.value) if index.is_const else None
        if cell is None:
            self._step.write(self._msr(index), value)
        elif self._step.decide(canonical(value)):
            self._puts[cell] = value
        else:
            raise Fault(13)  # I9

    def _msr(self, index: Expr) -> Word:
        offset = self._step.world.machine.msr(index.value) if index.is_const else None
        if offset is None:
            raise Undecided("a model-specific register that is not modelled, or whose number is not known")
        return MSRS, offset

    def _finish(self) -> None:
        step, terminator = self._step, self._block.terminator
        args = [self._values[a] for a in terminator.args]
        match terminator.opcode, terminator.attr:
            case "next" | "halt", _:
                step.go(self._next())
            case "jump", int(target):
                step.go(const(target, 64))
            case "branch", int(target):
                step.go(const(target, 64) if step.decide(args[0]) else self._next())
            case "jump_indirect", _:
                step.go(args[0])
            case "hole_enter" | "hole_body" as opcode, _:
                contract = step.world.machine.contracts[str(self._block.instruction.hole)]
                (hidden.enter if opcode == "hole_enter" else hidden.leave)(step, contract)
                step.go(self._next())
            case opcode, int(number):
                self._system(opcode, number)
            case opcode, _:
                raise Undecided(f"'{opcode}' is not supported")

    def _system(self, opcode: str, number: int) -> None:
        """``number``: an operand size in bits, or a vector."""
        match opcode:
            case "iret":
                iret(self._step, number)
            case "sysret":
                sysret(self._step, number)
            case "interrupt":
                self._interrupt(number)
            case "exception":
                raise Fault(number)
            case _:
                raise Undecided(f"'{opcode}' is not supported")

    def _interrupt(self, vector: int) -> None:
        """INT n and INT3 (rules F2, F8, F9, F13, N9)."""
        step = self._step
        gate = step.world.machine.gates.get(vector)
        if gate is not None and gate.dpl < step.cpl:
            raise Fault(13, const(vector * 8 + 2, 32))
        name = _SOFTWARE.get(vector, "software_interrupt")
        fault_class = BY_VECTOR[vector].fault_class if vector in _SOFTWARE else "benign"
        this = const(self._block.address, 64)
        deliver(step, Strike(name, gate, self._next(), this, external=False, fault_class=fault_class))
