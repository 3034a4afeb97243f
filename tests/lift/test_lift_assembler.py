"""The assembler's `Instruction` of a form and the decoder's mean the same."""

from __future__ import annotations

from itertools import count

import pytest
from lift_decode import CODE, assemble, decode
from lift_forms import ALL, FAMILIES

from verifier.asm import Instruction, assemble_text
from verifier.asm.encode.rows import CANDIDATES
from verifier.ir import Block, check_block
from verifier.lift import lift, supported

#: Operands that the assembler takes for no string instruction: lifted from the decoder's reading only.
OTHER_STRING_OPERANDS = ("%fs:(%rsi), %es:(%rdi)", "(%esi), %es:(%edi)")


def _assembled(form: str) -> Instruction:
    return next(iter(assemble_text(f"{form}\n", text_base=CODE)))


def _meaning(block: Block) -> object:
    return block.operations, block.terminator


def test_same_meaning() -> None:
    for form in ALL:
        if form.endswith(OTHER_STRING_OPERANDS) or form.startswith("xchg"):
            continue  # the operands of xchg stand in either order
        theirs = lift(decode(assemble(tuple(ALL))[form], form))
        assert _meaning(lift(_assembled(form))) == _meaning(theirs), form


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_well_formed(family: str) -> None:
    for form in FAMILIES[family]:
        block = lift(decode(assemble(tuple(ALL))[form], form))
        check_block(block)
        results = [o.result.index for o in block if o.result is not None]
        assert results == [n for n, _ in zip(count(), results, strict=False)]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_computed_for_nothing(family: str) -> None:
    for form in FAMILIES[family]:
        block = lift(decode(assemble(tuple(ALL))[form], form))
        used = {a for o in (*block, block.terminator) for a in o.args}
        idle = [o for o in block if o.result is not None and o.result not in used and o.opcode != "load"]
        assert not idle, (form, idle)


#: What the assembler takes and the lifter refuses.
REFUSED = """ins outs int1 invd lcall ljmp lgdt lidt lldt lmsw ltr monitor mwait pdep pext rdpkru sgdt sidt
sysenter sysexit vmcall vmmcall wrpkru xgetbv xsetbv"""


def test_every_mnemonic_is_lifted_or_refused_on_purpose() -> None:
    known = {candidate.row.mnemonic for rows in CANDIDATES.values() for candidate in rows}
    assert known - supported() == set(REFUSED.split())
