"""Delivery of events: frames, stacks, flags, masks, double faults; expected by hand from the rules named."""

from __future__ import annotations

import pytest
from interpreter_machine import (
    DOUBLE_FAULT_GATE,
    ENTRIES,
    GATES,
    HOME,
    KERNEL_HOME,
    KERNEL_RSP,
    KSTACK,
    NMI_IST,
    RSP0,
    SIZE,
    STACK_FAULT_GATE,
    TEXT,
    USER_RSP,
    Lab,
    flags_image,
    gate,
    kernel,
    nop,
    user,
    words_at,
)

from verifier.machine.config import Contract
from verifier.trace.run import Disagreement

NMI_TOP = NMI_IST + SIZE
RSP0_TOP = RSP0 + SIZE
FULL = {"cf": 1, "pf": 1, "af": 1, "zf": 1, "sf": 1, "tf": 1, "if": 1, "df": 1, "of": 1, "iopl": 3, "nt": 1}
FULL |= {"rf": 1, "ac": 1, "vif": 1, "vip": 1, "id": 1}

#: event, interrupted context, rsp after (F6, F7), ss after (F10)
FRAMES = [
    ("nmi", "user", NMI_TOP - 40, 0),
    ("nmi", "kernel", NMI_TOP - 40, 0x18),
    ("irq", "user", RSP0_TOP - 40, 0),
    ("irq", "kernel", KSTACK + 0x800 - 40, 0x18),
    ("machine_check", "kernel", NMI_TOP - 40, 0x18),
]


@pytest.mark.parametrize(("event", "context", "rsp", "ss"), FRAMES)
def test_frame_holds_the_interrupted_context(event, context, rsp, ss):
    home = HOME if context == "user" else KERNEL_HOME
    before = user(home) if context == "user" else kernel(home, if_=1)
    outcome = Lab(nop, home=home, start=before).step(before, event)
    after = outcome.state
    assert outcome.ended is None
    assert outcome.delivered == (event,)
    assert (after.rip, after.cells["rsp"], after.cells["ss"]) == (ENTRIES[event], rsp, ss)
    assert (after.cells["cs"], after.cells["cpl"]) == (0x10, 0)
    old = before.cells
    assert words_at(after, rsp, 5) == [home, old["cs"], flags_image(if_=1), old["rsp"], old["ss"]]
    assert outcome.writes == tuple((rsp + 8 * i, 8) for i in (4, 3, 2, 1, 0))
    assert before.memory == {}


@pytest.mark.parametrize(("nulls", "ss"), [(0, 0x18), (1, 0)])
def test_ist_without_change_of_cpl_follows_the_rule_of_the_run(nulls, ss):
    lab = Lab(nop, rules={"ist_nulls_ss": nulls})
    assert lab.step(kernel(), "nmi").state.cells["ss"] == ss
    assert lab.step(kernel(if_=1), "irq").state.cells["ss"] == 0x18


@pytest.mark.parametrize("low", range(0, 17, 1))
def test_rsp_is_rounded_down_to_16_before_the_pushes(low):
    rsp = KSTACK + 0x800 + low
    after = Lab(nop).step(kernel(if_=1, rsp=rsp), "irq").state
    assert after.cells["rsp"] == KSTACK + 0x800 + (16 if low == 16 else 0) - 40
    assert after.read(after.cells["rsp"] + 24, 8) == rsp


@pytest.mark.parametrize(("event", "if_after"), [("nmi", 0), ("machine_check", 1)])
def test_flags_that_gates_clear(event, if_after):
    """F11, F12: TF NT RF always, IF by interrupt gates only; AC DF IOPL and the rest stay."""
    before = kernel(KERNEL_HOME, **{k + "_": v for k, v in FULL.items()})
    after = Lab(nop).step(before, event).state
    expected = FULL | {"tf": 0, "nt": 0, "rf": 0, "if": if_after}
    assert {name: after.cells[name] for name in FULL} == expected
    assert after.read(after.cells["rsp"] + 16, 8) == flags_image(**{k + "_": v for k, v in FULL.items()})


