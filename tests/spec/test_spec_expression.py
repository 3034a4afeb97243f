"""The expression language: what text means, and what is refused where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_project import SPEC, Project

from verifier.asm.program import GENERAL_REGISTERS
from verifier.errors import SpecError
from verifier.ir.cells import FLAGS
from verifier.source import Span
from verifier.spec import Names, parse_expression
from verifier.spec.expression import (
    AtRest,
    Binary,
    CellRef,
    Count,
    Expression,
    Handled,
    Intact,
    MemoryRef,
    Number,
    Progress,
    RegionRef,
    Restored,
    Resumed,
    Unary,
    Unreachable,
)
from verifier.spec.names import GENERAL_BUT_RSP, STATE, DataName

NMI = 0xFFFF_FFFF_8100_0000
FLAG = 0xFFFF_FFFF_9100_0000
NAMES = Names(
    symbols={"nmi": NMI, "exit": NMI + 16, "some_flag": FLAG, "nesting": 0, "ptr": 8, "al": 5, "id": 6},
    code={"nmi": NMI, "exit": NMI + 16},
    data={
        "nesting": DataName(0, 1, True),
        "ptr": DataName(8, 8, True),
        "block": DataName(16, 24, True),
        "some_flag": DataName(FLAG, 4, False),
    },
    regions=("nmi_ist", "percpu"),
    events=("nmi", "irq"),
)
RAX, RBX, RCX = (CellRef(r, 0, 64) for r in ("rax", "rbx", "rcx"))
ZF = CellRef("zf", 0, 1)
PTR = MemoryRef("gs", None, None, 1, 8, 64)
NESTING = MemoryRef("gs", None, None, 1, 0, 8)
DATUM = MemoryRef(None, None, None, 1, FLAG - (1 << 64), 32)


def parse(text: str) -> Expression:
    return parse_expression(text, NAMES, Span("spec.yaml", 7, 3, 4, "  " + text))


MEANINGS: dict[str, Expression] = {
    "rax": RAX,
    "%rax": RAX,
    "eax": CellRef("rax", 0, 32),
    "%al": CellRef("rax", 0, 8),
    "ah": CellRef("rax", 8, 8),
    "sil": CellRef("rsi", 0, 8),
    "r11w": CellRef("r11", 0, 16),
    "if": CellRef("if", 0, 1),
    "rflags.if": CellRef("if", 0, 1),
    "rflags.id": CellRef("id", 0, 1),
    "iopl": CellRef("iopl", 0, 2),
    "rflags": CellRef("rflags", 0, 64),
    "cs": CellRef("cs", 0, 16),
    "cpl": CellRef("cpl", 0, 2),
    "%cr2": CellRef("cr2", 0, 64),
    "nmi_blocked": CellRef("nmi_blocked", 0, 1),
    "interrupted.rip": CellRef("rip", 0, 64, interrupted=True),
    "interrupted.rflags.if": CellRef("if", 0, 1, interrupted=True),
    "interrupted.eax": CellRef("rax", 0, 32, interrupted=True),
    "nmi_ist.top": RegionRef("nmi_ist", "top"),
    "percpu.base": RegionRef("percpu", "base"),
    "nmi": Number(NMI),
    "$some_flag": Number(FLAG),
    "$ptr": Number(8),
    "$al": Number(5),
    "0x10": Number(16),
    "some_flag": DATUM,
    "some_flag(%rip)": DATUM,
    "byte some_flag": MemoryRef(None, None, None, 1, FLAG - (1 << 64), 8),
    "%gs:ptr": PTR,
    "gs:ptr": PTR,
    "%gs:nesting": NESTING,
    "word %gs:ptr": MemoryRef("gs", None, None, 1, 8, 16),
    "dword %gs:(ptr+4)": MemoryRef("gs", None, None, 1, 12, 32),
    "qword %gs:(block - 8)": MemoryRef("gs", None, None, 1, 8, 64),
    "qword %gs:-8": MemoryRef("gs", None, None, 1, -8, 64),
    "%gs:ptr(%rax,%rcx,8)": MemoryRef("gs", "rax", "rcx", 8, 8, 64),
    "%fs:16(%rax)": MemoryRef("fs", "rax", None, 1, 16, 64),
    "8(%rsp)": MemoryRef(None, "rsp", None, 1, 8, 64),
    "8(rsp)": MemoryRef(None, "rsp", None, 1, 8, 64),
    "-8(%rax,%rcx,8)": MemoryRef(None, "rax", "rcx", 8, -8, 64),
    "byte -8(%rax,%rcx)": MemoryRef(None, "rax", "rcx", 1, -8, 8),
    "dword (%rax)": MemoryRef(None, "rax", None, 1, 0, 32),
    "exit(%rax)": MemoryRef(None, "rax", None, 1, NMI + 16 - (1 << 64), 64),
    "rax - 8(%rsp)": Binary("-", RAX, MemoryRef(None, "rsp", None, 1, 8, 64)),
    "-(8(%rsp))": Unary("-", MemoryRef(None, "rsp", None, 1, 8, 64)),
    "%gs:ptr + 8": Binary("+", PTR, Number(8)),
    "rax+8": Binary("+", RAX, Number(8)),
    "rax + rbx * rcx": Binary("+", RAX, Binary("*", RBX, RCX)),
    "rax - rbx - rcx": Binary("-", Binary("-", RAX, RBX), RCX),
    "rax << 1 & rbx ^ ~rcx | -1": Binary(
        "|",
        Binary("^", Binary("&", Binary("<<", RAX, Number(1)), RBX), Unary("~", RCX)),
        Unary("-", Number(1)),
    ),
    "rax >> 3 == rbx": Binary("==", Binary(">>", RAX, Number(3)), RBX),
    "rax & 1 == 0": Binary("==", Binary("&", RAX, Number(1)), Number(0)),
    "rax s< rbx": Binary("s<", RAX, RBX),
    "rax s>= rbx": Binary("s>=", RAX, RBX),
    "rax <= rbx": Binary("<=", RAX, RBX),
    "not rax == rbx": Unary("not", Binary("==", RAX, RBX)),
    "!zf and zf": Binary("and", Unary("not", ZF), ZF),
    "zf || zf && !zf": Binary("or", ZF, Binary("and", ZF, Unary("not", ZF))),
    "zf -> zf -> zf": Binary("->", ZF, Binary("->", ZF, ZF)),
    "zf or zf -> zf": Binary("->", Binary("or", ZF, ZF), ZF),
    "count(nmi) < 2": Binary("<", Count("nmi"), Number(2)),
    "restored(rip, %rax, rflags, if)": Restored(("rip", "rax", "rflags", "if")),
    "restored(registers, rax, rsp)": Restored((*GENERAL_BUT_RSP, "rsp")),
    "restored(all)": Restored(("rip", "cs", "rflags", "rsp", "ss", *GENERAL_BUT_RSP, "gs_base", "memory")),
    "resumed(registers, %rax, if)": Resumed((*GENERAL_BUT_RSP, "if")),
    "resumed(flags)": Resumed(tuple(f for f in FLAGS if f != "rf")),
    "zf -> restored(rip)": Binary("->", ZF, Restored(("rip",))),
    "at_rest and cpl == 0": Binary("and", AtRest(), Binary("==", CellRef("cpl", 0, 2), Number(0))),
    "intact(frame)": Intact(None),
    "intact(frame at %gs:ptr)": Intact(PTR),
    "intact(frame at nmi_ist.top - 40)": Intact(Binary("-", RegionRef("nmi_ist", "top"), Number(40))),
    "handled(nmi, exit)": Handled("nmi", NMI + 16),
    "unreachable(exit)": Unreachable(NMI + 16),
    "progress": Progress(),
    "progress()": Progress(),
    "(at_rest)": AtRest(),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning(text: str) -> None:
    assert parse(text) == MEANINGS[text]


def test_every_general_register_has_its_four_widths() -> None:
    for register in GENERAL_REGISTERS:
        widths = sorted(ref.width for ref in STATE.values() if ref.cell == register and ref.low == 0)
        assert widths == [8, 16, 32, 64], register


#: text, message, what the caret marks, hint
REFUSED = [
    ("rax == rbq", "unknown name 'rbq'", "rbq", "did you mean 'rbx'?"),
    ("%gs:nestin == 1", "unknown name after %gs: 'nestin'", "nestin", "did you mean 'nesting'?"),
    (
        "nesting == 1",
        "'nesting' is a per-CPU name",
        "nesting",
        "write %gs:nesting for its value, $nesting for its offset",
    ),
    (
        "al == 1",
        "'al' is a part of the machine and a symbol of the program",
        "al",
        "write %al for the former, $al for the address of the latter",
    ),
    (
        "id == 1",
        "'id' is a part of the machine and a symbol of the program",
        "id",
        "write rflags.id for the former, $id for the address of the latter",
    ),
    (
        "%gs:ptr+8 == 0",
        "this can be read as one memory operand or as a sum",
        "+",
        "put spaces around the sign to calculate, or parentheses as in %gs:(name+8) for an address",
    ),
    (
        "exit-8(%rsp)",
        "this can be read as one memory operand or as a sum",
        "-",
        "put spaces around the sign to calculate, or parentheses as in %gs:(name+8) for an address",
    ),
    (
        "some_flag+1 == 0",
        "this can be read as one memory operand or as a sum",
        "+",
        "put spaces around the sign to calculate, or parentheses as in %gs:(name+8) for an address",
    ),
    (
        "(%rax) == 0",
        "(%rax) can be read as memory or as the register",
        "(%rax)",
        "write 0(%rax) for memory, %rax for the register",
    ),
    (
        "!rax == rbx",
        "this is true or false, where a value is wanted",
        "!rax",
        "'not' binds looser than a comparison, '!' tighter; put parentheses",
    ),
    (
        "(rax == 1) == rbx",
        "this is true or false, where a value is wanted",
        "(rax == 1)",
        "'not' binds looser than a comparison, '!' tighter; put parentheses",
    ),
    (
        "progress and zf",
        "this speaks of whole runs and must stand alone",
        "progress",
        "make it a property of its own",
    ),
    (
        "zf -> intact(frame)",
        "this speaks of whole runs and must stand alone",
        "intact(frame)",
        "make it a property of its own",
    ),
    ("rax = 1", "unexpected '='", "=", "a comparison is written =="),
    ("rax AND rbx", "unexpected 'AND'", "AND", "did you mean 'and'?"),
    ("rax == 1 rbx", "unexpected 'rbx'", "rbx", "an operator is wanted here"),
    ("1 < 2 < 3", "unexpected '<'", "<", "an operator is wanted here"),
    ("rax / 2", "unexpected '/'", "/", "there is no division"),
    ("(rax == 1", "the expression ends too early", "", "a ')' is missing"),
    ("rax ==", "the expression ends too early", "", "a name, a number or a memory operand is wanted here"),
    ("010", "'010' is no number", "010", "decimal without a leading 0, or 0x…"),
    ("rax == 12abc", "'12abc' is no number", "12abc", "decimal without a leading 0, or 0x…"),
    ("0x10000000000000000", "'0x10000000000000000' does not fit in 64 bits", "0x10000000000000000", None),
    ("8(%eax)", "an address is made of 64-bit general registers", "%eax", "did you mean 'rax'?"),
    ("8(%rax,%rsp)", "%rsp cannot be an index", "%rsp", None),
    ("8(%rax,%rbx,3)", "a scale is 1, 2, 4 or 8", "3", None),
    ("8(%rax,%rbx,1,1)", "a memory operand has a base, an index and a scale, no more", "1", None),
    ("byte rax", "unknown datum 'rax'", "rax", None),
    (
        "%gs:8 == 0",
        "nothing says how many bytes this is",
        "%gs:8",
        "put byte, word, dword or qword before it",
    ),
    (
        "%gs:block == 0",
        "'block' has 24 bytes: no access is that wide",
        "block",
        "put byte, word, dword or qword before it",
    ),
    (
        "block(%rax)",
        "'block' is a per-CPU name",
        "block",
        "write %gs:block for its value, $block for its offset",
    ),
    ("%raxx", "unknown register '%raxx'", "%raxx", "did you mean 'rax'?"),
    ("%zf", "unknown register '%zf'", "%zf", "write zf without %"),
    ("interrupted.rix", "unknown part 'rix' of the interrupted context", "interrupted.rix", None),
    (
        "interrupted.nmi_blocked",
        "unknown part 'nmi_blocked' of the interrupted context",
        "interrupted.nmi_blocked",
        None,
    ),
    ("nmi_ist == 1", "'nmi_ist' is a region", "nmi_ist", "write nmi_ist.base or nmi_ist.top"),
    ("restored", "'restored' takes arguments", "restored", "write restored(…)"),
    (
        "restored()",
        "restored needs names: restored(rip, rsp, registers), or restored(all)",
        "restored()",
        None,
    ),
    (
        "resumed(rsp)",
        "unknown register 'rsp' in resumed()",
        "rsp",
        "a context counts as resumed when rip and rsp are what they were: they need no name",
    ),
    ("resumed()", "resumed needs names: resumed(flags, registers), or resumed(all)", "resumed()", None),
    (
        "zf and resumed(all)",
        "this speaks of whole runs and must stand alone",
        "resumed(all)",
        "make it a property of its own",
    ),
    ("restored(rip, eax)", "unknown register 'eax' in restored()", "eax", "did you mean 'rax'?"),
    ("restored(8(%rsp))", "a register, a flag, 'memory', 'registers' or 'all' is wanted here", "8(%rsp)", None),
    ("intact(fram)", "write intact(frame), or intact(frame at ADDRESS)", "fram", None),
    ("intact(frame at rxa)", "unknown name 'rxa'", "rxa", None),
    ("restored(rip at 4)", "a register, a flag, 'memory', 'registers' or 'all' is wanted here", "rip at 4", None),
    ("handled(nmi)", "handled takes an event and a label: handled(nmi, body)", "handled(nmi)", None),
    ("handled(nmj, exit)", "'nmj' is no event of environment.events", "nmj", "did you mean 'nmi'?"),
    ("handled(nmi, exitt)", "'exitt' is no label of an instruction", "exitt", "did you mean 'exit'?"),
    ("unreachable(some_flag)", "'some_flag' is no label of an instruction", "some_flag", None),
    (
        "count(page_fault)",
        "'page_fault' is no event of environment.events",
        "page_fault",
        "the events are nmi, irq",
    ),
    ("progress(1)", "progress takes no arguments", "progress(1)", None),
    ("restord(rip)", "unknown function 'restord'", "restord", "did you mean 'restored'?"),
]


@pytest.mark.parametrize(("text", "message", "marked", "hint"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(text: str, message: str, marked: str, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    error = caught.value
    assert error.message == message
    assert error.span is not None
    assert (error.span.file, error.span.line) == ("spec.yaml", 7)
    assert error.span.text[error.span.column - 1 : error.span.end - 1] == marked
    if hint is not None:
        assert error.hint == hint


DEEP = [
    "~" * 3000 + "rax",
    "(" * 2000 + "rax" + ")" * 2000,
    "not " * 1000 + "zf",
    " -> ".join(["zf"] * 500),
    " + ".join(["1"] * 900),
    "(" * 4000,
    "x" * 5000,
    " and ".join(["zf"] * 120),
]


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_deep_or_long(text: str) -> None:
    with pytest.raises(SpecError, match=r"nested deeper than 100 levels|longer than 4096|ends too early"):
        parse(text)


def test_depth_that_is_allowed() -> None:
    expression = parse("(" * 98 + "rax" + ")" * 98)
    assert expression == RAX


WORDS = [
    "rax",
    "%rsp",
    "%gs:",
    "ptr",
    "nmi",
    "8",
    "(",
    ")",
    ",",
    "+",
    "-",
    "s<",
    "==",
    "not",
    "and",
    "->",
    "byte",
    "restored",
    "intact",
    "frame",
    "at",
    "nmi_ist.top",
    "count",
    "$",
    "!",
    " ",
    "\u00e9",
    "0x",
    ".",
]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=12).map("".join)))
def test_any_text_parses_or_is_refused_in_its_line(text: str) -> None:
    try:
        parse(text)
        where = Span("", 7, 3, 4, "")
    except SpecError as error:
        where = error.span or Span("", 0, 0, 0, "")
    assert where.line == 7
    assert 3 <= where.column <= len(text) + 3


#: the property's YAML, and the line (from the property's) and column of `rxa` in it
SCALARS = {
    "plain": ("  p: {that: rax == rxa}", 0, 20),
    "single quotes": ("  p: {that: 'rax == rxa'}", 0, 21),
    "double quotes": ('  p: {that: "rax == rxa"}', 0, 21),
    "quotes inside quotes": ('  p: {that: "rax ==   rxa"}', 0, 23),
    "literal block": ("  p:\n    that: |\n      rax == 1 and\n      rbx == rxa", 3, 14),
    "folded block": ("  p:\n    that: >-\n      rax == 1 and\n\n        rbx == rxa", 4, 16),
    "folded block with a comment": ("  p:\n    that: > # rxa\n      rax ==\n      rxa", 3, 7),
    "plain over two lines": ("  p:\n    that: rax == 1 and\n      rbx == rxa", 2, 14),
    "quoted over two lines": ('  p:\n    that: "rax == 1 and\n      rbx == rxa"', 2, 14),
}


@pytest.mark.parametrize(("text", "line", "column"), SCALARS.values(), ids=SCALARS)
def test_position_in_the_file(project: Project, text: str, line: int, column: int) -> None:
    head = SPEC[: SPEC.index("  context-restored")]
    with pytest.raises(SpecError) as caught:
        project.load(head + text + "\n")
    span = caught.value.span
    assert span is not None
    assert (span.line, span.column, span.end) == (head.count("\n") + 1 + line, column, column + 3)


def test_an_escape_hides_the_position(project: Project) -> None:
    """Then the whole scalar is marked, not a wrong word."""
    with pytest.raises(SpecError) as caught:
        project.load(SPEC.replace("intact(frame at %gs:nmi_stack_ptr)", '"rax\\x20== rxa"'))
    span = caught.value.span
    assert span is not None
    assert span.text[span.column - 1 : span.end - 1] == '"rax\\x20== rxa"'
