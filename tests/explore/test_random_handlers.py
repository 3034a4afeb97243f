"""Random handlers: the search that merges states and the one that takes every path agree, and so does the interpreter.

Set VERIFIER_FULL=1 for thousands; VERIFIER_SEED is the first seed.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from explore_models import by_enumeration, by_fixpoint, write_model
from random_handlers import write

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"
FIRST = int(os.environ.get("VERIFIER_SEED", "0"))
HANDLERS = 3000 if FULL else 60
STATES = 2000 if FULL else 200
GROUP = 10


@pytest.mark.parametrize("first", range(FIRST, FIRST + HANDLERS, GROUP))
def test_both_engines_agree(first: int, tmp_path: Path) -> None:
    compared = 0
    for seed in range(first, first + GROUP):
        handler = write(seed)
        model = write_model(tmp_path / str(seed), handler.program, handler.properties, **handler.model)
        every_path = by_enumeration(model, handler.counts, states=STATES)
        sampled = Random(seed).sample(model.properties, len(model.properties) if FULL else 2)
        for p in sampled:
            expected = every_path[p.name]
            if expected.verdict == "unknown" and "gave up" in expected.reason:
                continue
            # one property at a time: the fewer there are, the more states are merged
            found = by_fixpoint(model, handler.counts, (p,), states=4 * STATES)[p.name]
            assert found.verdict == expected.verdict, f"seed {seed}, {p.name}: {found.reason or expected.reason}"
            compared += 1
    assert compared
