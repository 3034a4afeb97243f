"""Recognising a state that was seen before.

Two states have the same future if they agree, up to the names of havoc variables, on every location that is still
*live*: read on some explored run from there before it is overwritten. What is live at a node is learned while the
search goes: each explored step tells what it read and wrote, and liveness flows backwards along the explored steps, to
every node that they start from. Nodes keep their whole, precise state; only the comparison of a new one with a known
one leaves out what is dead at the known one.

So a node may be taken for like another before all is known. When a location turns out to be live there after all, the
nodes that it stands for are compared again, and those that differ go back to the search. At the end every merge is
justified by liveness over the whole explored graph: whatever the node that stands for another reads from there on, the
other has too.

Path literals are treated likewise: one matters while some decision on an explored run from the node found it on the
path or was about a variable connected to it. A node stands for every other that agrees on what matters, however much
else they differ in; but never for a cheaper one, so that what is found first is shortest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.explore.compare import Names, chosen, havoc_literals, named, relevant, tied, whereabouts
from verifier.explore.graph import cost_of
from verifier.explore.index import ControlPoint
from verifier.ir.cells import CELL_INDEX
from verifier.machine.execution import atom
from verifier.machine.layout import CELL_COUNT
from verifier.machine.step import Edge
from verifier.terms import connected

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from verifier.explore.graph import End, Node
    from verifier.explore.routine import Call, Routine
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.terms import Term

_RSP = CELL_INDEX["rsp"]
#: From the end of a nested run to where it leads: nothing happens.
THROUGH = Edge("leave", None, (), (), frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known to matter of a node: the terms of locations, the path literals, and the numbers by which its havoc
    variables are compared with those of another node."""

    terms: Mapping[int, Term]
    literals: frozenset[Term]
    names: Names


@dataclass(slots=True, eq=False)
class Place:
    """Where a node stands among its like. ``always``: the locations that are compared whatever is live. Of a
    representative: its ``number`` among those of the control point, and all ``compared`` locations, if not stale."""

    point: ControlPoint
    always: tuple[int, ...]
    number: int | None = None
    compared: tuple[int, ...] | None = None


@dataclass(slots=True, eq=False)
class Growth:
    """What turned out to matter of a node since the nodes that it stands for were compared with it: locations; whether
    any ``decisions``; ``anew``: they are to be compared in full."""

    live: set[int] = field(default_factory=set)
    decisions: bool = False
    anew: bool = False


