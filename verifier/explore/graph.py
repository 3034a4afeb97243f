"""The states a search reached and how it got to each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.explore.routine import Call
    from verifier.explore.schedule import Ghost
    from verifier.machine.state import State
    from verifier.machine.step import Edge
    from verifier.terms import Term


@dataclass(slots=True, eq=False)
class Node:
    """A state that was reached, precisely as it was reached: nothing in it is approximated.

    ``events`` and ``steps`` count what led here from the start along ``parent``; ``merged`` is the node that stands
    for this one, if it has the same future, and ``followers`` those that this one stands for. What happens from here on
    depends, as far as is known, on the locations in ``live``, on the path literals in ``atoms`` and on those about
    ``variables``.

    Where runs nested in the program are explored once for many contexts (`verifier.explore.routine`): ``call`` is set
    where such a run begins; ``left``, where it is over, is its last node, and ``parent`` the node that it struck.
    """

    state: State
    ghost: Ghost
    events: int
    steps: int
    parent: Node | None = None
    edge: Edge | None = None
    merged: Node | None = None
    successors: list[tuple[Edge, Node | End]] = field(default_factory=list)
    expanded: bool = False
    followers: list[Node] = field(default_factory=list)
    live: set[int] = field(default_factory=set)
    atoms: set[Term] = field(default_factory=set)
    variables: set[Term] = field(default_factory=set)
    call: Call | None = None
    left: Node | None = None

    def representative(self) -> Node:
        node = self
        while node.merged is not None:
            node = node.merged
        return node

    def path_from_start(self) -> list[Node]:
        """The nodes from the start up to and including this one."""
        nodes = [self]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(parent)
        return nodes[::-1]


@dataclass(slots=True, eq=False)
class End:
    """Where a run ends: at home (``kind`` ``home``), in a mishap, or where the engine could not go on
    (``unresolved``). ``node`` is the last boundary before it, ``edge`` the step that ended it."""

    kind: str
    node: Node
    edge: Edge
    ghost: Ghost
    left: Node | None = None

    @property
    def events(self) -> int:
        return self.node.events + (self.edge.action != "execute")

    @property
    def steps(self) -> int:
        return self.node.steps + 1


def cost_of(item: Node | End) -> tuple[int, int]:
    """The length of a run up to here: events, then steps."""
    return item.events, item.steps


@dataclass(slots=True)
class Graph:
    """What a search found. ``complete``: nothing reachable was left out; otherwise ``limit`` says what was hit.

    ``returns``: where each node leads that leaves a nested run (`verifier.explore.routine`), by the context struck.
    ``resumed``: of nodes that a nested run led back to, the context, and the names of the run's havoc variables there.
    """

    starts: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    complete: bool = False
    limit: str = ""
    merges: int = 0
    returns: dict[Node, dict[Call, list[Node | End]]] = field(default_factory=dict)
    resumed: dict[Node, tuple[Call, Mapping[Term, Term]]] = field(default_factory=dict)

    @property
    def states(self) -> int:
        """How many different states were explored."""
        return sum(1 for n in self.nodes if n.merged is None)
