"""What a search covered, and how far a schedule got: printed with every verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from verifier.explore.schedule import ANY
from verifier.machine.state import HOME
from verifier.prove.vacuity import never_entered, never_happened
from verifier.prove.verdict import Coverage

if TYPE_CHECKING:
    from verifier.explore.graph import Graph
    from verifier.explore.schedule import Script
    from verifier.explore.search import Explorer
    from verifier.prove.verdict import Violation
    from verifier.spec.model import Model, ScheduleItem, Verdict


def coverage_of(model: Model, graph: Graph, explorer: Explorer, script: Script) -> Coverage:
    program = model.machine.program
    missed = [a for a in program.instructions if a not in explorer.reached]
    offered: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    for (event, _), n in explorer.tally.offered.items():
        offered[event] += n
    for (event, _), n in explorer.tally.struck.items():
        struck[event] += n
    notes = [*never_happened(model, script, explorer)]
    if graph.complete and script.schedule is None:
        notes += never_entered(model, explorer)
    ended = Counter(e.kind for e in graph.ends)
    returns = ended.pop("home", 0)
    return Coverage(
        (len(program.instructions) - len(missed), len(program.instructions)),
        tuple(program.describe(a) for a in sorted(missed)),
        {event: (offered[event], struck[event]) for event in script.events},
        returns,
        dict(ended),
        tuple(notes),
    )


def schedule_report(
    items: tuple[ScheduleItem, ...], graph: Graph, explorer: Explorer
) -> tuple[Verdict, str, Violation | None]:
    """A schedule that no run completes: how far it got and what stopped it. Vacuous if its place is never reached."""
    at = max((p for n in graph.nodes for p in n.ghost.positions), default=0)
    item = items[at]
    here = [n for n in graph.nodes if n.merged is None and at in n.ghost.positions]
    places = [n for n in here if item.addresses is None or n.state.rip in item.addresses]
    if not any(n.state.rip != HOME for n in places):
        return "vacuous", f"'{item.text}' (event {at + 1} of {len(items)}): control never comes there", None
    if item.event == ANY:
        return "vacuous", f"the schedule stops at '{item.text}'", None
    offered = struck = 0
    reasons: Counter[str] = Counter()
    for (event, rip), n in explorer.tally.offered.items():
        if event == item.event and (item.addresses is None or rip in item.addresses):
            offered += n
            struck += explorer.tally.struck[event, rip]
            reasons += explorer.tally.held.get((event, rip), Counter())
    if not offered:
        return "vacuous", f"'{item.text}': {item.event} cannot arise there", None
    why = "; ".join(f"{reason} in {'all' if n == offered else n}" for reason, n in reasons.items())
    return "proved", f"'{item.text}': offered in {offered} states, held back by {why}", None
