"""A counterexample as a concrete run: what ``report/`` shows and what a replay follows."""

from __future__ import annotations

import builtins
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.machine.config import Context
    from verifier.spec.model import Model, Property
    from verifier.trace.run import ConcreteState, Move, Start


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a run, with the states around it.

    ``at``: the address whose boundary it starts from (None: in the interrupted context). ``delivered``: the events and
    faults delivered in it. ``ended``: None, ``home``, or a kind of mishap, with ``detail``.
    """

    at: int | None
    move: Move
    before: ConcreteState
    after: ConcreteState
    delivered: tuple[str, ...] = ()
    ended: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """A run that breaks a property; the concrete interpreter has confirmed every step of it.

    ``broken``: the one sentence that says what broke; ``kind`` and ``names`` as in `verifier.prove.verdict.Violation`.
    ``quiet_from``: the index of the first step of the event-free run that shows a lack of progress, or None.
    """

    model: Model
    property: Property
    context: Context
    start: Start
    steps: tuple[Step, ...]
    kind: str
    broken: str
    names: tuple[str, ...] = ()
    quiet_from: int | None = None

    @builtins.property
    def schedule(self) -> list[tuple[str, int | None, int]]:
        """The events of the run: name, the address of the boundary it struck at (None: in the interrupted
        context), and the how-many-th time control had come to that boundary (from 1; coming back to it after a
        handler counts). An NMI that is held pending is listed where it arrives, not where it is delivered."""
        arrivals: Counter[int | None] = Counter([None])
        events = []
        for step in self.steps:
            delivers_pending = step.move.action == "nmi" and step.before.nmi_pending
            if step.move.action != "execute" and not delivers_pending:
                events.append((step.move.action, step.at, arrivals[step.at]))
            if not step.move.latch:
                arrivals[step.after.rip] += 1
        return events
