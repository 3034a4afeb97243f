"""The reference engine: every path up to a bound on events, one by one, with nothing merged or forgotten.

Only a loop that comes back to the very same state without an event is not run twice. It shares the step with the
fixpoint search and none of the recognition of states: an oracle for small bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import End, Graph, Node
from verifier.explore.search import Explorer, Limits, Observer
from verifier.machine.state import HOME
from verifier.machine.step import EXECUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.explore.schedule import Script
    from verifier.machine.step import Stepper


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
                self.graph.limit = "every property was refuted"
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
    """The very same state earlier on this path, with no event in between: a loop that need not be run again."""
    before = node
    while before.edge is not None and before.edge.action == EXECUTE and before.parent is not None:
        before = before.parent
        old, new = before.state, node.state
        same = old.rip == new.rip and old.cells == new.cells and old.memory == new.memory and old.path == new.path
        if same and before.ghost == node.ghost:
            return before
    return None
