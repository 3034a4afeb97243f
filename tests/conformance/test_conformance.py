"""Every rule of the machine, row by row: the interpreter against QEMU and Bochs, and the document against both.

That the symbolic machine goes the interpreter's ways is `tests/machine/test_machine_lockstep.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance_scenarios import SCENARIOS, SHUTDOWN
from conformance_table import (
    DOCUMENT,
    MANUAL,
    NAMES,
    PROCESSOR,
    Bench,
    deviations_of,
    machines_of,
    oracle,
    part,
    rows,
    scenarios_of,
)

from verifier.machine.rules import RULES as BITS
from verifier.replay.replay import MACHINES

ROOT = Path(__file__).parents[2]
ROWS = rows(DOCUMENT.read_text(encoding="utf-8"))
ALL = (*SCENARIOS, SHUTDOWN)


@pytest.fixture(scope="module", params=sorted(MACHINES))
def bench(request):
    bench = Bench(request.param)
    yield bench
    bench.close()


@pytest.mark.parametrize("scenario", ALL, ids=lambda s: s.name)
def test_a_machine_does_what_the_interpreter_says(bench, scenario):
    """Or exactly what a deviation of that emulator says; and where processors may differ, what it is said to do."""
    if bench.name in scenario.on:
        answer = bench.answer(scenario)
        assert answer.ways, answer.differs
        assert len(bench.taken(scenario)) == 1, (answer.ways, bench.machine.rules)


@pytest.mark.parametrize("rule", ROWS)
def test_the_document_says_what_came_of_it(bench, rule):
    """To write it: ``python tests/conformance/conformance_table.py``."""
    if bench.name in machines_of(rule):
        assert part(ROWS[rule][6], bench.name) == bench.result(rule)


@pytest.mark.parametrize("rule", ROWS)
def test_the_document_says_what_a_rule_is_compared_with(rule):
    assert ROWS[rule][5] == oracle(rule)
    named = set(re.findall(r"(QEMU|Bochs): ", ROWS[rule][6]))
    assert named == {NAMES[name] for name in machines_of(rule)}
    assert (rule in MANUAL) is (oracle(rule) == "manual only"), "say why nothing is asked"


def test_every_scenario_belongs_to_a_rule_and_every_deviation_to_a_row():
    assert {rule for s in ALL for rule in s.rules.split()} <= ROWS.keys()
    assert len({s.name for s in ALL}) == len(ALL)
    assert all(s.why for s in ALL if len(s.on) < len(MACHINES))
    for path in PROCESSOR.values():
        assert (ROOT / path).exists()


def test_every_bit_of_a_processor_is_tried_on_the_machines():
    assert {name for s in ALL for way in s.ways for name in way.rules} == BITS.keys()


@pytest.mark.parametrize("rule", ROWS)
def test_deviations_are_shown_where_their_rule_is(rule):
    """A deviation that names a rule comes up in a row of some rule that it names."""
    shown = set(re.findall(r"deviates: `([^`]+)`", ROWS[rule][6]))
    assert shown <= deviations_of(rule)
    assert not shown or scenarios_of(rule)
