"""A verdict as text: what was judged, for which events, on what grounds, how much of the program was seen."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from verifier.report.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.prove.verdict import Coverage, Result
    from verifier.spec.model import Model
    from verifier.trace.trace import Trace

_WIDTH = 110
#: Of those where control did not come, in the text; a document has all.
_MOST_LABELS = 24
ANY = "*"


def bound_of(result: Result) -> dict[str, int]:
    """How often each bounded event may strike; events that are not in it may strike any number of times."""
    allowed = dict(result.model.environment.events) | dict(result.bound or {})
    return {name: count for name, count in allowed.items() if count is not None}


def bound_text(result: Result) -> str:
    """``for any number and depth of events``, ``up to nmi=2, irq=1``, and the schedule if there is one."""
    bound = bound_of(result)
    free = [name for name in result.model.environment.events if name not in bound]
    limits = ", ".join(f"{name}={count}" for name, count in bound.items())
    if not bound:
        text = "for any number and depth of events"
    elif free:
        text = f"up to {limits}, and any number and depth of {', '.join(free)}"
    else:
        text = f"up to {limits}"
    during = result.property.during
    if during is None:
        return text
    schedule = ", then ".join(item.text for item in during)
    return f"for runs with exactly these events: {schedule}" + (f" ({text})" if _any(result) else "")


def _any(result: Result) -> bool:
    return any(item.event == ANY for item in result.property.during or ())


def places_of(result: Result) -> list[str] | str:
    """Where the property is asked: labels, ``always`` (at every boundary) or ``outermost-return``."""
    at, program = result.property.at, result.model.machine.program
    return [program.describe(address) for address in sorted(at)] if isinstance(at, frozenset) else at


def verdict_text(result: Result, trace: Trace | None, told: dict[str, str]) -> str:
    """Everything that is said of one property, but for the assumptions, which are the specification's.

    ``told``: the runs that were shown before, each with its property. They are not shown again; a new one is added.
    """
    lines = [f"{result.property.name}: {result.verdict}{_expectation(result)}"]
    lines += _wrapped("that", result.property.text)
    places = places_of(result)
    lines += _wrapped("at", places if isinstance(places, str) else ", ".join(places))
    lines += _wrapped("bound", bound_text(result))
    if result.reason:
        lines += _wrapped("reason", result.reason)
    lines += _coverage(result.coverage)
    work = f"{result.states} states, {result.solver_queries} queries, {result.seconds:.2f} s"
    lines.append(f"  {'search':9} {work}")
    if trace is not None:
        run = timeline(trace)
        name = told.setdefault(run, result.property.name)
        same = name != result.property.name
        lines += _wrapped("run", f"the same as that of {name}") if same else ["", *_indented(run)]
    return "\n".join(lines)


def assumptions_text(model: Model) -> str:
    """What every verdict of a specification takes for granted."""
    lines = [f"{model.title} ({model.path})", "assuming that"]
    for assumption in model.assumptions:
        lines += textwrap.wrap(assumption, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def _expectation(result: Result) -> str:
    if result.as_expected is None:
        return ""
    return " (as expected)" if result.as_expected else f" (expected: {result.property.expect})"


def _coverage(coverage: Coverage) -> list[str]:
    reached, total = coverage.instructions
    missed = f"; not: {', '.join(_grouped(coverage.missed))}" if coverage.missed else ""
    lines = _wrapped("reached", f"{reached} of {total} instructions{missed}")
    struck = [f"{name} struck in {hit} of {n} states" for name, (n, hit) in coverage.events.items()]
    if struck:
        lines += _wrapped("events", "; ".join(struck))
    ends = [f"{coverage.returns} came home", *(f"{n} {kind}" for kind, n in coverage.ended.items())]
    lines += _wrapped("runs", ", ".join(ends))
    if coverage.notes:
        lines += _wrapped("note", "; ".join(coverage.notes))
    return lines


def _grouped(missed: Iterable[str]) -> list[str]:
    """Instructions by the label before them, with their number."""
    count = Counter(place.partition("+")[0] for place in missed)
    shown = [f"{label} ({n})" for label, n in count.items()]
    left = len(shown) - _MOST_LABELS
    return shown if left <= 0 else [*shown[:_MOST_LABELS], f"and {left} more labels"]


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"  {label:9} ", subsequent_indent=" " * 12, break_long_words=False
    )


def _indented(text: str) -> list[str]:
    return [f"  {line}".rstrip() for line in text.split("\n")]
