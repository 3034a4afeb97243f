"""Progress: from every reachable state some run without further events comes home (AG EF home on the graph)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import End, Node
from verifier.machine.events import NO_RETURN
from verifier.machine.state import HOME, LEAVING
from verifier.machine.step import EXECUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.explore.graph import Graph
    from verifier.explore.routine import Call


#: How a run ends that is not stuck, or may not be.
_OVER = ("home", NO_RETURN, "unresolved")


def stuck_nodes(graph: Graph) -> list[Node]:
    """The explored nodes from which no event-free run comes home, cheapest first.

    A run that ends in hidden code that may stay away is over as its contract allows. One that ends where the engine
    could not go on may come home: no node is said to be stuck for it. In a routine it is enough that control leaves it:
    fewer handlers wait then, and the node that each context goes on with has to come home itself.
    """
    nodes = [n for n in graph.nodes if n.merged is None and n.state.rip != HOME]
    predecessors: dict[Node, list[Node]] = {}
    reaches = {n for n in nodes if n.state.rip == LEAVING}
    for node, targets in _following(graph, nodes).items():
        for target in targets:
            if isinstance(target, Node):
                predecessors.setdefault(target, []).append(node)
            elif target.kind in _OVER:
                reaches.add(node)
    work = list(reaches)
    while work:
        for before in predecessors.get(work.pop(), ()):
            if before not in reaches:
                reaches.add(before)
                work.append(before)
    return sorted((n for n in nodes if n not in reaches), key=lambda n: (n.events, n.steps))


def _following(graph: Graph, nodes: Iterable[Node]) -> dict[Node, list[Node | End]]:
    """Where nodes lead without a further event; a nested run that a fault begins is a step to where it leads back."""
    found: dict[Node, list[Node | End]] = {}
    begun: list[tuple[Node, Node]] = []
    for node in nodes:
        found[node] = [t for t in quiet_successors(node) if isinstance(t, End) or t.call is None]
        begun += [(node, t) for t in _quiet(node) if isinstance(t, Node) and t.call is not None]
    grown = True
    while grown:
        grown = False
        for node, entry in begun:
            back = [t for t in _back(graph, found, entry) if t not in found[node]]
            found[node] += back
            grown = grown or bool(back)
    return found


def _back(graph: Graph, found: Mapping[Node, list[Node | End]], entry: Node) -> set[Node | End]:
    """Where the context goes on in which a nested run begins, if that comes to its end without a further event."""
    assert entry.call is not None
    back: set[Node | End] = set()
    seen = {entry.representative()}
    work = list(seen)
    while work:
        node = work.pop()
        back.update(t.representative() if isinstance(t, Node) else t for t in _returns(graph, node, entry.call))
        fresh = {t for t in found[node] if isinstance(t, Node)} - seen
        seen |= fresh
        work += fresh
    return back


def _returns(graph: Graph, node: Node, call: Call) -> Iterable[Node | End]:
    return graph.returns.get(node, {}).get(call, ())


def quiet_successors(node: Node) -> list[Node | End]:
    """Where a node leads without a further event."""
    return [t.representative() if isinstance(t, Node) else t for t in _quiet(node)]


def _quiet(node: Node) -> list[Node | End]:
    """What follows a node when nothing new strikes: its instruction, or the NMI that is already pending.

    Nothing follows HLT, which waits for an event (rule N10).
    """
    pending = node.state.nmi_pending and not node.state.nmi_blocked
    return [
        t
        for e, t in node.successors
        if t.left is None and ((e.action == EXECUTE and not e.waits) or (pending and e.action == "nmi"))
    ]


def quiet_run(node: Node) -> tuple[tuple[Node | End, ...], str]:
    """One event-free run from a stuck node, precisely as explored: up to its end or to where it repeats.

    A run that reaches a merged node stops there: what follows is that of its representative, which is stuck too.
    """
    run: list[Node | End] = []
    seen = {node}
    while True:
        following = _quiet(node)
        if not following:
            halted = [t for e, t in node.successors if e.waits]
            return (*run, *halted[:1]), "halts" if halted else "stops"
        target = following[0]
        run.append(target)
        if isinstance(target, End):
            return tuple(run), f"ends: {target.edge.detail or target.kind}"
        if target.merged is not None or target in seen:
            return tuple(run), f"comes back to a state it was in before or to one as stuck ({len(run)} steps on)"
        seen.add(target)
        node = target
