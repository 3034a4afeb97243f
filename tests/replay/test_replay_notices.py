"""A replay notices whatever is not as it should be, and a known deviation covers nothing but its own wrong values."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from replay_schedules import draw

from verifier.api import Specification
from verifier.replay.course import Course, Leg, execute
from verifier.replay.deviations import DEVIATIONS, Item, known
from verifier.replay.follow import Follower, Report, registers
from verifier.replay.machine import REGISTERS, Machine
from verifier.replay.probe import unblock
from verifier.replay.replay import MACHINES, on_machine
from verifier.spec import load
from verifier.trace.run import Move

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.machine.config import MachineConfig

SPECS = Path(__file__).parents[2] / "specs"
ZOO = load(Path(__file__).with_name("zoo.yaml"))
#: A step that writes: PUSH in an NMI handler.
AT = 7


@pytest.fixture(scope="module")
def course() -> Course:
    """The first steps of a run: an NMI, compares and jumps, pushes."""
    trace = Specification(load(SPECS / "nested_nmi_repair_1_return.yaml")).refute("flag-clear-in-body").trace
    assert trace is not None
    found = execute(trace.model.machine, trace.start, [s.move for s in trace.steps[:10]])
    assert found.legs[AT - 1].outcome.writes
    assert found.legs[AT - 1].outcome.state.nmi_blocked
    return found


def followed(course: Course, wrong: Callable[[Machine], None], monkeypatch: pytest.MonkeyPatch, at: int = AT) -> Report:
    """What is said of QEMU if something is made wrong in it before a step is compared."""
    compare = Follower._compare

    def compare_what_is_wrong(self, step):
        if step.number == at:
            wrong(self._machine)
        return compare(self, step)

    monkeypatch.setattr(Follower, "_compare", compare_what_is_wrong)
    return on_machine(course, "qemu")[0]


@pytest.mark.parametrize("register", [r for r in REGISTERS if r not in ("cs", "ss")])
def test_one_wrong_bit_of_a_register(register: str, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    def turn_a_bit(machine: Machine) -> None:
        value = 0x2B if register in ("ds", "es", "fs", "gs") else machine.read()[register] ^ 1
        machine.write({register: value ^ 0x11 if register == "rflags" else value})

    report = followed(course, turn_a_bit, monkeypatch)
    assert report.steps == AT - 1
    assert [d.where for d in report.differs] == [register]


@pytest.mark.parametrize("segments", [{"cs": 0x33, "ss": 0x2B}, {"ss": 0x18}])
def test_a_wrong_stack_or_code_segment(segments, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    report = followed(course, lambda machine: machine.write(segments), monkeypatch)
    assert report.steps == AT - 1
    assert {d.where for d in report.differs} == set(segments)


def test_a_wrong_byte_of_what_a_step_writes(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    ((address, _),) = course.legs[AT - 1].outcome.writes
    report = followed(course, lambda machine: machine.store(address + 7, b"\x5a"), monkeypatch)
    assert report.steps == AT - 1
    assert [d.where[:14] for d in report.differs] == ["the 8 bytes at"]


def test_a_wrong_byte_of_what_no_step_writes(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    address = course.start.bases["nmi_ist"] + 0x123
    report = followed(course, lambda machine: machine.store(address, b"\x5a"), monkeypatch)
    assert report.steps == len(course.legs)
    assert [d.where for d in report.differs] == ["the 1 bytes at nmi_ist+0x123"]


def test_nmis_that_are_not_blocked(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    report = followed(course, lambda machine: unblock(machine, machine._image), monkeypatch)  # type: ignore[attr-defined]
    assert report.steps == AT - 1
    assert [(d.where, d.run, d.machine) for d in report.differs] == [("nmi_blocked", "0x1", "0x0")]


def test_nmis_that_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU does not execute the IRETQ at the end of a run, so NMIs are still blocked."""
    model, rules = load(SPECS / "nested_nmi_repaired.yaml"), MACHINES["qemu"].rules
    runs = (draw(model, f"blocked{i}", rules) for i in range(100))
    drawn = next(d for d in runs if [s.move.action for s in d.steps].count("execute") == len(d.steps) - 1)
    execute_step = Follower._execute

    def play_the_last(self, step):
        return self._play(step.leg) if step.number == len(drawn.steps) else execute_step(self, step)

    monkeypatch.setattr(Follower, "_execute", play_the_last)
    report, _ = on_machine(execute(model.machine, drawn.start, [s.move for s in drawn.steps]), "qemu")
    assert report.steps == len(drawn.steps) - 1
    assert [(d.where, d.run, d.machine) for d in report.differs] == [("nmi_blocked", "0x0", "0x1")]


