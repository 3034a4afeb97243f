"""Rules of the machine, each against an outcome worked out by hand from the manual (docs/machine-model.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_case import (
    BAD,
    EDGE,
    HANDLERS,
    HOME_RIP,
    IST,
    MIDDLE,
    RSP0,
    SEGMENTS,
    SIZE,
    STACK,
    After,
    Case,
    flags,
)

from verifier.ir.cells import CELL_NAMES
from verifier.machine.config import Segment
from verifier.machine.state import HOME
from verifier.machine.step import HELD
from verifier.terms import add, const

# delivery


@pytest.mark.parametrize("skew", range(16))
def test_rsp_is_rounded_down_to_16_and_saved_as_it_was(skew):
    """F6, F7."""
    after = Case("nop", rsp=MIDDLE + skew).one("nmi")
    assert after.rsp == MIDDLE - 40
    assert after.frame() == [after.address("start"), 0x10, flags(), MIDDLE + skew, 0x18]


def test_an_ist_stack_is_used_whatever_the_cpl_and_though_it_is_in_use():
    """F4."""
    for at_home in (False, True):
        after = Case("nop", ist=("nmi",), rsp=IST + SIZE - 8, at_home=at_home).one("nmi")
        assert after.rsp == IST + SIZE - 40


def test_change_of_cpl_loads_rsp0_and_a_null_ss():
    """F4, F10."""
    after = Case("nop", at_home=True).one("nmi")
    assert (after.rsp, after.ss, after.cs, after.cpl) == (RSP0 + SIZE - 40, 0, 0x10, 0)
    assert after.frame() == [HOME_RIP, 0x33, flags(), 0x7FFF_0000, 0x2B]


def test_an_ist_stack_without_change_of_cpl_may_null_ss():
    """F10: either way, the same for a whole run."""
    for nulls, ss in ((0, 0x18), (1, 0)):
        rules = {"ist_nulls_ss": nulls}
        assert Case("nop", ist=("nmi",), rules=rules).one("nmi").ss == ss
        assert Case("nop", rules=rules).one("nmi").ss == 0x18


@pytest.mark.parametrize("kind", ["interrupt", "trap"])
def test_flags_that_a_gate_clears(kind):
    """F11, F12."""
    given = dict.fromkeys(("if_", "tf", "nt", "rf", "ac", "df", "id", "cf"), 1) | {"iopl": 3}
    after = Case("nop", trap=("machine_check",) if kind == "trap" else ()).one("machine_check", **given)
    kept = {n: after.cells()[n.rstrip("_")] for n in given}
    cleared = {"tf": 0, "nt": 0, "rf": 0} | ({"if_": 0} if kind == "interrupt" else {})
    assert kept == given | cleared
    assert after.frame()[2] == flags(**given)


@pytest.mark.parametrize(("text", "vector", "error", "rf"), [
    ("ud2", "invalid_opcode", None, 1),
    ("int3", "breakpoint", None, 0),
    ("jmp *%rax", "general_protection", 0, 1),
    ("push %rax", "stack_fault", 0, 1),
    ("mov (%rax), %rcx", "general_protection", 0, 1),
    ("mov (%rbp), %rcx", "stack_fault", 0, 1),
    ("int $0x80", "software_interrupt", None, 0),
])  # fmt: skip
def test_frames_of_faults_and_traps(text, vector, error, rf):
    """A2, A3, A9, F8, F13, F14: saved rip and RF, error code or none; a fault undoes the instruction."""
    case = Case(text, ist=tuple(HANDLERS), rsp=BAD + 8 if "push" in text else MIDDLE)
    if vector == "invalid_opcode":
        assert case.one().edge.ended == "no-gate"
        return
    after = case.one(rax=BAD, rbp=BAD, rf=0)
    assert after.edge.delivered == (vector,)
    words = after.frame(5 if error is None else 6)
    if error is not None:
        assert words.pop(0) == error
    length = after.case.program.instructions[after.address("start")].length
    assert words == [after.address("start") + (0 if rf else length), 0x10, flags(rf=rf), case.rsp, 0x18]


def test_int_n_of_a_gate_of_too_low_a_dpl_is_no_matter_at_cpl_0_and_an_nmi_vector_blocks_nothing():
    """F2, N9."""
    after = Case("int $2").one()
    assert (after.where, after.edge.state.nmi_blocked) == ("nmi", False)


def test_a_fault_undoes_what_its_instruction_had_written():
    """A3, A9: CALL had pushed the return address."""
    after = Case("call *%rax", ist=("general_protection",)).one(rax=BAD)
    assert after.frame(6)[4] == MIDDLE
    pushed = after.layout.location(after.layout.number["stack"], (MIDDLE - STACK) // 8 - 1)
    assert pushed not in after.edge.state.memory


# faults during delivery


def test_fault_in_the_delivery_of_an_event_has_ext_set():
    """F5, F9, H2: an NMI is benign, so #SS(EXT) is delivered; H5: NMIs are then blocked, or not."""
    for blocks in (0, 1):
        case = Case("nop", ist=("stack_fault",), rsp=BAD + 8, rules={"fault_in_nmi_delivery_blocks": blocks})
        after = case.one("nmi", ac=1, id=1)
        assert after.edge.state.nmi_blocked is bool(blocks)
        assert after.edge.delivered == ("stack_fault",)
        assert after.frame(6) == [1, after.address("start"), 0x10, flags(rf=1, ac=1, id=1), BAD + 8, 0x18]


