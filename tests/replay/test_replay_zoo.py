"""Random runs of a program with everything that a replay has to get right (``zoo.S``), to a bad end or not.

CI draws a few; VERIFIER_FULL=1 three hundred.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from replay_schedules import draw

from verifier.replay.course import execute
from verifier.replay.replay import MACHINES, on_machine
from verifier.spec import load

ZOO = load(Path(__file__).with_name("zoo.yaml"))
RUNS = range(300 if os.environ.get("VERIFIER_FULL") == "1" else 12)
STEPS = 150

#: What the runs may bring out.
KNOWN = {
    "qemu": {
        "no-rf-in-fault-frames",
        "no-rf-between-iterations",
        "iretq-to-a-bad-rip-is-made",
        "null-fs-and-gs-stay",
    },
    "bochs": {"no-rf-between-iterations"},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("run", RUNS)
def test_a_random_run_agrees_at_every_step(run: int, machine: str) -> None:
    drawn = draw(ZOO, f"zoo{run}", MACHINES[machine].rules, None, STEPS, nmi_in_shadow=machine == "qemu")
    report, _ = on_machine(execute(ZOO.machine, drawn.start, [s.move for s in drawn.steps]), machine)
    assert not report.differs, f"step {report.steps + 1} of {len(drawn.steps)}: {report.differs}"
    assert report.steps == len(drawn.steps)
    assert {m.deviation.name for m in report.met} <= KNOWN[machine]
