"""Bytes that assemblers, linkers and patching leave in entry code: prefixes that pad, and what ends each."""

from __future__ import annotations

import pytest

from verifier.lift import lift
from verifier.object.decode import decode

AT = 0xFFFF_FFFF_8100_0000
PADDED = {
    "66662e0f1f840000000000": ("nop", "next"),
    "662e0f1f840000000000": ("nop", "next"),
    "6666666666662e0f1f840000000000": ("nop", "next"),
    "666690": ("nop", "next"),
    "2e0f1f840000000000": ("nop", "next"),
    "660f1f4000": ("nop", "next"),
    "2eeb10": ("jmp", "jump"),
    "2ee910000000": ("jmp", "jump"),
    "2ee810000000": ("call", "jump"),
    "3ee810000000": ("call", "jump"),
    "40e910000000": ("jmp", "jump"),
    "2e41ffe3": ("jmp", "jump_indirect"),
    "3effe0": ("jmp", "jump_indirect"),
    "2effd0": ("call", "jump_indirect"),
    "2ec3": ("ret", "jump_indirect"),
    "f3c3": ("ret", "jump_indirect"),
    "f390": ("pause", "next"),
    "f30f1efa": ("endbr64", "next"),
    "0f01ca": ("clac", "next"),
    "f3480faedb": ("wrgsbase", "next"),
    "f30fc7f8": ("rdpid", "next"),
    "0f03c0": ("lsl", "next"),
    "0f002c24": ("verw", "next"),
    "0f0b": ("ud2", "exception"),
    "0fb9c0": ("ud1", "exception"),
    "cc": ("int3", "interrupt"),
    "48cf": ("iret", "iret"),
    "480f07": ("sysret", "sysret"),
}


@pytest.mark.parametrize("data", PADDED)
def test_what_it_is_and_what_it_ends_in(data: str) -> None:
    instruction = decode(bytes.fromhex(data) + b"\x90" * 16, AT)
    assert instruction.length == len(data) // 2
    assert (instruction.mnemonic, lift(instruction).terminator.opcode) == PADDED[data]
