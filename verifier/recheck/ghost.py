"""What is remembered of the events of a run: counts, watched handlers, the places reached in a schedule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.recheck.expression import Expr
    from verifier.spec.model import ScheduleItem

#: Where control is before the first event and after the last return.
HOME = -1
#: Where control is when it leaves a routine, to wherever that is.
LEAVING = -2
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Watched:
    """A context inside the program that an event struck: the address, what RSP and the watched cells held (compared
    apart from the rest), and whether control is back in it just now."""

    at: int
    values: tuple[Expr, ...] = field(compare=False)
    back: bool = False


@dataclass(frozen=True, slots=True)
class Ghost:
    """``counts`` and ``owed``: in the order of the monitors; ``positions``: the items of the schedule that may come
    next; ``watched``: one of the contexts that were struck, or none."""

    counts: tuple[int, ...]
    owed: tuple[bool, ...]
    positions: frozenset[int]
    watched: Watched | None = None


@dataclass(frozen=True, slots=True)
class Monitors:
    """Which events may strike, and what is remembered of them.

    ``events``: how often each may strike at most (None: any number of times); ``outermost``: those that may strike the
    interrupted context; ``watches``: event and the address that each of its deliveries must be followed by control at;
    ``counted``: the events that are counted; ``schedule``: exactly these, in this order; ``resumed``: the cells that
    are asked of contexts that are resumed; ``returned_to``: all addresses that returns go to, it is said.
    """

    events: Mapping[str, int | None]
    outermost: frozenset[str]
    watches: tuple[tuple[str, int], ...]
    counted: tuple[str, ...]
    schedule: tuple[ScheduleItem, ...] | None
    resumed: tuple[str, ...] = ()
    returned_to: frozenset[int] = frozenset()

    def start(self) -> Ghost:
        nothing = frozenset({0}) if self.schedule is not None else frozenset[int]()
        return Ghost((0,) * len(self.counted), (False,) * len(self.watches), self._past_any(nothing))

    def strike(self, ghost: Ghost, event: str, at: int) -> Ghost | None:
        """The ghost after an event has struck at a boundary; None if it may not strike there."""
        if event not in self.events or (at == HOME and event not in self.outermost):
            return None
        bound = self.events[event]
        if bound is not None and ghost.counts[self.counted.index(event)] >= bound:
            return None
        positions = ghost.positions
        if self.schedule is not None:
            positions = self._past_any(frozenset(self._next(ghost.positions, event, at)))
            if not positions:
                return None
        counts = tuple([n + (e == event) for e, n in zip(self.counted, ghost.counts, strict=True)])
        owed = tuple([o or e == event for (e, _), o in zip(self.watches, ghost.owed, strict=True)])
        return Ghost(counts, owed, positions, ghost.watched)

    def arrive(self, ghost: Ghost, at: int) -> Ghost:
        """The ghost once control is at an address."""
        owed = tuple([o and body != at for (_, body), o in zip(self.watches, ghost.owed, strict=True)])
        return replace(ghost, owed=owed)

    def complete(self, ghost: Ghost) -> bool:
        """Whether the events so far are all that a property speaks of."""
        return self.schedule is None or len(self.schedule) in ghost.positions

    def _next(self, positions: frozenset[int], event: str, at: int) -> set[int]:
        assert self.schedule is not None
        found = set()
        for p in positions:
            if p == len(self.schedule):
                continue
            item = self.schedule[p]
            if item.event == _ANY:
                found.add(p)
            elif item.event == event and (item.addresses is None or at in item.addresses):
                found.add(p + 1)
        return found

    def _past_any(self, positions: frozenset[int]) -> frozenset[int]:
        """With a ``*`` that may stand for no event at all."""
        found = set(positions)
        for p, item in enumerate(self.schedule or ()):
            if p in found and item.event == _ANY:
                found.add(p + 1)
        return frozenset(found)