def test_delivery_keeps_segments_bases_and_general_registers():
    """F17, and DF by F11."""
    before = user(ds=0x2B, es=0x2B, fs=0x63, gs=0x6B, gs_base=0x1000, kernel_gs_base=0x2000, rax=7, cr2=9)
    after = Lab(nop, home=HOME, start=before).step(before, "nmi").state
    changed = {name for name in after.cells if after.cells[name] != before.cells[name]}
    assert changed == {"cs", "ss", "cpl", "rsp", "if"}


IMPOSSIBLE = [
    ("irq", kernel(KERNEL_HOME), "IF=0"),
    ("irq", kernel(if_=1, inhibit=1), "shadow"),
    ("irq", kernel(if_=1, inhibit=2), "shadow"),
    ("nmi", kernel(blocked=True), "blocked"),
    ("irq", kernel(if_=1, pending=True), "pending"),
    ("page_fault", kernel(), "nothing may raise"),
    ("general_protection", kernel(KERNEL_HOME), "nothing may raise"),
    ("nmi", kernel(TEXT + 1), "no boundary"),
    ("nmi", user(HOME + 1), "no boundary"),
    ("tea_break", kernel(), "no event"),
    ("execute", kernel(KERNEL_HOME), "no instruction"),
    ("execute", kernel(TEXT + 1), "no instruction"),
    ("execute", user(TEXT), "no instruction"),
    ("execute", kernel(pending=True), "pending"),
]


@pytest.mark.parametrize(("action", "state", "reason"), IMPOSSIBLE)
def test_impossible_moves_are_disagreements(action, state, reason):
    with pytest.raises(Disagreement, match=reason):
        Lab(nop).step(state, action)


POSSIBLE = [
    ("nmi", kernel(inhibit=1)),
    ("nmi", kernel(inhibit=2)),
    ("machine_check", kernel(blocked=True, inhibit=2)),
    ("machine_check", kernel(pending=True)),
    ("irq", kernel(if_=1, blocked=True, pending=True)),
    ("execute", kernel(blocked=True, pending=True)),
    ("execute", kernel(pending=True, inhibit=1)),
    ("execute", kernel(pending=True, inhibit=2)),
    ("nmi", kernel(pending=True)),
]


@pytest.mark.parametrize(("action", "state"), POSSIBLE)
def test_possible_moves(action, state):
    outcome = Lab(nop).step(state, action)
    assert outcome.ended is None or action == "execute"
    assert outcome.state.cells["inhibit"] == 0


def test_nmi_delivery_blocks_and_takes_the_pending_one():
    after = Lab(nop).step(kernel(pending=True), "nmi").state
    assert (after.nmi_blocked, after.nmi_pending) == (True, False)


@pytest.mark.parametrize("pending", [False, True])
def test_nmi_while_blocked_is_latched_once(pending):
    before = kernel(blocked=True, pending=pending)
    outcome = Lab(nop).latch(before)
    assert outcome.delivered == ()
    assert (outcome.state.nmi_blocked, outcome.state.nmi_pending) == (True, True)
    assert (outcome.state.rip, outcome.state.cells) == (before.rip, before.cells)


@pytest.mark.parametrize(
    ("state", "action"),
    [(kernel(), "nmi"), (kernel(blocked=True, if_=1), "irq"), (kernel(TEXT + 1, blocked=True), "nmi")],
)
def test_nothing_else_is_latched(state, action):
    with pytest.raises(Disagreement):
        Lab(nop).latch(state, action)


def without(vector):
    return {v: g for v, g in GATES.items() if v != vector}


