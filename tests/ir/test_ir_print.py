"""The printer: what a reader sees, letter by letter."""

from __future__ import annotations

import pytest
from ir_blocks import add_rsp, copy, end, laid_out, load_at, make, store

from verifier.errors import InternalError
from verifier.ir import Access, Builder, render_block, render_program

BLOCKS = {
    b.address: b
    for b in (
        make(0, lambda b: b.fault_if(b.get("zf"), 13), text="cmpb $0,%gs:x"),
        make(1, end("branch", 4), text="jne 1f"),
        make(2, add_rsp(-8), store(-8), text="push $7"),
        make(3, copy("rax", "rbx"), text="mov %rax,%rbx"),
        make(4, load_at("rbx", "gs"), text="mov %gs:(%rbx),%rax"),
        make(5, end("hole_body"), text="..."),
        make(6, end("iret", 64), text="iretq"),
        make(7, copy("rax", "rbx"), copy("rbx", "rax"), text="xchg %rax,%rbx"),
    )
}

PAGE = """\
nmi:                                            ; 0x0
  ; from outside
  ; live all
  cmpb $0,%gs:x                                 ; a.s:1
    fault #13 if zf.0
  jne 1f                                        ; a.s:2
    branch zf.0 to one
  ; to   nmi+0x2, one

nmi+0x2:                                        ; 0x2
  ; from nmi
  ; rsp  as at entry
  ; live all but rbx
  push $7                                       ; a.s:3
    rsp.1 = add rsp.0 -0x8
    %5:64 = add rsp.0 -0x8
    mem.1 = store:64 mem.0 [%5] 0x7
inner:                                          ; 0x3
  mov %rax,%rbx                                 ; a.s:4
    rbx.1 = rax.0
  ; to   one

one:                                            ; 0x4
  ; from nmi, nmi+0x2
  ; live all but rax
    rbx.2 = phi rbx.0 from nmi, rbx.1 from nmi+0x2
    rsp.2 = phi rsp.0 from nmi, rsp.1 from nmi+0x2
    mem.2 = phi mem.0 from nmi, mem.1 from nmi+0x2
  mov %gs:(%rbx),%rax                           ; a.s:5
    rax.1 = load mem.2 [gs:rbx.2]
  ...                                           ; a.s:6
    hole_body
  ; to   (hole); back at one+0x2

one+0x2:                                        ; 0x6
  ; from outside
  ; live all but cf pf af zf sf tf df of cs ss
  iretq                                         ; a.s:7
    iret 64
  ; to   (iret)

dead:                                           ; 0x7, not reached
  xchg %rax,%rbx                                ; a.s:8
    %0:64 = get rax
    rbx   = %0
    %1:64 = get rbx
    rax   = %1
"""


def test_a_program() -> None:
    page = render_program(BLOCKS, laid_out(BLOCKS, nmi=0, inner=3, one=4, dead=7), [0])
    assert page == PAGE


def test_an_entry_must_be_an_instruction() -> None:
    with pytest.raises(InternalError, match="0x63 is no instruction"):
        render_program(BLOCKS, laid_out(BLOCKS), [99])


def test_text_from_a_file_cannot_steer_the_terminal() -> None:
    blocks = {0: make(0, text="nop\x1b[2J\r\u202e")}
    assert "  nop [2J  " in render_program(blocks, laid_out(blocks), [0])


def test_neither_can_a_label() -> None:
    blocks = {0: make(0, end("jump", 0))}
    page = render_program(blocks, laid_out(blocks, **{"a\x1b[2Jb": 0}), [0])
    assert "\x1b" not in page
    assert page.startswith("a [2Jb:")


def test_long_sets_are_wrapped() -> None:
    blocks = {0: make(0, *(load_at(c) for c in ("rbx", "rcx")), end("jump", 0))}
    page = render_program(blocks, laid_out(blocks), [0])
    assert "  ; live rcx rbx ac cr0 cr3 cr4 cpl\n" in page
    assert max(map(len, page.splitlines())) <= 100


def _write_everything(b: Builder) -> None:
    rax, zf, index = b.get("rax"), b.get("zf"), b.const(7, 32)
    b.skip_if(zf)
    b.fault_if(b.binary("eq", rax, b.const(-8, 64)), 14, b.const(2, 32))
    byte = b.extract(rax, 15, 8)
    wide = b.concat(b.const(0, 56), byte)
    b.store(rax, b.ite(zf, wide, b.load(rax, 64, Access(segment="fs"))), Access())
    b.put("rbx", b.undef(64))
    b.put("rcx", b.load(rax, 64, Access()))
    b.wrmsr(index, b.rdmsr(index))
    b.end("jump_indirect", b.unary("not", rax))


