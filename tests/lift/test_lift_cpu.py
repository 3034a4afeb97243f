"""Every form of every supported instruction, from random and edge states, against this CPU, QEMU and Unicorn.

Set VERIFIER_FULL=1 for 1,000 states per form; docs/instructions.md has the figures.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import lift_native
import lift_qemu
import lift_table
import pytest
from lift_compare import compare
from lift_native import Native
from lift_qemu import Qemu
from lift_shapes import forms
from lift_unicorn import Unicorn
from lift_worlds import CPU, QEMU, UNICORN, in_unicorn, worlds

if TYPE_CHECKING:
    from lift_cases import World
    from lift_shapes import Form

FULL = os.environ.get("VERIFIER_FULL") == "1"
#: Groups of states that share a line and its addresses, and states in each.
SIZE = lift_table.FULL if FULL else (6, 5)
UNICORN_SIZE = lift_table.UNICORN_FULL if FULL else (3, 2)
PARTS = 6
#: What a CPU may lack and neither emulator has; all but the reads of the first two are unknown values.
NATIVE_ALONE = {"clflushopt", "clwb", "rdpid", "rdrand", "rdseed"}


def _mnemonics(world: World) -> list[str]:
    return sorted({form.mnemonic for form in forms() if world in worlds(form)})


def _forms(world: World, mnemonics: list[str]) -> list[Form]:
    return [form for form in forms() if form.mnemonic in mnemonics and world in worlds(form)]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Native:
    if not lift_native.available:
        pytest.skip("needs an x86-64 Linux")
    return Native(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Qemu:
    if not lift_qemu.available:
        pytest.skip("needs qemu-system-x86_64 (package qemu-system-x86)")
    return Qemu(tmp_path_factory.mktemp("qemu"))


@pytest.mark.parametrize("mnemonic", [m for m in _mnemonics(CPU) if lift_native.has(m)])
def test_this_cpu_agrees(mnemonic: str, native: Native) -> None:
    assert not compare(_forms(CPU, [mnemonic]), CPU, native, *SIZE).wrong


def test_what_this_cpu_lacks_has_another_oracle() -> None:
    lacking = {m for m in _mnemonics(CPU) if not lift_native.has(m)}
    elsewhere = {*_mnemonics(QEMU), *(form.mnemonic for form in forms() if in_unicorn(form))}
    assert lacking <= elsewhere | NATIVE_ALONE


@pytest.mark.parametrize("part", range(PARTS))
def test_qemu_agrees(part: int, qemu: Qemu) -> None:
    assert not compare(_forms(QEMU, _mnemonics(QEMU)[part::PARTS]), QEMU, qemu, *SIZE).wrong


@pytest.mark.parametrize("part", range(PARTS))
def test_unicorn_agrees(part: int) -> None:
    chosen = [form for form in forms() if in_unicorn(form)][part::PARTS]
    assert not compare(chosen, UNICORN, Unicorn(), *UNICORN_SIZE).wrong
