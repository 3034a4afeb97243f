"""docs/machine-model.md: every rule that the code names is stated there, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from verifier.machine.rules import RULES as BITS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "machine-model.md").read_text(encoding="utf-8")
ROWS = [[c.strip() for c in line.strip("|").split("|")] for line in DOCUMENT.splitlines() if line.startswith("| ")]
RULES = {row[0]: row for row in ROWS if re.fullmatch(r"[NSPFRIHAE]\d\d?", row[0])}
#: Stated in the text, not in a table: left out on purpose.
IN_TEXT = {"N8"}
TESTS = {
    "rules": "tests/machine/test_machine_rules.py",
    "both ways": "tests/machine/test_machine_both_ways.py",
    "lock-step": "tests/machine/test_machine_lockstep.py",
    "lift": "tests/lift",
} | {
    name: f"tests/trace/test_interpreter_{name}.py" for name in ("delivery", "execute", "program", "returns", "native")
}


def named(folder: str, pattern: str) -> set[str]:
    found = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for match in re.finditer(pattern, path.read_text(encoding="utf-8")):
            found.update(re.findall(r"\b[NSPFRIHAE]\d\d?\b", match[0]))
    return found


@pytest.mark.parametrize("folder", ["verifier/machine", "verifier/trace", "verifier/explore"])
def test_every_rule_that_the_code_names_is_stated(folder):
    assert named(folder, r"\b[Rr]ules? [^.\n]*|\([NSPFRIHAE]\d[^)\n]*\)|# [NSPFRIHAE]\d\d?$") - RULES.keys() <= IN_TEXT


def test_rows_are_whole_and_what_they_name_exists():
    assert len(RULES) > 60
    for row in RULES.values():
        number, _, _, code, tests, _, _ = row
        for path in re.findall(r"`([^`]+)`", code):
            assert (ROOT / "verifier" / path).exists(), (number, path)
        for test in () if tests == "-" else tests.split(", "):
            assert (ROOT / TESTS.get(test, test.strip("`"))).exists(), (number, test)


def test_the_bits_of_a_processor_are_listed_as_they_are():
    listed = {row[0].strip("`"): (row[1], row[2]) for row in ROWS if row[0].strip("`") in BITS}
    assert {n: (r, text.replace("`", "")) for n, (r, text) in listed.items()} == BITS


def test_rules_with_a_test_by_hand_are_named_in_it():
    text = (ROOT / TESTS["rules"]).read_text(encoding="utf-8")
    expected = {number for number, row in RULES.items() if "rules" in row[4].split(", ")}
    assert {n for n in expected if not re.search(rf"\b{n}\b", text)} == set()
