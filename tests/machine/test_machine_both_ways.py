"""Where processors may differ, or the manuals leave something open, both machines go either way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from machine_case import BAD, HOME_RIP, USER, Case, flags

from verifier.machine.rules import RULES
from verifier.machine.state import starts, too_privileged
from verifier.terms import not_

if TYPE_CHECKING:
    from machine_case import After

HOMEWARDS = (HOME_RIP, 0x33, flags(), 0x7FFF_1000, 0x2B)
LOST, KEPT = ("general_protection",), ("general_protection", "debug")
HELD_TRAP = {"tf": 1, "inhibit": 2}


def how(after: After) -> object:
    """How a step ends, or which handlers it goes to."""
    return after.edge.ended or after.edge.delivered


def cell(name: str):
    return lambda after: after.cells()[name]


#: name of the rule, text and rest of a case, event or ``execute``, cells, what differs, it with 0, it with 1
WAYS = [
    ("ist_nulls_ss", "nop", {"ist": ("nmi",)}, "nmi", {}, cell("ss"), 0x18, 0),
    ("ist_nulls_ss", "nop", {}, "nmi", {}, cell("ss"), 0x18, 0x18),
    ("fault_in_nmi_delivery_blocks", "nop", {"ist": ("stack_fault",), "rsp": BAD}, "nmi", {},
     lambda a: a.edge.state.nmi_blocked, False, True),
    *((name, text, {}, "execute", {"rax": 0x18, "inhibit": before}, cell("inhibit"), *ways)
      for name, text, before, *ways in (
          ("ss_after_ss_casts_none", "mov %ax, %ss", 2, 2, 3), ("ss_after_sti_casts_none", "mov %ax, %ss", 1, 2, 3),
          ("sti_after_ss_casts_none", "sti", 2, 1, 3), ("rows_cast_once", "mov %ax, %ss", 3, 2, 3),
          ("rows_cast_once", "sti", 3, 1, 3), ("ss_after_ss_casts_none", "mov %ax, %ss", 0, 2, 2),
          ("ss_after_ss_casts_none", "mov %ax, %ss", 1, 2, 2), ("ss_after_sti_casts_none", "mov %ax, %ss", 2, 2, 2),
          ("ss_after_ss_casts_none", "sti", 2, 1, 1), ("rows_cast_once", "mov %ax, %ss", 2, 2, 2),
          ("rows_cast_once", "nop", 3, 0, 0), ("ss_after_ss_casts_none", "nop", 2, 0, 0))),
    *((name, text, {}, "execute", {"rax": 0x18, "tf": 1, "inhibit": before}, how, *ways)
      for name, text, before, *ways in (
          ("ss_after_ss_traps", "mov %ax, %ss", 2, (), ("debug",)),
          ("ss_after_ss_traps", "mov %ax, %ss", 3, (), ("debug",)),
          ("ss_after_ss_casts_none", "mov %ax, %ss", 2, (), ()), ("rows_cast_once", "mov %ax, %ss", 3, (), ()),
          ("ss_after_ss_traps", "mov %ax, %ss", 0, (), ()), ("ss_after_ss_traps", "mov %ax, %ss", 1, (), ()),
          ("ss_after_sti_casts_none", "mov %ax, %ss", 1, (), ()), ("ss_after_ss_traps", "sti", 2, *2 * [("debug",)]),
          ("sti_after_ss_casts_none", "sti", 2, *2 * [("debug",)]), ("rows_cast_once", "nop", 3, *2 * [("debug",)]))),
    ("event_keeps_held_trap", "nop", {}, "irq", {"tf": 1, "inhibit": 3, "if_": 1}, how, ("irq",), ("irq", "debug")),
    ("event_keeps_held_trap", "nop", {}, "irq", {"inhibit": 3, "if_": 1}, how, ("irq",), ("irq",)),
    ("fault_keeps_held_trap", "jmp *%rax", {}, "execute", {"rax": BAD} | HELD_TRAP, how, LOST, KEPT),
    ("fault_keeps_held_trap", "jmp *%rax", {}, "execute", {"rax": BAD, "inhibit": 2}, how, LOST, LOST),
    ("fault_keeps_held_trap", "jmp *%rax", {}, "execute", {"rax": BAD, "tf": 1, "inhibit": 1}, how, LOST, LOST),
    ("fault_keeps_held_trap", "int $0x80", {"ist": ("stack_fault", "debug"), "rsp": BAD}, "execute", HELD_TRAP, how,
     ("stack_fault",), ("stack_fault", "debug")),
    ("int_keeps_held_trap", "int $0x80", {}, "execute", HELD_TRAP, how,
     ("software_interrupt",), ("software_interrupt", "debug")),
    ("int_keeps_held_trap", "nop", {}, "execute", HELD_TRAP, how, ("debug",), ("debug",)),
    ("frame_below_the_edge", "nop", {"ist": ("stack_fault",), "rsp": BAD + 8}, "nmi", {}, how,
     ("stack_fault",), "wild-write"),
    ("frame_below_the_edge", "nop", {"ist": ("stack_fault",), "rsp": BAD + 16}, "nmi", {}, how,
     *2 * [("stack_fault",)]),
    ("any_null_ss", "iretq", {"words": (HOME_RIP, 0x10, flags(), 0, 3)}, "execute", {}, how, LOST, "wild-jump"),
    ("any_null_ss", "iretq", {"words": (HOME_RIP, 0x33, flags(), 0, 3)}, "execute", {}, how, LOST, LOST),
    ("rip_is_cut", "iretq", {"words": (1 << 32 | HOME_RIP, 0x23, flags(), 0, 0x2B)}, "execute", {}, how, LOST, ()),
    ("rip_is_cut", "iretq", {"words": (BAD, 0x33, flags(), 0, 0x2B)}, "execute", {}, how, LOST, LOST),
    ("event_keeps_held_trap", "nop", {}, "nmi", HELD_TRAP, how, ("nmi",), ("nmi", "debug")),
    ("event_keeps_held_trap", "nop", {}, "machine_check", HELD_TRAP, how,
     ("machine_check",), ("machine_check", "debug")),
    ("event_keeps_held_trap", "nop", {}, "nmi", {"tf": 1, "inhibit": 1}, how, ("nmi",), ("nmi",)),
    ("outer_return_clears_base", "iretq", {"words": HOMEWARDS}, "execute", {"fs": 0x1B, "fs_base": 7},
     cell("fs_base"), 7, 0),
    ("outer_return_clears_base", "iretq", {"words": HOMEWARDS}, "execute", {"gs": 3, "gs_base": 7},
     cell("gs_base"), 7, 7),
    ("outer_return_clears_null", "iretq", {"words": HOMEWARDS}, "execute", {"ds": 3}, cell("ds"), 3, 0),
    ("outer_return_clears_null", "iretq", {"words": HOMEWARDS}, "execute", {"ds": 0x2B}, cell("ds"), 0x2B, 0x2B),
    ("late_sysret_fault", "sysretq", {}, "execute", {"rcx": BAD}, how, LOST, "wild-jump"),
    ("late_sysret_fault", "sysretq", {}, "execute", {"rcx": HOME_RIP}, cell("cpl"), 3, 3),
    *(("prefix_names_segment", f"mov %{prefix}:(%{base}), %rax", {}, "execute", {base: BAD}, how, *ways)
      for prefix, base, *ways in (
          ("ds", "rbp", ("stack_fault",), LOST), ("es", "rsp", ("stack_fault",), LOST),
          ("cs", "rbp", ("stack_fault",), LOST), ("ss", "rbx", LOST, ("stack_fault",)),
          ("ss", "rbp", ("stack_fault",), ("stack_fault",)), ("ds", "rbx", LOST, LOST), ("fs", "rbp", LOST, LOST),
      )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "given", "action", "cells", "seen", "off", "on"), WAYS)
def test_a_rule_in_which_processors_differ(name, text, given, action, cells, seen, off, on):
    """A2, F5, F10, H5, I8, R5, R6, R10, S4, S6, S7: symbolic, and (confirmed by `Case.go`) on the interpreter."""
    if cells.get("rsp") == BAD:
        given = given | {"rsp": BAD, "ist": ("stack_fault", "general_protection")}
    for value, expected in ((0, off), (1, on)):
        after = Case(text, **given, rules={name: value}).one(action, **{k: v for k, v in cells.items() if k != "rsp"})
        assert seen(after) == expected, value


def test_each_of_these_rules_is_tried_where_it_matters():
    assert {name for name, *_, off, on in WAYS if off != on} == RULES.keys()


def test_a_double_fault_saves_any_cs_and_rip():
    """H6."""
    after = Case("jmp *%rax", ist=("double_fault",), rsp=BAD).one(rax=BAD)
    assert after.edge.delivered == ("double_fault",)
    (cs_kind, cs), (rip_kind, rip) = after.edge.choices
    assert (cs_kind, rip_kind) == ("double_fault.cs", "double_fault.rip")
    assert (cs.width, rip.width) == (16, 64)
    frame = after.term(after.rsp + 8), after.term(after.rsp + 16)
    assert [t.support for t in frame] == [{rip}, {cs}]
    assert not any(cs in t.support or rip in t.support for t in after.edge.path)
    assert after.frame(6)[4] == BAD


def test_code_at_cpl_3_does_not_start_with_a_segment_that_it_cannot_hold():
    """R10: so no start loses a base by coming home. That of the kernel may have one."""
    case = Case("nop")
    stepper = case.stepper()
    user, kernel = USER, replace(USER, name="kernel", cpl=0, cs=0x10, ss=0x18)
    stepper.layout.machine = replace(stepper.layout.machine, contexts=(user, kernel))
    for state in starts(stepper.layout):
        bad = [too_privileged(stepper.layout.machine, state.cell(name), 3) for name in ("ds", "es", "fs", "gs")]
        assert [not_(b) in state.path for b in bad] == 4 * [state.cpl == 3]
