"""The table of conformance: for each rule of docs/machine-model.md what it is compared with, and what came of it.

``python tests/conformance/conformance_table.py`` runs everything and writes the last two columns of the document.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance_lab import Laboratory
from conformance_scenarios import SCENARIOS, SHUTDOWN

from verifier.replay.deviations import DEVIATIONS
from verifier.replay.machine import Shutdown
from verifier.replay.replay import MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance_lab import Answer, Scenario

    from verifier.replay.machine import Machine

DOCUMENT = Path(__file__).parents[2] / "docs" / "machine-model.md"
NAMES = {"qemu": "QEMU", "bochs": "Bochs"}
#: Rules that the processor itself is asked about too, at CPL 3 or in pieces.
PROCESSOR = {
    **dict.fromkeys(("R3", "R4", "R5", "R6", "R7", "R9", "R12"), "tests/trace/test_interpreter_native.py"),
    **dict.fromkeys(("A6", "A7", "A8", "A10", "A12", "I2", "I13"), "tests/lift/test_lift_cpu.py"),
    "A2": "tests/trace/test_interpreter_prefixes.py",
    "R1": "tests/asm/test_assemble_gnu.py",
}
#: Rules that nothing is asked about, and why.
MANUAL = {
    "F1": "what the specification must say",
    "F3": "taken for granted",
    "F16": "what memory the specification says is there",
    "A13": "taken for granted",
    "A14": "taken for granted",
    "I12": "what an interrupted context can hold",
    "R13": "an LDT that changes between two instructions; see tests/replay",
    **dict.fromkeys(("E1", "E2", "E3", "E5", "E6"), "what strikes where the specification says so; see tests/replay"),
    "I14": "what a specification lists; see tests/replay",
    "E4": "what a specification is told of RF",
    "E7": "no machine sets a register that the specification lists",
}
_RULE = re.compile(r"\b[NSPFRIHAE]\d\d?\b")


def scenarios_of(rule: str) -> list[Scenario]:
    """Those that show a rule."""
    return [s for s in (*SCENARIOS, SHUTDOWN) if rule in s.rules.split()]


def machines_of(rule: str) -> list[str]:
    return [name for name in MACHINES if any(name in s.on for s in scenarios_of(rule))]


def oracle(rule: str) -> str:
    """The cell of the column ``oracle``."""
    asked = [NAMES[name] for name in machines_of(rule)]
    if rule in PROCESSOR:
        asked.append("GNU as" if rule == "R1" else "processor")
    return ", ".join(asked) or "manual only"


def deviations_of(rule: str) -> set[str]:
    """The deviations that are about a rule: their texts name it."""
    return {d.name for d in DEVIATIONS if rule in _RULE.findall(d.manual)}


class Bench:
    """One machine, booted again when it has shut down, and its answers so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lab = Laboratory((*SCENARIOS, SHUTDOWN))
        self._machine: Machine | None = None
        self._answers: dict[str, Answer] = {}

    @property
    def machine(self) -> Machine:
        if self._machine is None:
            self._machine = MACHINES[self.name](self._lab.image)
        return self._machine

    def close(self) -> None:
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    def answer(self, scenario: Scenario) -> Answer:
        if scenario.name not in self._answers:
            try:
                self._answers[scenario.name] = self._lab.ask(self.machine, scenario)
            except Shutdown:
                self.close()
                raise
            if scenario is SHUTDOWN:
                self.close()
        return self._answers[scenario.name]

    def taken(self, scenario: Scenario) -> list[int]:
        """The ways that the machine agrees with and that its own rules allow."""
        rules = self.machine.rules
        return [
            number
            for number in self.answer(scenario).ways
            if all(rules[name] == value for name, value in scenario.ways[number].rules.items())
        ]

    def result(self, rule: str) -> str:
        """This machine's part of the cell of the column ``result``."""
        return ", ".join(dict.fromkeys(self._remarks(rule))) or "agrees"

    def _remarks(self, rule: str) -> Iterator[str]:
        about = deviations_of(rule)
        for scenario in scenarios_of(rule):
            if self.name not in scenario.on:
                continue
            for number in self.taken(scenario):
                way = scenario.ways[number]
                yield from (f"`{name}` = {value}" for name, value in way.rules.items())
                yield from (way.label,) if way.label else ()
                yield from (f"deviates: `{name}`" for name in self.answer(scenario).ways[number] if name in about)


def rows(text: str) -> dict[str, list[str]]:
    """Each rule's row of the document, by its number."""
    lines = (line for line in text.splitlines() if re.match(r"\| [NSPFRIHAE]\d\d? \|", line))
    found = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: row for row in found}


def result_cell(rule: str, results: dict[str, str]) -> str:
    """What the machines came to, each by its name; ``-`` where nothing was asked."""
    parts = [f"{NAMES[name]}: {results[name]}" for name in machines_of(rule)]
    return "; ".join(parts) or ("agrees" if rule in PROCESSOR else "-")


def part(cell: str, name: str) -> str:
    """What a cell of the column ``result`` says of a machine."""
    parts = dict(piece.split(": ", 1) for piece in cell.split("; ") if ": " in piece)
    return parts.get(NAMES[name], "")


def rendered(text: str, results: dict[str, dict[str, str]]) -> str:
    """The document with both columns as they should be."""
    lines = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:2] == ["id", "rule"]:
            cells = [*cells[:5], "oracle", "result"]
        elif lines and lines[-1].startswith("| id | rule") and set(line) <= set("|-"):
            cells = ["---"] * 7
            lines.append("|" + "|".join(cells) + "|")
            continue
        elif cells[0] in results:
            cells = [*cells[:5], oracle(cells[0]), result_cell(cells[0], results[cells[0]])]
        else:
            lines.append(line)
            continue
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    benches = {name: Bench(name) for name in MACHINES}
    try:
        results = {rule: {n: benches[n].result(rule) for n in machines_of(rule)} for rule in rows(text)}
    finally:
        for bench in benches.values():
            bench.close()
    DOCUMENT.write_text(rendered(text, results), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
