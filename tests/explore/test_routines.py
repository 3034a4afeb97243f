"""The search with routines says the same as the one without: of shipped specifications, of random handlers.

VERIFIER_FULL=1: all specifications, and thousands of handlers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from explore_models import bounded, by_enumeration, write_model
from random_handlers import write
from routine_cases import CASES, SABOTAGES, Sabotage

from verifier.errors import InternalError
from verifier.explore import nested
from verifier.explore.search import Limits
from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.recheck import Refused, recheck
from verifier.spec import load
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:

    from verifier.explore.search import Explorer
    from verifier.prove.verdict import Result
    from verifier.spec.model import Model

SPECS = Path(__file__).parents[2] / "specs"
FULL = os.environ.get("VERIFIER_FULL") == "1"
HANDLERS = 4000 if FULL else 100
GROUP = 25
#: The others take half a minute and more: with routines each property of the sketch has more states than without.
SHIPPED = sorted(SPECS.glob("*.yaml")) if FULL else [*sorted(SPECS.glob("nested_nmi_2010*.yaml"))]
LIMITS = Limits(states=800)


class Searches:
    """The searches with routines of a prover that ended: how many there were, and how many routines are shared."""

    def __init__(self, model: Model, limits: Limits | None = None) -> None:
        self.ended: list[Explorer] = []
        self.prover = Prover(model, limits=limits, routines=True)
        with_routines = self.prover._nested

        def kept(*arguments: Any) -> Any:
            found = with_routines(*arguments)
            if found is not None:
                self.ended.append(found[0])
            return found

        self.prover._nested = kept  # type: ignore[method-assign]

    def results(self, model: Model) -> dict[str, Result]:
        found = {}
        for result in self.prover.results(model.properties):
            concretise(self.prover, result)
            found[result.property.name] = result
        return found

    @property
    def shared(self) -> int:
        """How many routines stand for several contexts."""
        nodes = [n for search in self.ended if isinstance(search, nested.Nested) for n in search.graph.nodes]
        return sum(n.call is not None and n.merged is None and len(n.call.routine.callers) > 1 for n in nodes)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_specifications(path: Path) -> None:
    model = load(path)
    searches = Searches(model, Limits(states=20_000))
    assert {name: r.verdict for name, r in searches.results(model).items()} == {
        p.name: p.expect for p in model.properties
    }
    assert searches.ended


def differs(seed: int, folder: Path, shared: list[int]) -> str:
    """How a search with routines and one that takes every path differ about a random handler; "" if they do not."""
    handler = write(seed)
    model = write_model(folder / str(seed), handler.program, handler.properties, **handler.model)
    expected = by_enumeration(model, handler.counts, states=400)
    if any(r.states >= 400 for r in expected.values()):
        return ""
    limited = bounded(model, handler.counts)
    searches = Searches(limited, LIMITS)
    try:
        found = searches.results(limited)
    except (InternalError, AssertionError) as error:
        return f"seed {seed}: {error}"
    shared.append(searches.shared)
    wrong = [n for n, r in found.items() if r.verdict not in (expected[n].verdict, "unknown")]
    return f"seed {seed}: {', '.join(wrong)}" if wrong else ""


@pytest.mark.parametrize("first", range(0, HANDLERS, GROUP))
def test_random_handlers(first: int, tmp_path: Path) -> None:
    shared: list[int] = []
    found = [differs(seed, tmp_path, shared) for seed in range(first, first + GROUP)]
    assert not [d for d in found if d]
    assert sum(shared) > 0, "some routines are shared"


def written(name: str, folder: Path) -> Model:
    case = CASES[name]
    return write_model(
        folder,
        case.program,
        {"restored": case.restored, **case.more},
        events=case.events,
        idt={"irq": "entry: irq, gate: interrupt"},
        holes=case.holes,
        outermost="irq",
    )


@pytest.mark.parametrize("name", CASES)
def test_one_context_of_many(name: str, tmp_path: Path) -> None:
    model = written(name, tmp_path)
    searches = Searches(model)
    assert searches.results(model)["restored"].verdict == "refuted"
    assert searches.ended, "a search with routines has decided"


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.title)
def test_broken_routines_are_noticed(sabotage: Sabotage, tmp_path: Path) -> None:
    """What is wrong in one context is missed, or what is proved does not say all that matters: the certificate
    is refused."""
    shipped = sabotage.specification
    model = written(sabotage.missed, tmp_path) if shipped is None else load(shipped)
    properties = [p for p in model.properties if p.during is None]
    certificate = Certificate(model)
    with patch.object(sabotage.where, sabotage.name, sabotage.by(getattr(sabotage.where, sabotage.name))):
        prover = Prover(model, routines=True, witness=certificate.add)
        found = {r.property.name: r.verdict for r in prover.results(properties)}
    assert shipped is not None or "proved" in found.values()
    file = tmp_path / "certificate"
    file.write_bytes(certificate.content())
    with pytest.raises(Refused):
        list(recheck(file, model.path))