NO_IST = {12: gate("stack_fault"), 8: gate("double_fault")}
NON_CANONICAL = 0x0000_8000_0000_0000
#: rsp, gates, event -> ended, delivered
BROKEN = [
    (KERNEL_RSP, without(0x20), "irq", "no-gate", ()),
    (KSTACK + 32, GATES, "irq", "wild-write", ()),
    (KSTACK + 40, GATES, "irq", "wild-write", ()),
    (KSTACK + 48, GATES, "irq", None, ("irq",)),
    (KSTACK + SIZE, GATES, "irq", None, ("irq",)),
    (KSTACK + SIZE + 8, GATES, "irq", None, ("irq",)),
    (KSTACK + SIZE + 16, GATES, "irq", "wild-write", ()),
    (0, GATES, "irq", "wild-write", ()),
    (NON_CANONICAL, GATES, "irq", "no-gate", ()),
    (NON_CANONICAL, GATES | STACK_FAULT_GATE, "irq", None, ("stack_fault",)),
    (0xFFFF_8000_0000_0000, GATES | STACK_FAULT_GATE, "irq", None, ("stack_fault",)),
    (NON_CANONICAL, GATES | {12: gate("stack_fault")}, "irq", "double-fault", ()),
    (NON_CANONICAL, GATES | {12: gate("stack_fault")} | DOUBLE_FAULT_GATE, "irq", None, ("double_fault",)),
    (NON_CANONICAL, GATES | NO_IST, "irq", "shutdown", ()),
]


@pytest.mark.parametrize(("rsp", "gates", "event", "ended", "delivered"), BROKEN)
def test_frames_that_cannot_be_pushed(rsp, gates, event, ended, delivered):
    undefined = (("double_fault.cs", 7), ("double_fault.rip", 5)) if delivered == ("double_fault",) else ()
    outcome = Lab(nop, gates=gates).step(kernel(if_=1, rsp=rsp), event, *undefined)
    assert (outcome.ended, outcome.delivered) == (ended, delivered)
    if delivered == ("double_fault",):
        assert words_at(outcome.state, NMI_TOP - 48, 3) == [0, 5, 7]


def test_stack_fault_during_delivery_says_where_and_that_it_was_external():
    """F5, F9, F13 to F15: error code EXT, the interrupted rip, RF=1, everything else as before."""
    lab = Lab(nop, gates=GATES | STACK_FAULT_GATE)
    after = lab.step(kernel(if_=1, rsp=NON_CANONICAL), "irq").state
    assert after.cells["rsp"] == NMI_TOP - 48
    saved = [1, TEXT, 0x10, flags_image(if_=1, rf=1), NON_CANONICAL, 0x18]
    assert words_at(after, NMI_TOP - 48, 6) == saved


@pytest.mark.parametrize("blocks", [0, 1])
def test_nmi_lost_in_delivery(blocks):
    """H5: the NMI is gone, and whether NMIs are blocked then is a rule of the run."""
    gates = GATES | STACK_FAULT_GATE | {2: gate("nmi")}
    lab = Lab(nop, gates=gates, rules={"fault_in_nmi_delivery_blocks": blocks})
    outcome = lab.step(kernel(rsp=NON_CANONICAL, pending=True), "nmi")
    assert outcome.delivered == ("stack_fault",)
    assert (outcome.state.nmi_blocked, outcome.state.nmi_pending) == (bool(blocks), False)


MAY_RAISE = ("page_fault", "general_protection", "breakpoint")
HOLE = Contract("hole", ("rax", "zf", "if"), MAY_RAISE, 16, ("flag",))
RUN_ON = (
    ("hole.rax", 7),
    ("hole.zf", 1),
    ("hole.if", 1),
    ("hole.memory", 0x11),
    ("hole.memory", 0x22),
    ("hole.memory", 0x33),
)
LOW = KERNEL_RSP - 16


def in_hole(**cells):
    return kernel(TEXT + 4, rsp=LOW, **cells)


def hole_lab():
    return Lab("hole_enter", "hole_body", nop, contract=HOLE)


def expect_run_on(state):
    assert (state.cells["rax"], state.cells["zf"]) == (7, 1)
    assert words_at(state, LOW, 2) == [0x11, 0x22]
    assert state.read(0xFFFF_8880_0000_A020, 1) == 0x33


def test_hole_is_entered_and_left():
    lab = hole_lab()
    inside = lab.step(kernel()).state
    assert (inside.rip, inside.cells["rsp"]) == (TEXT + 4, LOW)
    outcome = lab.step(inside, "execute", *RUN_ON)
    assert (outcome.state.rip, outcome.state.cells["rsp"], outcome.ended) == (TEXT + 8, KERNEL_RSP, None)
    expect_run_on(outcome.state)
    assert outcome.state.cells["if"] == 1
    assert [size for _, size in outcome.writes] == [8, 8, 1]


