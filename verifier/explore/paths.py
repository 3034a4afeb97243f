"""The reference engine: every path up to a bound on events, one by one, with nothing merged or forgotten.

Only a loop that comes back to the very same state without an event is not run twice. It shares the step with the
fixpoint search and none of the recognition of states: an oracle for small bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import End, Graph, Node
from verifier.explore.search import ALL_REFUTED, Explorer, Limits, Observer
from verifier.machine.state import HOME
from verifier.machine.step import EXECUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from verifier.explore.schedule import Script
    from verifier.machine.state import State
    from verifier.machine.step import Stepper
    from verifier.terms import Term


class Enumeration(Explorer):
    """Breadth-first by events and steps; every event must have a bound, or the enumeration does not end."""

    def __init__(
        self,
        stepper: Stepper,
        script: Script,
        observer: Observer,
        limits: Limits | None = None,
        progress: Callable[[int, int], None] | None = None,
        latching: bool = False,
    ) -> None:
        super().__init__(stepper, script, observer, latching)
        self.limits = limits or Limits()
        self.graph = Graph()
        self._progress = progress

    def run(self) -> Graph:
        layer = list(self.start_nodes())
        self.graph.starts = list(layer)
        explored = 0
        while layer:
            if self.observer.settled(min((n.events, n.steps) for n in layer)):
                self.graph.limit = ALL_REFUTED
                return self.graph
            following: list[Node] = []
            for node in layer:
                explored += 1
                self.graph.limit = self.limits.reached(explored)
                if self.graph.limit:
                    return self.graph
                if self._progress is not None and explored % 256 == 0:
                    self._progress(explored, len(layer))
                self.graph.nodes.append(node)
                self.observer.node(node)
                following += self._expand(node)
            layer = following
        self.graph.complete = True
        return self.graph

    def _expand(self, node: Node) -> list[Node]:
        node.expanded = True
        targets = []
        for edge, ghost in self.edges(node):
            if edge.state is None or edge.state.rip == HOME:
                end = End(edge.ended or "home", node, edge, ghost)
                node.successors.append((edge, end))
                self.graph.ends.append(end)
                self.observer.end(end)
                continue
            events = node.events + (edge.action != EXECUTE)
            target = Node(edge.state, ghost, events, node.steps + 1, node, edge)
            target.merged = _same_before(target)
            node.successors.append((edge, target))
            if target.merged is None:
                targets.append(target)
        return targets


def _same_before(node: Node) -> Node | None:
    """The very same state earlier on this path, with no event in between: a loop that need not be run again.

    Hidden code and undefined flags have other unknowns each time, so the same is meant up to a renaming of them all.
    """
    before = node
    while before.edge is not None and before.edge.action == EXECUTE and before.parent is not None:
        before = before.parent
        if before.state.rip == node.state.rip and before.ghost == node.ghost and _alike(before.state, node.state):
            return before
    return None


def _alike(old: State, new: State) -> bool:
    """Whether two states of one path differ in nothing but the names of unknowns, one for one."""
    if old.memory.keys() != new.memory.keys() or len(old.path) != len(new.path):
        return False
    latches = (old.nmi_blocked, old.nmi_pending) == (new.nmi_blocked, new.nmi_pending)
    pairs = [*zip(old.cells, new.cells, strict=True), *((old.memory[at], new.memory[at]) for at in old.memory)]
    if not latches or any(a.shape != b.shape for a, b in pairs):
        return False
    names: dict[Term, Term] = {}
    for a, b in pairs:
        for one, other in zip(a.havocs, b.havocs, strict=True):
            if names.setdefault(one, other) is not other:
                return False
    one_for_one = len(set(names.values())) == len(names)
    return one_for_one and _literals(old.path, names) == _literals(new.path, {t: t for t in names.values()})


def _literals(path: frozenset[Term], names: Mapping[Term, Term]) -> set[Hashable]:
    """A path's literals with their unknowns renamed; one about an unknown that the state does not hold is itself."""
    return {(t.shape, tuple([names.get(h, h) for h in t.havocs])) if t.havocs else t for t in path}
