"""Judging one mutant: by all that is proved of the program it was made of."""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING

from mutations import ROOT

from verifier.errors import AsmError
from verifier.explore.search import Limits
from verifier.prove.prover import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mutations import Mutant

    from verifier.prove.verdict import Result
    from verifier.spec.model import Model, Property

#: What most die of, each judged alone: such a search stops at the first run that breaks it, and one for all properties
#: may give up before it, where the stack grows without bound. Before them those with a schedule, which take few states.
FIRST = ("context-restored", "saved-frame-intact", "stack-use")
#: How many states a search may take, in turn: what breaks a property mostly does so early.
STATES = (4_000, 12_000)
#: Some of the machines that the specifications speak of, in which less is left open: a run of theirs refutes, too.
#: (The registers in `msrs` are there for changes that reach for one of which the specifications say nothing.)
NARROWED = {
    "  data:\n    cpu_base": "  msrs: {0xc0000109: {}}\n  data:\n    cpu_base",
    "nmi_ist: {size: 4096": "nmi_ist: {alignment: 4096, size: 4096",
    "    - kernel\n": "    - kernel: {fixed: {rcx: 0xc0000102}}\n",
    "    requires: [\"gs": "    gives: {rcx: 0xc0000102}\n    requires: [\"gs",
}
#: What a judgement begins with where a search gave up.
UNJUDGED = "unknown"


def killed_by_alone(mutant: Mutant, folder: Path, routines: bool) -> str | None:
    """`killed_by` in a process of its own: the memory that a search may take is that of its process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(killed_by, (mutant, folder, routines))


def killed_by(mutant: Mutant, folder: Path, routines: bool) -> str | None:
    """What a mutant dies of: a property that is refuted, or a text that is none. None: it survives.

    A search that gives up kills nothing: what was not judged is told at the end, after `UNJUDGED`. Every refutation is
    a run of the plain search, and run by the concrete interpreter, which raises InternalError where it does not agree.
    ``routines``: proofs may need them (`verifier.explore.routine`), which takes fewer states. What stays open is tried
    with specifications that are `NARROWED`.
    """
    try:
        for states in STATES:
            death = _killed_by_any(mutant, folder, states, routines)
            if _is_judged(death):
                return death
        return _killed_by_any(mutant, folder, STATES[0], routines, NARROWED) or death
    except AsmError as error:
        return f"no text: {error}"


def _killed_by_any(
    mutant: Mutant, folder: Path, states: int, routines: bool, replaced: Mapping[str, str] | None = None
) -> str | None:
    models = enumerate(_models(mutant, folder, replaced or {}))
    return _first_refuted(_killed_by(model, states, routines, at == 0) for at, model in models)


def _models(mutant: Mutant, folder: Path, replaced: Mapping[str, str]) -> Iterator[Model]:
    for name in ("asm", "specs"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in mutant.texts().items():
        (folder / "asm" / name).write_text(text)
    for name in mutant.subject.specs:
        text = (ROOT / "specs" / f"{name}.yaml").read_text()
        for before, after in replaced.items():
            text = text.replace(before, after)
        spec = folder / "specs" / f"{name}.yaml"
        spec.write_text(text)
        yield load(spec, folder)


def _killed_by(model: Model, states: int, routines: bool, foremost: bool) -> str | None:
    """``foremost``: what most die of. With routines a search for all is cheap, so that the others have only that."""
    prover = Prover(model, limits=Limits(states=states), routines=routines)
    wanted = [p for p in model.properties if p.expect == "proved"]
    alone = [p for p in wanted if p.during is not None]
    if foremost or not routines:
        alone += [p for p in wanted if p.name in FIRST]
    groups = [*([p] for p in alone), [p for p in wanted if p not in alone]]
    return _first_refuted(_judged(prover, properties) for properties in groups)


def _judged(prover: Prover, properties: Sequence[Property]) -> str | None:
    """What the properties say in one search for all; where that gives up, each alone."""
    death = _first_refuted(_told(prover, result) for result in prover.results(properties))
    if _is_judged(death) or len(properties) == 1:
        return death
    return _first_refuted(_judged(prover, [p]) for p in properties)


def _told(prover: Prover, result: Result) -> str | None:
    """A vacuous property says nothing: that its events do not come to happen has to break another one."""
    if result.verdict in ("proved", "vacuous"):
        return None
    concretise(prover, result)
    told = f"{result.property.name}: {result.verdict}: {result.reason}"
    return f"{UNJUDGED}: {told}" if result.verdict == UNJUDGED else told


def _first_refuted(deaths: Iterable[str | None]) -> str | None:
    """Of several judgements the first death, else what is not judged, else None."""
    unjudged = None
    for death in deaths:
        if _is_judged(death) and death is not None:
            return death
        unjudged = unjudged or death
    return unjudged


def _is_judged(death: str | None) -> bool:
    return death is None or not death.startswith(UNJUDGED)