def test_every_form_of_operation() -> None:
    assert render_block(make(0, _write_everything)).splitlines() == [
        "    %0:64  = get rax",
        "    %1:1   = get zf",
        "    skip_if %1",
        "    %4:1   = eq %0 -0x8",
        "    fault #14(0x2) if %4",
        "    %6:8   = extract %0 15..8",
        "    %8:64  = concat 0x0:56 %6",
        "    %9:64  = load [fs:%0]",
        "    %10:64 = ite %1 %8 %9",
        "    store:64 [%0] %10",
        "    rbx    = undef",
        "    %12:64 = load [%0]",
        "    rcx    = %12",
        "    %13:64 = rdmsr 0x7",
        "    wrmsr 0x7 %13",
        "    %14:64 = not %0",
        "    jump_indirect %14",
    ]


def test_versions_say_what_a_skipped_write_leaves() -> None:
    def repeated(b: Builder) -> None:
        b.skip_if(b.get("zf"))
        b.put("rax", b.binary("add", b.get("rax"), b.const(1, 64)))

    blocks = {0: make(0, repeated), 1: make(1, end("iret", 64))}
    page = render_program(blocks, laid_out(blocks, f=0), [0])
    assert "    rax.1 = add rax.0 0x1, or rax.0 if skipped\n" in page


def test_what_only_serves_dead_cells_is_left_out() -> None:
    """An addition whose flag is overwritten: its comparison is not shown, the flag is named."""

    def add(b: Builder) -> None:
        total = b.binary("add", b.get("rax"), b.const(1, 64))
        b.put("zf", b.binary("eq", total, b.const(0, 64)))
        b.put("rax", total)

    blocks = {0: make(0, add), 1: make(1, copy("rbx", "zf"), end("jump_indirect"))}
    lines = render_program(blocks, laid_out(blocks, f=0), [0]).splitlines()
    assert lines[4:6] == ["    rax.1 = add rax.0 0x1", "    ; dead: zf"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0x10, "0x10"),
        (-0x10, "-0x10"),
        (0xFFFF_FFFF_8100_0000, "handler"),
        (0xFFFF_FFFF_8100_0001, "handler+0x1"),
        (0xFFFF_FFFF_8200_0000, "0xffffffff82000000"),
    ],
)
def test_constants(value: int, shown: str) -> None:
    base = 0xFFFF_FFFF_8100_0000
    blocks = {base: make(base, lambda b: b.put("rax", b.const(value, 64)), end("jump_indirect"))}
    page = render_program(blocks, laid_out(blocks, base, handler=base), [base])
    assert f"    rax.0 = {shown}\n" in page


def test_a_long_phi_names_each_argument_once_and_is_wrapped() -> None:
    blocks = {a: make(a, end("branch", 19)) for a in range(18)}
    blocks[18] = make(18, copy("rax", "rbx"))
    blocks[19] = make(19, end("jump_indirect"))
    page = render_program(blocks, laid_out(blocks, **{f"label_number_{a}": a for a in blocks}), [0])
    lines = page.splitlines()
    at = next(i for i, line in enumerate(lines) if " phi " in line)
    assert lines[at].startswith("    rbx.2 = phi rbx.0 from label_number_0 label_number_1 ")
    assert lines[at + 1].startswith("            label_number_")
    assert page.count("rbx.0 from") == 1
    assert max(map(len, lines)) <= 100


def test_a_constant_in_a_concatenation_shows_its_width() -> None:
    def join(b: Builder) -> None:
        b.put("rbx", b.concat(b.const(0, 32), b.extract(b.concat(b.get("zf"), b.get("rax")), 31, 0)))

    blocks = {0: make(0, join, end("jump_indirect"))}
    page = render_program(blocks, laid_out(blocks), [0])
    assert "= concat zf.0 rax.0\n" in page
    assert "= concat 0x0:32 %" in page


def test_an_overwritten_put_is_dead() -> None:
    blocks = {0: make(0, copy("rbx", "rax"), copy("rcx", "rax"), end("jump_indirect"))}
    page = render_program(blocks, laid_out(blocks), [0])
    assert "    rax.0 = rcx.0\n    jump_indirect rbx.0\n    ; dead: rax\n" in page


def test_a_constant_jump_names_its_target() -> None:
    block = make(0, end("jump", 0xFFFF), text="jmp x")
    assert render_block(block) == "    jump to 0xffff"
