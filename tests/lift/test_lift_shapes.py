"""No form of the encoder's table is left out: each supported one is run somewhere, or refused on purpose."""

from __future__ import annotations

from random import Random

import pytest
from lift_shapes import Form, form_of, forms, line
from lift_worlds import CPU, QEMU, TRANSFERS, is_refused, worlds

from verifier.asm.encode.kinds import Kind, accepts
from verifier.asm.encode.raw import Raw, RawImm, RawMem, RawReg, RawTarget
from verifier.asm.encode.registers import GENERAL, POINTER, REGISTERS
from verifier.asm.encode.rows import CANDIDATES, Row
from verifier.errors import LiftError
from verifier.lift import lift, supported

#: Operands of every sort; what a kind accepts of them is asked of the encoder.
_SAMPLES: dict[str, list[Raw]] = {
    "r": [RawReg(name) for name, register in REGISTERS.items() if register.file == GENERAL],
    "m": [RawMem(None, base, None, 1, 0, True) for base in ("rbx", "rsi", "rdi", None)],
    "i": [RawImm(value) for value in (0, 1, 3)],
    "j": [RawTarget()],
    **{r.name: [RawReg(name)] for name, r in REGISTERS.items() if r.file not in (GENERAL, POINTER)},
}


def _rows() -> list[Row]:
    rows = {candidate.row for candidates in CANDIDATES.values() for candidate in candidates}
    return sorted((row for row in rows if row.mnemonic in supported()), key=str)


def _accepted(kind: Kind, size: int) -> set[str]:
    return {sort for sort, samples in _SAMPLES.items() if any(accepts(kind, raw, size) for raw in samples)}


def test_every_operand_of_every_row_has_a_form() -> None:
    ways = {(way.row, way.size, way.sorts) for found in forms().values() for way in found}
    seen: dict[tuple[Row, int, int], set[str]] = {}
    for row, size, sorts in ways:
        for place, sort in enumerate(sorts, start=row.has("one")):
            seen.setdefault((row, size, place), set()).add(sort)
    for row in _rows():
        for size in row.sizes or (0,):
            written = range(row.has("one"), len(row.kinds) - row.has("twice"))
            for place in written:
                assert seen[row, size, place] == _accepted(row.kinds[place], size), (row, size, place)
            assert row.kinds or (row, size, ()) in ways


def test_every_mnemonic_has_a_form() -> None:
    assert supported() - {form.mnemonic for form in forms()} == {"hole_enter", "hole_body"}


def test_every_prefix_has_a_form() -> None:
    assert {form.prefix for form in forms()} == {"", "lock", "rep", "repne"}
    assert all(any(form.prefix == "lock" and form.mnemonic == r.mnemonic for form in forms())
               for r in _rows() if r.has("lock") and any(k.memory for k in r.kinds))  # fmt: skip


def test_every_form_is_run_or_refused() -> None:
    left = {form.mnemonic for form in forms() if not worlds(form) and not is_refused(form)}
    assert left == TRANSFERS


def test_this_cpu_runs_most() -> None:
    """QEMU alone is asked only where a process gets no answer of the CPU's own."""
    assert {form.mnemonic for form in forms() if worlds(form) == (QEMU,)} == {"smsw", "sldt", "str", "rdpmc"}
    assert all(CPU in worlds(form) for form in forms() if worlds(form) and form.mnemonic == "mov")


@pytest.mark.parametrize("form", [form for form in forms() if is_refused(form)], ids=str)
def test_refused(form: Form) -> None:
    for number in range(8):
        instruction = line(form, Random(number), number)
        assert instruction is not None
        assert form_of(instruction) == form
        with pytest.raises(LiftError):
            lift(instruction)
