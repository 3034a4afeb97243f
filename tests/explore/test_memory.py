"""Nothing takes more memory than it may: a search gives up, and a single step that asks for more does too."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

import verifier
from verifier.explore.memory import capped, holds_more_than
from verifier.machine.step import Stepper

SPEC = Path(__file__).parents[1] / "subjects" / "ticket.yaml"


def test_what_was_given_back_does_not_count() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
    assert not holds_more_than(now + 100)
    large = b"x" * (200 << 20)
    assert holds_more_than(now + 100)
    del large
    assert not holds_more_than(now + 100)


def test_a_cap_goes_away_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), capped(100):
        bytes(200 << 20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(bytes(200 << 20)) == 200 << 20


def test_a_step_that_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the limit."""

    def greedy(self: Stepper, state: object) -> None:
        kept = []
        while True:
            kept.append(bytes(1 << 26))

    monkeypatch.setattr(Stepper, "execute", greedy)
    outcomes = verifier.load(SPEC).prove()
    reached = [o for o in outcomes if o.verdict != "vacuous"]
    assert len(reached) > 3
    assert all(o.result.reason.startswith("ran out of memory") for o in reached)
    assert {o.verdict for o in reached} == {"unknown"}
