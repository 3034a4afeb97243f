"""The same on what the assembler and the lifter make of small real texts."""

from __future__ import annotations

import pytest

from verifier.asm.assembler import assemble_text
from verifier.ir import (
    Block,
    Cfg,
    build,
    check_block,
    check_function,
    liveness,
    render_program,
    stack_offsets,
    to_ssa,
)
from verifier.ir.words import stack_effect
from verifier.lift import lift

NESTED = """
nmi:
    cmpb $0, %gs:0x100
    jne nested
    subq $64, %rsp
    pushq 96(%rsp)
    pushq 96(%rsp)
    movb $1, %gs:0x100
body:
    ...
    movb $0, %gs:0x100
    addq $80, %rsp
done:
    iretq
nested:
    pushq %rax
    movq %gs:0x108, %rax
    testq %rax, %rax
    je zero
    movq $0, 8(%rax)
zero:
    popq %rax
    iretq
"""


def _lifted(text: str) -> tuple[dict[int, Block], Cfg, dict[str, int]]:
    program = assemble_text(text, text_base=0x1000)
    blocks = {i.address: lift(i) for i in program}
    labels = {name: symbol.value for name, symbol in program.symbols.items()}
    return blocks, build(blocks, [min(blocks)]), labels


def test_everything_is_well_formed() -> None:
    blocks, cfg, _ = _lifted(NESTED)
    for block in blocks.values():
        check_block(block)
    check_function(to_ssa(cfg))
    assert {b.address for basic in cfg.blocks.values() for b in basic.blocks} == blocks.keys()


def test_the_graph() -> None:
    blocks, cfg, at = _lifted(NESTED)
    store = blocks[at["zero"]].address - 8
    assert store in cfg.blocks
    assert cfg.blocks[at["nmi"]].successors[1:] == (at["nested"],)
    assert cfg.immediate_dominators()[at["zero"]] == at["nested"]
    assert [(e.kind, e.address) for e in cfg.exits] == [
        ("hole", at["body"]),
        ("hole", at["body"] + 1),
        ("iret", at["done"]),
        ("iret", max(blocks)),
    ]
    assert {at["nmi"], at["body"] + 1, at["body"] + 2} == set(cfg.roots)


def test_where_rsp_stands() -> None:
    _, cfg, at = _lifted(NESTED)
    offsets = stack_offsets(cfg)
    assert offsets[at["body"]] == -64 - 16
    assert offsets[at["zero"]] == -8
    assert offsets[at["done"]] == 80


def test_phi_of_memory_alone() -> None:
    """Both ways to ``zero`` have one RSP and one RAX, but not one memory."""
    _, cfg, at = _lifted(NESTED)
    assert [phi.result.base for phi in to_ssa(cfg).blocks[at["zero"]].phis] == ["mem"]


def test_live_registers_and_flags() -> None:
    _, cfg, at = _lifted(NESTED)
    live = liveness(cfg)
    assert "rax" in live.before(at["nested"])
    assert "rax" not in live.before(at["zero"])
    assert {"zf", "cf", "of"}.isdisjoint(live.before(at["zero"]))
    assert "zf" in live.before(at["zero"] - 10)
    assert "zf" in liveness(cfg, boundaries=True).before(at["zero"])


def test_live_words() -> None:
    _, cfg, at = _lifted(NESTED)
    live = liveness(cfg, apart=["gs"])
    assert live.dead_words(at["nested"]) == (-8,)
    assert live.dead_words(at["zero"]) == ()
    after_compare = cfg.blocks[at["nmi"]].successors[0]
    assert live.dead_words(after_compare) == (-80, -72)


STATUS = {"cf", "pf", "af", "zf", "sf", "of"}


