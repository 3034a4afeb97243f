"""The table of docs/instructions.md has a row for every mnemonic, with the forms and oracles of today, fully run."""

from __future__ import annotations

import lift_table
import pytest
from lift_worlds import TRANSFERS


def test_the_rows_are_those_of_today() -> None:
    text = lift_table.DOCUMENT.read_text("utf-8")
    assert lift_table.rewrite(lift_table.committed()) == text, "run: python tests/lift/lift_table.py"


@pytest.mark.parametrize("mnemonic", [m for m in lift_table.mnemonics() if m not in TRANSFERS])
def test_every_form_was_run_at_full_size(mnemonic: str) -> None:
    assert lift_table.committed()[mnemonic] == lift_table.expected(mnemonic), "run it: lift_table.py --run"