#: event, choices after the hole's, error code pushed, saved RF
HOLE_EVENTS = [
    ("nmi", (), None, 0),
    ("irq", (), None, 0),
    ("machine_check", (), None, 0),
    ("breakpoint", (), None, 0),
    ("general_protection", (("fault.error_code", 0xABC0),), 0xABC0, 1),
    ("page_fault", (("fault.error_code", 3), ("fault.cr2", 1 << 47)), 3, 1),
]


@pytest.mark.parametrize(("event", "choices", "error", "rf"), HOLE_EVENTS)
def test_events_in_a_hole(event, choices, error, rf):
    """The hidden code runs on first: an IRQ can strike because it set IF."""
    outcome = hole_lab().step(in_hole(), event, *RUN_ON, *choices)
    after = outcome.state
    assert outcome.delivered == (event,)
    assert after.rip == ENTRIES[event]
    expect_run_on(after)
    frame = words_at(after, after.cells["rsp"], 6)
    if error is not None:
        assert frame.pop(0) == error
    assert frame[:4] == [TEXT + 4, 0x10, flags_image(if_=1, zf=1, rf=rf), LOW]
    assert after.cells["cr2"] == (0xFFFF_8000_0000_0000 if event == "page_fault" else 0)


@pytest.mark.parametrize(
    ("event", "choices", "reason"),
    [
        ("nmi", RUN_ON[:-1], "missing"),
        ("nmi", (*RUN_ON, ("hole.rax", 1)), "left over"),
        ("nmi", (RUN_ON[1], RUN_ON[0], *RUN_ON[2:]), "asked for"),
        ("nmi", (RUN_ON[0], ("hole.zf", 2), *RUN_ON[2:]), "fit"),
        ("irq", (*RUN_ON[:2], ("hole.if", 0), *RUN_ON[3:]), "masks"),
        ("stack_fault", RUN_ON, "nothing may raise"),
        ("page_fault", (*RUN_ON, ("fault.error_code", 1)), "missing"),
        ("page_fault", (*RUN_ON, ("fault.error_code", 1 << 32), ("fault.cr2", 0)), "fit"),
        ("page_fault", (*RUN_ON, ("fault.error_code", 1), ("fault.cr2", 1 << 48)), "fit"),
        ("nmi", (*RUN_ON[:3], ("hole.memory", 1 << 64), *RUN_ON[4:]), "fit"),
        ("nmi", (*RUN_ON[:-1], ("hole.memory", 1 << 8)), "fit"),
    ],
)
def test_choices_that_do_not_match(event, choices, reason):
    with pytest.raises(Disagreement, match=reason):
        hole_lab().step(in_hole(), event, *choices)


def test_latched_nmi_does_not_let_the_hidden_code_run_on():
    before = kernel(TEXT + 4, rsp=LOW, blocked=True)
    assert hole_lab().latch(before).state.cells == before.cells


def test_hole_whose_stack_leaves_its_region():
    state = kernel(TEXT + 4, rsp=KSTACK - 8)
    outcome = hole_lab().step(state, "execute", *RUN_ON[:3])
    assert outcome.ended == "wild-write"


def test_user_home_may_have_the_address_of_an_instruction():
    """P4: a user rip is any canonical address; it is the CPL that tells the contexts apart."""
    before = user(TEXT)
    lab = Lab(nop, nop, home=TEXT, start=before)
    assert lab.step(before, "nmi").state.read(NMI_TOP - 40, 8) == TEXT
    assert lab.step(kernel(TEXT)).ended is None
    with pytest.raises(Disagreement):
        lab.step(before)


def test_user_frame_uses_no_byte_of_the_user_stack():
    before = user(rsp=USER_RSP)
    outcome = Lab(nop, home=HOME, start=before).step(before, "irq")
    assert all(RSP0 <= address < RSP0_TOP for address, _ in outcome.writes)
