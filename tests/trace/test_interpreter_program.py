"""Whole runs of lifted instructions: handlers, shadows, nested NMIs, the trap of POPF, repeated strings."""

from __future__ import annotations

import pytest
from interpreter_machine import (
    ENTRIES,
    HOME,
    KERNEL_HOME,
    KERNEL_RSP,
    LENGTH,
    NMI_IST,
    PERCPU,
    SIZE,
    TEXT,
    Lab,
    at,
    flags_image,
    gate,
    instruction,
    kernel,
    user,
    words_at,
)

from verifier.asm.program import Imm, Mem, Reg, Target
from verifier.machine.config import Gate
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import Disagreement, Move

RAX, AX = Reg("rax", 64), Reg("rax", 16)
NMI_TOP = NMI_IST + SIZE


def lifted(*steps, entry=None, start=None, home=KERNEL_HOME):
    gates = None
    if entry is not None:
        gates = {
            2: Gate(2, "nmi", at(entry), "interrupt", "nmi_ist"),
            13: Gate(13, "general_protection", ENTRIES["general_protection"], "interrupt"),
            0x20: Gate(0x20, "irq", ENTRIES["irq"], "interrupt"),
        }
    return Lab(*steps, gates=gates, start=start, home=home)


def run(lab, state, *actions):
    """The outcomes of these moves, each from where the one before it led."""
    outcomes = []
    for action in actions:
        outcomes.append(lab.step(state, action))
        state = outcomes[-1].state
    return outcomes


@pytest.mark.parametrize(
    ("begin", "home"),
    [(user(rax=5, cf=1, tf=1), HOME), (kernel(KERNEL_HOME, rax=5, df=1), KERNEL_HOME)],
)
def test_handler_that_restores_everything(begin, home):
    lab = lifted(
        instruction("push", RAX),
        instruction("mov", Imm(7, 64), RAX),
        instruction("pop", RAX),
        instruction("iret"),
        entry=0,
        start=begin,
        home=home,
    )
    *_, last = run(lab, begin, "nmi", "execute", "execute", "execute", "execute")
    assert last.ended == "home"
    assert (last.state.rip, last.state.cells) == (begin.rip, begin.cells)
    assert not last.state.nmi_blocked


def test_latched_nmi_strikes_at_home_after_the_iret():
    """N3, N7."""
    begin = kernel(KERNEL_HOME)
    lab = lifted(instruction("nop"), instruction("iret"), entry=0, start=begin)
    state = lab.step(begin, "nmi").state
    state = lab.latch(state).state
    *_, last = run(lab, state, "execute", "execute")
    assert (last.ended, last.state.nmi_blocked, last.state.nmi_pending) == ("home", False, True)
    again = lab.step(last.state, "nmi").state
    assert (again.rip, again.nmi_pending, again.read(NMI_TOP - 40, 8)) == (TEXT, False, KERNEL_HOME)


def test_nested_nmi_overwrites_the_frame_of_the_first():
    """F4: the IST slot is not checked for being in use: the root of the subject of this project."""
    begin = user()
    lab = lifted(instruction("nop"), instruction("nop"), entry=0, start=begin, home=HOME)
    first = lab.step(begin, "nmi").state
    assert words_at(first, NMI_TOP - 40, 2) == [HOME, 0x33]
    unblocked = kernel(TEXT + LENGTH, rsp=NMI_TOP - 40)
    second = lab.step(unblocked, "nmi").state
    assert second.cells["rsp"] == NMI_TOP - 40
    assert words_at(second, NMI_TOP - 40, 5) == [TEXT + LENGTH, 0x10, 2, NMI_TOP - 40, 0x18]


@pytest.mark.parametrize("if_before", [0, 1])
def test_sti_holds_irqs_for_one_instruction_if_it_sets_if(if_before):
    """S1."""
    lab = lifted(instruction("sti"), instruction("nop"), instruction("nop"))
    after_sti = lab.step(kernel(if_=if_before)).state
    if if_before:
        assert lab.step(after_sti, "irq").delivered == ("irq",)
        return
    with pytest.raises(Disagreement, match="shadow"):
        lab.step(after_sti, "irq")
    assert lab.step(lab.step(after_sti).state, "irq").delivered == ("irq",)


def test_popf_has_no_shadow():
    """S5."""
    lab = lifted(instruction("popf"), instruction("nop"))
    state = kernel(words={KERNEL_RSP: flags_image(if_=1)})
    assert run(lab, state, "execute", "irq")[-1].delivered == ("irq",)


