"""IRET, far RET, SYSRET: checks in their order, error codes, flags, NMI blocking (rules R1-R12, N4, I8)."""

from __future__ import annotations

import pytest
from interpreter_machine import (
    ENTRIES,
    GATES,
    HOME,
    KERNEL_HOME,
    KERNEL_RSP,
    KSTACK,
    LENGTH,
    SIZE,
    STACK_FAULT_GATE,
    TEXT,
    USER_RSP,
    Lab,
    flags_image,
    kernel,
    memory_of,
    nop,
    user,
    words_at,
)

from verifier.errors import LiftError
from verifier.trace.run import ConcreteState, Disagreement

GP = ENTRIES["general_protection"]
NON_CANONICAL = 0x0000_8000_0000_0000
SELF = TEXT + 4


def iret(size=64):
    return lambda b: b.end("iret", attr=size)


def returning(frame, size=8, **state):
    """A state about to return by this frame: rip, cs, rflags, rsp, ss."""
    made = kernel(**state)
    memory = {}
    for i, word in enumerate(frame):
        memory |= memory_of({made.cells["rsp"] + size * i: word}, size)
    return ConcreteState(made.rip, made.cells, memory, made.nmi_blocked, made.nmi_pending)


def lab(size=64, **options):
    return Lab(iret(size), nop, **options)


def test_return_to_the_same_level_goes_on():
    state = returning([SELF, 0x10, 0x2, 0x1234, 0x18])
    outcome = lab().step(state)
    assert (outcome.ended, outcome.state.rip, outcome.state.cells["rsp"]) == (None, SELF, 0x1234)
    assert outcome.writes == ()


#: cs, ss, rip -> how the run goes on
TARGETS = [
    (0x33, 0x2B, HOME, "home", 3),
    (0x33, 0x2B, HOME + 1, "wild-jump", 3),
    (0x33, 0x2B, TEXT, "wild-jump", 3),
    (0x10, 0x18, TEXT + 1, "wild-jump", 0),
    (0x10, 0x18, TEXT + LENGTH, None, 0),
    (0x10, 0x18, TEXT + 2 * LENGTH, "wild-jump", 0),
    (0x10, 0x18, 0, "wild-jump", 0),
    (0x10, 0x18, HOME, "wild-jump", 0),
    (0x23, 0x2B, HOME, "home", 3),
    (0x10, 0, TEXT + LENGTH, None, 0),
]


@pytest.mark.parametrize(("cs", "ss", "rip", "ended", "cpl"), TARGETS)
def test_where_a_return_leads(cs, ss, rip, ended, cpl):
    outcome = lab(home=HOME, start=user()).step(returning([rip, cs, 2, USER_RSP, ss]))
    assert outcome.ended == ended
    after = outcome.state
    assert (after.rip, after.cells["cs"], after.cells["ss"]) == (rip, cs, ss)
    assert (after.cells["cpl"], after.cells["rsp"]) == (cpl, USER_RSP)
    assert outcome.delivered == ()


#: what is wrong with the frame -> error code. Rows that break two rules say which check comes first (R4).
FAULTS = [
    ("null cs", [SELF, 0x0, 2, 0, 0x18], 0),
    ("null cs with rpl", [SELF, 0x3, 2, 0, 0x18], 0),
    ("cs beyond the table", [SELF, 0x40, 2, 0, 0x18], 0x40),
    ("cs beyond the table, rpl dropped", [SELF, 0x43, 2, 0, 0x18], 0x40),
    ("cs in a local table, bit kept", [SELF, 0x14, 2, 0, 0x18], 0x14),
    ("cs is data", [SELF, 0x18, 2, 0, 0x18], 0x18),
    ("cs rpl 0 of a user segment", [SELF, 0x30, 2, 0, 0x18], 0x30),
    ("cs rpl 3 of a kernel segment", [SELF, 0x13, 2, 0, 0x2B], 0x10),
    ("null ss for cpl 3", [HOME, 0x33, 2, 0, 0x0], 0),
    ("null ss rpl 3 for cpl 3", [HOME, 0x33, 2, 0, 0x3], 0),
    ("null ss for cpl 0 with rpl 3", [SELF, 0x10, 2, 0, 0x3], 0),
    ("null ss for 32-bit code", [HOME, 0x23, 2, 0, 0x3], 0),
    ("ss beyond the table", [SELF, 0x10, 2, 0, 0x48], 0x48),
    ("ss is code", [SELF, 0x10, 2, 0, 0x10], 0x10),
    ("ss rpl not that of cs", [HOME, 0x33, 2, 0, 0x28], 0x28),
    ("ss dpl not its rpl", [SELF, 0x10, 2, 0, 0x28], 0x28),
    ("ss of the kernel for user", [HOME, 0x33, 2, 0, 0x1B], 0x18),
    ("rip", [NON_CANONICAL, 0x10, 2, 0, 0x18], 0),
    ("rip, user", [NON_CANONICAL, 0x33, 2, 0, 0x2B], 0),
    ("rip of 32-bit code", [1 << 32, 0x23, 2, 0, 0x2B], 0),
    ("null cs before ss", [SELF, 0x0, 2, 0, 0x48], 0),
    ("cs before ss", [SELF, 0x40, 2, 0, 0x48], 0x40),
    ("cs before rip", [NON_CANONICAL, 0x40, 2, 0, 0x18], 0x40),
    ("ss before rip", [NON_CANONICAL, 0x10, 2, 0, 0x48], 0x48),
]


