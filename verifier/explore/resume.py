"""Contexts inside the program that an event struck: what they had, and when control is back in one.

A search that is asked about them (`resumed`) watches one at a time. At each strike inside the program it goes on both
ways, with the context just struck watched and without. So each of them is watched on some explored run, however many
wait at once, and a state holds the values of one only. A watched context is done with when control is back in it, or
when a later event strikes at its very place: then the code had come there anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX
from verifier.machine.state import HOME
from verifier.machine.step import EXECUTE
from verifier.terms import FALSE, TRUE, eq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.machine.step import Edge, Stepper
    from verifier.terms import Term

#: How a block ends that can go back to where an event struck: IRET, SYSRET, and RET or another indirect branch.
_RETURNS = ("iret", "sysret", "jump_indirect")


@dataclass(frozen=True, slots=True)
class Struck:
    """The watched context: the address it was struck at, its RSP and then the cells asked for, as it had them.

    ``back``: control is in it again, just now. ``unsure``: whether a return or a strike was at its place is not known.
    The values are compared by `verifier.explore.recognise`, like what is live, since havoc variables may be renamed.
    """

    rip: int
    values: tuple[Term, ...] = field(compare=False)
    back: bool = False
    unsure: bool = False


class Watcher:
    """Moves the watch on, step by step. ``cells``: what properties ask of a resumed context."""

    def __init__(self, stepper: Stepper, cells: tuple[str, ...]) -> None:
        self._layout: Layout = stepper.layout
        self._stepper = stepper
        self._cells = [CELL_INDEX[c] for c in ("rsp", *cells)]

    def after(self, watched: Struck | None, rip: int, edge: Edge) -> Iterator[Struck | None]:
        """What may be watched after a step from a boundary at ``rip``: one way, or two at a strike."""
        if watched is not None and watched.back:
            watched = None
        if edge.state is None or edge.latch:
            yield watched
        elif edge.struck is not None and rip != HOME:
            struck = Struck(rip, self._values(edge.struck))
            yield struck
            yield self._unless_there_again(watched, struck)
        elif watched is not None and edge.state.rip == watched.rip and self.returns(rip, edge):
            same = self._same(watched.values[0], edge.state.cell("rsp"))
            yield watched if same is False else replace(watched, back=True, unsure=same is None)
        else:
            yield watched

    def _unless_there_again(self, watched: Struck | None, struck: Struck) -> Struck | None:
        if watched is None or watched.rip != struck.rip:
            return watched
        same = self._same(watched.values[0], struck.values[0])
        return None if same else replace(watched, unsure=watched.unsure or same is None)

    def taken(self, state: State, edge: Edge, watched: Struck | None) -> list[int]:
        """The cells of a state whose values are watched from a step on: what the watched context had is judged by them,
        though the step itself may not read them."""
        if edge.struck is None or watched is None or watched.values != self._values(edge.struck):
            return []
        return [i for i in self._cells if edge.struck[i] is state.cells[i]]

    def _values(self, cells: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple([cells[i] for i in self._cells])

    def returns(self, rip: int, edge: Edge) -> bool:
        """Whether a step from ``rip`` may go back to where an event struck."""
        executed = edge.action == EXECUTE and not edge.delivered
        return executed and self._stepper.block(rip).terminator.opcode in _RETURNS

    def _same(self, one: Term, other: Term) -> bool | None:
        """Whether two values of RSP are equal; None if that is not known."""
        equal = eq(one, other)
        if equal is TRUE or equal is FALSE:
            return equal is TRUE
        places = self._layout.locate(one, 8), self._layout.locate(other, 8)
        return None if None in places else places[0] == places[1]
