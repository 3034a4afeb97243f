"""Lines of assembly, read by hand for the encoder and assembled in one batch by GNU as."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from verifier.asm.encode import Form, RawImm, RawMem, RawReg, RawTarget, match
from verifier.asm.encode.raw import Raw

PREFIX_WORDS = frozenset(
    "lock rep repe repz repne repnz data16 notrack bnd cs ds es fs gs ss".split()  # noqa: SIM905
)
BRANCHES = re.compile(r"(jmp|callq?|loop\w*|j(?!mp)\w+)$")
#: Absolute symbols, set behind the code: unknown while an instruction is sized.
FORWARD = {"forward": 0x1234, "forward_small": 8, "forward_minus": -2}
_MEMORY = re.compile(r"(?:%(?P<seg>\w+):)?(?P<disp>[^()]*)(?:\((?P<inner>[^)]*)\))?$")


@dataclass(frozen=True)
class Line:
    """A line as the encoder sees it; ``values`` holds label names for what only addresses tell."""

    text: str
    prefixes: tuple[str, ...]
    mnemonic: str
    operands: tuple[Raw, ...]
    values: tuple[int | str | None, ...]
    indirect: bool

    def match(self) -> Form:
        return match(self.mnemonic, self.operands, indirect=self.indirect, prefixes=self.prefixes)

    def resolved(self, address: int, length: int, labels: dict[str, int]) -> tuple[int | None, ...]:
        """The values at an address; a number before ``(%rip)`` counts from the end of the instruction."""
        found = [labels[value] if isinstance(value, str) else value for value in self.values]
        for i, raw in enumerate(self.operands):
            if isinstance(raw, RawMem) and raw.base == "rip" and raw.disp is not None:
                found[i] = address + length + raw.disp
        return tuple(found)


def read_line(text: str) -> Line:
    words = text.split(maxsplit=1)
    prefixes: list[str] = []
    while words[0] in PREFIX_WORDS and len(words) > 1:
        prefixes.append(words[0])
        words = words[1].split(maxsplit=1)
    operands = re.split(r",(?![^(]*\))", words[1]) if len(words) > 1 else []
    read = [_operand(operand.strip().removeprefix("*"), words[0], "*" in operand) for operand in operands]
    return Line(
        text,
        tuple(prefixes),
        words[0],
        tuple(raw for raw, _ in read),
        tuple(value for _, value in read),
        any("*" in operand for operand in operands),
    )


def _operand(text: str, mnemonic: str, indirect: bool) -> tuple[Raw, int | str | None]:
    if text.startswith("$"):
        name = text[1:]
        if name[0].isalpha():
            return RawImm(None), FORWARD.get(name, name)
        return RawImm(int(name, 0)), int(name, 0)
    if text.startswith("%") and ":" not in text:
        return RawReg(text[1:]), None
    if BRANCHES.match(mnemonic) and not indirect and "(" not in text:
        return RawTarget(), text
    return _memory(text)


def _memory(text: str) -> tuple[Raw, int | str | None]:
    found = _MEMORY.match(text)
    assert found, text
    base, index, scale = ([part.strip() for part in (found["inner"] or "").split(",")] + ["", "", ""])[:3]
    disp = found["disp"]
    symbolic = bool(disp) and not re.match(r"-?\d", disp)
    value: int | str = FORWARD.get(disp, disp) if symbolic else int(disp or "0", 0)
    raw = RawMem(
        segment=found["seg"],
        base=base.removeprefix("%") or None,
        index=index.removeprefix("%") or None,
        scale=int(scale or "1"),
        disp=None if symbolic else int(disp or "0", 0),
        has_disp=bool(disp),
    )
    return raw, value


def run_as(lines: list[str]) -> tuple[dict[int, str], list[bytes], dict[str, int]]:
    """What GNU as makes of each line: its errors by line number, or (if none) all bytes and the labels.

    The labels ``start`` and ``end`` stand around the code.
    """
    source = ["start:"] + [f"i{n}: {line}" for n, line in enumerate(lines)] + ["end:", ".Lcode_end:"]
    source += [f".long i{n} - start" for n in range(len(lines))] + [".long end - start"]
    source += [f".set {name}, {value}" for name, value in FORWARD.items()]
    with tempfile.TemporaryDirectory() as folder:
        text, obj, code = (Path(folder, name) for name in ("t.s", "t.o", "t.bin"))
        text.write_text("\n".join(source) + "\n")
        done = subprocess.run(["as", "--64", "-o", obj, text], capture_output=True, text=True, check=False)
        errors = {int(n) - 2: what for n, what in re.findall(r":(\d+): Error: (.*)", done.stderr)}
        if errors:
            return errors, [], {}
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", obj, code], check=True)
        data = code.read_bytes()
    table = data[len(data) - 4 * (len(lines) + 1) :]
    offsets = [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), 4)]
    pieces = [data[a:b] for a, b in itertools.pairwise(offsets)]
    return {}, pieces, {"start": 0, "end": offsets[-1]}


def assemble(lines: list[str]) -> tuple[dict[int, tuple[bytes, int]], dict[str, int]]:
    """Bytes and offset of each line that GNU as takes, by its place in ``lines``; the labels of that program.

    A second pass finds what GNU as refuses only once all lines can be read: branches out of reach.
    """
    taken = list(range(len(lines)))
    errors, pieces, labels = run_as(lines)
    while errors:
        taken = [n for i, n in enumerate(taken) if i not in errors]
        errors, pieces, labels = run_as([lines[n] for n in taken])
    offsets = itertools.accumulate(map(len, pieces), initial=0)
    return dict(zip(taken, zip(pieces, offsets, strict=False), strict=True)), labels
