"""The fixpoint search with routines (`verifier.explore.routine`): what an event starts inside the program is explored
once for all boundaries that it cannot tell apart."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from verifier.explore.compare import whereabouts
from verifier.explore.graph import End, Graph, Node
from verifier.explore.routine import Again, Call, Routine, opened, places, putting
from verifier.explore.search import Fixpoint
from verifier.machine.execution import atom, fresh, possible
from verifier.machine.frame import Wanted
from verifier.machine.layout import CELL_COUNT
from verifier.machine.state import HOME, LEAVING
from verifier.machine.step import EXECUTE
from verifier.terms import TRUE, Term, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from verifier.explore.schedule import Ghost
    from verifier.machine.state import State
    from verifier.machine.step import Edge


#: How many handlers may wait for each other: a stack that grows for ever is given up on.
DEEPEST = 16


class TooDeep(Exception):
    """More handlers wait for each other than `DEEPEST`."""


@contextmanager
def _wishing(node: Node) -> Iterator[None]:
    """What a node's steps want of the context that its run has struck is remembered. Raises Again."""
    try:
        yield
    except Wanted as wanted:
        assert isinstance(node.state.frame, Routine)
        node.state.frame.want(wanted.params)
        raise Again from None


class Nested(Fixpoint):
    """``wishes``: what is wanted of contexts, by handler; it grows, and a search that was begun again has it."""

    wishes: dict[int, set[int]]

    def begin(self, wishes: dict[int, set[int]]) -> None:
        """To be called once, before `run`."""
        self.wishes = wishes
        self._grown: dict[Routine, None] = {}
        self._layout = self.stepper.layout
        self._done: set[tuple[Call, Node]] = set()
        self._told: dict[tuple[Routine, Call], int] = {}

    def run(self) -> Graph:
        """Raises Again."""
        try:
            return super().run()
        except TooDeep:
            self.graph.limit = f"handlers nested {DEEPEST} deep"
            return self.graph

    def _new(self, node: Node) -> None:
        if node.state.rip == LEAVING:
            self._push(node)
        else:
            with _wishing(node):
                super()._new(node)

    def _expand(self, node: Node) -> None:
        if node.state.rip == LEAVING:
            self._leave(node)
        else:
            with _wishing(node):
                super()._expand(node)
        self._settle()

    def _refresh(self) -> bool:
        while not self._frontier and self.recogniser.unsettled:
            super()._refresh()
            self._settle()
        return bool(self._frontier)

    def _settle(self) -> None:
        """Bring up to date what callers and routines know of each other."""
        while self._grown or self.recogniser.attached:
            grown = list(self._grown)
            self._grown.clear()
            for routine in grown:
                self.recogniser.changed(routine.founder.entry)
                for call in routine.callers:
                    self._learn_excluded(routine, call)
            attached, self.recogniser.attached = self.recogniser.attached, []
            for routine, call in attached:
                if call not in routine.callers:
                    routine.callers.append(call)
                self._learn_excluded(routine, call)
                for x in routine.exits:
                    self._return(call, x)

    def _learn_excluded(self, routine: Routine, call: Call) -> None:
        """That some conditions are impossible in a context matters at the node that it was struck at."""
        told = self._told.get((routine, call), 0)
        for given, condition in islice(routine.excluded, told, None):
            self._learn_literals(call, [*given, condition])
        self._told[routine, call] = len(routine.excluded)

    def _learn_literals(self, call: Call, literals: Iterable[Term]) -> None:
        leaf = putting(self._layout, call.full)
        done: dict[Term, Term] = {}
        for t in literals:
            locations = places(t.params) - call.edge.writes
            self.recogniser.learn(call.node, locations, (), substitute(t, leaf, done).support)

    def _follow(self, node: Node, edge: Edge, ghost: Ghost) -> None:
        if edge.delivered and node.state.rip != HOME:
            self._call(node, edge, ghost)
        else:
            super()._follow(node, edge, ghost)

    def _call(self, node: Node, edge: Edge, ghost: Ghost) -> None:
        full = edge.state
        assert full is not None
        self.recogniser.step(node, edge)
        routine = Routine(self._layout, full.rip, self.wishes, self._grown, self.stepper.solver)
        call = routine.founder = Call(node, edge, full, routine)
        if isinstance(full.frame, Routine):
            routine.depth = full.frame.depth + 1
        if routine.depth > DEEPEST:
            raise TooDeep
        cells, memory, routine.known = opened(self._layout, full, self._kept(full))
        values = {at: (cells[at] if at < CELL_COUNT else memory[at]) for at in sorted(routine.known)}
        routine.given = frozenset[Term]().union(*[v.havocs for v in values.values()])
        call.marks = (routine.known, tuple([(at, v.id) for at, v in values.items() if v.havocs]))
        path = frozenset([t for t in full.path if not t.params])
        state = replace(full, cells=cells, memory=memory, path=path, frame=routine)
        events = node.events + (edge.action != EXECUTE)
        entry = Node(state, ghost, events, node.steps + 1, node, edge, call=call)
        call.entry = entry
        node.successors.append((edge, entry))
        self._meet(entry)

    def _kept(self, full: State) -> frozenset[int]:
        """Locations that are not left open: those that are wanted, and what keys say of a whole state."""
        kept = set(self.wishes.get(full.rip, ()))
        if self.recogniser.tracked:
            kept.update(at for at, _ in whereabouts(full) if at >= 0)
        if self.recogniser.guarded:
            kept.update(at for at in full.memory if self._layout.belongs_to_home(at))
        return frozenset(kept)

    def _leave(self, node: Node) -> None:
        node.expanded = True
        routine = node.state.frame
        assert isinstance(routine, Routine)
        routine.exits.append(node)
        for call in list(routine.callers):
            self._return(call, node)

    def _return(self, call: Call, left: Node) -> None:
        """A nested run is over, for one of the contexts that it stands for."""
        routine = left.state.frame
        assert isinstance(routine, Routine)
        beginning = routine.founder.entry
        if (call, left) in self._done or not self.recogniser.agrees(beginning, call.entry):
            return
        self._done.add((call, left))
        back = self._put_back(call, left, routine)
        if back is None:
            return
        writes, feeds = _flow(call, back.changed)
        for edge in self.stepper.resume(back.state, back.target, call.edge.action):
            whole = replace(edge, writes=writes, feeds=feeds, delivered=call.edge.delivered)
            self._back(call, left, whole, back.names)

    def _back(self, call: Call, left: Node, edge: Edge, names: Mapping[Term, Term]) -> None:
        """Control is back in the context, as an edge says, or at home, or lost."""
        node, ghost, back = call.node, self._arrive(left.ghost, edge), self.graph.returns.setdefault(left, {})
        self.recogniser.step(node, edge)
        self._learn_at(left, edge.atoms, edge.variables)
        if edge.state is None or edge.state.rip == HOME:
            end = End(edge.ended or "home", node, edge, ghost, left)
            node.successors.append((edge, end))
            back.setdefault(call, []).append(end)
            self.graph.ends.append(end)
            self.judged_end(end)
            return
        events, steps = _length(left)
        target = Node(edge.state, ghost, call.entry.events + events, call.entry.steps + steps, node, edge, left=left)
        node.successors.append((edge, target))
        self.graph.resumed[target] = call, names
        back.setdefault(call, []).append(target)
        self._meet(target)

    def _learn_at(self, left: Node, atoms: Iterable[Term], variables: Iterable[Term]) -> None:
        """What a context decided by matters where the nested run is over too, as far as it means the same there."""
        same = [{t for t in terms if not t.params and not t.havocs} for terms in (atoms, variables)]
        self.recogniser.learn(left, (), *same)

    def _put_back(self, call: Call, left: Node, routine: Routine) -> _Back | None:
        """None if what matters of the run is impossible in the context."""
        names: dict[Term, Term] = {}
        leaf = _renaming(putting(self._layout, call.full), routine.given, names)
        done: dict[Term, Term] = {}
        begun, over = routine.founder.entry.state, left.state
        assert over.target is not None
        changed = {i: t for i, t in enumerate(over.cells) if t is not begun.cells[i]}
        changed |= {at: t for at, t in over.memory.items() if t is not begun.memory.get(at, self._layout.param(at))}
        cells, memory = list(call.full.cells), dict(call.full.memory)
        for at, t in changed.items():
            if at < CELL_COUNT:
                cells[at] = substitute(t, leaf, done)
            else:
                memory[at] = substitute(t, leaf, done)
        path = call.full.path | {substitute(t, leaf, done) for t in over.path - begun.path if not t.params}
        matters = self.recogniser.summary(left, left).literals
        about = sorted((t for t in over.path if t.params and (t in matters or not t.havocs)), key=lambda t: t.id)
        self._learn_literals(call, about)
        for t in about:
            literal = self._layout.ordered(substitute(t, leaf, done))
            if possible(self.stepper.solver, call.full.frame, path, literal) == "unsat":
                self._learn_at(left, (), literal.support)
                self.recogniser.learn(left, (), {atom(t)}, ())
                return None
            if literal is not TRUE and t in matters:
                path |= {literal}
        target = substitute(over.target, leaf, done)
        state = replace(
            call.full, cells=tuple(cells), memory=memory, path=path,
            nmi_blocked=over.nmi_blocked, nmi_pending=over.nmi_pending,
        )  # fmt: skip
        return _Back(state, target, changed, names)


