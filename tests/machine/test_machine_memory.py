"""Memory by byte: accesses of every size at every offset from a word, hidden code, what regions hold at the start."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_case import MIDDLE, SIZE, STACK, Case, flags

from verifier.asm import assemble_text
from verifier.ir.cells import CELLS
from verifier.machine.config import Contract, Datum, MachineConfig, Pointer, Region
from verifier.machine.layout import Layout, Place
from verifier.terms import Valuation, add, concat, const, eq, extract, ult, var

WORDS = (0x0706_0504_0302_0100, 0x1716_1514_1312_1110, 0x2726_2524_2322_2120)
VALUE = 0xA7A6_A5A4_A3A2_A1A0
BYTES = b"".join(w.to_bytes(8, "little") for w in WORDS)
SIZES = [("al", 1), ("ax", 2), ("eax", 4), ("rax", 8)]


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize(("register", "size"), SIZES)
def test_a_store_changes_its_bytes_and_no_others(register, size, offset):
    after = Case(f"mov %{register}, {offset}(%rsp)", words=WORDS).one(rax=VALUE)
    found = b"".join(after.word(MIDDLE + 8 * i).to_bytes(8, "little") for i in range(len(WORDS)))
    assert found == BYTES[:offset] + VALUE.to_bytes(8, "little")[:size] + BYTES[offset + size :]


@pytest.mark.parametrize(("register", "size"), SIZES)
def test_a_store_leaves_what_is_not_known_around_it(register, size):
    for low in range(9 - size):
        case = Case(f"mov %{register}, {low}(%rsp)")
        stepper = case.stepper()
        (edge,) = stepper.execute(case.state(stepper, rax=VALUE))
        (word,) = edge.state.memory.values()
        old, end = var(f"stack+{MIDDLE - STACK:#x}", 64), 8 * (low + size)
        above = [extract(old, 63, end)] if end < 64 else []
        below = [extract(old, 8 * low - 1, 0)] if low else []
        assert word is concat(*above, const(VALUE & (1 << 8 * size) - 1, 8 * size), *below), low


def test_only_a_store_of_less_than_a_word_depends_on_what_was_there():
    for register, size in SIZES:
        after = Case(f"mov %{register}, (%rsp)", words=WORDS).one()
        read = {at for at in after.edge.reads & after.edge.writes if at >= len(CELLS)}
        assert bool(read) == (size < 8), register


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize(("register", "size"), SIZES)
def test_a_load_reads_its_bytes(register, size, offset):
    after = Case(f"mov {offset}(%rsp), %{register}", words=WORDS).one(rax=0)
    assert after.rax == int.from_bytes(BYTES[offset : offset + size], "little")


# hidden code

HIDDEN = Contract("hidden", ("rax", "rbx", "zf"), stack=24, saves=("rax", "rbx"))
LOW = MIDDLE - HIDDEN.depth


def test_hidden_code_saves_registers_above_the_stack_that_it_uses():
    after = Case("...", contract=HIDDEN).one(rax=5, rbx=6)
    assert (after.rsp, after.rax, after.rbx) == (LOW, 5, 6)
    assert [after.word(LOW + 24), after.word(LOW + 32)] == [5, 6]
    assert len(after.edge.state.memory) == 2


def test_hidden_code_changes_what_its_contract_says_and_puts_back_what_it_saved():
    at = LOW - STACK + 48
    data = (Datum("count", at + 4, 2), Datum("last", at + 8, 8))
    contract = Contract("hidden", HIDDEN.clobbers, stack=24, saves=HIDDEN.saves, writes=("count", "last"))
    words = (1, 2, 3, 5, 6, 7, WORDS[0], 9)
    text = ".set inside, start + 1\n..."
    case = Case(text, contract=contract, data=data, label="inside", rsp=LOW, words=words)
    after = case.one(rax=8, rbx=9, rcx=10)
    assert (after.rsp, after.rax, after.rbx, after.rcx) == (MIDDLE, 5, 6, 10)
    kinds = ["hole.rax", "hole.rbx", "hole.zf", *5 * ["hole.memory"]]
    assert [(kind, t.width) for kind, t in after.edge.choices] == list(
        zip(kinds, [64, 64, 1, 64, 64, 64, 16, 64], strict=True)
    )
    terms = [t for _, t in after.edge.choices]
    assert after.edge.state.cell("zf") is terms[2]
    assert [after.term(LOW + 8 * i) for i in range(3)] == terms[3:6]
    assert [after.word(LOW + 8 * i) for i in range(3, 6)] == list(words[3:6])
    assert after.term(LOW + 48) is concat(const(WORDS[0] >> 48, 16), terms[6], const(WORDS[0] & 0xFFFF_FFFF, 32))
    assert after.term(LOW + 56) is terms[7]


#: RSP inside hidden code that uses 24 bytes there, how its step ends.
STACKS = [
    (STACK, None), (STACK + SIZE - 40, None), (STACK + SIZE - 16, "wild-write"), (STACK + SIZE, "wild-write"),
    (STACK - 8, "wild-write"),
]  # fmt: skip


@pytest.mark.parametrize(("rsp", "ended"), STACKS)
def test_where_the_stack_of_hidden_code_may_lie(rsp, ended):
    case = Case(".set inside, start + 1\n...", contract=HIDDEN, label="inside", rsp=rsp, words=5 * (1,))
    if ended is not None:
        case.words = ()
    assert case.one().edge.ended == ended


def test_hidden_code_on_a_stack_that_is_not_known_is_unresolved():
    case = Case(".set inside, start + 1\n...", contract=HIDDEN, label="inside")
    stepper = case.stepper()
    state = case.state(stepper)
    cells = tuple(var("somewhere", 64) if n == "rsp" else c for n, c in zip(CELLS, state.cells, strict=True))
    (edge,) = stepper.execute(replace(state, cells=cells))
    assert edge.ended == "unresolved"
    assert "the stack at an address that depends on data, whose region" in edge.detail


def test_a_fault_inside_hidden_code_has_any_error_code():
    contract = Contract("hidden", ("rax",), may_raise=("general_protection",))
    case = Case(".set inside, start + 1\n...", contract=contract, label="inside")
    after = case.one("general_protection", ac=1, id=1, if_=1)
    assert [(kind, t.width) for kind, t in after.edge.choices] == [("hole.rax", 64), ("fault.error_code", 32)]
    assert after.term(after.rsp).support == {after.edge.choices[1][1]}
    assert after.frame(6)[1:] == [after.address("inside"), 0x10, flags(rf=1, ac=1, id=1, if_=1), MIDDLE, 0x18]
    struck = dict(zip(CELLS, after.edge.struck, strict=True))
    assert [struck[name] for name in ("rf", "ac", "if", "nt", "df", "vm")] == [const(n, 1) for n in (1, 1, 1, 0, 0, 0)]
    assert [c.width for c in after.edge.struck] == list(CELLS.values())


def test_a_jump_into_the_middle_of_an_instruction():
    case = Case("jmp *%rax")
    case.stepper()
    edge = case.one(rax=case.program.symbols["start"].value + 1).edge
    assert (edge.ended, "into the middle of an instruction" in edge.detail) == ("wild-jump", True)


# what regions hold, and where they lie

DATA = (
    Datum("low", 0, 4, 0x0403_0201),
    Datum("any", 4, 2),
    Datum("across", 6, 4, 0x0A09_0807),
    Datum("pointer", 16, 8, Pointer("there", 24)),
)


def layout() -> Layout:
    regions = (
        Region("data", "data", 64, data=DATA),
        Region("there", "interrupted", 64, 0xFFFF_9000_0000_0000),
        Region("other", "interrupted", 64),
        Region("rom", "data", 12, 0xFFFF_9000_0000_1000, writable=False, contents=bytes(range(12))),
    )
    program = assemble_text(".text\nnop\n")
    return Layout(MachineConfig(program, {r.name: r for r in regions}, {}, {}, {}, ()))


#: Two addresses, as offsets in regions of 64 bytes: in the first, in the second, what their order and equality become.
ORDERED = [
    (8, 8, "lower", False),
    (0, 63, "lower", False),
    (63, 0, "lower", False),
    (64, 1, "lower", False),
    (64, 0, None, None),  # just above the first, which may be where the second begins
    (0, 64, "lower", None),
    (1, 64, "lower", False),
    (-1, 8, None, False),
    (65, 8, None, False),
    (8, -1, None, False),
    (8, 65, None, False),
    (-64, 0, None, None),
    (0, -64, None, None),
    (0, -63, None, False),
]


@pytest.mark.parametrize(("i", "j", "order", "equal"), ORDERED)
def test_addresses_of_two_regions_compare_as_the_regions_lie(i, j, order, equal):
    it = layout()
    a, b = it.base("data"), it.base("other")
    one, other = add(a, const(i, 64)), add(b, const(j, 64))
    assert it.ordered(ult(one, other)) is (ult(a, b) if order == "lower" else ult(one, other))
    assert it.ordered(eq(one, other)) is (const(0, 1) if equal is False else eq(one, other))


def test_words_at_the_start():
    it = layout()
    words = [it.initial(it.location(0, i)) for i in range(4)]
    free = [var(f"data+{at:#x}", 64) for at in (0, 8, 16, 24)]
    assert words[0] is concat(const(0x0807, 16), extract(free[0], 47, 32), const(0x0403_0201, 32))
    assert words[1] is concat(extract(free[1], 63, 16), const(0x0A09, 16))
    assert words[2] is add(it.base("there"), const(24, 64))
    assert words[3] is free[3]
    assert it.initial(it.location(3, 0)) is const(0x0706_0504_0302_0100, 64)
    assert it.initial(it.location(3, 1)) is const(0x0B0A_0908, 64)
    assert it.locations_of(frozenset(free[:1])) == {it.location(0, 0)}


def test_the_number_of_a_word_says_where_it_is():
    it = layout()
    numbers = [it.location(region, word) for region in range(4) for word in range(8)]
    assert len(set(numbers)) == len(numbers)
    assert [it.place_of(n) for n in numbers] == [Place(r, 8 * w) for r in range(4) for w in range(8)]
    assert min(numbers) >= len(CELLS)
    mine = [n for n in numbers if it.belongs_to_home(n)]
    assert mine == [it.location(r, w) for r in (1, 2) for w in range(4, 8)]


#: region or None for numbers, offset, size, the offset found in the region (of `layout`) or None
ADDRESSES = [
    ("data", 0, 8, 0), ("data", 56, 8, 56), ("data", 57, 8, None), ("data", -1, 1, None), ("data", 63, 1, 63),
    ("data", 64, 1, None), ("there", 0, 8, 0), ("there", 56, 8, 56), ("there", 57, 8, None), ("there", -1, 1, None),
    ("other", 60, 4, 60), ("other", 61, 4, None),
]  # fmt: skip


@pytest.mark.parametrize(("region", "offset", "size", "found"), ADDRESSES)
def test_an_access_lies_in_a_region_or_in_none(region, offset, size, found):
    it = layout()
    address = add(it.base(region), const(offset, 64))
    place = it.locate(address, size)
    assert place == (None if found is None else Place(it.number[region], found))
    assert it.is_region_address(address)
    assert it.top(region) is add(it.base(region), const(64, 64))
    bases = {b: 0xFFFF_A000_0000_0000 + 0x1000 * i for i, b in enumerate(it.bases)}
    inside = it.inside(it.number[region], address, size)
    assert Valuation(bases)(inside) == (found is not None)


def test_regions_lie_apart():
    it = layout()
    data, other = it.base("data"), it.base("other")
    there = it.regions[1].address
    for at, good in ((there, 0), (there - 63, 0), (there - 64, 1), (there + 63, 0), (there + 64, 1)):
        away = there + 0x10_0000
        for mine, its in ((at, away), (away, at)):
            value = Valuation({data: mine, other: its})
            assert all(value(f) for f in it.facts) == good, hex(at)
    assert not all(Valuation({data: away, other: away + 63})(f) for f in it.facts)
    assert all(Valuation({data: away, other: away + 64})(f) for f in it.facts)


def test_addresses_in_words():
    it = layout()
    assert it.describe(add(it.base("data"), const(-16, 64))) == "data-0x10"
    assert it.describe(var("elsewhere", 64)) is None


def test_a_base_and_something_unknown_is_at_no_known_distance():
    it = layout()
    address = add(it.base("data"), var("index", 64))
    assert (it.locate(address, 1), it.is_region_address(address), it.describe(address)) == (None, False, None)
    assert it.describe(add(var("index", 64), it.base("data"))) is None
