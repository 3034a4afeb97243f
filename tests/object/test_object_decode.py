"""Bytes that GNU as does not write: other encodings of the same, and what is not read."""

from __future__ import annotations

import pytest
from object_build import difference

from verifier.asm import assemble_text
from verifier.object.decode import Undecodable, decode

HIGH = 0xFFFF_FFFF_8100_0000

#: Bytes, and the same in words: no other length, so that addresses are the same.
OTHER_ENCODINGS = [
    ("87 c3", "xchg %eax, %ebx"),
    ("48 87 d9", "xchg %rbx, %rcx"),
    ("48 87 cb", "xchg %rbx, %rcx"),
    ("84 c8", "test %al, %cl"),
    ("84 c1", "test %al, %cl"),
    ("ff f3", "push %rbx"),
    ("8f c0", "pop %rax"),
    ("d0 f2", "shl $1, %dl"),
    ("c7 c3 35 f3 66 67", "mov $0x6766f335, %ebx"),
    ("8b c3", "mov %ebx, %eax"),
    ("89 d8", "mov %ebx, %eax"),
    ("48 81 c0 01 00 00 00", "add $1, %rax"),
    ("0f 85 00 00 00 00", "jne 1f; 1:"),
    ("67 e8 00 00 00 00", "call 1f; 1:"),
]


@pytest.mark.parametrize(("code", "text"), OTHER_ENCODINGS)
def test_other_encodings_mean_the_same(code: str, text: str) -> None:
    found = decode(bytes.fromhex(code), HIGH)
    meant = next(iter(assemble_text(f"{text}\n")))
    assert found.encoding == bytes.fromhex(code)
    if found.mnemonic in ("jcc", "call"):
        assert found.operands[0].address == HIGH + len(found.encoding)  # type: ignore[union-attr]
        return
    moved = difference(found, meant)
    assert moved == "" or moved.endswith(": encoding")
    assert (found.mnemonic, found.width, set(found.operands)) == (meant.mnemonic, meant.width, set(meant.operands))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("3e 39 0f", "not supported in this encoding"),
        ("66 e9 00 00 00 00", "AMD's processors differ"),
        ("66 0f 85 00 00 00 00", "AMD's processors differ"),
        ("66 c3", "AMD's processors differ"),
        ("66 ff e0", "AMD's processors differ"),
        ("06", "no instruction"),
        ("0f ff", "no instruction|not supported"),
        ("c5 f8 28 c1", "not supported"),
        ("62 f1 7c 48 28 c1", "not supported"),
        ("f0 90", "no instruction"),
    ],
)
def test_what_is_not_read(code: str, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(bytes.fromhex(code), HIGH)
