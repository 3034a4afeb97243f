"""Recognising a state that was seen before.

Two states have the same future if they agree, up to the names of havoc variables, on every location that is still
*live*: read on some explored run from there before it is overwritten. What is live at a node is learned while the
search goes: each explored step tells what it read and wrote, and liveness flows backwards along the explored steps, to
every node that they start from. Nodes keep their whole, precise state; only the key by which a new one is compared
with a known one leaves out what is dead at the known one.

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

from verifier.explore.graph import cost_of
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
Names = dict["Term", int]


@dataclass(slots=True, eq=False)
class Group:
    """The representatives at one control point with the same live locations, by key."""

    order: tuple[int, ...]
    known: dict[Hashable, list[Node]] = field(default_factory=dict)


#: All representatives with one rip, rsp, interrupted context and NMI state, by what is live at them.
ControlPoint = dict[frozenset[int], Group]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known to matter of a node: the terms of locations, the path literals, and the numbers by which its havoc
    variables are compared with those of another node."""

    terms: Mapping[int, Term]
    literals: frozenset[Term]
    names: Names


@dataclass(slots=True, eq=False)
class Place:
    """Where a node stands among its like: what tells it from others whatever is live, and where it is filed."""

    marks: Hashable
    own_memory: tuple[int, ...]
    group: Group | None = None
    key: Hashable = None


