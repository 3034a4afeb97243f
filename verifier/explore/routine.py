"""Runs of handlers nested in the program, explored once for all contexts that they cannot tell apart.

Where an event or a fault strikes inside the program, most of what the struck context had is only saved by the handler,
and put back. So the search goes on from a state in which these words are left open (params, `verifier.terms.param`): a
*routine*. Where it returns, the words of each context that it was entered from are put in their place.

A handler does look at some words: whether the saved rip lies in a range, whether a flag is set. What such a condition
can be is asked of the *founder*, the context that the routine was first entered from. If both answers are possible,
both ways are explored. An answer that is impossible there is *excluded*, and the routine stands for those contexts
alone in which it is impossible too. Where a word is an address, the search is begun again, and leaves it open no more
(`Wanted`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, CELL_NAMES, CELLS
from verifier.machine.execution import possible
from verifier.machine.frame import Wanted
from verifier.machine.layout import CELL_COUNT
from verifier.terms import FALSE, Term, connected, param, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from verifier.explore.graph import Node
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.machine.step import Edge
    from verifier.terms import Answer, Solver

_ALWAYS = frozenset(CELL_INDEX[c] for c in ("rsp", "cpl", "inhibit"))
#: Cells that delivery sets: left as they are if they are constants.
_CONTROL = frozenset(CELL_INDEX[c] for c in ("cs", "tf", "nt", "rf", "vm", "if"))
#: Where a routine calls itself, what is excluded may call for ever more that is.
_MOST_EXCLUDED = 100
CELL_PARAMS = tuple(param(i, CELLS[name]) for i, name in enumerate(CELL_NAMES))


class Again(Exception):
    """More is wanted of the contexts that routines stand for than was left as it is: the search begins again."""


@dataclass(slots=True, eq=False)
class Call:
    """A strike inside the program: ``edge`` from ``node`` led to the state ``full``, from which ``entry`` leaves words
    open. ``routine`` is what it founds, if it is not like one that there is; ``marks``: what has to be alike;
    ``excluded``: what is known to be impossible in it."""

    node: Node
    edge: Edge
    full: State
    routine: Routine
    marks: Hashable = ()
    entry: Node = field(init=False)
    excluded: set[tuple[frozenset[Term], Term]] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Routine:
    """``known``: the locations that are not left open; ``given``: the havoc variables in them. ``excluded``: conditions
    that are impossible in all contexts that it stands for, each where some literals hold.

    ``callers``: those contexts; ``exits``: the nodes where the run is over; ``depth``: how many handlers wait for each
    other, with this one; ``wishes``: the locations that are wanted as they are, by the address of the handler;
    ``grown``: routines of which more is excluded than their callers were compared by.
    """

    layout: Layout
    address: int
    wishes: dict[int, set[int]]
    grown: dict[Routine, None]
    solver: Solver
    founder: Call = field(init=False)
    known: frozenset[int] = frozenset()
    given: frozenset[Term] = frozenset()
    excluded: dict[tuple[frozenset[Term], Term], None] = field(default_factory=dict)
    callers: list[Call] = field(default_factory=list)
    exits: list[Node] = field(default_factory=list)
    depth: int = 1

    def possible(self, path: Iterable[Term], condition: Term) -> Answer:
        """As `verifier.machine.frame.Frame` says. Raises Again: what is excluded is said of contexts, and so is
        about none of the run's own unknowns."""
        for given in (frozenset[Term](), frozenset(connected(path, condition.support))):
            if (given, condition) in self.excluded:
                return "unsat"
            answer = in_context(self.founder, given, condition)
            if answer == "unsat" and any(t.havocs for t in (*given, condition)):
                self._want_of((*given, condition))
                return "unknown"
            if answer == "unsat" and len(self.excluded) < _MOST_EXCLUDED:
                self.excluded[given, condition] = None
                self.grown[self] = None
                return "unsat"
        return "unknown" if answer == "unsat" else answer

    def stands_for(self, call: Call) -> bool:
        """Whether what is assumed holds of a context."""
        for given, condition in list(self.excluded):
            if (given, condition) not in call.excluded:
                if in_context(call, given, condition) != "unsat":
                    return False
                call.excluded.add((given, condition))
        return True

    def _want_of(self, conditions: Iterable[Term]) -> None:
        wanted = frozenset[Term]().union(*[c.params for c in conditions])
        if wanted:
            self.want(wanted)
            raise Again

    def want(self, params: Iterable[Term]) -> None:
        """Some params are wanted as they are, and so is what their values in the founder depend on."""
        for location in places(params):
            self.wishes.setdefault(self.address, set()).add(location)
            value = value_at(self.layout, self.founder.full, location)
            if value.params:
                outer = self.founder.full.frame
                assert isinstance(outer, Routine)
                outer.want(value.params)


def in_context(call: Call, given: frozenset[Term], condition: Term) -> Answer:
    """Whether a condition of a routine is possible in one context, where the literals given hold."""
    done: dict[Term, Term] = {}
    leaf = putting(call.routine.layout, call.full)
    there = call.routine.layout.ordered(substitute(condition, leaf, done))
    if there.is_const:
        return "sat" if there.value else "unsat"
    path = call.full.path.union([call.routine.layout.ordered(substitute(t, leaf, done)) for t in given])
    if FALSE in path:
        return "unsat"
    return possible(call.routine.solver, call.full.frame, path, there)


def places(params: Iterable[Term]) -> set[int]:
    """The locations that params stand for."""
    return {p.attr for p in params if isinstance(p.attr, int)}


def value_at(layout: Layout, state: State, location: int) -> Term:
    """What a location holds in a state."""
    if location < CELL_COUNT:
        return state.cells[location]
    found = state.memory.get(location)
    if found is not None:
        return found
    return layout.initial(location) if state.frame is None else layout.param(location)


def putting(layout: Layout, state: State) -> Callable[[Term], Term]:
    """For each param its value in a state; havoc variables stay."""

    def leaf(t: Term) -> Term:
        if t.op == "havoc":
            return t
        assert isinstance(t.attr, int)
        return value_at(layout, state, t.attr)

    return leaf


def opened(
    layout: Layout, full: State, kept: frozenset[int]
) -> tuple[tuple[Term, ...], dict[int, Term], frozenset[int]]:
    """Cells and memory of a state with all left open but ``kept``; and the locations that are not left open.

    Raises Wanted where a value that is to be kept is itself left open.
    """
    known = set(_ALWAYS | kept)
    known.update(i for i in _CONTROL if full.cells[i].is_const)
    values = {at: value_at(layout, full, at) for at in known}
    for value in values.values():
        if value.params:
            raise Wanted(value.params)
    cells = tuple([values.get(i, CELL_PARAMS[i]) for i in range(CELL_COUNT)])
    return cells, {at: v for at, v in values.items() if at >= CELL_COUNT}, frozenset(known)