def test_fault_in_the_delivery_of_int_n_has_ext_clear_and_saves_the_instruction():
    """F9, F13, A9."""
    after = Case("int $0x80", ist=("stack_fault",), rsp=BAD + 8).one()
    assert after.frame(6) == [0, after.address("start"), 0x10, flags(rf=1), BAD + 8, 0x18]


def test_a_second_contributory_fault_is_a_double_fault_and_a_third_shuts_down():
    """H2, H3; F14: #DF is no fault, and saves RF as it is."""
    case = Case("jmp *%rax", ist=("double_fault",), rsp=BAD + 8)
    after = case.one(rax=BAD)
    assert (after.edge.delivered, after.frame(6)[0]) == (("double_fault",), 0)
    assert after.frame(6)[3] == flags()
    assert Case("jmp *%rax", rsp=BAD + 8).one(rax=BAD).edge.ended == "shutdown"
    without = Case("jmp *%rax", rsp=BAD + 8, without=("double_fault",)).one(rax=BAD)
    assert without.edge.ended == "double-fault"


def test_a_frame_that_leaves_its_region_is_a_wild_write():
    """F16."""
    assert Case("nop", rsp=STACK + 32).one("nmi").edge.ended == "wild-write"
    assert Case("nop", rsp=STACK + 48).one("nmi").edge.ended is None


def test_a_fault_within_a_frame_leaves_registers_and_memory():
    """F15: the frame would cross the end of the canonical half; any of its words above that may have been written."""
    case = Case("nop", ist=("stack_fault",), rsp=EDGE + 0x18)
    seen = set()
    for after in case.go("machine_check"):
        assert after.edge.delivered == ("stack_fault",)
        assert after.frame(6)[4] == case.rsp
        state = after.outcome().state
        seen.add((state.read(EDGE + 8, 8), state.read(EDGE, 8)))
    assert seen == {(ss, rsp) for ss in (0, 0x18) for rsp in (0, case.rsp)}


def test_an_event_without_a_gate_ends_the_run():
    """F1."""
    assert Case("nop", without=("irq",)).one("irq", if_=1).edge.ended == "no-gate"
    assert Case("int $0x80", without=("system",)).one().edge.ended == "no-gate"


# NMIs, shadows, traps


def test_an_nmi_hits_the_first_instruction_of_a_debug_handler_and_an_irq_only_that_of_a_trap_gate():
    """P2, P3."""
    for kind, ended in (((), HELD), (("debug", "nmi"), None)):
        case = Case("nop", trap=kind, ist=("nmi",))
        after = case.one(tf=1, if_=1)
        stepper = case.stepper()
        (nmi,) = stepper.strike(after.edge.state, "nmi")
        assert (after.where, nmi.delivered) == ("debug", ("nmi",))
        assert [e.ended for e in stepper.strike(nmi.state, "irq")] == [ended]


