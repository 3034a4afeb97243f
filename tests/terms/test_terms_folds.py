"""Every fold keeps the meaning; every interval and every known bit holds."""

from __future__ import annotations

import random

import pytest
from terms_grow import FULL, LINEAR, Garden, Grown, every_assignment, some_assignments

from verifier.machine.layout import HIGHEST_END, LOWEST_BASE
from verifier.terms import concat, const, show, var

ROUNDS = 40 if FULL else 1

SMALL = {
    "bits": (var("fold.p", 1), var("fold.q", 1), var("fold.r", 1), var("fold.a", 3)),
    "equal widths": (var("fold.a", 3), var("fold.b", 3)),
    "bounded": (var("fold.low", 4, 3, 6), var("fold.high", 4, 9, 14), var("fold.p", 1), var("fold.q", 1)),
    "aligned": (var("fold.four", 5, 8, 24, 4), var("fold.two", 5, 2, 29, 2)),
}
WIDE = {
    "bytes": (var("fold.x", 8), var("fold.y", 8), var("fold.p", 1)),
    "words": (var("fold.s", 16), var("fold.u", 16), var("fold.y", 8)),
    "registers": (var("fold.rax", 64), var("fold.rbx", 64), var("fold.cf", 1)),
    "regions": (
        var("fold.stack", 64, LOWEST_BASE, HIGHEST_END - 0x1000, 16),
        var("fold.percpu", 64, LOWEST_BASE, HIGHEST_END - 0x40, 64),
        var("fold.rax", 64),
    ),
}


def check(grown: Grown, garden: Garden) -> None:
    term = grown.term
    low = (1 << term.known) - 1
    for valuation, expected in zip(garden.valuations, grown.values, strict=True):
        got = valuation(term)
        assert got == expected, f"{grown.recipe} gives {got:#x}, not {expected:#x}: folded to {show(term)}"
        assert term.lo <= got <= term.hi, f"{grown.recipe}: {got:#x} is not in [{term.lo:#x}, {term.hi:#x}]"
        assert got & low == term.residue, f"{grown.recipe}: {got:#x} does not end in {term.residue:#x}"


@pytest.mark.parametrize("name", SMALL)
def test_folds_exhaustively(name):
    """Every assignment of small variables: the folds know nothing of widths."""
    garden = Garden(name, every_assignment(*SMALL[name]), tuple(range(1, 9)))
    for grown in garden.grow(1200 * ROUNDS):
        check(grown, garden)


def test_folds_of_sums_exhaustively():
    """Sums of what is aligned, and of what ends in a constant: rounding, and the lowest bit that is not known."""
    ended = concat(SMALL["aligned"][1], const(1, 2))
    garden = Garden("sums", every_assignment(*SMALL["aligned"]), (5, 7), ("add", "add", "round", "bit", "sub"))
    garden.seeds.append(Grown(ended, tuple(v(ended) for v in garden.valuations), "(concat two 01)"))
    for grown in garden.grow(1500 * ROUNDS, lifetime=20):
        check(grown, garden)


@pytest.mark.parametrize("name", WIDE)
def test_folds_at_edges(name):
    assignments = some_assignments(random.Random(name), 16, *WIDE[name])
    garden = Garden(name, assignments, (1, 8, 16, 32, 64))
    for grown in garden.grow(2400 * ROUNDS):
        check(grown, garden)


def test_folds_of_pointers():
    """Sums, masks and comparisons of addresses in two regions."""
    variables = WIDE["regions"][:2]
    assignments = some_assignments(random.Random("pointers"), 12, *variables)
    garden = Garden("pointers", assignments, (64,), (*LINEAR, "eq", "ult", "ule", "slt", "xor"))
    for grown in garden.grow(4000 * ROUNDS, lifetime=25):
        check(grown, garden)


def test_a_term_over_no_variable_is_a_constant():
    garden = Garden("constants", [{}], (1, 7, 8, 64))
    garden.pool = {w: [garden.constant(w) for _ in range(9)] for w in garden.widths}
    for _ in range(1000 * ROUNDS):
        grown = garden.step()
        check(grown, garden)
        by_zero = any(op in grown.recipe for op in ("udiv", "urem", "sdiv", "srem"))
        assert grown.term.is_const or by_zero, grown.recipe
