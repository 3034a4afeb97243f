"""What is proved of random handlers is rechecked by code that shares nothing with the search.

Set VERIFIER_FULL=1 for hundreds; VERIFIER_SEED is the first seed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from explore_models import write_model
from random_handlers import write

from verifier.explore.search import Limits
from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.recheck import recheck

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"
FIRST = int(os.environ.get("VERIFIER_SEED", "0"))
HANDLERS = 500 if FULL else 30
GROUP = 10


@pytest.mark.parametrize("first", range(FIRST, FIRST + HANDLERS, GROUP))
def test_what_is_proved_is_rechecked(first: int, tmp_path: Path) -> None:
    expect_rechecked(first, tmp_path)


@pytest.mark.parametrize("first", range(FIRST, FIRST + HANDLERS, GROUP * (1 if FULL else 3)))
def test_what_is_proved_with_routines_is_rechecked(first: int, tmp_path: Path) -> None:
    expect_rechecked(first, tmp_path, routines=True)


def expect_rechecked(first: int, tmp_path: Path, routines: bool = False) -> None:
    checked = 0
    for seed in range(first, first + GROUP):
        handler = write(seed)
        # a few of each event: many of these handlers have no end of states under any number
        events = handler.events(handler.counts)
        model = write_model(
            tmp_path / str(seed), handler.program, handler.properties, **handler.model | {"events": events}
        )
        certificate, proved = Certificate(model), set()
        # one at a time, since then most is merged; and all at once
        for properties in ((p,) for p in model.properties) if FULL else (model.properties,):
            prover = Prover(model, limits=Limits(states=800), witness=certificate.add, routines=routines)
            proved |= {r.property.name for r in prover.results(properties) if r.verdict == "proved"}
        file = tmp_path / "certificate"
        file.write_bytes(certificate.content())
        confirmed = [name for proof in recheck(file, model.path) for name in proof.judged]
        assert set(confirmed) == proved, f"seed {seed}"
        checked += len(confirmed)
    assert checked
