"""Progress: from every reachable state some run without further events comes home (AG EF home on the graph)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.graph import End, Node
from verifier.explore.routine import Routine
from verifier.machine.events import NO_RETURN
from verifier.machine.state import HOME
from verifier.machine.step import EXECUTE

if TYPE_CHECKING:
    from verifier.explore.graph import Graph


#: How a run ends that is not stuck, or may not be.
_OVER = ("home", NO_RETURN, "unresolved")


def stuck_nodes(graph: Graph) -> list[Node]:
    """The explored nodes from which no event-free run comes home, cheapest first.

    A run that ends in hidden code that may stay away is over as its contract allows. One that ends where the engine
    could not go on may come home: no node is said to be stuck for it. The end of a nested run is taken for stuck unless
    it comes home from all contexts that it goes back to.
    """
    nodes = [n for n in graph.nodes if n.merged is None and n.state.rip != HOME]
    predecessors: dict[Node, list[Node]] = {}
    reaches: set[Node] = set()
    work: list[Node] = []
    for node in nodes:
        for target in quiet_successors(node):
            if isinstance(target, Node):
                predecessors.setdefault(target, []).append(node)
            elif target.kind in _OVER and node not in reaches:
                reaches.add(node)
                work.append(node)
    while work:
        while work:
            for before in predecessors.get(work.pop(), ()):
                if before not in reaches:
                    reaches.add(before)
                    work.append(before)
        work = _gone_on(graph, reaches)
        reaches.update(work)
    return sorted((n for n in nodes if n not in reaches), key=lambda n: (n.events, n.steps))


def _gone_on(graph: Graph, reaches: set[Node]) -> list[Node]:
    """The ends of nested runs that come home whatever context they go back to."""
    found = []
    for left, ways in graph.returns.items():
        routine = left.state.frame
        assert isinstance(routine, Routine)
        if left not in reaches and all(
            any(_comes_home(t, reaches) for t in ways.get(call, ())) for call in routine.callers
        ):
            found.append(left)
    return found


def _comes_home(target: Node | End, reaches: set[Node]) -> bool:
    if isinstance(target, Node):
        return target.representative() in reaches
    return target.kind in _OVER


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
