"""What a search remembers of the events so far: counts, handlers owed, and how far a schedule has got.

This is the part of a search state that the machine knows nothing of: the *ghost*. It says which events may still
strike, and it is what properties about events are judged by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verifier.machine.state import HOME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.explore.resume import Struck
    from verifier.spec.model import ScheduleItem

ANY = "*"


@dataclass(frozen=True, slots=True)
class Ghost:
    """``counts``: how often each counted event struck; ``owed``: which of the watched handlers still has to run;
    ``positions``: the places in the schedule that the events so far can have led to (none without a schedule).
    ``struck``: the context inside the program that is watched, if one is.
    """

    counts: tuple[int, ...] = ()
    owed: tuple[bool, ...] = ()
    positions: frozenset[int] = frozenset()
    struck: Struck | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Every delivered ``event`` is to be followed by control at ``body``."""

    event: str
    body: int


class Script:
    """The rules by which the ghost moves: bounds on events, watched handlers, an optional exact schedule.

    ``resumed``: the cells that properties ask of contexts that are resumed (none: no context is watched).
    """

    def __init__(
        self,
        events: Mapping[str, int | None],
        outermost: Iterable[str],
        watches: tuple[Watch, ...] = (),
        schedule: tuple[ScheduleItem, ...] | None = None,
        counted: Iterable[str] = (),
        resumed: tuple[str, ...] = (),
    ) -> None:
        self.events = dict(events)
        self.outermost = frozenset(outermost)
        self.watches = watches
        self.schedule = schedule
        self.resumed = resumed
        wanted = set(counted)
        self.counted = tuple(e for e, bound in events.items() if bound is not None or e in wanted)

    def start(self) -> Ghost:
        return Ghost((0,) * len(self.counted), (False,) * len(self.watches), self._close({0}))

    def offers(self, ghost: Ghost, rip: int) -> list[str]:
        """The events that may strike at this boundary, as far as the script is concerned."""
        return [e for e in self.events if self._allowed(ghost, e, rip)]

    def _allowed(self, ghost: Ghost, event: str, rip: int) -> bool:
        if rip == HOME and event not in self.outermost:
            return False
        bound = self.events[event]
        if bound is not None and ghost.counts[self.counted.index(event)] >= bound:
            return False
        return self.schedule is None or bool(self._advance(ghost.positions, event, rip))

    def came(self, ghost: Ghost, event: str, rip: int) -> Ghost:
        """The ghost after an event came up at a boundary: it counts, whether it is delivered now or held pending."""
        counts = tuple(n + (e == event) for e, n in zip(self.counted, ghost.counts, strict=True))
        return replace(ghost, counts=counts, positions=self._advance(ghost.positions, event, rip))

    def delivered(self, ghost: Ghost, event: str) -> Ghost:
        """The ghost after an event was delivered: its watched handlers are owed a run."""
        owed = tuple(w.event == event or o for w, o in zip(self.watches, ghost.owed, strict=True))
        return replace(ghost, owed=owed)

    def arrived(self, ghost: Ghost, rip: int) -> Ghost:
        """The ghost once control has come to an address: a watched handler that starts there is no longer owed."""
        if not any(o and w.body == rip for w, o in zip(self.watches, ghost.owed, strict=True)):
            return ghost
        owed = tuple(o and w.body != rip for w, o in zip(self.watches, ghost.owed, strict=True))
        return replace(ghost, owed=owed)

    def complete(self, ghost: Ghost) -> bool:
        """Whether the events so far are a whole schedule (always, without one)."""
        return self.schedule is None or len(self.schedule) in ghost.positions

    def _advance(self, positions: frozenset[int], event: str, rip: int) -> frozenset[int]:
        if self.schedule is None:
            return frozenset()
        reached = set()
        for p in positions:
            if p < len(self.schedule):
                item = self.schedule[p]
                if item.event == ANY:
                    reached.add(p)
                elif item.event == event and (item.addresses is None or rip in item.addresses):
                    reached.add(p + 1)
        return self._close(reached)

    def _close(self, positions: set[int]) -> frozenset[int]:
        if self.schedule is None:
            return frozenset()
        closed = set(positions)
        for p, item in enumerate(self.schedule):
            if item.event == ANY and p in closed:
                closed.add(p + 1)
        return frozenset(closed)
