"""Symbols that only the linker places: what fits a field, and the bytes, against GNU as and ld."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from encode_lines import read_line

from verifier.asm.encode import EncodeError
from verifier.asm.program import TEXT_BASE

LINES = (
    "movl $sym, %eax", "mov $sym, %rax", "movabs $sym, %rax", "movw $sym, %ax", "movb $sym, %al",
    "add $sym, %rax", "addl $sym, %ecx", "cmpq $sym, (%rax)", "push $sym", "imul $sym, %rbx, %rcx",
    "mov sym(%rax), %eax", "mov sym, %eax", "mov %gs:sym, %rax", "lea sym(,%rax,8), %rcx",
    "mov sym(%eax), %ecx",
    "mov sym(%rip), %rax", "movb $1, sym(%rip)", "movl $5, %gs:sym(%rip)", "movabs %al, sym",
    "jmp sym", "call sym", "jne sym", "jmp *sym(%rip)", "ret $sym", "int $sym", "shl $sym, %eax",
)  # fmt: skip
VALUES = (
    0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32,
    TEXT_BASE, TEXT_BASE + 0x12345, TEXT_BASE - 0x80000000, 0xFFFFFFFF80000000, 0xFFFFFFFF7FFFFFFF, 1 << 63,
)  # fmt: skip


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr


@cache
def _object() -> tuple[bytes, tuple[int, ...]]:
    """The unlinked object, and the offset of each line and of the end."""
    source = [f"i{n}: {line}" for n, line in enumerate(LINES)] + ["end:"]
    source += [f".long i{n} - i0" for n in range(len(LINES))] + [".long end - i0"]
    with TemporaryDirectory() as folder:
        text, obj, code = (Path(folder, name) for name in ("t.s", "t.o", "t.bin"))
        text.write_text("\n".join(source) + "\n")
        assert _run("as", "--64", "-o", obj, text) == ""
        assert _run("objcopy", "-O", "binary", "-j", ".text", obj, code) == ""
        data = code.read_bytes()[-4 * len(LINES) - 4 :]
        offsets = tuple(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))
        return obj.read_bytes(), offsets


def _linked(value: int) -> dict[str, bytes | None]:
    """The bytes of each line with the symbol at ``value``; None where ld says that it does not fit."""
    unlinked, offsets = _object()
    with TemporaryDirectory() as folder:
        obj, linked, code = (Path(folder, name) for name in ("t.o", "t", "t.bin"))
        obj.write_bytes(unlinked)
        options = ("-ei0", "--no-relax", "--noinhibit-exec", "--verbose")  # verbose: ld names every overflow
        layout = (f"-Ttext={TEXT_BASE:#x}", f"--defsym=sym={value:#x}")
        messages = _run("ld", *options, *layout, "-o", linked, obj)
        assert _run("objcopy", "-O", "binary", "-j", ".text", linked, code) == ""
        data = code.read_bytes()
    wrong = [
        int(offset, 16) for offset in re.findall(r"\.text\+(0x[0-9a-f]+)\): relocation truncated", messages)
    ]
    assert "additional relocation overflows" not in messages
    return {
        line: None if any(start <= offset < end for offset in wrong) else data[start:end]
        for line, start, end in zip(LINES, offsets, offsets[1:], strict=False)
    }


@pytest.mark.parametrize("value", VALUES, ids=hex)
def test_values_fit_where_the_linker_says_so(value: int) -> None:
    expected = _linked(value)
    for text, start in zip(LINES, _object()[1], strict=False):
        line = read_line(text)
        form = line.match()
        address, size = TEXT_BASE + start, form.sizes[-1]
        values = tuple(value if given == "sym" else given for given in line.values)
        if expected[text] is None:
            with pytest.raises(EncodeError):
                pytest.fail(f"{text}: {form.encode(values, address, size).hex()}")
        else:
            assert form.encode(values, address, size) == expected[text], text
