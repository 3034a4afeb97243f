"""Contexts inside the program that an event struck, for properties that say `resumed` (docs/properties.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.recheck.errors import Refused
from verifier.recheck.execute import EXECUTE
from verifier.recheck.expression import eq, not_
from verifier.recheck.ghost import HOME, Watched

if TYPE_CHECKING:
    from verifier.recheck.execute import Machine
    from verifier.recheck.ghost import Ghost, Monitors
    from verifier.recheck.solver import Solver
    from verifier.recheck.step import Step

_RETURNS = ("iret", "sysret", "jump_indirect")
#: What may be watched after a step: each way has to be covered, by any one of its forms.
Ways = list[list[Watched | None]]


class Watcher:
    """At each strike the context that was struck may be watched from then on, or not: so each one is on some way. Only
    those at addresses that returns go to can ever be resumed, and are watched."""

    def __init__(self, monitors: Monitors, machine: Machine, solver: Solver) -> None:
        self._returned_to = monitors.returned_to
        self._cells = ("rsp", *monitors.resumed) if monitors.resumed else ()
        self._machine = machine
        self._solver = solver

    def after(self, ghost: Ghost, at: int, action: str, step: Step) -> Ways:
        """What may be watched after an action at a boundary. Raises Refused."""
        if not self._cells:
            return [[None]]
        watched = ghost.watched
        if watched is not None and watched.back:
            watched = None
        if action != EXECUTE and at != HOME and step.delivered == [action]:
            struck = Watched(at, tuple([step.struck[c] for c in self._cells]))
            ways = [self._unless_there(watched, struck, step)]
            return [[struck], *ways] if at in self._returned_to else ways
        returns = self._returns(at, action, step)
        if returns and step.at not in self._returned_to:
            raise Refused(f"a return goes to {step.at:#x}, which is not said to be returned to")
        if returns and watched is not None and step.at == watched.at:
            here = eq(watched.values[0], step.get("rsp"))
            if self._solver.possible(step.literals, here):
                watched = replace(watched, back=True)
        return [[watched]]

    def _unless_there(self, watched: Watched | None, struck: Watched, step: Step) -> list[Watched | None]:
        """A strike at the very place of the watched context: the code has come there anew."""
        if watched is None or watched.at != struck.at:
            return [watched]
        apart = not_(eq(watched.values[0], struck.values[0]))
        return [watched] if self._solver.possible(step.literals, apart) else [None, watched]

    def _returns(self, at: int, action: str, step: Step) -> bool:
        executed = action == EXECUTE and not step.delivered
        return executed and self._machine.block(at).terminator.opcode in _RETURNS