def test_popf_that_sets_tf_traps_after_the_following_instruction():
    """I4, I2: the saved image has TF=1; PUSHF before the trap sees it too."""
    lab = lifted(instruction("popf"), instruction("pushf"), instruction("nop"))
    first, second = run(lab, kernel(words={KERNEL_RSP: flags_image(tf=1)}), "execute", "execute")
    assert first.delivered == ()
    assert second.delivered == ("debug",)
    assert second.state.read(KERNEL_RSP, 8) == flags_image(tf=1)
    assert words_at(second.state, second.state.cells["rsp"], 3) == [at(2), 0x10, flags_image(tf=1)]


def test_mov_ss_defers_the_trap_by_one_instruction():
    """S3, S6."""
    lab = lifted(instruction("mov", AX, Reg("ss", 16), width=16), instruction("nop"), instruction("nop"))
    first, second = run(lab, kernel(tf=1, rax=0x18), "execute", "execute")
    assert (first.delivered, second.delivered) == ((), ("debug",))
    assert second.state.read(second.state.cells["rsp"], 8) == at(2)


def test_event_between_iterations_of_a_repeated_string():
    """N11: saved rip is the instruction's, its registers have advanced, RF=1 is saved."""
    memory = Mem("rdi", None, 1, 0, 8, "es")
    stos = instruction("stos", Reg("rax", 8), memory, width=8, prefixes=("rep",))
    lab = lifted(stos, instruction("nop"), instruction("nop"))
    begin = kernel(rdi=PERCPU, rcx=2, rax=0x5A, if_=1)
    first, second = run(lab, begin, "execute", "execute")
    assert (first.state.rip, first.state.cells["rcx"], first.state.cells["rdi"]) == (TEXT, 1, PERCPU + 1)
    struck = lab.step(first.state, "irq").state
    assert words_at(struck, struck.cells["rsp"], 3) == [TEXT, 0x10, flags_image(if_=1, rf=1)]
    assert (second.state.rip, second.state.read(PERCPU, 4), second.state.cells["rf"]) == (at(1), 0x5A5A, 0)


@pytest.mark.parametrize(
    ("step", "rsp"),
    [
        (instruction("push", RAX), 0xFFFF_8000_0000_0000),
        (instruction("pop", RAX), 1 << 47),
        (instruction("call", Target(TEXT, "x")), 0xFFFF_8000_0000_0000),
        (instruction("ret"), 1 << 47),
    ],
)
def test_stack_accesses_off_the_canonical_addresses(step, rsp):
    """A2, A9, H2: #SS(0), whose frame does not fit there either: contributory twice, and no gate for #DF."""
    outcome = Lab(step, instruction("nop"), gates={12: gate("stack_fault")}).step(kernel(rsp=rsp))
    assert outcome.ended == "double-fault"
    assert outcome.state.cells["rsp"] == rsp


def test_ret_to_a_non_canonical_address_leaves_rsp():
    """A3."""
    lab = lifted(instruction("ret"))
    after = lab.step(kernel(words={KERNEL_RSP: 1 << 47})).state
    assert words_at(after, after.cells["rsp"], 5)[:2] == [0, TEXT]
    assert after.read(after.cells["rsp"] + 32, 8) == KERNEL_RSP
    assert after.read(KERNEL_RSP, 8) == 1 << 47


def test_call_pushes_before_it_goes():
    outcome = lifted(instruction("call", Target(at(2), "x")), instruction("nop"), instruction("nop")).step(
        kernel()
    )
    assert (outcome.state.rip, outcome.state.cells["rsp"]) == (at(2), KERNEL_RSP - 8)
    assert outcome.state.read(KERNEL_RSP - 8, 8) == at(1)
    assert outcome.writes == ((KERNEL_RSP - 8, 8),)


def test_swapgs_ends_the_reach_of_the_user_s_gs_base():
    begin = user(gs_base=0x7000, kernel_gs_base=PERCPU)
    flag = Mem(None, None, 1, 0x20, 64, "gs")
    lab = lifted(
        instruction("mov", flag, RAX),
        instruction("swapgs"),
        instruction("mov", flag, RAX),
        instruction("nop"),
        start=begin,
        home=HOME,
    )
    inside = kernel(gs_base=0x7000, kernel_gs_base=PERCPU)
    chosen = lab.step(inside, "execute", ("load", 99)).state
    assert chosen.cells["rax"] == 99
    assert run(lab, chosen, "execute", "execute")[-1].state.cells["rax"] == 0


def test_lifter_of_the_house_is_the_default():
    lab = lifted(instruction("inc", RAX), instruction("nop"))
    interpreter = Interpreter(lab.machine, lab.start)
    assert interpreter.step(kernel(rax=1), Move("execute")).state.cells["rax"] == 2
