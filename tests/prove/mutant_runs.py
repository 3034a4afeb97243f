"""Judging one mutant: with the specifications of the repaired sketch, all properties."""

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
    from pathlib import Path

    from mutations import Mutant

    from verifier.spec.model import Property

SPECS = ("nested_nmi_repaired", "nested_nmi_repaired_irqs_on")
#: What most die of, each judged alone: such a search stops at the first run that breaks it, and one for all properties
#: may give up before it, where the stack grows without bound.
FIRST = ("context-restored", "stack-use")
#: What a judgement begins with where a search gave up.
UNJUDGED = "unknown"


def killed_by_alone(mutant: Mutant, folder: Path) -> str | None:
    """`killed_by` in a process of its own: the memory that a search may take is that of its process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(killed_by, (mutant, folder))


def killed_by(mutant: Mutant, folder: Path) -> str | None:
    """What a mutant dies of: a property that is no longer proved, or a text that is none. None: it survives.

    A search that gives up kills nothing: what was not judged is told at the end, after `UNJUDGED`. Every refutation is
    run by the concrete interpreter, which raises InternalError where it does not agree.
    """
    unjudged = None
    for name in ("asm", "specs"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in mutant.texts().items():
        (folder / "asm" / name).write_text(text)
    for name in SPECS:
        spec = folder / "specs" / f"{name}.yaml"
        spec.write_text((ROOT / "specs" / f"{name}.yaml").read_text())
        try:
            model = load(spec, folder)
        except AsmError as error:
            return f"no text: {error}"
        prover = Prover(model, limits=Limits(states=8000))
        others = [p for p in model.properties if p.name not in FIRST]
        judged = _judge(prover, [*([p] for p in model.properties if p.name in FIRST), others])
        if judged is not None and judged.startswith(UNJUDGED):
            judged = _judge(prover, [[p] for p in others])
        if judged is not None and not judged.startswith(UNJUDGED):
            return judged
        unjudged = judged or unjudged
    return unjudged


def _judge(prover: Prover, groups: list[list[Property]]) -> str | None:
    """The first property that is refuted, else one that is not judged, else None; each group has one search."""
    unjudged = None
    for properties in groups:
        for result in prover.results(properties):
            if result.verdict == "unknown":
                unjudged = f"{UNJUDGED}: {result.property.name}: {result.reason}"
            elif not result.as_expected:
                concretise(prover, result)
                return f"{result.property.name}: {result.verdict}: {result.reason}"
    return unjudged
