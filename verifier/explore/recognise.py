"""Recognising a state that was seen before.

Two states have the same future if they agree, up to the names of havoc variables, on every location that is still
*live*: read on some explored run before it is overwritten. What is live is learned while the search goes: each
explored step tells its control point (instruction, stack pointer, NMI latches) which locations it read and wrote, and
liveness flows backwards along the explored steps. States keep their whole, precise store; only the key by which they
are compared leaves dead locations out. When a location turns out to be live after all, the keys of its control point
are made anew, and states that were taken for alike and are not go back to the search. At the end no key is too coarse:
each merge is justified by liveness over the whole explored graph.

Path literals are treated likewise: one matters while some decision on an explored run from the state found it on the
path or was about a variable connected to it. With ``subsume``, a state is also covered by one with the same store and
fewer literals that matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX
from verifier.machine.execution import atom
from verifier.machine.layout import CELL_COUNT
from verifier.terms import connected

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from verifier.explore.graph import Node
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.terms import Term

_RSP = CELL_INDEX["rsp"]
Locations = frozenset[int]
Names = dict["Term", int]


@dataclass(slots=True, eq=False)
class ControlPoint:
    """All nodes with one rip, rsp, interrupted context and NMI state."""

    live: set[int] = field(default_factory=set)
    order: tuple[int, ...] = ()
    sources: dict[tuple[ControlPoint, Locations, Locations], None] = field(default_factory=dict)
    members: list[Node] = field(default_factory=list)
    known: dict[Hashable, list[Node]] = field(default_factory=dict)
    stale: bool = False


class Recogniser:
    """The nodes met so far, by control point and key.

    ``tracked`` maps an interrupted context's home to the terms whose whereabouts in memory a property depends on: the
    set of locations that hold one of them is part of the key even where they are dead.
    """

    def __init__(self, layout: Layout, subsume: bool = True, tracked: bool = False) -> None:
        self._layout = layout
        self._subsume = subsume
        self._tracked = tracked
        self._points: dict[Hashable, ControlPoint] = {}
        self.merges = 0

    def point(self, state: State) -> ControlPoint:
        """The control point of a state."""
        rsp = state.cells[_RSP]
        key = (id(state.home), state.rip, rsp.shape, state.nmi_blocked, state.nmi_pending)
        found = self._points.get(key)
        if found is None:
            found = self._points[key] = ControlPoint()
        return found

    def meet(self, node: Node) -> bool:
        """Take in a node; True if it is new, False if another stands for it (``node.merged``)."""
        point = self.point(node.state)
        point.members.append(node)
        return self._place(point, node)

    def _place(self, point: ControlPoint, node: Node) -> bool:
        key, names = self._key(point, node)
        alike = point.known.setdefault(key, [])
        for other in alike:
            if self._covers(other, node, names):
                node.merged = other
                self.merges += 1
                if node.parent is not None:
                    other.predecessors.append(node.parent)
                    self.consult(node.parent, other.atoms, other.variables)
                return False
        node.merged = None
        if node.parent is not None:
            node.predecessors.append(node.parent)
        alike.append(node)
        return True

    def _covers(self, other: Node, node: Node, names: Names) -> bool:
        """Whether a state with the same store decides alike, from here on, wherever the other one does."""
        if not other.atoms and not other.variables:
            return True
        path = _relevant(node, other, names)
        wanted = _relevant(other, other, self._key(self.point(other.state), other)[1])
        return wanted <= path if self._subsume else wanted == path

    def consult(self, node: Node, atoms: Iterable[Term], variables: Iterable[Term]) -> None:
        """Decisions at a node, or after it, depend on these: so they do at every node before it.

        Havoc variables are left out: literals about live ones are part of every key.
        """
        work = [(node, {a for a in atoms if not a.havocs}, {v for v in variables if not v.havocs})]
        while work:
            at, new_atoms, new_variables = work.pop()
            new_atoms -= at.atoms
            new_variables -= at.variables
            if not new_atoms and not new_variables:
                continue
            at.atoms |= new_atoms
            at.variables |= new_variables
            self.point(at.state).stale = True
            work += [(before, set(new_atoms), set(new_variables)) for before in at.predecessors]

    def learn(self, before: State, reads: Locations, writes: Locations, after: State) -> None:
        """A step leads from one state to another: liveness flows back along it."""
        source, target = self.point(before), self.point(after)
        target.sources[(source, reads, writes)] = None
        self._flow(source, reads.union(target.live - writes))

    def require(self, state: State, locations: Iterable[int]) -> None:
        """Locations that something looks at in this state."""
        self._flow(self.point(state), locations)

    def _flow(self, point: ControlPoint, locations: Iterable[int]) -> None:
        work: list[tuple[ControlPoint, Iterable[int]]] = [(point, locations)]
        while work:
            at, wanted = work.pop()
            new = {w for w in wanted if w not in at.live}
            if not new:
                continue
            at.live |= new
            at.stale = True
            for source, _, writes in at.sources:
                work.append((source, new - writes))

    def refresh(self, point: ControlPoint) -> Iterator[Node]:
        """Make the keys of a control point anew; yields the nodes that no other stands for any more."""
        if not point.stale:
            return
        point.stale = False
        point.order = tuple(sorted(point.live))
        point.known = {}
        for node in sorted(point.members, key=lambda n: n.merged is not None):
            was_merged = node.merged is not None
            if not was_merged:
                point.known.setdefault(self._key(point, node)[0], []).append(node)
                continue
            self.merges -= 1
            if self._place(point, node):
                yield node

    def stale_points(self) -> list[ControlPoint]:
        return [p for p in self._points.values() if p.stale]

    # keys

    def _key(self, point: ControlPoint, node: Node) -> tuple[Hashable, Names]:
        """What tells a node from others at its control point, and the numbers it gives to havoc variables."""
        state = node.state
        cells, memory = state.cells, state.memory
        names: Names = {}
        parts: list[Hashable] = []
        for location in point.order:
            term = cells[location] if location < CELL_COUNT else memory.get(location)
            if term is None:
                term = self._layout.initial(location)
            parts.append(_named(term, names) if term.havocs else term.shape)
        if self._tracked:
            parts.append(whereabouts(state))
        return (node.ghost, tuple(parts), _havoc_literals(state.path, names)), names


def _named(term: Term, names: Names) -> Hashable:
    return term.shape, tuple([names.setdefault(h, len(names)) for h in term.havocs])


def _havoc_literals(path: frozenset[Term], names: Names) -> frozenset[Hashable]:
    """The literals that say anything of the live havoc variables, directly or through others."""
    pending = sorted((t for t in path if t.havocs), key=lambda t: t.shape)
    chosen: set[Hashable] = set()
    grown = True
    while grown and pending:
        grown = False
        for literal in list(pending):
            if any(h in names for h in literal.havocs):
                chosen.add(_named(literal, names))
                pending.remove(literal)
                grown = True
    return frozenset(chosen)


def _relevant(node: Node, judge: Node, names: Names) -> frozenset[Hashable]:
    """The literals of a node's path that decisions known at another node depend on."""
    names = dict(names)
    path = node.state.path
    chosen = {t for t in path if atom(t) in judge.atoms}
    if judge.variables:
        chosen.update(connected(path, frozenset(judge.variables)))
    return frozenset([_named(t, names) for t in sorted(chosen, key=lambda t: t.shape)])


def whereabouts(state: State) -> Hashable:
    """Which memory locations hold the interrupted context's rip, rflags or rsp."""
    wanted = state.home.tracked
    return tuple(sorted([(at, wanted[t]) for at, t in state.memory.items() if t in wanted]))
