"""From a symbolic violation to a concrete run that the interpreter has confirmed, step by step.

The model picks values; readable ones where it is free to. Then the interpreter, which knows nothing of the symbolic
engine, executes the moves, and after each of them every register, flag, word of memory and NMI latch must be what
the symbolic run says. Anything else is an internal error, and no verdict is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import InternalError
from verifier.explore.graph import End, Node
from verifier.ir.cells import CELL_NAMES
from verifier.machine.layout import CELL_COUNT
from verifier.machine.rules import RULES
from verifier.machine.state import HOME
from verifier.terms import SolverFailure, Valuation
from verifier.trace.confirm import broken_here
from verifier.trace.interpreter import Interpreter
from verifier.trace.prefer import preferences
from verifier.trace.run import ConcreteState, Disagreement, Move, Start
from verifier.trace.trace import Step, Trace

if TYPE_CHECKING:
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.machine.step import Edge
    from verifier.prove.prover import Prover
    from verifier.prove.verdict import Result, Violation
    from verifier.terms import Term


def concretise(prover: Prover, result: Result) -> Trace | None:
    """The run behind a refuted result, or None for any other verdict.

    Raises InternalError if no model exists or the concrete interpreter does not confirm the run, and SolverFailure if
    the solver finds no values.
    """
    violation = result.violation
    if violation is None:
        return None
    run = _Run(prover, violation)
    steps = run.confirm()
    trace = Trace(
        result.model,
        result.property,
        run.first.home.context,
        run.start,
        steps,
        violation.kind,
        violation.message,
        violation.names,
        len(steps) - len(violation.stuck) if violation.stuck else None,
    )
    if not broken_here(trace):
        raise InternalError(f"{result.property.name}: the concrete run does not break the property")
    return trace


class _Run:
    """One symbolic run, its values, and the concrete states they make."""

    def __init__(self, prover: Prover, violation: Violation) -> None:
        self._layout: Layout = prover.layout
        self._program = prover.model.machine.program
        nodes = violation.node.path_from_start()
        self.first: State = nodes[0].state
        self._edges: list[Edge] = [n.edge for n in nodes[1:] if n.edge is not None]
        tail: list[Node | End] = list(violation.stuck)
        if violation.end is not None:
            tail.append(violation.end)
        self._edges += [_edge(t) for t in tail]
        literals = violation.condition | (self._edges[-1].path if self._edges else frozenset())
        mentioned = frozenset[object]().union(*[t.support for t in literals])
        self._locations = sorted(self._touched() | self._layout.locations_of(mentioned))
        variables = self._variables(literals)
        values = prover.solver.model(literals, variables, preferences(prover.layout, self.first, variables))
        if values is None and prover.solver.unknowns:
            raise SolverFailure(f"there are none, but it had left a question open before: {prover.solver.reason}")
        if values is None:
            raise InternalError(f"no model for a violation: {violation.message}")
        self._value = Valuation(values)
        self.start = self._make_start(values)

    def _touched(self) -> set[int]:
        """Every word that the run reads or writes, and every word that is said to hold something at first."""
        touched = {at for e in self._edges for at in e.reads | e.writes if at >= CELL_COUNT}
        for number, region in enumerate(self._layout.regions):
            for offset, size in ((d.offset, d.size) for d in region.data if d.initially is not None):
                touched.update(self._layout.location(number, w) for w in range(offset // 8, (offset + size + 7) // 8))
        return touched

    def _variables(self, literals: frozenset[Term]) -> list[Term]:
        terms: set[Term] = {*literals, *self.first.cells, self.first.home.rip, *self._layout.bases}
        terms.update(self._layout.initial(at) for at in self._locations)
        for edge in self._edges:
            terms.update(t for _, t in edge.choices)
            if edge.state is not None:
                terms.update(edge.state.cells)
                terms.update(edge.state.memory.values())
        support: frozenset[Term] = frozenset().union(*[t.support for t in terms])
        return sorted(support, key=lambda v: v.id)

    def _make_start(self, values: dict[Term, int]) -> Start:
        rules = {name: 0 for name in RULES}
        rules |= {str(v.attr).removeprefix("rule:"): n for v, n in values.items() if str(v.attr).startswith("rule:")}
        bases = {r.name: self._value(b) for r, b in zip(self._layout.regions, self._layout.bases, strict=True)}
        home = self._value(self.first.home.rip)
        cells = {name: self._value(t) for name, t in zip(CELL_NAMES, self.first.cells, strict=True)}
        memory: dict[int, int] = {}
        for at in self._locations:
            address, word = self._address(at), self._value(self._layout.initial(at))
            memory.update({address + i: word >> 8 * i & 0xFF for i in range(8)})
        return Start(ConcreteState(home, cells, memory), home, bases, rules)

    def _address(self, location: int) -> int:
        place = self._layout.place_of(location)
        return self._value(self._layout.bases[place.region]) + place.offset

    def confirm(self) -> tuple[Step, ...]:
        """Execute the run concretely; the steps, each compared with the symbolic state after it."""
        interpreter = Interpreter(self._layout.machine, self.start)
        state, at = self.start.state, None
        steps: list[Step] = []
        for number, edge in enumerate(self._edges, 1):
            move = Move(edge.action, tuple((kind, self._value(t)) for kind, t in edge.choices), edge.latch)
            try:
                outcome = interpreter.step(state, move)
            except Disagreement as problem:
                raise InternalError(f"step {number} ({edge.action}): the interpreter says: {problem}") from problem
            steps.append(
                Step(at, move, state, outcome.state, outcome.delivered, outcome.ended, outcome.detail)
            )  # fmt: skip
            self._compare(number, edge, outcome.state, outcome.ended)
            state = outcome.state
            at = None if edge.state is None or edge.state.rip == HOME else edge.state.rip
        return tuple(steps)

    def _compare(self, number: int, edge: Edge, got: ConcreteState, ended: str | None) -> None:
        differences = list(self._differences(edge, got, ended))
        if differences:
            listed = "; ".join(differences[:6])
            raise InternalError(f"step {number} ({edge.action}): symbolic and concrete run differ: {listed}")

    def _differences(self, edge: Edge, got: ConcreteState, ended: str | None) -> list[str]:
        expected = edge.ended or ("home" if edge.state is not None and edge.state.rip == HOME else None)
        if ended != expected:
            return [f"the run {ended or 'goes on'}, not {expected or 'goes on'}"]
        want = edge.state
        if want is None:
            return []
        rip = self._value(want.home.rip) if want.rip == HOME else want.rip
        pairs = [("rip", rip, got.rip), ("nmi_blocked", want.nmi_blocked, got.nmi_blocked)]
        pairs.append(("nmi_pending", want.nmi_pending, got.nmi_pending))
        pairs += [(n, self._value(t), got.cells[n]) for n, t in zip(CELL_NAMES, want.cells, strict=True)]
        for at, term in want.memory.items():
            address = self._address(at)
            pairs.append((f"word {address:#x}", self._value(term), got.read(address, 8)))
        return [f"{name} {a:#x} against {b:#x}" for name, a, b in pairs if a != b]


def _edge(item: Node | End) -> Edge:
    assert item.edge is not None
    return item.edge
