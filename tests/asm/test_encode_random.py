"""Random operands under every mnemonic: nothing that GNU as refuses is taken, nothing taken differs."""

from __future__ import annotations

from random import Random

import pytest
from encode_lines import BRANCHES, assemble, read_line

from verifier.asm.encode import EncodeError, mnemonics

REGISTERS = (
    "%al", "%ah", "%cl", "%sil", "%r9b", "%ax", "%cx", "%dx", "%r10w", "%eax", "%ecx", "%edx", "%r12d",
    "%rax", "%rcx", "%rdx", "%rsp", "%r13", "%es", "%cs", "%ss", "%fs", "%gs", "%cr0", "%cr3", "%cr8",
    "%dr7", "%foo",
)  # fmt: skip
MEMORY = (
    "(%rax)", "(%rsi)", "%ds:(%rsi)", "(%rdi)", "%es:(%rdi)", "%gs:8(%r12,%rax,2)", "(%eax)", "5(%rip)",
    "(%rip)", "end(%rip)", "%gs:forward", "forward(%rax)", "0x1234", "0x1122334455667788", "(%dx)",
    "(%rax,%rsp)", "(,%rip,1)", "128(%rbp)", "(%ax)", "(%rax,%ebx)",
)  # fmt: skip
IMMEDIATES = (
    "$0", "$1", "$3", "$-1", "$127", "$128", "$255", "$256", "$-129", "$0x7fff", "$0xffff", "$0x10000",
    "$0x7fffffff", "$0x80000000", "$0xffffffff", "$-0x80000001", "$0x100000000", "$0x7fffffffffffffff",
    "$0xffffffffffffffff", "$forward", "$forward_small",
)  # fmt: skip
PREFIXES = ("lock", "rep", "repne", "repz", "notrack", "bnd", "data16", "cs")
COUNT = 6000
#: Where no short branch reaches a label.
FAR = 1 << 20


def _line(random: Random, names: list[str]) -> str:
    name = random.choice(names)
    prefix = random.choice(PREFIXES) + " " if random.random() < 0.1 else ""
    if BRANCHES.match(name) or name.startswith(("jmp", "call", "ljmp", "lcall")):
        operand = random.choice(("start", "end", "*" + random.choice(MEMORY), "*" + random.choice(REGISTERS)))
        return f"{prefix}{name} {operand}"
    pools = random.choices(
        (REGISTERS, MEMORY, IMMEDIATES), (5, 3, 2), k=random.choice((0, 1, 1, 2, 2, 2, 2, 3))
    )
    return f"{prefix}{name} {', '.join(random.choice(pool) for pool in pools)}".strip()


@pytest.mark.parametrize("seed", range(4))
def test_random_lines(seed: int) -> None:
    random = Random(seed)
    names = sorted(mnemonics())
    lines = [_line(random, names) for _ in range(COUNT)]
    assembled, labels = assemble(lines)
    same = 0
    for n, text in enumerate(lines):
        line = read_line(text)
        code, offset = assembled.get(n, (b"", FAR))
        try:
            form = line.match()
            size = len(code) or form.sizes[-1]
            ours = form.encode(line.resolved(offset, size, labels), offset, size)
        except EncodeError:
            continue
        assert ours == code, text
        same += 1
    assert same > COUNT // 50