def test_nmis_are_blocked_by_an_nmi_and_unblocked_by_any_iret():
    """N1, N2, N4, N5, N6."""
    assert Case("nop").one("nmi").edge.state.nmi_blocked
    assert Case("nop", blocked=True).go("nmi") == []
    good = (HOME_RIP, 0x33, flags(), 0x7FFF_0000, 0x2B)
    assert not Case("iretq", blocked=True, words=good).one().edge.state.nmi_blocked
    faulting = Case("iretq", blocked=True, words=(0, 0, 0, 0, 0)).one()
    assert (faulting.edge.delivered, faulting.edge.state.nmi_blocked) == (("general_protection",), False)
    for text in ("popfq", "sti", "sysretq"):
        case = Case(text, blocked=True, words=good)
        assert all(a.edge.state.nmi_blocked for a in case.go(rcx=HOME_RIP)), text


def test_machine_checks_are_not_blocked():
    """N12, I10."""
    assert Case("nop", blocked=True).one("machine_check").edge.delivered == ("machine_check",)


@pytest.mark.parametrize(
    ("inhibit", "if_", "struck"),
    [(0, 1, True), (0, 0, False), (1, 1, False), (2, 1, False), (3, 1, True), (3, 0, False)],
)
def test_irqs_are_held_by_if_and_by_shadows(inhibit, if_, struck):
    """S1, S3; NMIs may come in a shadow all the same (S2)."""
    assert (Case("nop").one("irq", inhibit=inhibit, if_=if_).edge.ended != HELD) is struck
    assert Case("nop").one("nmi", inhibit=inhibit, if_=if_).edge.delivered == ("nmi",)


@pytest.mark.parametrize(("text", "before", "inhibit"), [
    ("sti", 0, 1), ("sti", 1, 0), ("mov %ax, %ss", 0, 2), ("popfq", 0, 0), ("nop", 0, 0),
])  # fmt: skip
def test_who_casts_a_shadow(text, before, inhibit):
    """S1, S3, S5."""
    case = Case(text, words=(flags(if_=1),))
    assert case.one(if_=before, rax=0x18).inhibit == inhibit


@pytest.mark.parametrize(("text", "inhibit", "if_", "sure"), [
    ("mov %ax, %ss", 0, 1, True), ("mov %ax, %ss", 1, 1, False), ("mov %ax, %ss", 2, 1, False),
    ("mov %ax, %ss", 3, 1, False), ("sti", 0, 0, True), ("sti", 2, 0, False), ("sti", 3, 0, False),
])  # fmt: skip
def test_only_the_first_of_shadows_in_a_row_is_sure(text, inhibit, if_, sure):
    """S4: after a second one an IRQ may come, or be held."""
    case = Case(text)
    stepper = case.stepper()
    (edge,) = stepper.execute(case.state(stepper, rax=0x18, inhibit=inhibit, if_=if_))
    assert {e.ended for e in stepper.strike(edge.state, "irq")} == ({HELD} if sure else {None, HELD})


def test_one_processor_tells_shadows_of_two_kinds_apart():
    """S4: MOV SS in the shadow of STI casts its own, and MOV SS in that of MOV SS none: in one run."""
    case = Case("sti\n mov %ax, %ss\n mov %ax, %ss\n nop", rules={"ss_after_ss_casts_none": 1})
    stepper = case.stepper()
    state, seen = case.state(stepper, rax=0x18), []
    for _ in range(4):
        (edge,) = stepper.execute(state)
        state = edge.state
        seen.append(After(case, stepper.layout, state, edge).inhibit)
    assert seen == [1, 2, 3, 0]


def test_the_trap_flag():
    """I4, I5, R11: #DB after an instruction that began with TF=1; POPF that sets it is not trapped."""
    after = Case("nop").one(tf=1)
    assert (after.where, after.dr6, after.tf) == ("debug", 1 << 14, 0)
    assert after.frame()[0] == after.address("start") + 1
    assert Case("popfq", words=(flags(tf=1),)).one().edge.delivered == ()


