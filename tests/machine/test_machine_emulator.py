"""Deliveries, returns and all other instructions: the concrete interpreter agrees with Bochs from random states.

What Bochs does otherwise must be a deviation that has a name (`verifier.replay.deviations`), with exactly its values.
"""

from __future__ import annotations

import os
import random

import machine_lab as labs
import pytest
from machine_emulator import Bench

from verifier.replay.bochs import Bochs

FULL = os.environ.get("VERIFIER_FULL") == "1"
LABS, CASES = (200, 200) if FULL else (8, 40)
NOT_COUNTED = ("skipped", "deviation", "delivered", "executed")
#: `inhibit_mask` for each value of the cell ``inhibit``: nothing; interrupts; those and #DB.
SHADOWS = (0, 1, 3)


def into_shadow(machine: Bochs, kind: int) -> None:
    until = machine._state["icount"] if kind else 0
    machine._set({"inhibit_mask": SHADOWS[kind], "inhibit_icount": until, "debug_trap": 0})


def hidden(machine: Bochs) -> dict[str, int]:
    state = machine._state
    mask = state["inhibit_mask"] if state["icount"] <= state["inhibit_icount"] else 0
    return {"inhibit": SHADOWS.index(mask), "nmi_pending": state["pending_event"] & 1}


@pytest.fixture(scope="module")
def built():
    return labs.program()


@pytest.mark.parametrize("seed", range(LABS))
def test_bochs(built, seed):
    source = random.Random(f"bochs {seed}")
    with Bench(labs.lab(source, built, fixed=True, played=True), Bochs, into_shadow, hidden) as bench:
        for number in range(CASES):
            try:
                bench.case(source)
            except AssertionError as problem:
                raise AssertionError(f"case {number}: {problem}") from problem
        compared = sum(n for name, n in bench.seen.items() if not name.startswith(NOT_COUNTED))
        assert compared > CASES / 2