class Recogniser:
    """The nodes met so far.

    ``shortest``: no node stands for a cheaper one. ``tracked``: where the interrupted context's words lie is always
    compared. ``guarded``: so is what was written to the interrupted context's own memory.
    """

    def __init__(
        self, layout: Layout, tracked: bool = False, guarded: bool = False, shortest: bool = True
    ) -> None:
        self._shortest = shortest
        self._layout = layout
        self.tracked = tracked
        self.attached: list[tuple[Routine, Call]] = []
        self.guarded = guarded
        self._points: dict[Hashable, ControlPoint] = {}
        self._places: dict[Node, Place] = {}
        self._changed: dict[Node, Growth] = {}
        self.merges = 0

    def _point(self, node: Node) -> Hashable:
        """What has to be the same whatever is live."""
        state = node.state
        frame = id(state.frame) if node.call is None else 0
        latches = state.nmi_blocked, state.nmi_pending
        words = whereabouts(state) if self.tracked else ()
        return id(state.home), state.rip, state.cells[_RSP].shape, *latches, frame, node.ghost, words, *_nested(node)

    def _place(self, node: Node) -> Place:
        found = self._places.get(node)
        if found is None:
            always = self._own_memory(node.state) if self.guarded else ()
            key = self._point(node), always
            point = self._points.get(key)
            if point is None:
                point = self._points[key] = ControlPoint(self._compared, self._shape)
            always += tuple([-1 - i for i in range(len(_besides(node)))])
            found = self._places[node] = Place(point, always)
        return found

    def _own_memory(self, state: State) -> tuple[int, ...]:
        """The words of the interrupted context's own memory that were written."""
        layout = self._layout
        own = [at for at, t in state.memory.items() if layout.belongs_to_home(at) and t is not layout.initial(at)]
        return tuple(sorted(own))

    def meet(self, node: Node) -> bool:
        """Take in a node; True if it is new, False if another stands for it (``node.merged``)."""
        place = self._place(node)
        for other in place.point.candidates(node):
            cheap = not self._shortest or cost_of(other) <= cost_of(node)
            if cheap and self._alike(other, node):
                self._merge(node, other)
                return False
        node.merged = None
        place.number = place.point.add(node)
        if node.call is not None:
            self.attached.append((node.call.routine, node.call))
        return True

    def _merge(self, node: Node, other: Node) -> None:
        node.merged = other
        if node.call is not None and other.call is not None:
            self.attached.append((other.call.routine, node.call))
        other.followers.append(node)
        self.merges += 1
        for before, edge in _sources(node):
            atoms, variables = other.atoms, other.variables
            if before.state.frame is not other.state.frame:
                atoms, variables = _outside(other, atoms, variables)
            self.learn(before, _before(other, edge, other.live), atoms, variables)

    # what matters at a node

    def learn(
        self, node: Node, live: Iterable[int], atoms: Iterable[Term], variables: Iterable[Term]
    ) -> None:
        """What happens from a node on depends on these; so does, unless written in between, what happens before.

        Havoc variables are left out: literals about live ones are always compared. Variables that such literals tie
        them to are not, and so matter too.
        """
        known_atoms = {a for a in atoms if not a.havocs}
        known_variables = {v for v in tied(node.state.path, variables) if not v.havocs}
        work: list[tuple[Node, Iterable[int], set[Term], set[Term]]] = [(node, live, known_atoms, known_variables)]
        while work:
            at, locations, new_atoms, new_variables = work.pop()
            new_live = set(locations) - at.live
            new_atoms = new_atoms - at.atoms
            new_variables = new_variables - at.variables
            if not new_live and not new_atoms and not new_variables:
                continue
            self._grow(at, new_live, new_atoms, new_variables)
            for member in (at, *at.followers):
                for before, edge in _sources(member):
                    earlier = _before(at, edge, new_live)
                    if before.state.frame is at.state.frame:
                        work.append((before, earlier, new_atoms, new_variables))
                    else:
                        work.append((before, earlier, *_outside(at, new_atoms, new_variables)))

    def _grow(self, node: Node, live: set[int], atoms: set[Term], variables: set[Term]) -> None:
        node.live |= live
        node.atoms |= atoms
        node.variables |= variables
        place = self._places[node]
        if live and place.number is not None:
            place.compared = None
            place.point.live(place.number, live.difference(place.always))
        if node.followers:
            growth = self._changed.setdefault(node, Growth())
            growth.live |= live
            growth.decisions |= bool(atoms or variables)

    def step(self, node: Node, edge: Edge) -> None:
        """A step was taken from a node: it depends on what the step read and decided by."""
        self.learn(node, edge.reads, edge.atoms, edge.variables)

    def refresh(self) -> Iterator[Node]:
        """Compare again where more turned out to matter; yields the nodes that no other stands for any more."""
        while self._changed:
            changed, self._changed = self._changed, {}
            split: list[Node] = []
            for node, growth in changed.items():
                split += self._part(node, growth)
            for node in split:
                if self.meet(node):
                    yield node

    def _part(self, node: Node, growth: Growth) -> list[Node]:
        """Let go of those followers that a node cannot stand for any more."""
        staying: list[Node] = []
        leaving: list[Node] = []
        for follower in node.followers:
            stays = self._still_alike(node, follower, growth)
            (staying if stays else leaving).append(follower)
            follower.merged = node if stays else None
            if not stays and node.call is not None and follower.call in node.call.routine.callers:
                node.call.routine.callers.remove(follower.call)
        node.followers = staying
        self.merges -= len(leaving)
        return leaving

    def _still_alike(self, node: Node, follower: Node, growth: Growth) -> bool:
        """Whether two nodes that were alike are so in what has come to matter since. What holds havoc variables can
        differ in their names, which are compared over all that is live."""
        pairs = list(zip(self._terms(node, growth.live), self._terms(follower, growth.live), strict=True))
        if any([one.shape != other.shape for one, other in pairs]):
            return False
        if not growth.anew and not growth.decisions and not any([one.havocs for one, _ in pairs]):
            return True
        return self._alike(node, follower)

    def summary(self, node: Node, standing: Node) -> Summary:
        """What matters of a node, as far as it does at the node that stands for it (or is it)."""
        compared = self._compared(standing)
        terms = {at: self._term(node, at) for at in compared}
        names: Names = {}
        for term in terms.values():
            named(term, names)
        havoc_literals(node.state.path, names)
        literals = {t for t in node.state.path if any(h in names for h in t.havocs)}
        for literal in chosen(node, standing):
            named(literal, names)
            literals.add(literal)
        locations = {at for at in compared if at >= 0}
        if not node.state.cells[_RSP].havocs:
            locations.add(_RSP)  # part of the control point
        if self.tracked:
            locations.update(at for at, _ in whereabouts(node.state) if at >= 0)
        return Summary({at: self._term(node, at) for at in sorted(locations)}, frozenset(literals), names)

    def _term(self, node: Node, location: int) -> Term:
        """What a location holds at a node; those below 0 stand for what is compared besides."""
        state = node.state
        if location < CELL_COUNT:
            return state.cells[location] if location >= 0 else _besides(node)[-1 - location]
        found = state.memory.get(location)
        if found is not None:
            return found
        return self._layout.initial(location) if state.frame is None else self._layout.param(location)

    def _terms(self, node: Node, locations: Iterable[int]) -> list[Term]:
        """What these locations hold at a node."""
        cells, memory = node.state.cells, node.state.memory
        term = self._term
        return [
            cells[at] if 0 <= at < CELL_COUNT else memory[at] if at in memory else term(node, at) for at in locations
        ]

    def _shape(self, node: Node, location: int) -> int:
        return self._term(node, location).shape

    # comparing

    def _compared(self, node: Node) -> tuple[int, ...]:
        """The locations in which another node has to agree with a representative."""
        place = self._place(node)
        if place.compared is None:
            place.compared = (*sorted(node.live.difference(place.always)), *place.always)
        return place.compared

    def _alike(self, other: Node, node: Node) -> bool:
        """Whether one node can stand for another, as far as is known by now."""
        if _decides_otherwise(other, node):
            return False
        ours: Names = {}
        theirs: Names = {}
        locations = self._compared(other)
        for one, two in zip(self._terms(other, locations), self._terms(node, locations), strict=True):
            if (one is not two or one.havocs) and not _same(one, two, ours, theirs):
                return False
        if havoc_literals(other.state.path, ours) != havoc_literals(node.state.path, theirs):
            return False
        return self._covers(other, node, ours, theirs)

    def _covers(self, other: Node, node: Node, ours: Names, theirs: Names) -> bool:
        """Whether a node with the same store decides alike, from here on, wherever the other one does."""
        if other.atoms or other.variables:
            identical = node.state.path == other.state.path and ours == theirs
            if not identical and relevant(node, other, theirs) != relevant(other, other, ours):
                return False
        return other.call is None or node.call is None or other.call.routine.stands_for(node.call)

    def changed(self, node: Node) -> None:
        """Compare the nodes that this one stands for again."""
        self._changed.setdefault(node, Growth()).anew = True

    @property
    def unsettled(self) -> bool:
        """Whether there are nodes to compare again."""
        return bool(self._changed)

    def agrees(self, node: Node, other: Node) -> bool:
        """Whether a node can stand for another, as far as is known by now."""
        if node is other:
            return True
        if other.merged is node and node not in self._changed:  # compared when they were merged, or since
            return node.call is None or other.call is None or node.call.routine.stands_for(other.call)
        return self._alike(node, other)

    def ended(self, end: End, live: set[int], variables: Iterable[Term]) -> None:
        """A run is over: what was looked at after its last step matters before it."""
        for before, edge in [(end.node, end.edge)] + ([(end.left, THROUGH)] if end.left is not None else []):
            self.learn(before, flowed(edge, live), (), variables)