def test_a_load_of_ss_holds_the_trap_back_for_one_instruction():
    """S3, S6: over INT n it comes on the handler's first instruction."""
    assert Case("mov %ax, %ss").one(tf=1, rax=0x18).edge.delivered == ()
    assert Case("nop").one(tf=1, inhibit=2).edge.delivered == ("debug",)
    assert Case("int3").one(tf=1).edge.delivered == ("breakpoint",)
    late = Case("int3", rules={"int_keeps_held_trap": 1}).one(tf=1, inhibit=2)
    assert (late.edge.delivered, late.frame()[0]) == (("breakpoint", "debug"), late.address("breakpoint"))


# iret

IRETS = [
    # rule, rip, cs, ss, nt, error code; None: it goes home
    ("R3", HOME_RIP, 0x33, 0x2B, 0, None),
    ("R2", HOME_RIP, 0x33, 0x2B, 1, 0),
    ("R4", HOME_RIP, 0, 0x2B, 0, 0),
    ("R4", HOME_RIP, 3, 0x2B, 0, 0),
    ("R4", HOME_RIP, 0x53, 0x2B, 0, 0x50),
    ("R4", HOME_RIP, 0x2B, 0x2B, 0, 0x28),
    ("R4", HOME_RIP, 0x13, 0x2B, 0, 0x10),
    ("R4", HOME_RIP, 0x30, 0x2B, 0, 0x30),
    ("R8", HOME_RIP, 0x37, 0x2B, 0, 0x34),
    ("R5", HOME_RIP, 0x33, 0, 0, 0),
    ("R5", HOME_RIP, 0x33, 3, 0, 0),
    ("R5", HOME_RIP, 0x33, 0x18, 0, 0x18),
    ("R5", HOME_RIP, 0x33, 0x28, 0, 0x28),
    ("R5", HOME_RIP, 0x33, 0x33, 0, 0x30),
    ("R6", BAD, 0x33, 0x2B, 0, 0),
    ("R6", HOME_RIP, 0x23, 0x2B, 0, None),
    ("R6", HOME_RIP + (1 << 32), 0x23, 0x2B, 0, 0),
]


@pytest.mark.parametrize(("number", "rip", "cs", "ss", "nt", "error"), IRETS)
def test_iret(number, rip, cs, ss, nt, error):
    """R7: a fault commits nothing but the end of the NMI block."""
    case = Case("iretq", blocked=True, words=(rip, cs, flags(if_=1, cf=1), 0x7FFF_1000, ss))
    after = case.one(nt=nt, rbx=5)
    if error is None:
        assert after.edge.state.rip == HOME
        assert (after.cs, after.ss, after.rsp, after.cpl, after.if_, after.cf) == (cs, ss, 0x7FFF_1000, 3, 1, 1)
        return
    assert after.edge.delivered == ("general_protection",)
    assert not after.edge.state.nmi_blocked
    assert after.frame(6) == [error, after.address("start"), 0x10, flags(rf=1, nt=nt), MIDDLE, 0x18]


@pytest.mark.parametrize(("ss", "good"), [(0, True), (3, False), (0x18, True), (0x2B, False)])
def test_iret_to_the_kernel_takes_a_null_ss(ss, good):
    """R5."""
    case = Case("iretq")
    case.stepper()
    case.words = (case.program.symbols["nmi"].value, 0x10, flags(), MIDDLE, ss)
    after = case.one()
    assert (after.where == "nmi") is good


def test_iret_to_the_outer_level_nulls_data_segments_that_are_too_privileged():
    """R10."""
    case = Case("iretq", words=(HOME_RIP, 0x33, flags(), 0x7FFF_1000, 0x2B))
    after = case.one(ds=0x18, es=0x2B, fs=0x1B, gs=0, fs_base=7)
    assert (after.ds, after.es, after.fs, after.gs, after.fs_base) == (0, 0x2B, 0, 0, 7)


def test_sysret_goes_where_its_segments_say_and_faults_before_it_leaves():
    """I8."""
    after = Case("sysretq").one(rcx=HOME_RIP, r11=flags(if_=1, rf=1), ss=0)
    assert (after.cs, after.ss, after.cpl, after.if_, after.rf) == (0x33, 0x2B, 3, 1, 0)
    assert Case("sysretq").one(rcx=BAD).edge.delivered == ("general_protection",)


