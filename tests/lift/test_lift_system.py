"""System instructions: results worked out by hand from the manual's pages and the machine rules."""

from __future__ import annotations

import pytest
from lift_concrete import Outcome, State, run_undefined
from lift_decode import ARENA, ARENA_SIZE, CODE

from verifier.asm import Instruction, assemble_text
from verifier.errors import LiftError
from verifier.ir import CELLS, STATUS_FLAGS, check_block
from verifier.lift import lift, supported

TOP = ARENA + ARENA_SIZE // 2
PG_PE = 0x8000_0001
ET = 1 << 4
TSD, PAE, PCE, UMIP, LA57, FSGSBASE, PCIDE = (1 << n for n in (2, 5, 8, 11, 12, 16, 17))
HIGH = 0xFFFF_8880_0000_1000
GP, UD = "fault 13", "fault 6"
#: In the place of a value: every bit of the cell (or the bits of a mask) may be anything.
ANY = "any"


def _instruction(text: str) -> Instruction:
    return next(iter(assemble_text(f"{text}\n", text_base=CODE)))


def _run(text: str, cells: dict[str, int], memory: bytes = b"") -> Outcome:
    """From a state of zeros but for ``cells``, RSP and the ``memory`` at RSP."""
    block = lift(_instruction(text))
    check_block(block)
    before = State({**dict.fromkeys(CELLS, 0), "rsp": TOP, **cells}, bytearray(ARENA_SIZE), ARENA)
    before.memory[ARENA_SIZE // 2 : ARENA_SIZE // 2 + len(memory)] = memory
    return run_undefined(block, before)


def _changes(outcome: Outcome, cells: dict[str, int]) -> dict[str, int | str]:
    before = {**dict.fromkeys(CELLS, 0), "rsp": TOP, **cells}
    found: dict[str, int | str] = {n: v for n, v in outcome.after.cells.items() if v != before[n]}
    full = {n: (1 << CELLS[n]) - 1 for n in outcome.undefined}
    return found | {n: ANY if m == full[n] else f"any {m:#x}" for n, m in outcome.undefined.items()}


STATUS_ANY = dict.fromkeys(STATUS_FLAGS, ANY)
LOW = {"rax": 0xFFFF_FFFF_FFFF_FFFF}

#: instruction, cells before, cells that change (or the fault).
TABLE = [
    # interrupt flag (I3, S1)
    ("cli", {"if": 1}, {"if": 0}),
    ("cli", {"if": 1, "cpl": 3, "iopl": 3}, {"if": 0}),
    ("cli", {"cpl": 3, "iopl": 2}, GP),
    ("sti", {}, {"if": 1, "inhibit": 1}),
    ("sti", {"if": 1}, {}),
    ("sti", {"cpl": 1}, GP),
    # AC
    ("stac", {}, {"ac": 1}),
    ("clac", {"ac": 1}, {"ac": 0}),
    ("stac", {"cpl": 3}, UD),
    # GS (I6)
    ("swapgs", {"gs_base": 1, "kernel_gs_base": HIGH}, {"gs_base": HIGH, "kernel_gs_base": 1}),
    ("swapgs", {"cpl": 3}, GP),
    ("rdgsbase %rax", {"gs_base": HIGH, "cr4": FSGSBASE, "cpl": 3}, {"rax": HIGH}),
    ("rdgsbase %eax", {"gs_base": HIGH, "cr4": FSGSBASE}, {"rax": 0x1000}),
    ("rdfsbase %rax", {"fs_base": 5, "gs_base": 6, "cr4": FSGSBASE}, {"rax": 5}),
    ("rdgsbase %rax", {}, UD),
    ("wrgsbase %rax", {"rax": HIGH, "cr4": FSGSBASE}, {"gs_base": HIGH}),
    ("wrfsbase %eax", {"rax": HIGH, "cr4": FSGSBASE}, {"fs_base": 0x1000}),
    ("wrgsbase %rax", {"rax": 1 << 47, "cr4": FSGSBASE}, GP),
    ("wrgsbase %rax", {"rax": 1}, UD),
    # control registers
    ("mov %cr2, %rax", {"cr2": HIGH}, {"rax": HIGH, **STATUS_ANY}),
    ("mov %rax, %cr2", {"rax": HIGH}, {"cr2": HIGH, **STATUS_ANY}),
    ("mov %cr3, %rax", {"cr3": 0x1234_5000}, {"rax": 0x1234_5000, **STATUS_ANY}),
    ("mov %rax, %cr3", {"rax": 0x5000 | 1 << 63, "cr4": PCIDE}, {"cr3": 0x5000, **STATUS_ANY}),
    ("mov %rax, %cr3", {"rax": 0x5000 | 1 << 63}, GP),
    ("mov %rax, %cr0", {"rax": PG_PE}, {"cr0": PG_PE | ET, **STATUS_ANY}),
    ("mov %rax, %cr0", {"rax": 1}, GP),
    ("mov %rax, %cr0", {"rax": 1 << 31}, GP),
    ("mov %rax, %cr0", {"rax": PG_PE | 1 << 29}, GP),
    ("mov %rax, %cr0", {"rax": PG_PE | 3 << 29}, {"cr0": PG_PE | ET | 3 << 29, **STATUS_ANY}),
    ("mov %rax, %cr0", {"rax": PG_PE | 0x1FFA_FFC0}, {"cr0": PG_PE | ET, **STATUS_ANY}),
    ("mov %rax, %cr0", {"rax": PG_PE | 1 << 32}, GP),
    ("mov %rax, %cr4", {"rax": PAE}, {"cr4": PAE, **STATUS_ANY}),
    ("mov %rax, %cr4", {"rax": 0}, GP),
    ("mov %rax, %cr4", {"rax": PAE | LA57}, GP),
    ("mov %rax, %cr4", {"rax": PAE | PCIDE, "cr3": 0x5000}, {"cr4": PAE | PCIDE, **STATUS_ANY}),
    ("mov %rax, %cr4", {"rax": PAE | PCIDE, "cr3": 0x5001}, GP),
    ("mov %rax, %cr4", {"rax": PAE | PCIDE, "cr3": 0x5001, "cr4": PCIDE}, {"cr4": PAE | PCIDE, **STATUS_ANY}),
    ("mov %rax, %cr8", {"rax": 15}, {"cr8": 15, **STATUS_ANY}),
    ("mov %rax, %cr8", {"rax": 16}, GP),
    ("mov %cr8, %rax", {"cr8": 3}, {"rax": 3, **STATUS_ANY}),
    ("mov %db6, %rax", {"dr6": 0xFFFF_0FF0}, {"rax": 0xFFFF_0FF0, **STATUS_ANY}),
    ("mov %rax, %db6", {"rax": 0xFFFF_0FF0}, {"dr6": 0xFFFF_0FF0, **STATUS_ANY}),
    ("mov %rax, %db6", {"rax": 1 << 14 | 1 << 12}, {"dr6": "any 0x10800", **STATUS_ANY}),
    ("mov %rax, %db6", {"rax": 1 << 32}, GP),
    *((f"mov {a}, {b}", {"cpl": 3}, GP) for r in ("cr0", "cr2", "cr3", "cr4", "cr8", "db6")
      for a, b in ((f"%{r}", "%rax"), ("%rax", f"%{r}"))),
    ("clts", {"cr0": PG_PE | 8}, {"cr0": PG_PE}),
    ("clts", {"cpl": 3}, GP),
    ("smsw %rax", {"cr0": PG_PE}, {"rax": PG_PE}),
    ("smsw %ax", {"cr0": PG_PE}, {"rax": 1}),
    ("smsw %rax", {"cr4": UMIP, "cpl": 3}, GP),
    # segment registers
    ("mov %ss, %rax", {"ss": 0x18, **LOW}, {"rax": 0x18}),
    ("mov %cs, %eax", {"cs": 0x10, **LOW}, {"rax": 0x10}),
    ("mov %ds, %ax", {"ds": 0x2B, **LOW}, {"rax": 0xFFFF_FFFF_FFFF_002B}),
    ("mov %eax, %ds", {"rax": 0x1_0018}, {"ds": 0x18}),
    ("mov %eax, %es", {"rax": 0x18}, {"es": 0x18}),
    ("mov %eax, %ss", {"rax": 0x18}, {"ss": 0x18, "inhibit": 2}),
    ("mov %eax, %ss", {}, {"inhibit": 2}),
    ("mov %eax, %ss", {"rax": 3}, GP),
    ("mov %eax, %gs", {"rax": 0x18, "gs_base": HIGH}, {"gs": 0x18, "gs_base": ANY}),
    ("mov %eax, %fs", {"fs": 1, "fs_base": HIGH}, {"fs": 0, "fs_base": ANY}),
    # model-specific registers (I9)
    ("rdmsr", {"cpl": 3}, GP),
    ("wrmsr", {"cpl": 3}, GP),
    # what cannot be known
    ("cpuid", LOW, {n: "any 0xffffffff" for n in ("rbx", "rcx", "rdx")} | {"rax": "any 0xffffffff"}),
    ("rdtsc", {}, {"rax": "any 0xffffffff", "rdx": "any 0xffffffff"}),
    ("rdtscp", {}, {n: "any 0xffffffff" for n in ("rax", "rcx", "rdx")}),
    ("rdtsc", {"cr4": TSD, "cpl": 3}, GP),
    ("rdtsc", {"cr4": TSD}, {"rax": "any 0xffffffff", "rdx": "any 0xffffffff"}),
    ("rdrand %rax", {"zf": 1}, {"rax": ANY, "cf": ANY, "zf": 0}),
    ("rdpmc", {}, {"rax": "any 0xffffffff", "rdx": "any 0xffffffff"}),
    ("rdpmc", {"cpl": 3}, GP),
    ("rdpmc", {"cpl": 3, "cr4": PCE}, {"rax": "any 0xffffffff", "rdx": "any 0xffffffff"}),
    ("rdpid %rax", LOW, {"rax": "any 0xffffffff"}),
    ("invpcid (%rsp), %rax", {"rax": 3}, {}),
    ("invpcid (%rsp), %rax", {"rax": 4}, GP),
    ("invpcid (%rsp), %rax", {"cpl": 3}, GP),
    ("in $0x60, %al", {}, {"rax": "any 0xff"}),
    ("in %dx, %eax", {}, {"rax": "any 0xffffffff"}),
    ("in %dx, %eax", {"cpl": 3}, GP),
    ("out %al, $0x60", {}, {}),
    ("out %eax, %dx", {"cpl": 1}, GP),
    # descriptors
    ("verw (%rsp)", {}, {}),  # a null selector, and ZF was clear
    ("verw %cx", {"zf": 1, "rcx": 3}, {"zf": 0}),
    ("verw %cx", {"rcx": 4}, {"zf": ANY}),
    ("verr %ax", {"rax": 4}, {"zf": ANY}),
    ("lsl %eax, %edx", {"rax": 4, "rdx": 1 << 40}, {"zf": ANY, "rdx": "any 0x100ffffffff"}),
    ("lar %ax, %dx", {"rax": 8}, {"zf": ANY, "rdx": "any 0xffff"}),
    ("str %eax", {}, {"rax": "any 0xffff"}),
    # caches and order
    ("invlpg (%rsp)", {}, {}),
    ("invlpg (%rsp)", {"cpl": 3}, GP),
    ("wbinvd", {}, {}),
    ("wbinvd", {"cpl": 3}, GP),
    ("lfence", {"cpl": 3}, {}),
    ("cmpxchg16b 8(%rsp)", {}, GP),
    # bit scans of nothing
    ("bsf %ecx, %eax", {}, {"rax": ANY, "zf": 1, **{f: ANY for f in STATUS_FLAGS if f != "zf"}}),
    ("bsr %cx, %ax", {}, {"rax": "any 0xffff", "zf": 1, **{f: ANY for f in STATUS_FLAGS if f != "zf"}}),
    # flags (I1)
    ("popfq", {"cpl": 3, "if": 1, "vif": 1, "rf": 1}, {"rsp": TOP + 8, "rf": 0}),
    ("popfq", {"cpl": 0, "if": 1, "iopl": 3, "vm": 1}, {"rsp": TOP + 8, "if": 0, "iopl": 0}),
    ("popfq", {"cpl": 2, "if": 1, "iopl": 3}, {"rsp": TOP + 8, "if": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "expected"), TABLE)
def test_result(text: str, before: dict[str, int], expected: dict[str, int | str] | str) -> None:
    outcome = _run(text, before)
    if isinstance(expected, str):
        assert outcome.after.rip == expected
    else:
        assert outcome.after.rip == _instruction(text).next_address
        assert _changes(outcome, before) == expected


#: instruction, the cells before, the quadword at RSP, the cells that change.
POPS = [
    ("pop %fs", {}, 0x12_0018, {"rsp": TOP + 8, "fs": 0x18, "fs_base": ANY}),
    ("pop %gs", {"gs": 1}, 0, {"rsp": TOP + 8, "gs": 0, "gs_base": ANY}),
    ("popw %gs", {}, 0x18, {"rsp": TOP + 2, "gs": 0x18, "gs_base": ANY}),
    ("mov (%rsp), %ss", {"cpl": 0}, 0x18, {"ss": 0x18, "inhibit": 2}),
    ("popfq", {}, (1 << 64) - 1, {
        "rsp": TOP + 8, "iopl": 3,
        **dict.fromkeys((*STATUS_FLAGS, "tf", "if", "df", "nt", "ac", "id"), 1),
    }),
    ("popfw", {}, (1 << 64) - 1, {
        "rsp": TOP + 2, "iopl": 3, **dict.fromkeys((*STATUS_FLAGS, "tf", "if", "df", "nt"), 1),
    }),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "word", "expected"), POPS)
def test_pop(text: str, before: dict[str, int], word: int, expected: dict[str, int | str]) -> None:
    assert _changes(_run(text, before, word.to_bytes(8, "little")), before) == expected


def test_pushf_shows_neither_vm_nor_rf() -> None:
    flags = ("rf", "vm", "vif", "vip", "id", "cf", "iopl")
    outcome = _run("pushfq", {name: (1 << CELLS[name]) - 1 for name in flags})
    word = outcome.after.memory[ARENA_SIZE // 2 - 8 : ARENA_SIZE // 2]
    assert int.from_bytes(word, "little") == 1 << 21 | 1 << 20 | 1 << 19 | 3 << 12 | 3


def test_push_of_a_segment_register_is_zero_extended() -> None:
    after = _run("push %fs", {"fs": 0x2B}).after
    assert after.cells["rsp"] == TOP - 8
    assert after.memory[ARENA_SIZE // 2 - 8 : ARENA_SIZE // 2] == (0x2B).to_bytes(8, "little")


def test_msr_halves() -> None:
    cells = {"rcx": 1 << 32 | 0xC000_0101, "gs_base": 0x1111_2222_3333_4444, **LOW}
    read = _run("rdmsr", cells).after
    assert (read.cells["rdx"], read.cells["rax"]) == (0x1111_2222, 0x3333_4444)
    written = _run("wrmsr", {"rcx": 0xC000_0102, "rdx": 1 << 40 | 7, "rax": 5}).after
    assert written.cells["kernel_gs_base"] == 7 << 32 | 5


#: instruction, how it leaves.
TERMINATORS = [
    ("iretq", "iret 64"), ("iret", "iret 32"), ("iretw", "iret 16"),
    ("lretq", "lret 64"), ("lret", "lret 32"), ("sysretq", "sysret 64"), ("sysretl", "sysret 32"),
    ("syscall", "syscall"), ("int3", "interrupt 3"), ("int $0x80", "interrupt 128"), ("ud2", "fault 6"),
    ("hlt", "halt"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TERMINATORS)
def test_terminator(text: str, expected: str) -> None:
    outcome = _run(text, {})
    assert outcome.after.rip == expected
    assert _changes(outcome, {}) == {}


def test_a_hole_is_left_to_its_contract() -> None:
    opcodes = [lift(i).terminator.opcode for i in assemble_text("body:\n...\n")]
    assert opcodes == ["hole_enter", "hole_body"]


def test_hlt_is_privileged() -> None:
    assert _run("hlt", {"cpl": 3}).after.rip == GP


def test_rep_goes_on_with_rf_until_the_count_is_zero() -> None:
    block = lift(_instruction("rep stosb"))
    cells = {**dict.fromkeys(CELLS, 0), "rdi": TOP, "rcx": 2, "rsp": TOP}
    first = run_undefined(block, State(cells, bytearray(ARENA_SIZE), ARENA), limit=0).after
    assert (first.rip, first.cells["rcx"], first.cells["rdi"], first.cells["rf"]) == (CODE, 1, TOP + 1, 1)
    second = run_undefined(block, first, limit=0).after
    assert (second.rip, second.cells["rcx"], second.cells["rf"]) == (CODE + 2, 0, 0)
    third = run_undefined(block, second, limit=0).after
    assert (third.rip, third.cells) == (CODE + 2, second.cells)


#: operand, whether its bad address is a stack fault, the segment written (rule A2).
ACCESSES = [
    ("(%rsp)", True, None), ("8(%rbp,%rax)", True, None),
    ("(%rax)", False, None), ("(%rax,%rbp)", False, None), ("8(%rip)", False, None),
    ("%gs:(%rsp)", False, "gs"), ("%fs:8", False, "fs"),
]  # fmt: skip


@pytest.mark.parametrize(("operand", "stack", "segment"), ACCESSES)
def test_access(operand: str, stack: bool, segment: str | None) -> None:
    block = lift(_instruction(f"movq {operand}, %rdx"))
    (access,) = (o.attr for o in block if o.opcode == "load")
    assert (access.stack, access.segment) == (stack, segment)


@pytest.mark.parametrize("text", ["push %rax", "pop %rax", "call *%rax", "ret", "pushfq", "popfq", "leave"])
def test_implicit_stack_access(text: str) -> None:
    assert all(o.attr.stack for o in lift(_instruction(text)) if o.opcode in ("load", "store"))


#: What assembles but is not modelled: an error that shows where, never a guess.
UNSUPPORTED = [
    "lgdt (%rax)", "lidt (%rax)", "ltr %ax", "lldt %ax", "sysenter", "monitor", "xsetbv", "invd",
    "mov %rax, %db7", "mov %db0, %rax", "lret $8", "enter $8, $1",
]  # fmt: skip


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_unsupported(text: str) -> None:
    with pytest.raises(LiftError) as caught:
        lift(_instruction(text))
    assert caught.value.render().startswith("<text>:1:1: error: ")
    assert text in caught.value.render()


def test_supported_has_what_entry_code_needs() -> None:
    needed = """mov push pop jmp xor swapgs cmp jcc add sub call test and lea cld std cli sti iret ret shr shl
    wrmsr rdmsr or bt bts btr pushf popf xchg inc dec wrgsbase rdgsbase lsl lfence verw ud2 endbr64
    nop movs"""
    assert set(needed.split()) <= supported()
