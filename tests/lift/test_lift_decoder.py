"""What each block reads, writes and leaves undefined, against iced-x86's tables and the manual's."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import iced_x86 as iced
import pytest
from lift_cases import states_for
from lift_concrete import run_undefined
from lift_decode import CODE, assemble, decode, register
from lift_forms import ALL, FAMILIES
from lift_undefined import masked_count, undefined_flags
from lift_worlds import UNICORN

from verifier.asm.program import GENERAL_REGISTERS, Imm, Instruction, Reg
from verifier.ir.cells import STATUS_FLAGS
from verifier.lift import lift

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lift_concrete import State

    from verifier.ir.ops import Block

_FLAG_BITS = {
    name: getattr(iced.RflagsBits, name.upper()) for name in (*STATUS_FLAGS, "df", "if", "ac")
}
_INFO = iced.InstructionInfoFactory()
_ACCESS = iced.OpAccess
_CONDITIONAL = frozenset((_ACCESS.COND_WRITE, _ACCESS.READ_COND_WRITE))
_READS = frozenset((_ACCESS.READ, _ACCESS.COND_READ, _ACCESS.READ_WRITE, _ACCESS.READ_COND_WRITE))
_WRITES = frozenset((_ACCESS.WRITE, _ACCESS.READ_WRITE)) | _CONDITIONAL
#: Always faults: the quotient cannot fit.
NEVER_COMPLETES = "divb %ah"


def _flags(bits: int) -> set[str]:
    return {name for name, bit in _FLAG_BITS.items() if bits & bit}


def _ours(form: str) -> Instruction:
    return decode(assemble(tuple(ALL))[form], form)


def _states(instruction: Instruction) -> list[State]:
    source, block, found = Random(instruction.text), lift(instruction), []
    while len(found) < 12:
        found += states_for(instruction, block, UNICORN, 3, source)
    return found


def _theirs(form: str) -> iced.Instruction:
    return next(iter(iced.Decoder(64, assemble(tuple(ALL))[form], ip=CODE)))


@pytest.mark.parametrize("family", FAMILIES)
def test_undefined_flags_are_the_manuals(family: str) -> None:
    wrong = {}
    for instruction in map(_ours, FAMILIES[family]):
        block = lift(instruction)
        outcomes = [run_undefined(block, before) for before in _states(instruction)]
        seen = {cell for o in outcomes for cell in o.undefined if cell in STATUS_FLAGS}
        if seen != undefined_flags(instruction) and instruction.text != NEVER_COMPLETES:
            wrong[instruction.text] = seen
    assert not wrong


def _unlisted(i: Instruction) -> set[str]:
    """What the manual leaves undefined and iced-x86 does not list."""
    if i.mnemonic in ("shl", "shr") and masked_count(i) >= i.width:
        return {"cf"}
    if i.mnemonic in ("shld", "shrd") and masked_count(i) > i.width:
        return {"cf", "sf", "zf", "pf"}
    return {"of"} if _is_full_turn(i) else set()


def _is_full_turn(i: Instruction) -> bool:
    """To iced-x86 a full turn through carry is no rotation; to the manual only a masked count of 0."""
    return i.mnemonic in ("rcl", "rcr") and isinstance(i.operands[0], Imm) and masked_count(i) == i.width + 1


def test_undefined_flags_are_the_decoders() -> None:
    for form in ALL:
        instruction = _ours(form)
        differing = undefined_flags(instruction) ^ _flags(_theirs(form).rflags_undefined)
        assert differing == _unlisted(instruction), form


def _cells(block: Block, opcode: str, among: Iterable[str]) -> set[str]:
    return {str(o.attr) for o in block if o.opcode == opcode} & set(among)


def test_flags_read_and_written() -> None:
    """More than the decoder says is read only where a flag stays as it was under a condition."""
    for form in ALL:
        instruction, theirs = _ours(form), _theirs(form)
        block = lift(instruction)
        expected = _flags(theirs.rflags_modified)
        if _is_full_turn(instruction):
            expected |= {"cf", "of"}
        assert _cells(block, "put", _FLAG_BITS) == expected, form
        read = _cells(block, "get", _FLAG_BITS)
        beyond = read - _flags(theirs.rflags_read)
        assert _flags(theirs.rflags_read) <= read, form
        assert not beyond or "%cl" in form or instruction.mnemonic in ("popf", "sti", "rcl", "rcr"), form
        assert beyond <= expected | {"cf"}, form


def _registers(form: str, accesses: frozenset[int]) -> set[str]:
    used = _INFO.info(_theirs(form)).used_registers()
    return {register(u.register).name for u in used if u.access in accesses} & set(GENERAL_REGISTERS)


def _kept_in_part(form: str) -> set[str]:
    """Registers that are written in part, or under a condition: the rest of them is read."""
    used = [u for u in _INFO.info(_theirs(form)).used_registers() if u.access in _WRITES]
    parts = [(register(u.register), u.access in _CONDITIONAL) for u in used]
    return {part.name for part, conditional in parts if conditional or part.width < 32}


def _cancels(i: Instruction) -> bool:
    """A register against itself: the result does not depend on it."""
    if i.mnemonic == "cmpxchg":
        return i.operands[-1] == Reg("rax", i.width)
    return i.mnemonic in ("cmp", "sbb") and i.operands[-1] == i.operands[0]


def test_registers_read_and_written() -> None:
    for form in ALL:
        instruction = _ours(form)
        block = lift(instruction)
        assert _cells(block, "put", GENERAL_REGISTERS) == _registers(form, _WRITES), form
        read = _cells(block, "get", GENERAL_REGISTERS)
        expected = set() if form.startswith("prefetch") else _registers(form, _READS)
        assert read <= expected | _kept_in_part(form), form
        assert expected <= read or _cancels(instruction), form
