"""Every form of every user-mode instruction against two executors that were not written here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lift_native
import pytest
from lift_concrete import differences, run_undefined
from lift_decode import assemble, decode
from lift_forms import ALL, FAMILIES, STRAIGHT
from lift_native import Native
from lift_states import COUNT, states
from lift_unicorn import Unicorn

from verifier.lift import lift

if TYPE_CHECKING:
    from verifier.asm.program import Instruction

#: Where Unicorn leaves the manual, confirmed on a CPU: mnemonic -> cells not compared.
UNICORN_IS_WRONG = {
    "blsi": {"cf"},  # inverted
    "bextr": {"r9", "rdx", "zf"},  # takes a length above 31 (63) for that
    "bzhi": {"r9", "rdx", "zf", "sf"},  # takes an index above 31 (63) for that
    "cmpxchg": {"rax"},  # zero-extends EAX although it is not written when equal
    "sti": {"inhibit"},  # has no such state to show
}


@pytest.fixture(scope="module")
def emulator() -> Unicorn:
    return Unicorn()


@pytest.fixture(scope="module")
def native() -> Native:
    if not lift_native.available:
        pytest.skip("needs an x86-64 Linux")
    try:
        return Native()
    except OSError as error:
        pytest.skip(f"needs pages that are writable and executable: {error}")


def _ours(form: str) -> Instruction:
    return decode(assemble(tuple(ALL))[form], form)


@pytest.mark.parametrize("family", FAMILIES)
def test_unicorn_agrees(family: str, emulator: Unicorn) -> None:
    wrong = {}
    for instruction in map(_ours, FAMILIES[family]):
        block = lift(instruction)
        ignored = UNICORN_IS_WRONG.get(instruction.mnemonic, set())
        for before in states(instruction, count=max(1, COUNT // 2)):
            found = differences(run_undefined(block, before), emulator.run(instruction, before))
            if found.keys() - ignored:
                wrong[instruction.text] = (found, before.cells)
    assert not wrong


@pytest.mark.parametrize("family", STRAIGHT)
def test_this_cpu_agrees(family: str, native: Native) -> None:
    wrong = {}
    for instruction in filter(lift_native.can_run, map(_ours, STRAIGHT[family])):
        block = lift(instruction)
        for before in states(instruction, ring=3):
            ours = run_undefined(block, before)
            found = {} if ours.after.rip == "fault 0" else differences(ours, native.run(instruction, before))
            if found:
                wrong[instruction.text] = (found, before.cells)
    assert not wrong
