"""One instruction: operations, memory, rollback, traps, control (rules A1 to A11, I4, I5, S3, S6, F2, N9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from interpreter_machine import (
    ENTRIES,
    GATES,
    GS,
    HOME,
    KERNEL_HOME,
    KERNEL_RSP,
    KSTACK,
    NMI_IST,
    PERCPU,
    PLAIN,
    READ_ONLY,
    SIZE,
    STACK,
    STACK_FAULT_GATE,
    TEXT,
    Lab,
    flags_image,
    gate,
    kernel,
    nop,
    user,
    words_at,
)

from verifier.errors import LiftError
from verifier.ir import Access
from verifier.trace.interpreter.deliver import Delivery
from verifier.trace.interpreter.memory import Memory
from verifier.trace.interpreter.work import Choices, Work
from verifier.trace.run import Disagreement, Start

NON_CANONICAL = 0x0000_8000_0000_0000
SELF = TEXT + 4
GS_BASE = 0xC000_0101


def load(access=PLAIN, width=64):
    def build(b):
        value = b.load(b.get("rbx"), width, access)
        b.put("rax", b.zext(value, 64))

    return build


def store(access=PLAIN, width=64):
    return lambda b: b.store(b.get("rbx"), b.extract(b.get("rax"), width - 1, 0), access)


#: address, width -> ended, or the name of the fault; for plain and for stack accesses
ADDRESSES = [
    (PERCPU, 64, None),
    (PERCPU + SIZE - 8, 64, None),
    (PERCPU + SIZE - 7, 64, "wild"),
    (PERCPU + SIZE - 1, 8, None),
    (PERCPU - 1, 16, "wild"),
    (NMI_IST, 32, None),
    (KSTACK, 64, None),
    (0, 64, "wild"),
    (TEXT, 8, "wild"),
    (NON_CANONICAL, 8, "fault"),
    (NON_CANONICAL - 7, 64, "fault"),
    (NON_CANONICAL - 8, 64, "wild"),
    (0xFFFF_7FFF_FFFF_FFFF, 16, "fault"),
    (0xFFFF_8000_0000_0000, 16, "wild"),
    (0xFFFF_FFFF_FFFF_FFFC, 64, "wild"),
]


@pytest.mark.parametrize(("address", "width", "result"), ADDRESSES)
@pytest.mark.parametrize("access", [PLAIN, STACK, GS])
@pytest.mark.parametrize(("make", "kind"), [(load, "wild-read"), (store, "wild-write")])
def test_addresses(address, width, result, access, make, kind):
    lab = Lab(make(access, width), nop, gates=GATES | STACK_FAULT_GATE)
    outcome = lab.step(kernel(rbx=address))
    fault = "stack_fault" if access is STACK else "general_protection"
    expected = {None: (None, ()), "wild": (kind, ()), "fault": (None, (fault,))}[result]
    assert (outcome.ended, outcome.delivered) == expected


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_little_endian(width):
    value = 0x1122_3344_5566_7788
    stored = Lab(store(width=width), load(width=width), nop)
    after = stored.step(kernel(rbx=PERCPU + 3, rax=value))
    assert after.writes == ((PERCPU + 3, width // 8),)
    assert after.state.read(PERCPU + 3, 8) == value & ((1 << width) - 1)
    again = stored.step(after.state).state
    assert again.cells["rax"] == value & ((1 << width) - 1)


@pytest.mark.parametrize(("offset", "width", "value"), [(0, 64, 0x0807060504030201), (12, 32, 0x100F0E0D)])
def test_read_only_region_has_its_contents(offset, width, value):
    lab = Lab(load(width=width), nop)
    assert lab.step(kernel(rbx=READ_ONLY + offset)).state.cells["rax"] == value
    assert Lab(store(), nop).step(kernel(rbx=READ_ONLY)).ended == "wild-write"


def test_puts_take_effect_together_and_loads_see_earlier_stores():
    def exchange(b):
        rax, rbx = b.get("rax"), b.get("rbx")
        b.put("rax", rbx)
        b.put("rcx", b.get("rax"))
        b.store(b.const(PERCPU, 64), rax, PLAIN)
        b.put("rdx", b.load(b.const(PERCPU, 64), 64, PLAIN))
        b.put("rbx", rax)

    cells = Lab(exchange, nop).step(kernel(rax=1, rbx=2)).state.cells
    assert [cells[r] for r in ("rax", "rbx", "rcx", "rdx")] == [2, 1, 1, 1]


def storing_then(last):
    """Everything that a fault has to undo: a store, a put, a shadow."""

    def build(b):
        b.store(b.const(PERCPU, 64), b.const(7, 64), PLAIN)
        b.put("rax", b.const(9, 64))
        b.put("inhibit", b.const(1, 2))
        last(b)

    return build


#: last part -> fault, error code pushed
ROLLBACKS = [
    ("fault_if", lambda b: b.fault_if(b.const(1, 1), 13, b.const(0x50, 32)), "general_protection", 0x50),
    ("fault_if without error code", lambda b: b.fault_if(b.const(1, 1), 1, b.const(5, 32)), "debug", None),
    ("load", lambda b: b.load(b.const(NON_CANONICAL, 64), 8, PLAIN), "general_protection", 0),
    ("branch", lambda b: b.end("jump_indirect", b.const(NON_CANONICAL, 64)), "general_protection", 0),
    ("ud2", lambda b: b.end("exception", attr=14), "page_fault", 0),
    ("iret", lambda b: b.end("iret", attr=64), "general_protection", 0),
    ("wrmsr", lambda b: b.wrmsr(b.const(GS_BASE, 32), b.const(1 << 63, 64)), "general_protection", 0),
]


@pytest.mark.parametrize(
    ("last", "fault", "error"), [r[1:] for r in ROLLBACKS], ids=[r[0] for r in ROLLBACKS]
)
def test_faults_roll_everything_back(last, fault, error):
    before = kernel(rax=1, zf=1)
    outcome = Lab(storing_then(last)).step(before)
    after = outcome.state
    assert outcome.delivered == (fault,)
    assert after.rip == ENTRIES[fault]
    assert after.read(PERCPU, 8) == 0
    assert (after.cells["rax"], after.cells["inhibit"]) == (1, 0)
    frame = words_at(after, after.cells["rsp"], 6)
    if error is not None:
        assert frame.pop(0) == error
    rf = 0 if fault == "debug" else 1
    assert frame[:5] == [TEXT, 0x10, flags_image(zf=1, rf=rf), KERNEL_RSP, 0x18]
    assert all(KSTACK <= address < KSTACK + SIZE for address, _ in outcome.writes)


@pytest.mark.parametrize("condition", [0, 1])
def test_fault_if_and_branch_look_at_their_condition(condition):
    def build(b):
        b.fault_if(b.unary("not", b.get("cf")), 13)
        b.end("branch", b.get("zf"), attr=TEXT + 8)

    after = Lab(build, nop, nop).step(kernel(cf=1, zf=condition)).state
    assert after.rip == (TEXT + 8 if condition else SELF)
    assert Lab(build, nop, nop).step(kernel(zf=condition)).delivered == ("general_protection",)


@pytest.mark.parametrize(("target", "ended"), [(SELF, None), (TEXT + 1, "wild-jump"), (KERNEL_HOME, "home")])
def test_where_a_jump_leads(target, ended):
    for last in (
        lambda b: b.end("jump", attr=target),
        lambda b: b.end("jump_indirect", b.const(target, 64)),
    ):
        outcome = Lab(last, nop).step(kernel())
        assert (outcome.ended, outcome.state.rip) == (ended, target)


@pytest.mark.parametrize("skip", [0, 1])
def test_skipped_instruction_only_ends(skip):
    """REP with a count of 0: the shadow and RF end, and a trap follows, as after any instruction."""

    def build(b):
        b.put("rax", b.const(9, 64))
        b.skip_if(b.get("zf"))
        b.put("rf", b.const(1, 1))
        b.end("branch", b.const(1, 1), attr=TEXT)

    lab = Lab(build, nop)
    after = lab.step(kernel(zf=skip, rf=1, inhibit=1)).state
    assert (after.rip, after.cells["rf"], after.cells["inhibit"]) == ((SELF, 0, 0) if skip else (TEXT, 1, 0))
    assert after.cells["rax"] == (0 if skip else 9)
    assert lab.step(kernel(zf=skip, tf=1)).delivered == ("debug",)


def test_falling_off_the_program_is_a_wild_jump():
    assert Lab(nop).step(kernel()).ended == "wild-jump"


def test_undefined_values_are_asked_for_in_order():
    def build(b):
        b.put("cf", b.undef(1))
        b.put("rax", b.undef(64))

    lab = Lab(build, nop)
    cells = lab.step(kernel(), "execute", ("undef", 1), ("undef", 1 << 63)).state.cells
    assert (cells["cf"], cells["rax"]) == (1, 1 << 63)
    for choices in ((("undef", 1),), (("undef", 2), ("undef", 0)), (("undef", 1),) * 3, (("load", 1),)):
        with pytest.raises(Disagreement):
            lab.step(kernel(), "execute", *choices)


USER_GS = 0x7000_0000_0000


@pytest.mark.parametrize(
    ("context", "gs_base", "access", "chosen"),
    [
        ("user", USER_GS, GS, True),
        ("user", PERCPU, GS, False),
        ("user", USER_GS, PLAIN, False),
        ("user", USER_GS, Access(segment="ds"), False),
        ("user", USER_GS, Access(segment="fs"), True),
        ("kernel", USER_GS, GS, False),
    ],
)
def test_reads_through_a_user_gs_base_are_choices(context, gs_base, access, chosen):
    start = user(gs_base=USER_GS) if context == "user" else kernel(gs_base=USER_GS)
    lab = Lab(load(access), nop, home=HOME, start=start)
    state = kernel(rbx=USER_GS + 0x10, gs_base=gs_base)
    if chosen:
        assert lab.step(state, "execute", ("load", 77)).state.cells["rax"] == 77
        for choices in ((), (("load", 1 << 64),), (("load", 1), ("load", 1))):
            with pytest.raises(Disagreement):
                lab.step(state, "execute", *choices)
    else:
        assert lab.step(state).ended == "wild-read"


def test_user_gs_base_that_points_into_a_region_reads_it():
    start = user(gs_base=PERCPU)
    lab = Lab(load(GS), nop, home=HOME, start=start)
    state = kernel(rbx=PERCPU, gs_base=PERCPU, words={PERCPU: 5})
    assert lab.step(state).state.cells["rax"] == 5
    assert lab.step(kernel(rbx=NON_CANONICAL, gs_base=PERCPU)).delivered == ("general_protection",)


def test_stores_through_a_user_gs_base_are_wild():
    lab = Lab(store(GS), nop, home=HOME, start=user(gs_base=USER_GS))
    assert lab.step(kernel(rbx=USER_GS, gs_base=USER_GS)).ended == "wild-write"


MSRS = [(0xC000_0100, "fs_base"), (0xC000_0101, "gs_base"), (0xC000_0102, "kernel_gs_base")]


@pytest.mark.parametrize(("index", "cell"), MSRS)
def test_msrs_are_cells(index, cell):
    def build(b):
        b.put("rax", b.rdmsr(b.const(index, 32)))
        b.wrmsr(b.const(index, 32), b.get("rbx"))

    cells = Lab(build, nop).step(kernel(rbx=4, **{cell: 3})).state.cells
    assert (cells["rax"], cells[cell]) == (3, 4)


@pytest.mark.parametrize(
    "build",
    [lambda b: b.rdmsr(b.const(0x10, 32)), lambda b: b.end("syscall")],
    ids=["rdmsr", "syscall"],
)
def test_what_is_not_modelled_is_an_error_with_its_place(build):
    with pytest.raises(LiftError) as raised:
        Lab(build, nop).step(kernel())
    assert raised.value.span is not None


def test_rf_goes_to_0_unless_the_instruction_loads_it():
    assert Lab(nop, nop).step(kernel(rf=1)).state.cells["rf"] == 0
    assert Lab(lambda b: b.put("rf", b.const(1, 1)), nop).step(kernel()).state.cells["rf"] == 1


def put(cell, value, width):
    return lambda b: b.put(cell, b.const(value, width))


mov_ss, sti, set_tf = put("inhibit", 2, 2), put("inhibit", 1, 2), put("tf", 1, 1)


@pytest.mark.parametrize(
    ("step", "inhibit", "tf", "trap"),
    [
        (nop, 0, 0, False),
        (nop, 0, 1, True),
        (set_tf, 0, 0, False),
        (put("tf", 0, 1), 0, 1, True),
        (sti, 0, 1, True),
        (mov_ss, 0, 1, False),
        (nop, 2, 1, True),
        (mov_ss, 2, 1, False),
        (lambda b: b.end("halt"), 0, 1, True),
        (lambda b: b.end("jump", attr=TEXT + 4), 0, 1, True),
    ],
)
def test_single_step_trap(step, inhibit, tf, trap):
    """I4: by TF at the start of the instruction; S3: not right after an SS load."""
    outcome = Lab(step, nop).step(kernel(tf=tf, inhibit=inhibit, dr6=1))
    after = outcome.state
    assert outcome.delivered == (("debug",) if trap else ())
    assert after.cells["dr6"] == (0x4001 if trap else 1)
    if trap:
        assert after.cells["tf"] == 0
        assert words_at(after, after.cells["rsp"], 2) == [TEXT + 4, 0x10]


def test_fault_takes_the_place_of_the_trap():
    outcome = Lab(lambda b: b.fault_if(b.const(1, 1), 13)).step(kernel(tf=1, inhibit=2))
    assert outcome.delivered == ("general_protection",)
    assert outcome.state.read(outcome.state.cells["rsp"] + 24, 8) == flags_image(tf=1, rf=1)
    assert outcome.state.cells["dr6"] == 0


def test_trap_without_gate():
    gates = {v: g for v, g in GATES.items() if v != 1}
    assert Lab(nop, nop, gates=gates).step(kernel(tf=1)).ended == "no-gate"


def software(vector):
    return lambda b: b.end("interrupt", attr=vector)


def test_int3_saves_the_next_rip():
    outcome = Lab(software(3), nop).step(kernel(if_=1, rf=1, nt=1))
    after = outcome.state
    assert outcome.delivered == ("breakpoint",)
    saved = flags_image(if_=1, nt=1)
    assert words_at(after, after.cells["rsp"], 5) == [SELF, 0x10, saved, KERNEL_RSP, 0x18]
    assert (after.cells["if"], after.cells["nt"]) == (1, 0)


@pytest.mark.parametrize("vector", [2, 13, 14])
def test_int_n_pushes_no_error_code_and_blocks_nothing(vector):
    """F8, N9."""
    after = Lab(software(vector), nop).step(kernel(pending=False)).state
    assert not after.nmi_blocked
    assert after.read(after.cells["rsp"], 8) == SELF


def test_int_n_in_the_shadow_of_an_ss_load_may_trap_in_its_handler():
    """S6."""
    lost = Lab(software(3), nop).step(kernel(tf=1, inhibit=2))
    assert lost.delivered == ("breakpoint",)
    outcome = Lab(software(3), nop, rules={"int_keeps_held_trap": 1}).step(kernel(tf=1, inhibit=2))
    after = outcome.state
    assert outcome.delivered == ("breakpoint", "debug")
    assert after.read(after.cells["rsp"], 8) == ENTRIES["breakpoint"]
    assert Lab(software(3), nop).step(kernel(tf=1)).delivered == ("breakpoint",)


@pytest.mark.parametrize(("dpl", "delivered"), [(0, "general_protection"), (3, "software_interrupt")])
def test_int_n_looks_at_the_gate_s_dpl(dpl, delivered):
    """F2: a #GP at the instruction with the vector's error code, EXT=0; hardware events never look."""
    lab = Lab(nop, gates=GATES | {0x80: replace(gate("irq"), vector=0x80, dpl=dpl)})
    start = Start(user(), HOME, {"kstack": KSTACK}, {})
    work = Work.of(user(), Choices(()))
    Delivery(lab.machine, start, Memory(lab.machine, start)).software(work, 0x80, HOME + 2, HOME)
    after = work.state()
    assert work.delivered == [delivered]
    frame = words_at(after, after.cells["rsp"], 3)
    assert frame == ([0x402, HOME, 0x33] if dpl == 0 else [HOME + 2, 0x33, flags_image(if_=1)])


def test_halt_goes_on_and_says_so():
    outcome = Lab(lambda b: b.end("halt"), nop).step(kernel())
    assert (outcome.state.rip, outcome.ended) == (SELF, None)
    assert "halted" in outcome.detail


def test_step_changes_neither_its_state_nor_the_interpreter():
    lab = Lab(storing_then(nop), nop)
    before = kernel()
    first = lab.step(before)
    assert before == kernel()
    assert lab.step(before) == first
