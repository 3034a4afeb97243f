"""The symbolic machine and the interpreter, written twice from the manual, agree on random programs and states."""

from __future__ import annotations

import os
import random
from collections import Counter

import machine_lab as labs
import pytest
from machine_lockstep import Walk

FULL = os.environ.get("VERIFIER_FULL") == "1"
ROUNDS = 2500 if FULL else 12


@pytest.fixture(scope="module")
def built():
    return labs.program()


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "anywhere"])
@pytest.mark.parametrize("abstract", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("context", [labs.USER, labs.KERNEL], ids=lambda c: c.name)
def test_lockstep(built, fixed, abstract, context):
    seen: Counter[str] = Counter()
    for seed in range(ROUNDS):
        source = random.Random(f"{seed} {fixed} {abstract} {context.name}")
        walk = Walk(source, labs.lab(source, built, fixed=fixed), context, abstract)
        try:
            for _ in range(4):
                if not walk.move():
                    break
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem
        seen += walk.seen
    assert seen["goes on"]
