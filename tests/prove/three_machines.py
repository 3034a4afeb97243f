"""A verdict by all that there is: the search, each counterexample by the interpreter, each proof by the recheck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.explore.search import Limits
from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.recheck import recheck
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from verifier.prove.verdict import Result
    from verifier.spec.model import Model


def judged(model: Model, states: int = 1_000) -> dict[str, Result]:
    """Every property's result; AssertionError for a proof that the recheck does not confirm."""
    certificate, results = Certificate(model), {}
    prover = Prover(model, limits=Limits(states=states), witness=certificate.add)
    for result in prover.results(model.properties):
        concretise(prover, result)
        results[result.property.name] = result
    proved = {name for name, r in results.items() if r.verdict == "proved" and r.property.during is None}
    if proved:
        file = model.path.with_suffix(".certificate")
        file.write_bytes(certificate.content())
        confirmed = {name for proof in recheck(file, model.path) for name in proof.judged}
        assert proved <= confirmed, f"proved, and not confirmed: {proved - confirmed}"
    return results
