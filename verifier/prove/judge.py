"""Watches a search and judges properties on every state and every end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import cost_of
from verifier.machine.events import BROKEN_CONTRACT, MISHAPS
from verifier.machine.execution import Mishap, Unresolved, possible
from verifier.machine.state import HOME
from verifier.prove.meaning import Meaning
from verifier.prove.verdict import Violation
from verifier.spec.expression import (
    AtRest,
    Binary,
    Expression,
    Handled,
    Intact,
    Progress,
    Restored,
    Resumed,
    Unreachable,
)
from verifier.terms import Term, not_

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verifier.explore.graph import End, Node
    from verifier.explore.schedule import Ghost, Script
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.spec.model import Property
    from verifier.terms import Solver


class Judge:
    """The `Observer` of a search. Keeps, per property, the cheapest violation, what could not be judged, how often and
    where it was judged, and whether the premise of an implication could hold."""

    def __init__(
        self, layout: Layout, solver: Solver, script: Script, properties: Sequence[Property], where: Describe
    ) -> None:
        self._layout = layout
        self._solver = solver
        self._script = script
        self.where = where
        self._properties = tuple(properties)
        self._restored = [p for p in properties if isinstance(p.that, Restored)]
        self._at_home = [p for p in properties if _judged_at_home(p)]
        self._at_nodes = [p for p in properties if p.at != "outermost-return" and not _is_progress(p)]
        self.violations: dict[str, Violation] = {}
        self.doubts: dict[str, str] = {}
        self.judged: dict[str, int] = {p.name: 0 for p in properties}
        self.places: dict[str, set[int]] = {p.name: set() for p in properties}
        self.premises: set[str] = set()

    def node(self, node: Node) -> tuple[Iterable[int], Iterable[Term]]:
        looked: set[int] = set()
        variables: set[Term] = set()
        if node.state.rip != HOME:
            for p in self._at_nodes:
                if _judged_here(p, node):
                    looked |= self._judge(p, node, None, node.state, node.ghost, variables)
        return looked, variables

    def end(self, end: End) -> tuple[Iterable[int], Iterable[Term]]:
        looked: set[int] = set()
        variables: set[Term] = set()
        if end.kind == "home":
            assert end.edge.state is not None
            for p in self._at_home:
                looked |= self._judge(p, end.node, end, end.edge.state, end.ghost, variables)
        elif end.kind == BROKEN_CONTRACT:
            for p in self._properties:
                self._keep(p, control_lost(end))  # the contract says nothing of what comes then
        elif end.kind in MISHAPS and self._script.complete(end.ghost):
            for p in self._restored:
                self._keep(p, control_lost(end))
        return looked, variables

    def settled(self, cost: tuple[int, int]) -> bool:
        known = (self.violations.get(p.name) for p in self._properties)
        return all(v is not None and v.cost <= cost for v in known)

    def _keep(self, p: Property, violation: Violation) -> None:
        known = self.violations.get(p.name)
        if known is None or violation.cost < known.cost:
            self.violations[p.name] = violation

    def _judge(
        self, p: Property, node: Node, end: End | None, state: State, ghost: Ghost, variables: set[Term]
    ) -> set[int]:
        """Judge one property in one state; the locations it looked at, and into ``variables`` what decided it."""
        if not self._script.complete(ghost):
            return set()
        self.judged[p.name] += 1
        self.places[p.name].add(state.rip)
        known = self.violations.get(p.name)
        if known is not None and known.cost <= cost_of(end or node):
            return set()
        meaning = Meaning(self._layout, self._solver, state, ghost, self._script)
        question = "whether the property can be false here"
        try:
            condition = meaning.truth(p.that)
            variables |= condition.support
            self._note_premise(p, meaning, state, variables)
            with self._solver.asking(properties=(p.name,), state=state, question=question):
                self._record(p, node, end, state, meaning, condition)
        except (Mishap, Unresolved) as problem:
            self.doubts.setdefault(p.name, f"the property reads {problem.args[-1]}")
        return meaning.looked_at

    def _note_premise(self, p: Property, meaning: Meaning, state: State, variables: set[Term]) -> None:
        """Whether what stands before an implication can hold somewhere."""
        if isinstance(p.that, Binary) and p.that.op == "->" and p.name not in self.premises:
            premise = meaning.truth(p.that.left)
            variables |= premise.support
            if possible(self._solver, state.frame, state.path, premise) == "sat":
                self.premises.add(p.name)

    def _record(
        self, p: Property, node: Node, end: End | None, state: State, meaning: Meaning, condition: Term
    ) -> None:
        broken = not_(condition)
        answer = possible(self._solver, state.frame, state.path, broken)
        if answer == "unknown":
            self.doubts.setdefault(p.name, f"the solver gave no answer on it in some state: {self._solver.reason}")
        if answer != "sat":
            return
        where = self.where(node.state.rip)
        names = self._culprits(p.that, meaning, state)
        message = explain(p, names, where, end is not None)
        literals = state.path | ({broken} if not broken.is_const else frozenset())
        self._keep(p, Violation(_kind(p.that), node, end, literals, message, names))

    def _culprits(self, e: Expression, meaning: Meaning, state: State) -> tuple[str, ...]:
        def may_fail(condition: Term) -> bool:
            return possible(self._solver, state.frame, state.path, not_(condition)) == "sat"

        match e:
            case Restored(cells):
                return tuple(c for c in cells if may_fail(meaning.restored(c)))
            case Resumed(cells):
                return tuple(c for c in cells if may_fail(meaning.resumed(c)))
            case Intact(None):
                return tuple(n for n in state.home.tracked.values() if may_fail(meaning.word_held(n)))
            case AtRest():
                return tuple(name for name, condition in meaning.at_rest() if may_fail(condition))
            case _:
                return ()


def control_lost(end: End) -> Violation:
    """A run that loses control does not come back to the interrupted context, and breaks whatever is said of it."""
    return Violation(end.kind, end.node, end, end.edge.path, f"{MISHAPS[end.kind]}: {end.edge.detail}")


class Describe:
    """Names an address for messages."""

    def __init__(self, layout: Layout) -> None:
        self._program = layout.machine.program

    def __call__(self, rip: int) -> str:
        return "the interrupted context" if rip == HOME else self._program.describe(rip)


def explain(p: Property, names: tuple[str, ...], where: str, returned: bool) -> str:
    """The one sentence that says what broke."""
    listed = ", ".join(names)
    match p.that:
        case Restored():
            return f"control is back in the interrupted context, but {listed} {_is(names)} not what it was"
        case Resumed():
            return f"control is back at {where}, where an event struck, but {listed} {_is(names)} not what it was"
        case Intact(None):
            return f"the last copy of the interrupted context's {listed} is gone"
        case Intact(_):
            return f"at {where} the frame no longer holds the interrupted context's five words"
        case Handled(event, _):
            return f"control is back in the interrupted context, but no run of its handler followed the last {event}"
        case AtRest():
            return f"control is back in the interrupted context, but {listed} {_is(names)} not at rest"
        case Unreachable():
            return f"control reaches {where}"
        case _:
            at = "back in the interrupted context" if returned else f"at {where}"
            return f"{at}, this does not hold: {p.text}"


def _is(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def walk(e: Expression) -> Iterable[Expression]:
    """An expression and everything in it."""
    yield e
    for name in ("operand", "left", "right", "frame"):
        inner = getattr(e, name, None)
        if inner is not None:
            yield from walk(inner)


def _is_progress(p: Property) -> bool:
    return isinstance(p.that, Progress)


def _judged_at_home(p: Property) -> bool:
    return p.at == "outermost-return" and not _is_progress(p)


def _judged_here(p: Property, node: Node) -> bool:
    if isinstance(p.that, Resumed):
        return node.ghost.struck is not None and node.ghost.struck.back
    return p.at == "always" or (isinstance(p.at, frozenset) and node.state.rip in p.at)


_KINDS: dict[type[Expression], str] = {
    Restored: "restored",
    Resumed: "resumed",
    Intact: "intact",
    Handled: "handled",
    AtRest: "at-rest",
    Unreachable: "reached",
}


def _kind(e: Expression) -> str:
    return _KINDS.get(type(e), "expression")
