"""A run as a replay follows it: its steps with all that each did, executed once more by the interpreter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from verifier.lift import lift
from verifier.trace.confirm import broken_here
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import Disagreement, Move
from verifier.trace.trace import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.machine.config import MachineConfig
    from verifier.trace.run import ConcreteState, Outcome, Start
    from verifier.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Leg:
    """One move, the state before it, and what it led to. ``undefined``: bits of cells that the manual leaves open
    and this run has chosen, as masks by name."""

    move: Move
    before: ConcreteState
    outcome: Outcome
    undefined: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Course:
    """A run on one machine from one start."""

    machine: MachineConfig
    start: Start
    legs: tuple[Leg, ...]


def execute(machine: MachineConfig, start: Start, moves: Iterable[Move]) -> Course:
    """Raises Disagreement, with the number of the step, for a move that is not possible where it stands."""
    interpreter = Interpreter(machine, start)
    state = start.state
    legs: list[Leg] = []
    for number, move in enumerate(moves, 1):
        if legs and legs[-1].outcome.ended is not None:
            raise Disagreement(f"step {number}: the run has ended before ({legs[-1].outcome.ended})")
        try:
            outcome = interpreter.step(state, move)
            legs.append(Leg(move, state, outcome, _undefined(machine, interpreter, state, move, outcome)))
        except Disagreement as problem:
            raise Disagreement(f"step {number} ({move.action}): {problem}") from None
        state = outcome.state
    return Course(machine, start, tuple(legs))


def _undefined(
    machine: MachineConfig, interpreter: Interpreter, state: ConcreteState, move: Move, outcome: Outcome
) -> dict[str, int]:
    """The bits that turn over when every undefined result of an instruction does."""
    if not any(kind == "undef" for kind, _ in move.choices):
        return {}
    block = lift(machine.program.instructions[state.rip])
    widths = iter([op.result.width for op in block if op.opcode == "undef" and op.result is not None])
    turned = tuple((k, v ^ (1 << next(widths)) - 1) if k == "undef" else (k, v) for k, v in move.choices)
    other = interpreter.step(state, Move(move.action, turned, move.latch)).state.cells
    return {name: value ^ other[name] for name, value in outcome.state.cells.items() if value != other[name]}


def adapted(
    course: Course,
    rules: Mapping[str, int],
    cells: Mapping[str, int],
    choices: Mapping[tuple[str, int], int] = MappingProxyType({}),
) -> Course:
    """The same moves on a processor with these rules, and with these cells at the start. ``choices``: what it makes of
    some values that a move may choose.

    Raises Disagreement if they are not possible there, or lead to another end.
    """
    state = replace(course.start.state, cells={**course.start.state.cells, **cells})
    start = replace(course.start, state=state, rules={**course.start.rules, **rules})
    moves = [_adapted(leg.move, choices) for leg in course.legs]
    if start == course.start and moves == [leg.move for leg in course.legs]:
        return course
    other = execute(course.machine, start, moves)
    ends = [c.legs[-1].outcome.ended if c.legs else None for c in (course, other)]
    if ends[0] != ends[1]:
        raise Disagreement(f"the run ends otherwise ({ends[1] or 'it goes on'}, not {ends[0] or 'on'})")
    return other


def _adapted(move: Move, choices: Mapping[tuple[str, int], int]) -> Move:
    return replace(move, choices=tuple((kind, choices.get((kind, value), value)) for kind, value in move.choices))


def course_of(trace: Trace) -> Course:
    """The run of a trace. Raises Disagreement where it cannot be executed, or where it is not what the trace says."""
    course = execute(trace.model.machine, trace.start, [step.move for step in trace.steps])
    for number, (step, leg) in enumerate(zip(trace.steps, course.legs, strict=True), 1):
        difference = _difference(step, leg)
        if difference is not None:
            raise Disagreement(f"step {number} ({step.move.action}): {difference}")
    return course


def _difference(step: Step, leg: Leg) -> str | None:
    told, found = step.after, leg.outcome.state
    if step.ended != leg.outcome.ended:
        return f"the run {step.ended or 'goes on'} in the trace, and {leg.outcome.ended or 'goes on'} when executed"
    pairs = [("rip", told.rip, found.rip), ("nmi_blocked", told.nmi_blocked, found.nmi_blocked)]
    pairs.append(("nmi_pending", told.nmi_pending, found.nmi_pending))
    pairs += [(name, told.cells[name], value) for name, value in found.cells.items()]
    memory = sorted({*told.memory, *found.memory})
    pairs += [(f"the byte at {a:#x}", told.memory.get(a, 0), found.memory.get(a, 0)) for a in memory]
    different = [f"{name} is {a:#x} in the trace, and {b:#x} when executed" for name, a, b in pairs if a != b]
    return different[0] if different else None


def still_broken(trace: Trace, course: Course) -> bool:
    """Whether a course with the moves of a trace breaks its property too."""
    steps = tuple(
        Step(old.at, leg.move, leg.before, leg.outcome.state, leg.outcome.delivered, leg.outcome.ended)
        for old, leg in zip(trace.steps, course.legs, strict=True)
    )
    return broken_here(replace(trace, start=course.start, steps=steps))
