"""What an interrupted context holds before the first event, and what its segments allow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_case import MIDDLE, SEGMENTS, USER, Case, flags

from verifier.ir.cells import CELL_NAMES, CELLS
from verifier.machine.config import Context, Segment
from verifier.machine.state import HOME, canonical, starts, text_conditions
from verifier.terms import Valuation, add, const, not_, var

KERNEL = Context("kernel", 0, 0x10, 0x18, "kernel", "stack", {"df": 0, "rax": 7})
#: context, its RIP, the name of the base that points at the per-CPU region, its RSP less the base of its stack
CONTEXTS = [
    (USER, "rip0", "kernel_gs_base", None),
    (replace(USER, gs="kernel"), "rip0", "gs_base", None),
    (KERNEL, "kernel_rip0", "gs_base", 0x100),
    (replace(KERNEL, gs="user"), "kernel_rip0", "kernel_gs_base", 0x100),
]


@pytest.mark.parametrize(("context", "rip", "base", "above"), CONTEXTS)
def test_start(context, rip, base, above):
    """P4: the user's RIP is any canonical address, the kernel's is none in the text."""
    case = Case("nop", anywhere=True)
    layout = case.stepper().layout
    layout.machine = replace(layout.machine, contexts=(context,), percpu="rsp0")
    layout.processor = {"ist_nulls_ss": 1, "rip_is_cut": 0}
    (state,) = starts(layout)
    assert [c.width for c in state.cells] == list(CELLS.values())
    known = {"cs": context.cs, "ss": context.ss, "cpl": context.cpl, "inhibit": 0, **context.fixed}
    for name in CELL_NAMES:
        if name in known:
            assert state.cell(name) is const(known[name], CELLS[name]), name
        elif name == base:
            assert state.cell(name) is layout.base("rsp0")
        elif name == "rsp" and above is not None:
            assert state.cell(name) is add(layout.base("stack"), const(above, 64))
        else:
            assert state.cell(name).op == "var", name
    unknown = [c for c in state.cells if c.op == "var"]
    assert len(set(unknown)) == len(unknown)
    assert (state.rip, state.memory, state.nmi_blocked, state.nmi_pending) == (HOME, {}, False, False)
    home = state.home
    assert (home.rip.args, repr(home.rip), home.cells, home.context) == ((), rip, state.cells, context)
    assert set(home.tracked.values()) == {"rip", "rflags", "rsp"}
    if context.cpl == 3:
        assert canonical(var("rip0", 64)) in state.path
    else:
        inside = list(text_conditions(layout, home.rip))
        assert inside
        assert {not_(i) for i in inside} <= state.path
    rules = {t for t in state.path if repr(t).startswith("rule:")}
    assert rules == {var("rule:ist_nulls_ss", 1)}
    assert not_(var("rule:rip_is_cut", 1)) in state.path
    for name in {"fs_base", "gs_base", "kernel_gs_base"} - {base}:
        assert canonical(state.cell(name)) in state.path


#: address, whether it is canonical (A1)
CANONICAL = [
    (0, 1), (0x7FFF_FFFF_FFFF, 1), (0x8000_0000_0000, 0), (0xFFFF_7FFF_FFFF_FFFF, 0), (0xFFFF_8000_0000_0000, 1),
    (2**64 - 1, 1), (0x0001_0000_0000_0000, 0), (0x0000_FFFF_FFFF_FFFF, 0),
]  # fmt: skip


@pytest.mark.parametrize(("address", "good"), CANONICAL)
def test_canonical(address, good):
    anything = var("anything", 64)
    assert Valuation({anything: address})(canonical(anything)) == good
    assert canonical(const(address, 64)) is const(good, 1)


def test_addresses_within_one_half_are_canonical():
    for low, high in ((0xFFFF_8000_0000_0000, 2**64 - 1), (0, 0x7FFF_FFFF_FFFF)):
        assert canonical(var(f"from {low:#x}", 64, low, high)) is const(1, 1)


#: register, selector, whether CPL 3 can load it (I11)
LOADS = [("ds", 0, 1), ("es", 3, 1), ("ds", 0x2B, 1), ("ds", 0x18, 0), ("ss", 0, 0), ("ss", 3, 0), ("ss", 0x2B, 1),
         ("ss", 0x28, 0), ("ss", 0x18, 0)]  # fmt: skip


@pytest.mark.parametrize(("register", "selector", "good"), LOADS)
def test_what_code_at_cpl_3_can_load(register, selector, good):
    """No program is executed there, so the interpreter is not asked."""
    case = Case(f"mov %ax, %{register}")
    stepper = case.stepper()
    (edge,) = stepper.execute(case.state(stepper, rax=selector, cpl=3, cs=0x33, ss=0x2B))
    assert (edge.delivered == ()) == good


def test_a_return_to_32_bit_code_of_the_kernel_is_not_followed():
    """Its bytes would mean something else there."""
    words = (0x1000, 0x58, flags(), MIDDLE, 0x18)
    edge = Case("iretq", segments=(*SEGMENTS, Segment(0x58, "code", 0)), words=words).one().edge
    assert (edge.ended, edge.detail) == ("wild-jump", "to 32-bit code at CPL 0 (selector 0x58)")


def test_a_section_without_bytes_has_no_addresses():
    layout = Case("nop").stepper().layout
    text = layout.machine.program.sections[0]
    empty = replace(text, name=".empty", address=text.address + 0x1000, data=b"")
    program = replace(layout.machine.program, sections=(text, empty))
    layout.machine = replace(layout.machine, program=program)
    assert len(list(text_conditions(layout, var("anything", 64)))) == 1


@pytest.mark.parametrize(("offset", "inside"), [(-1, False), (0, True), ("last", True), ("end", False)])
def test_the_text_has_an_exclusive_end(offset, inside):
    """The byte after the last instruction is not the program's: an interrupted kernel RIP may be there (P4)."""
    layout = Case("nop\n nop").stepper().layout
    (section,) = [s for s in layout.machine.program.sections if s.executable]
    address = {"last": section.end - 1, "end": section.end}.get(offset) or section.address + offset
    rip = const(address, 64)
    assert any(c.is_const and c.value for c in text_conditions(layout, rip)) is inside
    assert layout.machine.program.covers(address) is inside


#: register, a value, whether an interrupted context can have it (I12)
RESERVED_BITS = [
    ("cr3", 0, 1), ("cr3", 1 << 63, 0), ("cr3", 0x7FFF_FFFF_FFFF_FFFF, 1),
    ("dr6", 0xFFFF_0FF0, 1), ("dr6", 0xFFFE_E7F0, 1), ("dr6", 0xFFFF_EFFF, 1), ("dr6", 0, 0), ("dr6", 0xFFFF_1FF0, 0),
    ("dr6", 0x1_FFFF_0FF0, 0), ("dr6", 0xFFFD_0FF0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "good"), RESERVED_BITS)
def test_reserved_bits(name, value, good):
    """I12: what no write to CR3 and DR6 changes is not arbitrary before the first event either."""
    register = var(f"{name}0", 64)
    layout = Case("nop", anywhere=True).stepper().layout
    layout.machine = replace(layout.machine, contexts=(USER,))
    (state,) = starts(layout)
    said = [literal for literal in state.path if register in literal.support]
    assert said
    assert all(Valuation({register: value})(literal) for literal in said) == good
