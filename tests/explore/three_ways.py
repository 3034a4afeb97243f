"""One random handler, judged three ways: merged to a fixpoint, path by path, by all concrete runs from a few starts."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from exhaustive import Exhaustive, Starts, TooMany
from explore_models import by_enumeration, by_fixpoint, write_model
from random_handlers import write

from verifier.errors import InternalError
from verifier.machine.layout import Layout
from verifier.spec.expression import Progress
from verifier.terms import Solver

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exhaustive import Cost

    from verifier.prove.verdict import Result
    from verifier.spec.model import Model, Property

STATES = 400
STARTS = 2


@dataclass(slots=True)
class Comparison:
    """``differs``: what one way says and another does not, empty if nothing; ``judged``: verdicts that were compared;
    ``concrete``: how many of the refuted ones the concrete runs refute too, of ``refuted``."""

    differs: str = ""
    judged: int = 0
    refuted: int = 0
    concrete: int = 0


def compare(seed: int, folder: Path, states: int = STATES) -> Comparison:
    """The handler of a seed. An `InternalError` of a counterexample that is not confirmed is a difference too."""
    handler, random = write(seed), Random(seed)
    model = write_model(folder / str(seed), handler.program, handler.properties, **handler.model)
    found = Comparison()
    try:
        solver = Solver(Layout(model.machine).facts)
        every_path = by_enumeration(model, handler.counts, states=states, solver=solver)
        if any(r.states >= states for r in every_path.values()):
            return found  # it gave up
        for p in model.properties:
            # one property at a time: the fewer there are, the more states are merged
            merged = by_fixpoint(model, handler.counts, (p,), 4 * states, solver)[p.name]
            found.differs = found.differs or _engines_differ(merged, every_path[p.name])
            found.judged += 1
        _against_numbers(found, model, random, handler.counts, every_path)
    except (InternalError, AssertionError) as error:
        found.differs = f"{type(error).__name__}: {error}"
    if found.differs:
        found.differs = f"seed {seed}, {found.differs}"
    return found


def _engines_differ(merged: Result, every_path: Result) -> str:
    name = merged.property.name
    if merged.verdict != every_path.verdict:
        return f"{name}: {merged.verdict} to a fixpoint, {every_path.verdict} path by path"
    one, other = merged.violation, every_path.violation
    if one is None or other is None or {one.kind, other.kind} > {"stuck"}:
        return ""  # who is stuck is asked at the end of a search, and lost control may have ended one of them before
    if one.cost != other.cost:
        return f"{name}: a run of {one.cost} to a fixpoint, of {other.cost} path by path"
    return ""


def _against_numbers(
    found: Comparison, model: Model, random: Random, counts: Mapping[str, int], every_path: Mapping[str, Result]
) -> None:
    broken: dict[str, Cost] = {}
    lost: list[Cost] = []
    starts = Starts(model, random)
    for _ in range(STARTS):
        try:
            runs = Exhaustive(model, starts.one(), counts, 2 * STATES)
        except TooMany:
            continue
        for name, cost in runs.broken.items():
            broken[name] = min(cost, broken.get(name, cost))
        lost += [runs.lost] if runs.lost is not None else []
    for p in model.properties:
        result = every_path[p.name]
        found.refuted += result.verdict == "refuted"
        found.concrete += result.verdict == "refuted" and bool(lost or p.name in broken)
        found.differs = found.differs or _numbers_differ(p, result, broken.get(p.name), bool(lost))


def _numbers_differ(p: Property, result: Result, cost: Cost | None, lost: bool) -> str:
    if (cost is not None or lost) and result.verdict in ("proved", "vacuous"):
        return f"{p.name}: {result.verdict}, and a concrete run breaks it ({cost or 'control is lost'})"
    if cost is None or lost or result.violation is None or isinstance(p.that, Progress):
        return ""  # where data decide whether a run gets stuck, numbers are stuck before the decision
    if "(%rsp)" in p.text and any(c.stack is None for c in result.model.machine.contexts):
        return ""  # at an address that user code chose the engines leave the property open, and look on
    if result.violation.cost > cost:
        return f"{p.name}: refuted by a run of {result.violation.cost}, and a concrete one has {cost}"
    return ""
