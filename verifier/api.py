"""The Python interface: load a specification, ask for verdicts.

>>> spec = verifier.load("specs/nested_nmi_repaired.yaml")
>>> assert spec.prove("context-restored")
>>> assert spec.refute("no-nmi-lost"), "the run I know of is gone"
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from verifier.errors import UsageError, nearest
from verifier.explore.memory import capped
from verifier.explore.search import Limits
from verifier.prove.prover import Prover, searches
from verifier.prove.verdict import Coverage, Result
from verifier.replay.replay import MACHINES, Replayed, replay
from verifier.report.verdict import verdict_text
from verifier.spec import load as load_model
from verifier.terms import SolverFailure
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from verifier.prove.certificate import Proof
    from verifier.spec.model import Model, Property, Verdict
    from verifier.terms import Question
    from verifier.trace.trace import Trace

    Progress = Callable[[int, int], None]
    Bound = Mapping[str, int]


#: What a search may take: more than its limit, which it looks at once a state.
_SEARCH_MEGABYTES = 3_000


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """A verdict, its grounds, and for a refuted property the run, confirmed by the concrete interpreter.

    True exactly if the verdict is the one that was asked for: ``proved`` after `Specification.prove`,
    ``refuted`` after `Specification.refute`. Unknown and vacuous are never true.
    """

    result: Result
    trace: Trace | None
    asked: Literal["proved", "refuted"] = "proved"

    @property
    def name(self) -> str:
        return self.result.property.name

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict

    @property
    def text(self) -> str:
        """Verdict, bound, reason, coverage and timeline, as the command line prints them."""
        return self.text_after({})

    def text_after(self, told: dict[str, str]) -> str:
        """The same, where a run that is in ``told`` (run to property) is not told again; else it is added."""
        return verdict_text(self.result, self.trace, told)

    def __bool__(self) -> bool:
        return self.verdict == self.asked

    def __repr__(self) -> str:
        return f"<{self.name}: {self.verdict}>"


class Outcomes(list[Outcome]):
    """Outcomes in the order of the specification; true if there are some and each of them is."""

    def __bool__(self) -> bool:
        return len(self) > 0 and all(self)


@dataclass(frozen=True, slots=True)
class Specification:
    """A loaded specification file."""

    model: Model

    @property
    def properties(self) -> tuple[Property, ...]:
        return self.model.properties

    @overload
    def prove(self, name: str, *, bound: Bound | None = None) -> Outcome: ...
    @overload
    def prove(self, name: None = None, *, bound: Bound | None = None) -> Outcomes: ...
    def prove(self, name: str | None = None, *, bound: Bound | None = None) -> Outcome | Outcomes:
        """The verdict on one property, or on all of them.

        ``bound`` None: for any number and depth of events; else every run with at most that many of each.
        Raises UsageError for a name or a bound that does not fit the specification, and InternalError where
        the tool's checks of itself fail.
        """
        found = {o.name: o for o in self.outcomes(None if name is None else [name], bound)}
        if name is not None:
            return found[name]
        return Outcomes(found[p.name] for p in self.properties)

    def refute(self, name: str, *, bound: Bound | None = None) -> Outcome:
        """The same verdict, asked the other way round: true if the property is refuted."""
        (outcome,) = self.outcomes([name], bound)
        return Outcome(outcome.result, outcome.trace, "refuted")

    def outcomes(
        self,
        names: Iterable[str] | None = None,
        bound: Bound | None = None,
        *,
        states: int | None = None,
        progress: Progress | None = None,
        listener: Callable[[Question], None] | None = None,
        witness: Callable[[Proof], None] | None = None,
        processor: Mapping[str, int] | None = None,
        routines: bool = False,
    ) -> Iterator[Outcome]:
        """Outcomes as they come: properties without a schedule first, from one search, then the others.

        ``states``: how many states a search may explore; ``progress`` is told of explored and waiting states;
        ``listener`` is told of everything that the solver is asked;
        ``witness`` is given the proof of what a search has proved without a bound. ``processor``: rules of
        `verifier.machine.rules` with known values; the verdicts are about such processors only then.
        ``routines`` as in `verifier.prove.prover.Prover`.
        """
        wanted = self.properties if names is None else tuple(self.named(n) for n in dict.fromkeys(names))
        check_bound(self.model, bound)
        limits = Limits() if states is None else Limits(states=states)
        prover = Prover(self.model, bound, limits, progress, witness=witness, processor=processor, routines=routines)
        prover.solver.listener = listener
        for group in searches(wanted):
            yield from _judged(prover, group)

    def replay(self, trace: Trace, machine: str) -> Replayed:
        """What ``qemu``, ``bochs`` or the ``interpreter`` makes of a trace of this specification.

        Where processors may differ, a run can be one that the machine's does not have; then another one is looked for
        that breaks the property on it. Raises MissingTool if the machine is not installed.
        """
        found = replay(trace, machine)
        if found.kind != "not-shown" or machine not in MACHINES:
            return found
        (outcome,) = self.outcomes([trace.property.name], processor=MACHINES[machine].rules)
        other = found if outcome.trace is None else replay(outcome.trace, machine)
        return found if other.report is None else replace(other, why_not=found.why_not)

    def named(self, name: str) -> Property:
        """Raises UsageError with the nearest name."""
        found = self.model.property_named(name)
        if found is None:
            known = [p.name for p in self.properties]
            hint = nearest(name, known) or f"the properties are {', '.join(known)}"
            raise UsageError(f"{self.model.path}: no property is called '{name}'", None, hint)
        return found


def load(path: str | Path) -> Specification:
    """The specification in a YAML file. Raises SpecError or AsmError with the place of what is wrong."""
    return Specification(load_model(Path(path)))


def check_bound(model: Model, bound: Bound | None) -> None:
    """Raises UsageError unless the bound names events of the model and leaves none without one."""
    if bound is None:
        return
    events = model.environment.events
    for name, count in bound.items():
        if name not in events:
            hint = nearest(name, events) or f"the events are {', '.join(events)}"
            raise UsageError(f"{model.path}: bound: no event is called '{name}'", None, hint)
        allowed = events[name]
        if count < 0 or (allowed is not None and count > allowed):
            limit = "negative" if count < 0 else f"more than the {allowed} that the specification allows"
            raise UsageError(f"{model.path}: bound: {name}={count} is {limit}")
    free = [name for name, count in events.items() if count is None and name not in bound]
    if free:
        hint = f"add {','.join(f'{name}=1' for name in free)}, or leave the bound out to allow any number"
        raise UsageError(f"{model.path}: the bound leaves {', '.join(free)} without a bound", None, hint)


def _judged(prover: Prover, properties: list[Property]) -> Iterator[Outcome]:
    """The outcomes of one search. Running out of memory or of stack is an unknown; other searches go on."""
    began = time.perf_counter()
    left = {p.name: p for p in properties}
    try:
        with capped(_SEARCH_MEGABYTES), prover.solver.asking(properties=tuple(left)):
            for result in prover.results(properties):
                outcome = _confirmed(prover, result)
                del left[outcome.name]
                yield outcome
    except (MemoryError, RecursionError) as error:
        what = "memory" if isinstance(error, MemoryError) else "Python's stack"
        seconds = time.perf_counter() - began
        for p in left.values():
            yield Outcome(_exhausted(prover, p, what, seconds), None)


def _confirmed(prover: Prover, result: Result) -> Outcome:
    """The outcome of one property; a run that cannot be shown is no refutation."""
    name, question = result.property.name, "values for the run that breaks the property"
    try:
        with prover.solver.asking(properties=(name,), question=question):
            return Outcome(result, concretise(prover, result))
    except SolverFailure as failure:
        reason = f"some run seems to break it, but the solver gave no values for it: {failure}"
        return Outcome(replace(result, verdict="unknown", reason=reason, violation=None), None)


def _exhausted(prover: Prover, p: Property, what: str, seconds: float) -> Result:
    total = len(prover.model.machine.program.instructions)
    coverage = Coverage((0, total), (), {}, 0, {}, ("the search was cut short: nothing was counted",))
    reason = f"ran out of {what}; try --bound, fewer events, or a machine with more memory"
    return Result(prover.model, p, "unknown", reason, 0, seconds, coverage, prover.bound)