class Recogniser:
    """The nodes met so far.

    ``shortest``: no node stands for a cheaper one. ``tracked``: where the interrupted context's words lie is part of
    every key. ``guarded``: so is what was
    written to the interrupted context's own memory.
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
        self._changed: dict[Node, None] = {}
        self.merges = 0

    def _point(self, node: Node) -> ControlPoint:
        state = node.state
        frame = id(state.frame) if node.call is None else 0
        latches = state.nmi_blocked, state.nmi_pending
        key = (id(state.home), state.rip, state.cells[_RSP].shape, *latches, frame)
        found = self._points.get(key)
        if found is None:
            found = self._points[key] = {}
        return found

    def _place(self, node: Node) -> Place:
        found = self._places.get(node)
        if found is None:
            state = node.state
            own = [at for at in state.memory if self.guarded and self._layout.belongs_to_home(at)]
            own = sorted(at for at in own if state.memory[at] is not self._layout.initial(at))
            marks = (node.ghost, tuple(own), whereabouts(state) if self.tracked else (), *_nested(node))
            found = self._places[node] = Place(marks, tuple(own))
        return found

    def meet(self, node: Node) -> bool:
        """Take in a node; True if it is new, False if another stands for it (``node.merged``)."""
        point = self._point(node)
        for group in point.values():
            key, names = self._key(group.order, node)
            for other in group.known.get(key, ()):
                cheap = not self._shortest or cost_of(other) <= cost_of(node)
                if cheap and self._covers(other, node, group.order, names):
                    self._merge(node, other)
                    return False
        node.merged = None
        self._file(node)
        if node.call is not None:
            self.attached.append((node.call.routine, node.call))
        node.incoming += _sources(node)
        return True

    def _merge(self, node: Node, other: Node) -> None:
        node.merged = other
        if node.call is not None and other.call is not None:
            self.attached.append((other.call.routine, node.call))
        other.followers.append(node)
        self.merges += 1
        for before, edge in _sources(node):
            other.incoming.append((before, edge))
            atoms, variables = other.atoms, other.variables
            if before.state.frame is not other.state.frame:
                atoms, variables = _outside(other, atoms, variables)
            self.learn(before, _before(other, edge, other.live), atoms, variables)

    def _file(self, node: Node) -> None:
        """Put a representative where those are found that it can stand for."""
        place, point = self._place(node), self._point(node)
        if place.group is not None:
            place.group.known[place.key].remove(node)
            if not place.group.known[place.key]:
                del place.group.known[place.key]
            if not place.group.known:
                del point[frozenset(place.group.order)]
        live = frozenset(node.live)
        place.group = point.get(live)
        if place.group is None:
            place.group = point[live] = Group(tuple(sorted(live)))
        place.key = self._key(place.group.order, node)[0]
        place.group.known.setdefault(place.key, []).append(node)

    # what matters at a node

    def learn(
        self, node: Node, live: Iterable[int], atoms: Iterable[Term], variables: Iterable[Term]
    ) -> None:
        """What happens from a node on depends on these; so does, unless written in between, what happens before.

        Havoc variables are left out: literals about live ones are part of every key. Variables that such literals tie
        them to are not, and so matter too.
        """
        known_atoms = {a for a in atoms if not a.havocs}
        known_variables = {v for v in _tied(node.state.path, variables) if not v.havocs}
        work: list[tuple[Node, Iterable[int], set[Term], set[Term]]] = [(node, live, known_atoms, known_variables)]
        while work:
            at, locations, new_atoms, new_variables = work.pop()
            new_live = {location for location in locations if location not in at.live}
            new_atoms = new_atoms - at.atoms
            new_variables = new_variables - at.variables
            if not new_live and not new_atoms and not new_variables:
                continue
            at.live |= new_live
            at.atoms |= new_atoms
            at.variables |= new_variables
            self._changed[at] = None
            for before, edge in at.incoming:
                earlier = _before(at, edge, new_live)
                if before.state.frame is at.state.frame:
                    work.append((before, earlier, new_atoms, new_variables))
                else:
                    work.append((before, earlier, *_outside(at, new_atoms, new_variables)))

    def step(self, node: Node, edge: Edge) -> None:
        """A step was taken from a node: it depends on what the step read and decided by."""
        self.learn(node, edge.reads, edge.atoms, edge.variables)

    def refresh(self) -> Iterator[Node]:
        """Compare again where more turned out to matter; yields the nodes that no other stands for any more."""
        while self._changed:
            changed, self._changed = self._changed, {}
            split: list[Node] = []
            for node in changed:
                split += self._part(node)
            for node in changed:
                self._file(node)
            for node in split:
                if self.meet(node):
                    yield node

    def _part(self, node: Node) -> list[Node]:
        """Let go of those followers that a node cannot stand for any more."""
        order = tuple(sorted(node.live))
        own, _ = self._key(order, node)
        staying: list[Node] = []
        leaving: list[Node] = []
        for follower in node.followers:
            key, names = self._key(order, follower)
            stays = key == own and self._covers(node, follower, order, names)
            (staying if stays else leaving).append(follower)
            if not stays and node.call is not None and follower.call in node.call.routine.callers:
                node.call.routine.callers.remove(follower.call)
        node.followers = staying
        self.merges -= len(leaving)
        return leaving

    def summary(self, node: Node, standing: Node) -> Summary:
        """What matters of a node, as far as it does at the node that stands for it (or is it)."""
        order = tuple(sorted(standing.live))
        names = self._key(order, node)[1]
        literals = {t for t in node.state.path if any(h in names for h in t.havocs)}
        for literal in _chosen(node, standing):
            _named(literal, names)
            literals.add(literal)
        locations = {*order, *self._place(node).own_memory}
        if not node.state.cells[_RSP].havocs:
            locations.add(_RSP)  # part of the control point
        if self.tracked:
            locations.update(at for at, _ in whereabouts(node.state) if at >= 0)
        return Summary({at: self._term(node.state, at) for at in sorted(locations)}, frozenset(literals), names)

    def _term(self, state: State, location: int) -> Term:
        found = state.cells[location] if location < CELL_COUNT else state.memory.get(location)
        if found is not None:
            return found
        return self._layout.initial(location) if state.frame is None else self._layout.param(location)

    def _terms(self, state: State, locations: Iterable[int]) -> list[Term]:
        cells, memory = state.cells, state.memory
        unwritten = self._layout.initial if state.frame is None else self._layout.param
        return [
            cells[at] if at < CELL_COUNT else memory[at] if at in memory else unwritten(at) for at in locations
        ]

    # keys

    def _key(self, order: tuple[int, ...], node: Node) -> tuple[Hashable, Names]:
        """A node's value of the given locations, and the numbers that it gives to their havoc variables.

        What a watched context had is compared like what is live: a property will read it. So is where a run goes that
        leaves a routine.
        """
        place = self._place(node)
        names: Names = {}
        parts: list[Hashable] = []
        terms = self._terms(node.state, (*order, *place.own_memory))
        if node.ghost.struck is not None:
            terms += node.ghost.struck.values
        if node.state.target is not None:
            terms.append(node.state.target)
        for term in terms:
            parts.append(_named(term, names) if term.havocs else term.shape)
        return (place.marks, tuple(parts), _havoc_literals(node.state.path, names)), names

    def _covers(self, other: Node, node: Node, order: tuple[int, ...], names: Names) -> bool:
        """Whether a node with the same store decides alike, from here on, wherever the other one does."""
        if other.atoms or other.variables:
            path = _relevant(node, other, names)
            if _relevant(other, other, self._key(order, other)[1]) != path:
                return False
        return other.call is None or node.call is None or other.call.routine.stands_for(node.call)

    def changed(self, node: Node) -> None:
        """Compare the nodes that this one stands for again."""
        self._changed[node] = None

    @property
    def unsettled(self) -> bool:
        """Whether there are nodes to compare again."""
        return bool(self._changed)

    def agrees(self, node: Node, other: Node) -> bool:
        """Whether a node can stand for another, as far as is known by now."""
        if node is other:
            return True
        order = tuple(sorted(node.live))
        key, names = self._key(order, other)
        return key == self._key(order, node)[0] and self._covers(node, other, order, names)

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
    before = {location for location in live if location not in edge.writes}
    for location in edge.feeds.keys() & live:
        before |= edge.feeds[location]
    return before


def _nested(node: Node) -> tuple[Hashable, ...]:
    """What tells the beginning and the end of a nested run from others."""
    state = node.state
    return None if node.call is None else node.call.marks, None if state.target is None else state.cpl


def _tied(path: frozenset[Term], variables: Iterable[Term]) -> set[Term]:
    """Variables, and if there are havoc variables among them, all that the path ties to them."""
    reach = set(variables)
    if any(v.havocs for v in reach):
        reach.update(*[literal.support for literal in connected(path, frozenset(reach))])
    return reach


def _named(term: Term, names: Names) -> Hashable:
    return term.shape, tuple([names.setdefault(h, len(names)) for h in term.havocs])


def _havoc_literals(path: frozenset[Term], names: Names) -> frozenset[Hashable]:
    """The literals that say anything of the live havoc variables, directly or through others."""
    if not names:
        return frozenset()
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


def _chosen(node: Node, judge: Node) -> list[Term]:
    """The literals of a node's path that decisions known at another node depend on, in the order of their shapes."""
    path = node.state.path
    chosen = {t for t in path if atom(t) in judge.atoms}
    if judge.variables:
        chosen.update(connected(path, frozenset(judge.variables)))
    return sorted(chosen, key=lambda t: t.shape)


def _relevant(node: Node, judge: Node, names: Names) -> frozenset[Hashable]:
    names = dict(names)
    return frozenset([_named(t, names) for t in _chosen(node, judge)])


def whereabouts(state: State) -> tuple[tuple[int, str], ...]:
    """Which cells and memory locations hold words of the interrupted context; -1 stands for RFLAGS as a whole."""
    wanted = state.home.tracked
    found = [(at, wanted[t]) for at, t in enumerate(state.cells) if t in wanted]
    found += sorted((at, wanted[t]) for at, t in state.memory.items() if t in wanted)
    if state.rflags in wanted:
        found.append((-1, "rflags"))
    return tuple(found)