@pytest.mark.parametrize("machine", MACHINES)
def test_an_nmi_that_is_held_pending_comes_where_the_run_says(machine: str) -> None:
    """It arrives in the page fault handler, and comes at the target of that one's IRETQ."""
    model = load(SPECS.parent / "tests" / "subjects" / "ticket.yaml")
    start = draw(model, "pending", MACHINES[machine].rules).start
    hidden = ("hole.rf", 0)
    fault = Move("page_fault", (hidden, ("fault.error_code", 2), ("fault.cr2", 0x1000)))
    nmi, held, step = Move("nmi"), Move("nmi", latch=True), Move("execute")
    again = Move("nmi", (hidden,))
    course = execute(model.machine, start, [nmi, step, step, step, fault, held, step, step, again, step])
    assert course.legs[7].outcome.state.nmi_pending
    assert not course.legs[7].outcome.state.nmi_blocked
    report, _ = on_machine(course, machine)
    assert (report.steps, report.differs) == (len(course.legs), ())


# Known deviations


@pytest.fixture(scope="module")
def legs() -> list[tuple[str, MachineConfig, Leg]]:
    """Steps of random runs that bring out deviations, by the machine that has them."""
    found = []
    for name, kind in MACHINES.items():
        for model in (ZOO, load(SPECS / "nested_nmi_repaired.yaml")):
            for run in range(5):
                drawn = draw(model, f"legs{run}", kind.rules, None, 150)
                course = execute(model.machine, drawn.start, [s.move for s in drawn.steps])
                found += [(name, model.machine, leg) for leg in course.legs]
    return found


def right_of(leg: Leg) -> dict[Item, int]:
    state = leg.outcome.state
    right: dict[Item, int] = {**registers(state), "nmi_blocked": int(state.nmi_blocked)}  # type: ignore[dict-item]
    return right | {place: state.read(*place) for place in leg.outcome.writes}


def test_a_deviation_is_recognised_by_exactly_its_wrong_values(legs) -> None:
    random, seen = Random(7), set()
    for name, machine, leg in legs:
        right = right_of(leg)
        for deviation in DEVIATIONS:
            wrong = {i: v for i, v in deviation.wrong(machine, leg, right).items() if right.get(i, v) != v}
            if deviation.emulator != name or not wrong:
                continue
            seen.add(deviation.name)
            assert deviation in [d for d, _ in known(name, machine, leg, right, right | wrong)]
            item = random.choice(list(right))
            turned = {**right, **wrong, item: {**right, **wrong}[item] ^ random.choice((1, 1 << 5, 1 << 22))}
            if turned[item] != right[item]:
                assert known(name, machine, leg, right, turned) == [], (deviation.name, item)
            other = "bochs" if name == "qemu" else "qemu"
            if not any(d.name == deviation.name and d.emulator == other for d in DEVIATIONS):
                assert deviation not in [d for d, _ in known(other, machine, leg, right, right | wrong)]
    assert {"no-rf-in-fault-frames", "no-rf-between-iterations"} <= seen


def test_no_deviation_covers_a_step_that_agrees(legs) -> None:
    for name, machine, leg in legs[::20]:
        right = right_of(leg)
        assert known(name, machine, leg, right, right) == []