@pytest.mark.parametrize(
    ("text", "dead", "live"),
    [
        ("shll $1, %eax", STATUS, {"rax"}),
        ("shll %cl, %eax", set(), STATUS | {"rax", "rcx"}),
        ("incq %rax", STATUS - {"cf"}, {"cf", "rax"}),
        ("movl $1, %eax", {"rax"}, STATUS),
        ("movb $1, %al", set(), {"rax"}),
        ("xorl %eax, %eax", STATUS | {"rax"}, set()),
        ("adcq $0, %rax", STATUS - {"cf"}, {"cf"}),
        ("pushfq; popfq", {"rf"}, STATUS | {"df", "tf", "if", "nt", "ac"}),
        ("popfq", STATUS | {"df", "tf", "nt"}, {"cpl", "iopl", "if", "ac"}),
        ("swapgs; swapgs", set(), {"gs_base", "kernel_gs_base"}),
        ("cld", {"df"}, STATUS),
        ("movl $0x174, %ecx; rdmsr; wrmsr", {"rcx"}, {"gs_base", "fs_base", "kernel_gs_base"}),
    ],
)
def test_live_before_real_instructions(text: str, dead: set[str], live: set[str]) -> None:
    """Behind them stands an indirect jump, which hands everything on."""
    _, cfg, _ = _lifted(text.replace(";", "\n") + "\njmp *%rbx\n")
    before = liveness(cfg).before(0x1000)
    assert dead.isdisjoint(before), dead & before
    assert live | {"rbx", "rsp", "r15"} <= before, live - before


@pytest.mark.parametrize(
    ("text", "shift", "accesses"),
    [
        ("pushq %rax", -8, [("store", -8, 8)]),
        ("pushw %ax", -2, [("store", -2, 2)]),
        ("popq %rax", 8, [("load", 0, 8)]),
        ("pushq 8(%rsp)", -8, [("load", 8, 8), ("store", -8, 8)]),
        ("popq 8(%rsp)", 8, [("load", 0, 8), ("store", 16, 8)]),
        ("popq %rsp", None, [("load", 0, 8)]),
        ("ret", 8, [("load", 0, 8)]),
        ("ret $16", 24, [("load", 0, 8)]),
        ("call *%rax", -8, [("store", -8, 8)]),
        ("pushfq", -8, [("store", -8, 8)]),
        ("leaq -8(%rsp), %rsp", -8, []),
        ("subq $64, %rsp", -64, []),
        ("addl $8, %esp", None, []),
        ("andq $-16, %rsp", None, []),
        ("movq %rax, %rsp", None, []),
        ("xchgq %rax, (%rsp)", 0, [("load", 0, 8), ("store", 0, 8)]),
        ("movb $1, -1(%rsp)", 0, [("store", -1, 1)]),
        ("movl (%rsp,%rax), %eax", 0, [("load", None, 4)]),
        ("movq %gs:8(%rsp), %rax", 0, [("load", None, 8)]),
        ("movq 8(%rbp), %rax", 0, [("load", None, 8)]),
        ("rep stosq", 0, [("store", None, 8)]),
    ],
)
def test_stack_effects(text: str, shift: int | None, accesses: list[tuple[str, int | None, int]]) -> None:
    blocks, _, _ = _lifted(text + "\n")
    effect = stack_effect(blocks[0x1000])
    assert effect.shift == shift
    assert [("store" if a.is_store else "load", a.offset, a.size) for a in effect.accesses] == accesses


def test_a_repeated_instruction_keeps_what_it_may_not_write() -> None:
    blocks, cfg, _ = _lifted("rep movsb\niretq\n")
    assert {"rcx", "rsi", "rdi", "df"} <= liveness(cfg).before(0x1000)
    check_function(to_ssa(cfg))
    assert cfg.blocks[0x1000].successors == (0x1002, 0x1000)
    assert [b.instruction.mnemonic for b in blocks.values()] == ["movs", "iret"]


def test_the_page() -> None:
    program = assemble_text("f:\n  addq $8, %rsp\n  jmp *(%rsp)\n", "f.s", text_base=0x1000)
    page = render_program({i.address: lift(i) for i in program}, program, [0x1000])
    assert page.startswith("f:                                              ; 0x1000\n  ; from outside\n")
    assert "  jmp *(%rsp)                                   ; f.s:3\n    %1:64 = load mem.0 [rsp.1]\n" in page
    assert page.endswith("    jump_indirect %1\n  ; to   (indirect)\n")