@dataclass(frozen=True, slots=True)
class _Back:
    """``state`` of a context after a nested run, where it goes, the locations that the run has changed, with its terms,
    and what the run's havoc variables are called in the state."""

    state: State
    target: Term
    changed: dict[int, Term]
    names: Mapping[Term, Term]


def _renaming(
    put: Callable[[Term], Term], given: frozenset[Term], names: dict[Term, Term]
) -> Callable[[Term], Term]:
    """Puts values for params, and new havoc variables for those of a run: it stands for many."""

    def leaf(t: Term) -> Term:
        if t.op == "param" or t in given:
            return put(t)
        if t not in names:
            names[t] = fresh(t.width)
        return names[t]

    return leaf


def _length(left: Node) -> tuple[int, int]:
    """The events and steps of a nested run."""
    routine = left.state.frame
    assert isinstance(routine, Routine)
    begun = routine.founder.entry
    return left.events - begun.events, left.steps - begun.steps


def _flow(call: Call, changed: dict[int, Term]) -> tuple[frozenset[int], dict[int, frozenset[int]]]:
    """What a nested run as a whole writes, and where what it writes comes from in the context that it struck."""
    writes = call.edge.writes | changed.keys()
    feeds = {}
    for at, term in changed.items():
        sources = frozenset(places(term.params)) - call.edge.writes
        if sources:
            feeds[at] = sources
    return writes, feeds
