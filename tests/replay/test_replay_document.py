"""The table of deviations in docs/replay.md is the one that replays use; this file, run as a script, writes it."""

from __future__ import annotations

from pathlib import Path

from test_replay_specs import FAULTING_IRET
from test_replay_zoo import KNOWN

from verifier.replay.deviations import DEVIATIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "replay.md"
HEAD = "| name | emulator | what the manual says | what it does | shown by |\n|---|---|---|---|---|\n"
#: What the runs of the shipped specifications bring out (see ``expected`` in test_replay_specs.py).
IN_SPECS = {
    "qemu": {"no-rf-in-fault-frames", "faulting-iret-keeps-nmis-blocked", "short-iret-truncates-rsp"},
    "bochs": {"short-iret-pops-three-items"},
}


def table() -> str:
    rows = []
    for d in DEVIATIONS:
        where = [name for name, known in (("specs", IN_SPECS), ("zoo", KNOWN)) if d.name in known[d.emulator]]
        rows.append(f"| `{d.name}` | {d.emulator} | {d.manual} | {d.does} | {', '.join(where)} |\n")
    return HEAD + "".join(rows)


def test_the_table_is_that_of_the_replays() -> None:
    assert table() + "\n" in DOCUMENT.read_text("utf-8")


def test_names_are_used_once_for_each_emulator() -> None:
    names = [(d.name, d.emulator) for d in DEVIATIONS]
    assert len(set(names)) == len(names)


def test_the_number_of_verdicts_that_need_bochs_is_right() -> None:
    counted = {1: "one", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}[len(FAULTING_IRET)]
    assert f"Of the refuted properties, {counted} rest on" in DOCUMENT.read_text("utf-8")


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text("utf-8").partition(HEAD)
    DOCUMENT.write_text(before + table() + rest[rest.index("\nShown by:") :], "utf-8")
