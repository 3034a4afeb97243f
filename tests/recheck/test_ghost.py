"""Counts, watches and schedules: what the recheck allows is what the search offers."""

from __future__ import annotations

from random import Random

import pytest

from verifier.explore.schedule import ANY, Script, Watch
from verifier.recheck.ghost import Monitors
from verifier.spec.model import ScheduleItem

EVENTS = ("nmi", "irq", "page_fault")
PLACES = (-1, 1, 2, 3, 4)


def schedule(random: Random) -> tuple[ScheduleItem, ...] | None:
    if random.random() < 0.25:
        return None
    return tuple([_item(random) for _ in range(random.randrange(1, 6))])


def _item(random: Random) -> ScheduleItem:
    event = random.choice((*EVENTS, ANY, ANY))
    where = frozenset(random.sample(PLACES[1:], 2)) if event != ANY and random.random() < 0.5 else None
    return ScheduleItem(event, where, event)


@pytest.mark.parametrize("seed", range(300))
def test_both_allow_the_same_events(seed: int) -> None:
    random = Random(seed)
    events = {e: random.choice((None, None, 1, 2)) for e in EVENTS}
    watches = tuple([(random.choice(EVENTS), random.choice(PLACES[1:])) for _ in range(random.randrange(3))])
    watches = tuple(dict.fromkeys(watches))
    outermost = frozenset(random.sample(EVENTS, random.randrange(1, 4)))
    items = schedule(random)
    script = Script(events, outermost, tuple([Watch(*w) for w in watches]), items, random.sample(EVENTS, 1))
    monitors = Monitors(events, outermost, watches, script.counted, items)
    ghost, ours = script.start(), monitors.start()
    for _ in range(12):
        at = random.choice(PLACES)
        assert (ghost.counts, ghost.owed, ghost.positions) == (ours.counts, ours.owed, ours.positions)
        assert script.complete(ghost) == monitors.complete(ours)
        allowed = {e for e in (*EVENTS, "machine_check") if monitors.strike(ours, e, at) is not None}
        assert allowed == set(script.offers(ghost, at))
        if allowed and random.random() < 0.7:
            event = random.choice(sorted(allowed))
            ghost = script.delivered(script.came(ghost, event, at), event)
            struck = monitors.strike(ours, event, at)
            assert struck is not None
            ours = struck
        to = random.choice(PLACES[1:])
        ghost, ours = script.arrived(ghost, to), monitors.arrive(ours, to)
