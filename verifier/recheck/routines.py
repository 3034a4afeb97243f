"""Runs nested in the program that are listed once for many contexts: *routines* (docs/certificates.md).

The states of a routine speak of what each location held where it began, by *params*. An event or a fault strikes
inside the program: what it leads to is covered by the first state of a routine, with its own values for the params.
Control leaves the routine: for each context that is said to begin it, and each state in which it is left, the values
are put in, and the run goes on in the context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from verifier.recheck.cover import held, number_of
from verifier.recheck.errors import Refused
from verifier.recheck.expression import FALSE, Expr, substitute, var
from verifier.recheck.ghost import LEAVING
from verifier.recheck.step import State
from verifier.recheck.terms import is_param

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.recheck.cover import Cover
    from verifier.recheck.reader import Listed, Proof
    from verifier.recheck.step import Step


#: How often ends of routines may be put into contexts: more than any proof needs that a search has found.
_RETURNS: Final = 2_000_000


class Routines:
    """The routines of one proof, each known by the number of its first state."""

    def __init__(self, proof: Proof, cover: Cover) -> None:
        self._proof = proof
        self._cover = cover
        self._exits: dict[int, list[Listed]] = {}
        for state in proof.states.values():
            if state.at == LEAVING and state.routine is not None:
                self._exits.setdefault(state.routine, []).append(state)
        self._returns = 0
        self._assumed: dict[int, tuple[Expr, ...]] = {}

    def exits(self, routine: int) -> list[Listed]:
        """The states in which control leaves a routine."""
        return self._exits.get(routine, [])

    def assumed(self, routine: int | None) -> tuple[Expr, ...]:
        """What holds in all of a routine: the conditions of its first state that are about no unknown of that state.
        Params mean the same from there on."""
        if routine is None:
            return ()
        found = self._assumed.get(routine)
        if found is None:
            first = self._proof.states[routine]
            unknown = frozenset(self._cover.variables(first, "unknown"))
            found = self._assumed[routine] = tuple([c for c in first.when if c.free.isdisjoint(unknown)])
        return found

    def resumed(self, listed: Listed, call: Step, left: Listed) -> tuple[State, Expr] | None:
        """A context in a listed state, after a nested run that ``call`` began and that is over in the state ``left``:
        the state, whose variables are those of the call and ``left``'s unknowns under other names, and where control
        goes. None if such a run is seen to be impossible in that context. Raises Refused."""
        assert left.leaves is not None
        assert left.routine is not None
        self._returns += 1
        if self._returns > _RETURNS:
            raise Refused("more ways out of routines than a certificate needs")
        values = self._values(call, left)
        conditions = (*self.assumed(left.routine), *left.when)
        literals = call.literals | {substitute(c, values) for c in conditions}
        if FALSE in literals:
            return None
        state = State(
            call.before.home,
            LEAVING,
            left.nmi_blocked,
            left.ghost,
            {name: substitute(term, values) for name, term in left.cells.items()},
            {word: substitute(term, values) for word, term in left.memory.items()},
            tuple(literals),
            pristine=self._proof.home_memory,
            nested=listed.routine is not None,
            cpl=left.leaves.cpl,
            unlisted="lost",
        )
        return state, substitute(left.leaves.target, values)

    def _values(self, call: Step, left: Listed) -> Mapping[Expr, Expr]:
        """For the params of a routine what the call led to; the unknowns are others than those of the caller."""
        values = {p: held(call, p) for p in self._cover.variables(left, "param")}
        for p in frozenset[Expr]().union(*[c.free for c in self.assumed(left.routine)]) - values.keys():
            if is_param(p):
                values[p] = held(call, p)
        for unknown in self._cover.variables(left, "unknown"):
            values[unknown] = var(unknown.width, "exit", number_of(unknown))
        return values
