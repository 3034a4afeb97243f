"""Random runs of what is proved: interpreter, QEMU and Bochs agree at every step, and nothing proved is violated.

CI draws a few for each schedule; VERIFIER_FULL=1 two hundred.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from replay_schedules import Drawn, draw

from verifier.replay.course import execute
from verifier.replay.replay import MACHINES, on_machine
from verifier.spec import load

if TYPE_CHECKING:
    from verifier.spec.model import Model, Property, ScheduleItem

    Schedule = tuple[ScheduleItem, ...] | None

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
RUNS = 200 if os.environ.get("VERIFIER_FULL") == "1" else 3


@cache
def model_of(path: Path) -> Model:
    return load(path)


def groups() -> list[tuple[Path, int | None, list[str]]]:
    """Specification, number of the property with a schedule (None: without one), and the proved properties."""
    found = []
    for path in SPECS:
        proved = [p for p in model_of(path).properties if p.expect == "proved"]
        free = [p.name for p in proved if p.during is None]
        found += [(path, None, free)] if free else []
        found += [(path, i, [p.name]) for i, p in enumerate(model_of(path).properties) if p in proved and p.during]
    return found


def name_of(group: tuple[Path, int | None, list[str]]) -> str:
    return f"{group[0].stem}-{'any-events' if group[1] is None else group[2][0]}"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("group", groups(), ids=name_of)
def test_random_runs_agree_at_every_step_and_violate_nothing(group, machine: str) -> None:
    path, number, names = group
    model = model_of(path)
    schedule = None if number is None else model.properties[number].during
    for run in range(RUNS):
        drawn = draw(model, f"{path.stem}/{number}/{run}", MACHINES[machine].rules, schedule)
        judge(drawn, [p for p in model.properties if p.name in names])
        course = execute(model.machine, drawn.start, [s.move for s in drawn.steps])
        report, _ = on_machine(course, machine)
        assert not report.differs, f"run {run}, step {report.steps + 1} of {len(drawn.steps)}: {report.differs}"
        assert report.steps == len(drawn.steps)
        assert machine == "qemu" or not report.met


def judge(drawn: Drawn, proved: list[Property]) -> None:
    assert drawn.ended in ("home", "no-return")
    for p in proved if drawn.complete else ():
        assert drawn.broken(p) is None, p.name
