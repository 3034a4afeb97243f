"""One step of the machine: an instruction executed, or an event that strikes, on symbolic data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.errors import LiftError
from verifier.ir.cells import CELL_INDEX
from verifier.ir.ops import Access
from verifier.machine.config import MSR_CELLS, MSRS, TSC_AUX
from verifier.machine.delivery import deliver, raise_fault
from verifier.machine.events import BY_VECTOR, EVENTS, SOFTWARE, Event
from verifier.machine.execution import Execution, Fault, Mishap, Unresolved, branches
from verifier.machine.holes import pass_hole
from verifier.machine.iret import iret, sysret
from verifier.machine.segments import check_loads, described
from verifier.machine.state import HOME, State, canonical, rule
from verifier.machine.strike import SS_SHADOW, held_trap, single_step, strike
from verifier.terms import Term, and_, any_of, apply, const, eq, extract, ite, not_, or_, sext, zext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from verifier.ir.ops import Block, Operation
    from verifier.machine.config import Contract
    from verifier.machine.layout import Layout
    from verifier.terms import Solver

EXECUTE = "execute"
#: How an edge ends that leads nowhere: the event was held back.
HELD = "held"
_STI_SHADOW = const(1, 2)
#: No shadow, after an instruction that would have cast one but for another before it.
_SPENT = const(3, 2)
#: Rule S4: the cell ``inhibit`` before an instruction, what that makes it, and the bit by which it casts none then.
_IN_A_ROW = (
    (SS_SHADOW, SS_SHADOW, "ss_after_ss_casts_none"),
    (_STI_SHADOW, SS_SHADOW, "ss_after_sti_casts_none"),
    (SS_SHADOW, _STI_SHADOW, "sti_after_ss_casts_none"),
    (_SPENT, SS_SHADOW, "rows_cast_once"),
    (_SPENT, _STI_SHADOW, "rows_cast_once"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """One way a step can go.

    ``state`` is None where the run ends badly: then ``ended`` is a kind of `verifier.machine.events.MISHAPS`, or
    ``unresolved``, and ``detail`` says what and where. It is None too where an event is held back (``ended`` `HELD`):
    nothing happens then, but that it does depends on what was read. ``choices`` are the values left open, for
    re-execution; ``reads`` and ``writes`` are location numbers, ``path`` the literals at the end; ``atoms`` are the
    path literals (without sign) that a decision found there, ``variables`` those that a new decision was about.
    ``feeds``: of locations that a nested run wrote, those that the values come from (`verifier.explore.routine`).
    ``struck``: where an event struck and its own handler was entered, the cells of the context it struck, just before,
    with RF as the frame has it. ``waits``: HLT was executed, and the processor goes on when an event comes (rule N10).
    """

    action: str
    state: State | None
    choices: tuple[tuple[str, Term], ...]
    delivered: tuple[str, ...]
    reads: frozenset[int]
    writes: frozenset[int]
    path: frozenset[Term]
    atoms: frozenset[Term]
    variables: frozenset[Term]
    ended: str | None = None
    detail: str = ""
    latch: bool = False
    struck: tuple[Term, ...] | None = None
    waits: bool = False
    feeds: Mapping[int, frozenset[int]] = field(default_factory=dict)


class Stepper:
    """The machine of one specification, with its solver. Blocks are lifted when they are first reached."""

    def __init__(self, layout: Layout, solver: Solver, lift: Callable[[int], Block]) -> None:
        self.layout = layout
        self.solver = solver
        self._lift = lift
        self._blocks: dict[int, Block] = {}

    def block(self, address: int) -> Block:
        found = self._blocks.get(address)
        if found is None:
            found = self._blocks[address] = self._lift(address)
        return found

    def execute(self, state: State) -> Iterator[Edge]:
        """Every way the instruction at ``state.rip`` can go."""
        block = self.block(state.rip)
        return self._edges(state, EXECUTE, lambda x: _execute(x, block))

    def can_arise(self, state: State, name: str) -> bool:
        """Whether an event can come up at this boundary at all: faults only where the specification says so."""
        machine, contract = self.layout.machine, self.hole_at(state)
        if contract is not None and name in contract.never:
            return False
        if EVENTS[name].asynchronous or (contract is not None and name in contract.may_raise):
            return True
        if state.rip == HOME:
            return name in machine.raised_outside
        return state.rip in machine.raised.get(name, ())

    def strike(self, state: State, name: str) -> Iterator[Edge]:
        """Every way an event that can arise strikes at this boundary, or is held back (`HELD`) by a mask."""
        event, contract = EVENTS[name], self.hole_at(state)
        if event.blocks_nmi and state.nmi_blocked and not (contract is not None and contract.irets):
            return iter(())
        in_iret = state.nmi_blocked and event.error_code and self._at_iret(state)
        return self._edges(state, name, lambda x: strike(x, event, contract, in_iret))

    def _at_iret(self, state: State) -> bool:
        return state.rip != HOME and self.block(state.rip).terminator.opcode == "iret"

    def resume(self, state: State, target: Term, action: str) -> Iterator[Edge]:
        """Every way on from a nested run that leaves for ``target``: what remains of its last instruction."""

        def leave(x: Execution) -> bool:
            x.transfer(target)
            return True

        return self._edges(state, action, leave)

    def latch(self, state: State) -> Edge:
        """An NMI arrives while NMIs are blocked: one is held pending, more are lost (rule N3)."""
        x = Execution(self.layout, self.solver, state)
        x.nmi_pending = True
        return _edge(x, "nmi", None, "", latch=True)

    def hole_at(self, state: State) -> Contract | None:
        """The contract of the hole that control is inside, if it is."""
        if state.rip == HOME:
            return None
        instruction = self.layout.machine.program.instructions[state.rip]
        if instruction.mnemonic != "hole_body":
            return None
        return self.layout.machine.contracts[str(instruction.hole)]

    def _edges(self, state: State, action: str, run: Callable[[Execution], bool]) -> Iterator[Edge]:
        def attempt(x: Execution) -> tuple[str | None, str]:
            try:
                return (None if run(x) else HELD), ""
            except Mishap as mishap:
                return mishap.kind, mishap.detail
            except Unresolved as unresolved:
                return "unresolved", unresolved.reason

        about = f"a condition in the course of: {action}"
        with self.solver.asking(state=state, question=about):
            for x, outcome in branches(self.layout, self.solver, state, attempt):
                yield _edge(x, action, *outcome)


def _edge(x: Execution, action: str, ended: str | None, detail: str, latch: bool = False) -> Edge:
    after = x.result()
    return Edge(
        action,
        after if ended is None else None,
        tuple(x.choices),
        tuple(x.delivered),
        frozenset(x.reads),
        frozenset(x.writes),
        after.path,
        frozenset(x.atoms),
        frozenset(x.variables),
        ended,
        detail,
        latch,
        x.struck if tuple(x.delivered) == (action,) else None,
        x.waits,
    )


# instructions


def _execute(x: Execution, block: Block) -> bool:
    trapping, held = x.get("tf"), held_trap(x)
    x.put("inhibit", const(0, 2))
    try:
        _run_block(x, block)
        trap = _trap_after(x, block, trapping, held)
        _end_repeated_shadow(x)
    except Fault as fault:
        raise_fault(x, fault)
        trap = and_(held, rule("fault_keeps_held_trap"))
    if x.decide(trap):
        single_step(x)
    return True


def _trap_after(x: Execution, block: Block, trapping: Term, held: Term) -> Term:
    """The condition that a #DB of TF follows a completed instruction.

    Rules I4 and S3: a load of SS holds it back. Rules S6 and S7: but perhaps not one that is held already; and that
    perhaps does not come after INT n, which clears TF and has no trap of its own.
    """
    if block.terminator.opcode != "interrupt":
        at_once = and_(trapping, not_(eq(x.get("inhibit"), SS_SHADOW)))
        return or_(at_once, and_(held, rule("ss_after_ss_traps")))
    entered = x.delivered[-1] in SOFTWARE
    return and_(held, rule("int_keeps_held_trap" if entered else "fault_keeps_held_trap"))


def _end_repeated_shadow(x: Execution) -> None:
    """Rule S4: of shadows in a row only the first is sure."""
    before, after, none = x.before.cell("inhibit"), x.cells[CELL_INDEX["inhibit"]], const(0, 2)
    if before is not none and after is not none:
        pairs = [and_(eq(before, b), eq(after, a)) for b, a, _ in _IN_A_ROW]
        ends = any_of([and_(rule(name), pair) for pair, (_, _, name) in zip(pairs, _IN_A_ROW, strict=True)])
        x.put("inhibit", ite(ends, _SPENT, after))


def _run_block(x: Execution, block: Block) -> None:
    values: list[Term] = []
    puts: dict[str, Term] = {}
    for operation in block.operations:
        args = [values[a.index] for a in operation.args]
        if operation.result is not None:
            values.append(_value(x, operation, args))
        elif operation.opcode == "put":
            puts[str(operation.attr)] = args[0]
        elif operation.opcode == "skip_if":
            if x.decide(args[0]):
                x.put("rf", const(0, 1))
                _next(x, block)
                return
        else:
            _effect(x, operation, args, puts)
    check_loads(x, puts)
    for cell, value in puts.items():
        x.put(cell, value)
    if "rf" not in puts:
        x.put("rf", const(0, 1))  # every completed instruction clears RF (SDM vol. 3B 17.3.1.1)
    _finish(x, block, [values[a.index] for a in block.terminator.args])


def _value(x: Execution, operation: Operation, args: list[Term]) -> Term:
    opcode, attr = operation.opcode, operation.attr
    assert operation.result is not None
    width = operation.result.width
    match opcode:
        case "const":
            assert isinstance(attr, int)
            return const(attr, width)
        case "get":
            return x.get(str(attr))
        case "undef":
            return x.choose("undef", width)
        case "extract":
            assert isinstance(attr, tuple)
            return extract(args[0], *attr)
        case "zext":
            return zext(args[0], width)
        case "sext":
            return sext(args[0], width)
        case "load":
            assert isinstance(attr, Access)
            return x.load(args[0], width, attr)
        case "rdmsr" | "tsc_aux" | "descriptor":
            return _ask(x, operation, args)
        case _:
            return apply(opcode, tuple(args))


def _ask(x: Execution, operation: Operation, args: list[Term]) -> Term:
    """What the processor tells of its registers and tables (rules I9, I13, I14)."""
    match operation.opcode:
        case "rdmsr":
            return _read_msr(x, args[0])
        case "descriptor":
            return described(x, str(operation.attr), *args)
    return args[0] if x.msr(TSC_AUX) is None else extract(x.word(*_msr_word(x, TSC_AUX)), 31, 0)


def _effect(x: Execution, operation: Operation, args: list[Term], puts: dict[str, Term]) -> None:
    match operation.opcode:
        case "store":
            assert isinstance(operation.attr, Access)
            x.store(args[0], args[1], operation.attr)
        case "fault_if":
            if x.decide(args[0]):
                assert isinstance(operation.attr, int)
                raise Fault(operation.attr, args[1])
        case "wrmsr":
            _write_msr(x, args[0], args[1], puts)


def _read_msr(x: Execution, index: Term) -> Term:
    number = _msr(index)
    if number in MSR_CELLS:
        return x.get(MSR_CELLS[number])
    return x.word(*_msr_word(x, number))


def _write_msr(x: Execution, index: Term, value: Term, puts: dict[str, Term]) -> None:
    """Rule I9: a base has to be canonical; another register takes any value."""
    number = _msr(index)
    if number not in MSR_CELLS:
        region, word = _msr_word(x, number)
        x.write_at(region, 8 * word, value)
        return
    if not x.decide(canonical(value)):
        raise Fault(13)
    puts[MSR_CELLS[number]] = value


def _msr(index: Term) -> int:
    if not index.is_const:
        raise Unresolved(f"the number of a model-specific register is not known: {index!r}")
    return index.value


def _msr_word(x: Execution, number: int) -> tuple[int, int]:
    """The region and the word in it that hold a model-specific register."""
    word = x.msr(number)
    if word is None:
        raise Unresolved(f"model-specific register {number:#x} is not modelled: list it in machine.msrs")
    return x.layout.number[MSRS], word


# terminators


def _goto(x: Execution, target: Term) -> None:
    if not x.decide(canonical(target)):
        raise Fault(13)  # rule A3: at the branch, with nothing of it done
    x.transfer(target)


def _finish(x: Execution, block: Block, args: list[Term]) -> None:
    """What the terminator of a block does with control."""
    opcode, attr = block.terminator.opcode, block.terminator.attr
    match opcode, attr:
        case "next" | "halt", _:
            x.waits = opcode == "halt"
            _next(x, block)
        case "jump", int(target):
            _goto(x, const(target, 64))
        case "branch", int(target):
            if x.decide(args[0]):
                _goto(x, const(target, 64))
            else:
                _next(x, block)
        case "jump_indirect", _:
            _goto(x, args[0])
        case "hole_enter" | "hole_body", _:
            pass_hole(x, block)
            _next(x, block)
        case _, int(number):
            _system(x, block, number)
        case _:
            instruction = block.instruction
            raise LiftError(f"'{instruction.mnemonic}' is not supported here", instruction.span)


def _system(x: Execution, block: Block, number: int) -> None:
    """A terminator that is a small machine of its own; ``number`` is an operand size in bits, or a vector."""
    match block.terminator.opcode:
        case "iret":
            iret(x, number)
        case "sysret":
            sysret(x, number)
        case "interrupt":
            _interrupt(x, block, number)
        case "exception":
            raise Fault(number)
        case opcode:
            raise LiftError(f"'{opcode}' is not supported here", block.instruction.span)


def _next(x: Execution, block: Block) -> None:
    _goto(x, const(block.instruction.next_address, 64))


def _interrupt(x: Execution, block: Block, vector: int) -> None:
    """INT n and INT3: a gate of too low a DPL is #GP(vector*8+2) (rules F2 and F9); NMIs are not blocked (N9)."""
    gate = x.layout.machine.gates.get(vector)
    if gate is not None and gate.dpl < x.cpl:
        raise Fault(13, const(vector * 8 + 2, 32))
    event = BY_VECTOR[vector] if vector in (3, 4) else Event("software_interrupt", vector)
    following, this = const(block.instruction.next_address, 64), const(block.address, 64)
    deliver(x, vector, following, event=event, restart=this)
