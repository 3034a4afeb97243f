"""Random contracts of hidden code, with all that a contract can say."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import yaml

from verifier.ir.cells import CELL_NAMES
from verifier.machine.config import Contract, Operand
from verifier.spec.document import Document, Value
from verifier.spec.lower import read_operand, read_truth, read_value
from verifier.spec.names import DataName, Names

if TYPE_CHECKING:
    import random

    from verifier.ir.formula import Formula

PLAIN = Contract(
    "hidden",
    ("rax", "rcx", "zf", "cf", "if"),
    ("page_fault", "general_protection", "debug", "double_fault"),
    16,
    ("flag",),
)
NAMES = Names(
    symbols={"start": 0xFFFF_FFFF_8100_0000},
    data={"flag": DataName(0x20, 1, percpu=True)},
    regions=("nmi_ist", "kstack", "percpu", "other"),
)
TRUTHS = (
    "df == 0", "rax & 1", "nmi_blocked == 0", "rsp s< rbx", "0(%rsp) != 5", "%gs:flag < 200", "not (rcx == 0 or zf)",
    "rdi == nmi_ist.base + 8 -> rsi", "rflags & 0x10", "ax s>= -5 and bl > 3", "rdi <= start", "1",
)  # fmt: skip
VALUES = (
    "rdi + 1", "other.top - 8", "0(%rsp)", "~rax * 3", "zf", "-rbx >> 4", "eax << 3", "dword 8(%rsp,%rcx,2)", "rcx",
    "rflags | 1", "nmi_blocked", "rax s<= rbx", "start", "(rsi ^ rdi) & 0xff0", "ah", "kstack.base",
)  # fmt: skip
OPERANDS = ("0(%rbx)", "byte %gs:flag", "dword -8(%rsp)", "word 3(%rbp)", "24(%rsp)", "%gs:(flag+3)(%rax)")


def _value(text: str) -> Value:
    node = yaml.compose(f"'{text}'")
    assert node is not None
    return Value(Document.of("contract", f"'{text}'"), node, "contract")


@cache
def _truth(text: str) -> Formula:
    return read_truth(_value(text), NAMES)


@cache
def _number(text: str) -> Formula:
    return read_value(_value(text), NAMES)


@cache
def _operand(text: str) -> tuple[Formula, int]:
    return read_operand(_value(text), NAMES)


def contract(source: random.Random) -> Contract:
    """Some are as plain as contracts were at first."""
    if source.random() < 0.3:
        return PLAIN
    gives = source.sample(("rax", "rdx", "zf", "cr2", "gs_base", "df", "fs"), source.choice((0, 0, 1, 2)))
    saves = [r for r in ("rcx", "rbx") if r not in gives and source.random() < 0.3]
    operands = [_operand(text) for text in source.sample(OPERANDS, source.choice((0, 0, 1, 2)))]
    changed = {*PLAIN.clobbers, *gives, *saves}
    return Contract(
        PLAIN.name,
        tuple(c for c in CELL_NAMES if c in changed),
        PLAIN.may_raise,
        source.choice((0, 16)),
        source.choice(((), ("flag",))),
        tuple(c for c in CELL_NAMES if c in saves),
        requires=tuple(_truth(text) for text in source.sample(TRUTHS, source.choice((0, 0, 0, 1, 2)))),
        gives=tuple((cell, _number(source.choice(VALUES))) for cell in gives),
        regions=source.choice(((), (), ("other",))),
        operands=tuple(Operand(address, source.choice((size, size, 13))) for address, size in operands),
        irets=source.random() < 0.5,
        returns=source.choice(("always", "maybe", "maybe", "never")),
        never=source.choice(((), (), (), ("nmi",), ("irq",))),
    )