@pytest.mark.parametrize(("frame", "error"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
@pytest.mark.parametrize("pending", [False, True])
def test_faulting_return_commits_nothing_but_the_end_of_blocking(frame, error, pending):
    before = returning(frame, blocked=True, pending=pending, cf=1)
    outcome = lab(home=HOME, start=user()).step(before)
    after = outcome.state
    assert outcome.delivered == ("general_protection",)
    assert (after.rip, after.nmi_blocked, after.nmi_pending) == (GP, False, pending)
    top = KERNEL_RSP & ~15
    assert after.cells["rsp"] == top - 48
    saved = [error, TEXT, 0x10, flags_image(cf=1, rf=1), KERNEL_RSP, 0x18]
    assert words_at(after, top - 48, 6) == saved
    assert words_at(after, KERNEL_RSP, 5) == frame
    same = set(before.cells) - {"rsp"}
    assert {c: after.cells[c] for c in same} == {c: before.cells[c] for c in same}


def test_nested_task_faults_before_the_stack_is_read():
    outcome = lab().step(kernel(rsp=KSTACK + SIZE, nt=1, blocked=True))
    assert outcome.delivered == ("general_protection",)
    assert not outcome.state.nmi_blocked
    assert outcome.state.cells["nt"] == 0


def test_pending_nmi_strikes_the_first_boundary_of_the_fault_handler():
    """N7 after N4: the NMI comes before any instruction of the #GP handler."""
    machine = lab()
    after = machine.step(returning([SELF, 0, 2, 0, 0], blocked=True, pending=True)).state
    with pytest.raises(Disagreement, match="pending"):
        machine.step(after)
    nmi = machine.step(after, "nmi").state
    assert nmi.read(nmi.cells["rsp"], 8) == GP
    assert (nmi.nmi_blocked, nmi.nmi_pending) == (True, False)


@pytest.mark.parametrize(
    ("terminator", "blocked"),
    [("iret", False), ("lret", True), ("jump", True), ("next", True), ("sysret", True)],
)
def test_only_iret_unblocks(terminator, blocked):
    """N4, N5."""
    attr = SELF if terminator == "jump" else 64
    machine = Lab(lambda b: b.end(terminator, attr=attr), nop, home=HOME, start=user())
    state = returning([SELF, 0x10, 2, KERNEL_RSP, 0x18], blocked=True, rcx=HOME)
    assert machine.step(state).state.nmi_blocked is blocked


def test_pops_off_a_non_canonical_stack():
    """The frame of the #SS needs a stack of its own: here the NMI's."""
    outcome = lab(gates=GATES | STACK_FAULT_GATE).step(kernel(rsp=NON_CANONICAL, blocked=True))
    assert outcome.delivered == ("stack_fault",)
    assert not outcome.state.nmi_blocked
    assert outcome.state.read(outcome.state.cells["rsp"], 8) == 0


@pytest.mark.parametrize("rsp", [KSTACK + SIZE - 32, KSTACK - 8, 0x1000, NON_CANONICAL - 32])
def test_pops_outside_every_region(rsp):
    outcome = lab().step(kernel(rsp=rsp))
    assert (outcome.ended, outcome.delivered) == ("wild-read", ())


ALL = {name: 1 for name in ("cf", "pf", "af", "zf", "sf", "tf", "df", "of", "nt", "rf", "ac", "id")}
EVERY_BIT = (1 << 64) - 1
#: operand size, cpl, iopl before -> flags after an image of all ones, and of all zeros
FLAG_ROWS = [
    (64, 0, 0, ALL | {"if": 1, "iopl": 3, "vif": 1, "vip": 1, "vm": 0}),
    (32, 0, 0, ALL | {"if": 1, "iopl": 3, "vif": 1, "vip": 1, "vm": 0}),
    (16, 0, 0, ALL | {"if": 1, "iopl": 3, "vif": 0, "vip": 0, "vm": 0, "rf": 0, "ac": 0, "id": 0}),
]


@pytest.mark.parametrize(("size", "cpl", "iopl", "expected"), FLAG_ROWS)
def test_flags_loaded_by_iret(size, cpl, iopl, expected):
    mask = (1 << size) - 1
    frame = [SELF & mask, 0x10, EVERY_BIT & mask, 0x2000 & mask, 0x18]
    after = lab(size).step(returning(frame, size // 8)).state
    assert {f: after.cells[f] for f in expected} == expected


def test_flags_cleared_by_iret():
    """Loaded flags go to 0 too; VM, VIF and VIP of the image are 0 here, and NT has to be 0 before."""
    ones = {f + "_": 1 for f in ALL if f not in ("nt", "tf")} | {"iopl": 3, "if_": 1}
    after = lab().step(returning([SELF, 0x10, 2, 0x2000, 0x18], **ones)).state
    assert all(after.cells[f] == 0 for f in (*ALL, "if", "iopl"))


def test_32_bit_iret_pops_dwords():
    """R1, R3: what GNU as makes of a bare `iret`."""
    frame = [0xFFFF_FFFF, 0x33, 0x202, 0xE000_0000, 0x2B]
    outcome = lab(32, home=0xFFFF_FFFF, start=user()).step(returning(frame, 4))
    after = outcome.state
    assert (outcome.ended, after.rip, after.cells["rsp"]) == ("home", 0xFFFF_FFFF, 0xE000_0000)
    assert (after.cells["cs"], after.cells["ss"], after.cells["if"]) == (0x33, 0x2B, 1)


def test_32_bit_iret_off_a_64_bit_frame():
    """The sketch's literal reading: the upper half of the saved rip becomes CS."""
    frame = [KERNEL_HOME, 0x10, 2, KERNEL_RSP, 0x18]
    outcome = lab(32).step(returning(frame))
    assert outcome.delivered == ("general_protection",)
    assert outcome.state.read(outcome.state.cells["rsp"], 8) == 0xFFFC


@pytest.mark.parametrize(
    ("selector", "after"), [(0x18, 0), (0x1B, 0), (0x10, 0), (0x2B, 0x2B), (0, 0), (0x33, 0x33), (0x63, 0x63)]
)
def test_outer_return_nulls_kernel_data_segments(selector, after):
    """R10: bases stay."""
    state = returning(
        [HOME, 0x33, 2, USER_RSP, 0x2B],
        **dict.fromkeys(("ds", "es", "fs", "gs"), selector),
        gs_base=5,
        fs_base=6,
    )
    cells = lab(home=HOME, start=user()).step(state).state.cells
    assert [cells[s] for s in ("ds", "es", "fs", "gs")] == [after] * 4
    assert (cells["gs_base"], cells["fs_base"]) == (5, 6)


def test_inner_return_keeps_data_segments():
    cells = lab().step(returning([SELF, 0x10, 2, 0x2000, 0x18], ds=0x18)).state.cells
    assert cells["ds"] == 0x18


#: pops rip and cs only
LRETS = [
    ([SELF, 0x10], None, 0),
    ([SELF, 0], "general_protection", 0),
    ([SELF, 0x40], "general_protection", 0x40),
    ([SELF, 0x13], "general_protection", 0x10),
    ([NON_CANONICAL, 0x10], "general_protection", 0),
]


@pytest.mark.parametrize(("frame", "fault", "error"), LRETS)
def test_far_return(frame, fault, error):
    outcome = Lab(lambda b: b.end("lret", attr=64), nop).step(returning(frame, cs=8))
    if fault is None:
        assert outcome.state.cells["cs"] == 0x10
        assert (outcome.state.rip, outcome.state.cells["rsp"]) == (SELF, KERNEL_RSP + 16)
    else:
        assert outcome.delivered == (fault,)
        assert outcome.state.read(outcome.state.cells["rsp"], 8) == error


def test_far_return_to_user_is_not_supported():
    with pytest.raises(LiftError):
        Lab(lambda b: b.end("lret", attr=64)).step(returning([HOME, 0x33]))


def sysret(size=64):
    return Lab(lambda b: b.end("sysret", attr=size), home=HOME, start=user())


def test_sysret():
    """I8: RF and VM cleared, RSP unchanged, no data segment touched."""
    outcome = sysret().step(kernel(rcx=HOME, r11=EVERY_BIT, ds=0x18))
    cells = outcome.state.cells
    assert outcome.ended == "home"
    assert (cells["cs"], cells["ss"], cells["cpl"]) == (0x33, 0x2B, 3)
    assert (cells["rsp"], cells["ds"]) == (KERNEL_RSP, 0x18)
    assert all(cells[f] for f in (*ALL, "if") if f != "rf")
    assert (cells["rf"], cells["vm"], cells["iopl"]) == (0, 0, 3)


def test_sysret_to_32_bit_code():
    outcome = sysret(32).step(kernel(rcx=0xDEAD_0000_0000 | HOME))
    assert (outcome.ended, outcome.state.cells["cs"], outcome.state.cells["ss"]) == ("home", 0x23, 0x2B)


def test_sysret_to_a_non_canonical_address_faults_at_cpl_0():
    outcome = sysret().step(kernel(rcx=NON_CANONICAL, r11=0, blocked=True))
    assert outcome.delivered == ("general_protection",)
    assert words_at(outcome.state, outcome.state.cells["rsp"], 3) == [0, TEXT, 0x10]
    assert outcome.state.nmi_blocked