def test_sysret_needs_segments_that_say_what_star_holds():
    """I8: the 64-bit code segment follows the data segment; another user data segment is no matter."""
    other = Segment(0x5B, "data", 3)
    assert Case("sysretq", segments=(other, *SEGMENTS)).one(rcx=HOME_RIP).ss == 0x2B
    assert Case("sysretl", segments=(other, *SEGMENTS)).one(rcx=HOME_RIP).cs == 0x23
    lacking = tuple(s for s in SEGMENTS if s.selector != 0x2B)
    assert Case("sysretq", segments=(other, *lacking)).one(rcx=HOME_RIP).edge.ended == "unresolved"


def test_swapgs_swaps_nothing_else():
    """I6."""
    after = Case("swapgs").one(gs_base=1, kernel_gs_base=2, gs=7)
    assert (after.gs_base, after.kernel_gs_base, after.gs) == (2, 1, 7)


@pytest.mark.parametrize(("register", "selector", "good"), [
    *(("ds", s, s not in (0x1B, 0x2F, 0x50)) for s in (0, 3, 0x10, 0x18, 0x1B, 0x23, 0x2B, 0x28, 0x2F, 0x50)),
    *(("ss", s, s in (0, 0x18)) for s in (0, 3, 0x10, 0x18, 0x1B, 0x28, 0x1C, 0x50)),
])  # fmt: skip
def test_what_a_segment_register_can_be_loaded_with(register, selector, good):
    """I11, R8."""
    after = Case(f"mov %ax, %{register}").one(rax=selector)
    if good:
        assert (after.edge.delivered, after.cells()[register]) == ((), selector)
    else:
        assert (after.edge.delivered, after.frame(6)[0]) == (("general_protection",), selector & 0xFFFC)


# addresses


@pytest.mark.parametrize(
    ("offset", "ends"),
    [
        (SIZE - 8, {None}),
        (SIZE, {"wild-read"}),
        (-0x1000, {"wild-read"}),
        (-0x20000, {"wild-read", "general_protection"}),
        (1 << 62, {"general_protection"}),
    ],
)
def test_a_constant_distance_from_a_region_can_be_out_of_the_canonical_half(offset, ends):
    """A2: which it is can depend on where the region lies."""
    case = Case("mov (%rbx), %rax", anywhere=True, ist=("general_protection",))
    stepper = case.stepper()
    state = case.state(stepper)
    cells = list(state.cells)
    cells[CELL_NAMES.index("rbx")] = add(stepper.layout.base("stack"), const(offset, 64))
    edges = stepper.execute(replace(state, cells=tuple(cells)))
    assert {e.ended or (e.delivered or (None,))[0] for e in edges} == ends


@pytest.mark.parametrize(("base", "ended"), [(0x7000, None), (0x9000, "wild-read")])
def test_only_the_base_that_the_user_chose_can_be_read_through(base, ended):
    case = Case("mov %gs:8, %rax")
    stepper = case.stepper()
    state = case.state(stepper, gs_base=base)
    at = CELL_NAMES.index("gs_base")
    users = (*state.home.cells[:at], const(0x7000, 64), *state.home.cells[at + 1 :])
    (edge,) = stepper.execute(replace(state, home=replace(state.home, cells=users)))
    assert (edge.ended, [kind for kind, _ in edge.choices]) == (ended, [] if ended else ["load"])


def test_wrmsr_of_an_address_that_is_not_canonical_faults_only_for_registers_that_hold_one():
    """I9: which registers fault is not known of those that are not modelled."""
    assert Case("wrmsr").one(rcx=0xC000_0101, rdx=0x8000).edge.delivered == ("general_protection",)
    assert Case("wrmsr").one(rcx=0xC000_0101, rdx=5, rax=7).gs_base == 5 << 32 | 7
    assert Case("wrmsr").one(rcx=0x1B, rdx=0x8000).edge.ended == "unresolved"


@pytest.mark.parametrize("text", ["mov %rax, (%rbx)", "mov (%rbx), %rax"])
def test_an_access_over_the_canonical_edge_faults(text):
    """A1, A4."""
    assert Case(text).one(rbx=BAD - 4).edge.delivered == ("general_protection",)
    assert Case(text).one(rbx=BAD - 8).edge.ended in ("wild-read", "wild-write")