def _sources(node: Node) -> list[tuple[Node, Edge]]:
    """The steps by which a node was reached: one, or two where a nested run is over."""
    if node.parent is None or node.edge is None:
        return []
    return [(node.parent, node.edge)] + ([(node.left, THROUGH)] if node.left is not None else [])


def _before(node: Node, edge: Edge, live: Iterable[int]) -> set[int]:
    """What is live before a step to a node, given what is live there.

    A nested run leaves a location open, or has its very value; only then does that of the context that it struck matter
    to it. Where it is over, what it wrote comes from what the context had.
    """
    if node.call is not None:
        live = node.call.routine.known.intersection(live)
    return flowed(edge, set(live))


def _outside(node: Node, atoms: set[Term], variables: set[Term]) -> tuple[set[Term], set[Term]]:
    """What matters where a nested run begins or is over, as far as it means the same on both sides: params do not."""
    reach = set(variables)
    if any(v.params for v in reach):
        reach.update(*[t.support for t in connected(node.state.path, frozenset(reach))])
    return {a for a in atoms if not a.params}, {v for v in reach if not v.params and not v.havocs}


def flowed(edge: Edge, live: set[int]) -> set[int]:
    """What is live before a step, given what is live after it."""
    before = live - edge.writes
    for location in edge.feeds.keys() & live:
        before |= edge.feeds[location]
    return before


def _nested(node: Node) -> tuple[Hashable, ...]:
    """What tells the beginning and the end of a nested run from others."""
    state = node.state
    return None if node.call is None else node.call.marks, None if state.target is None else state.cpl


def _besides(node: Node) -> tuple[Term, ...]:
    """Terms that are no location's: what a watched context had, which a property will read; where a run goes that
    leaves a routine."""
    struck, target = node.ghost.struck, node.state.target
    return (() if struck is None else struck.values) + (() if target is None else (target,))


def _decides_otherwise(other: Node, node: Node) -> bool:
    """Whether the paths differ in a literal that is known to matter, and is about no havoc variable: soon told."""
    atoms, variables = other.atoms, other.variables
    differ = other.state.path ^ node.state.path if atoms or variables else ()
    return any([not t.havocs and (atom(t) in atoms or not t.support.isdisjoint(variables)) for t in differ])


def _same(one: Term, other: Term, ours: Names, theirs: Names) -> bool:
    """Whether two terms are the same but for the names of havoc variables, which so far mean each other by number."""
    return one.shape == other.shape and named(one, ours) == named(other, theirs)
