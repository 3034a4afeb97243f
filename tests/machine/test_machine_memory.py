"""Memory, by byte: accesses of every size at every offset from a word, hidden code, and what regions hold at the start."""

from __future__ import annotations

import pytest
from machine_case import MIDDLE, Case

WORDS = (0x0706_0504_0302_0100, 0x1716_1514_1312_1110, 0x2726_2524_2322_2120)
VALUE = 0xA7A6_A5A4_A3A2_A1A0
BYTES = b"".join(w.to_bytes(8, "little") for w in WORDS)
SIZES = [("al", 1), ("ax", 2), ("eax", 4), ("rax", 8)]


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize(("register", "size"), SIZES)
def test_a_store_changes_its_bytes_and_no_others(register, size, offset):
    after = Case(f"mov %{register}, {offset}(%rsp)", words=WORDS).one(rax=VALUE)
    found = b"".join(after.word(MIDDLE + 8 * i).to_bytes(8, "little") for i in range(len(WORDS)))
    assert found == BYTES[:offset] + VALUE.to_bytes(8, "little")[:size] + BYTES[offset + size :]


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize(("register", "size"), SIZES)
def test_a_load_reads_its_bytes(register, size, offset):
    after = Case(f"mov {offset}(%rsp), %{register}", words=WORDS).one(rax=0)
    assert after.rax == int.from_bytes(BYTES[offset : offset + size], "little")
