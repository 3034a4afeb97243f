"""Every form of the encoder against GNU as (bytes) and a decoder (mnemonic, operands, values)."""

from __future__ import annotations

from functools import cache

import pytest
from decoder import differences
from encode_forms import all_lines
from encode_lines import Line, assemble, read_line, run_as

from verifier.asm.encode import EncodeError, Form, RawImm, RawReg
from verifier.asm.encode.rows import CANDIDATES


@cache
def _assembled() -> tuple[dict[str, tuple[bytes, int]], dict[str, int]]:
    """Each line that GNU as takes, with its bytes and offset."""
    lines = [line for lines in all_lines().values() for line in lines]
    assembled, labels = assemble(lines)
    return {lines[n]: found for n, found in assembled.items()}, labels


def _encoded(line: Line, offset: int, length: int, labels: dict[str, int]) -> tuple[Form, bytes]:
    form = line.match()
    size = length if length in form.sizes else form.sizes[-1]
    return form, form.encode(line.resolved(offset, size, labels), offset, size)


@pytest.mark.parametrize("mnemonic", sorted(all_lines()))
def test_bytes_are_those_of_gnu_as(mnemonic: str) -> None:
    assembled, labels = _assembled()
    for text in all_lines()[mnemonic]:
        line = read_line(text)
        if text in assembled and not _stricter(line):
            code, offset = assembled[text]
            assert _encoded(line, offset, len(code), labels)[1] == code, text
        else:
            with pytest.raises(EncodeError):
                pytest.fail(f"{text}: {_encoded(line, 0x10000, 0, labels)[1].hex()}")


def _stricter(line: Line) -> bool:
    """Refused though GNU as takes it: a load of CS (always #UD), an immediate whose size is only assumed."""
    if line.mnemonic.startswith("mov") and line.text.endswith("%cs"):
        return True
    unsized = CANDIDATES[line.mnemonic][0].size is None and not any(
        isinstance(raw, RawReg) for raw in line.operands
    )
    values = [raw.value or 0 for raw in line.operands if isinstance(raw, RawImm)]
    return unsized and any(1 << 31 <= value < 1 << 32 for value in values)


@pytest.mark.parametrize("mnemonic", sorted(all_lines()))
def test_operands_are_those_of_a_decoder(mnemonic: str) -> None:
    assembled, labels = _assembled()
    for text in all_lines()[mnemonic]:
        line = read_line(text)
        if text not in assembled or _stricter(line):
            continue
        code, offset = assembled[text]
        form = line.match()
        operands = form.operands(line.resolved(offset, len(code), labels))
        assert differences(form, operands, code, offset) == [], text


RELAXABLE = ("jmp", "je", "jnz", "jle", "js")


@pytest.mark.parametrize("mnemonic", RELAXABLE)
@pytest.mark.parametrize("padding", [0, 100, 125, 126, 127, 128, 129, 1000])
def test_short_and_near_branches(mnemonic: str, padding: int) -> None:
    lines = [f"{mnemonic} end", *["nop"] * padding, f"{mnemonic} start"]
    _, pieces, labels = run_as(lines)
    for text, code, offset in (
        (lines[0], pieces[0], 0),
        (lines[-1], pieces[-1], labels["end"] - len(pieces[-1])),
    ):
        line = read_line(text)
        form = line.match()
        assert form.sizes == ((2, 5) if mnemonic == "jmp" else (2, 6))
        assert form.encode(line.resolved(offset, len(code), labels), offset, len(code)) == code


PREFIXED = (
    "rep ret", "repz retq", "rep nop", "repe nop", "bnd jmp start", "bnd ret", "bnd call start",
    "notrack jmp *%rax", "notrack call *(%rax)", "cs nopw 0(%rax,%rax,1)", "data16 nop", "ds nop",
    "cs jmp *%r11", "cs call *%rax", "ds call *%r8", "cs ret", "cs call start", "cs jmp start", "cs jne start",
    "gs nop", "lock xchg (%rax), %eax", "lock xchgb %al, (%rax)", "lock cmpxchg16b %gs:(%rax)",
    "lock cmpxchg8b 8(%r15)", "repe cmpsb", "repz scasw", "repnz scasb", "rep movsw", "rep stosq",
    "lock addw $1, %gs:8(%r9d)", "lock btsl $3, (%rdi)", "lock decq 8(%rax)", "nopw %cs:0(%rax,%rax,1)",
    "data16 cs nop", "cs data16 nop", "data16 nopl %cs:(%eax)",
    "bnd notrack jmp *%rax", "bnd jmp *%gs:(%rax)",
    "lock incw %gs:(%eax)",
)  # fmt: skip


def test_prefixes_are_those_of_gnu_as() -> None:
    errors, pieces, labels = run_as(list(PREFIXED))
    assert not errors
    offset = 0
    for text, code in zip(PREFIXED, pieces, strict=True):
        assert _encoded(read_line(text), offset, len(code), labels)[1] == code, text
        offset += len(code)


@pytest.mark.parametrize(
    ("text", "mnemonic", "prefixes"),
    [
        ("rep movsq", "movs", ("rep",)),
        ("repz cmpsb", "cmps", ("rep",)),
        ("repnz scasb", "scas", ("repne",)),
        ("lock decl (%rax)", "dec", ("lock",)),
        ("rep ret", "ret", ()),
        ("rep nop", "pause", ()),
        ("notrack jmp *%rax", "jmp", ()),
        ("movabs $1, %rax", "mov", ()),
        ("xchg %rax, %rax", "nop", ()),
        ("xchg %eax, %eax", "xchg", ()),
        ("sal $1, %eax", "shl", ()),
        ("int $3", "int3", ()),
        ("cqto", "cqo", ()),
    ],
)
def test_canonical_names(text: str, mnemonic: str, prefixes: tuple[str, ...]) -> None:
    form = read_line(text).match()
    assert (form.mnemonic, form.prefixes) == (mnemonic, prefixes)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("iret", 32),
        ("lret", 32),
        ("sysret", 32),
        ("movs", 32),
        ("mov $1, (%rax)", 32),
        ("bt $9, 16(%rsp)", 32),
    ],
)
def test_an_assumed_size_is_told(text: str, width: int) -> None:
    form = read_line(text).match()
    assert form.width == width
    assert form.warning is not None
    assert f"{width} bits" in form.warning


@pytest.mark.parametrize("text", ["iretq", "push $1", "call start", "mov %cs, (%rax)", "ret", "sete (%rax)"])
def test_a_told_size_needs_no_warning(text: str) -> None:
    assert read_line(text).match().warning is None
