"""The precise run of a path that a search with routines found: the same actions, to the same places, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import End, Graph, Node
from verifier.explore.search import Explorer
from verifier.machine.state import HOME, LEAVING
from verifier.machine.step import EXECUTE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.explore.schedule import Script
    from verifier.explore.search import Observer
    from verifier.machine.step import Stepper

#: One step: its action and the address that control is at afterwards, None if the run ends with it.
Step = tuple[str, int | None]
#: How many states of a path are kept at each step: data may decide in ways that its addresses do not show.
_WIDTH = 256


def steps_to(item: Node | End) -> tuple[str, list[Step]]:
    """The context that a path starts from, and its steps to a node or an end, those of nested runs too."""
    if isinstance(item, End):
        context, steps = steps_to(item.node)
        return context, [*steps, *_last(item.edge.action, item.left, None)]
    path = item.path_from_start()
    steps = []
    for node in path[1:]:
        assert node.edge is not None
        steps += _last(node.edge.action, node.left, node.state.rip)
    return path[0].state.home.context.name, steps


def _last(action: str, left: Node | None, rip: int | None) -> list[Step]:
    """A step of a path, or the strike, the nested run and the return that it is made of."""
    if left is None:
        return [(action, rip)]
    run = []
    node = left
    while node.call is None:
        run.append(node)
        assert node.parent is not None
        node = node.parent
    steps: list[Step] = [(action, node.state.rip)]
    for n in reversed(run):
        assert n.edge is not None
        steps += _last(n.edge.action, n.left, rip if n.state.rip == LEAVING else n.state.rip)
    return steps


class Guided(Explorer):
    """Follows steps and nothing else, with whole states."""

    def __init__(
        self, stepper: Stepper, script: Script, observer: Observer, context: str, steps: Iterable[Step]
    ) -> None:
        super().__init__(stepper, script, observer)
        self._context = context
        self._steps = list(steps)

    def run(self) -> Graph:
        graph = Graph(limit="a path that was found before")
        layer = [n for n in self.start_nodes() if n.state.home.context.name == self._context]
        for step in (*self._steps, None):
            following: list[Node] = []
            for node in layer:
                graph.nodes.append(node)
                self.observer.node(node)
                if step is not None:
                    following += self._one(graph, node, *step)
            layer = following[:_WIDTH]
        return graph

    def _one(self, graph: Graph, node: Node, action: str, rip: int | None) -> list[Node]:
        found = []
        for edge, ghost in self.edges(node):
            if edge.action != action:
                continue
            if edge.state is None or edge.state.rip == HOME:
                if rip is None or rip == HOME:
                    end = End(edge.ended or "home", node, edge, ghost)
                    graph.ends.append(end)
                    self.observer.end(end)
            elif edge.state.rip == rip:
                events = node.events + (edge.action != EXECUTE)
                target = Node(edge.state, ghost, events, node.steps + 1, node, edge)
                node.successors.append((edge, target))
                found.append(target)
        return found
