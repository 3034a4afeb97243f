"""The solver's answers against trying every value of small variables."""

from __future__ import annotations

import random

import pytest
from terms_grow import FULL, Garden, every_assignment

from verifier.terms import (
    FALSE,
    TRUE,
    Solver,
    Term,
    Valuation,
    add,
    connected,
    const,
    eq,
    mul,
    not_,
    or_,
    ule,
    ult,
    var,
)

ROUNDS = 10 if FULL else 1
A, B, C, D = var("solve.a", 3, 1, 6), var("solve.b", 3), var("solve.c", 3, 0, 6, 2), var("solve.d", 1)
EVERY = every_assignment(A, B, C, D)


def literals(seed: object) -> list[Term]:
    """Random conditions on the variables."""
    garden = Garden(seed, EVERY[:2], (1, 3))
    return [g.term for g in garden.grow(250, lifetime=8) if g.term.width == 1 and not g.term.is_const]


def holding(terms: list[Term]) -> list[Valuation]:
    found = [Valuation(a) for a in EVERY]
    return [v for v in found if all(v(t) for t in terms)]


@pytest.mark.parametrize("seed", range(3 * ROUNDS))
def test_answers(seed):
    """satisfiable, feasible and valid, under a fact that joins two variables; and once more from the cache."""
    source = random.Random(seed)
    fact = or_(ult(A, B), ult(B, add(A, const(1, 3))) if seed % 2 else eq(A, B))
    solver, conditions = Solver([fact]), literals(seed)
    asked = []
    for _ in range(25):
        path = source.sample(conditions, source.randrange(1, 4))
        condition = source.choice(conditions)
        facts = [fact] if {A, B} <= frozenset().union(*(t.support for t in path)) else []
        expected = "sat" if holding([*path, *facts]) else "unsat"
        assert solver.satisfiable(path) == expected
        asked.append((path, expected))
        if not holding(path):
            continue
        every_fact = {A, B} <= condition.support.union(*(t.support for t in connected(path, condition.support)))
        facts = [fact] if every_fact else []
        if holding([*path, *facts]):
            can = bool(holding([*path, *facts, condition]))
            cannot = bool(holding([*path, *facts, not_(condition)]))
            assert solver.feasible(path, condition) == ("sat" if can else "unsat")
            assert solver.valid(path, condition) is not cannot
    queries = solver.queries
    assert [(p, solver.satisfiable(reversed(p))) for p, _ in asked] == asked
    assert solver.queries == queries


def test_what_needs_no_query():
    solver = Solver()
    x, y = eq(A, B), ult(B, A)
    assert solver.satisfiable([]) == solver.satisfiable([TRUE]) == "sat"
    assert solver.satisfiable([x, FALSE]) == solver.satisfiable([x, not_(x), y]) == "unsat"
    assert solver.valid([], TRUE)
    assert solver.queries == 0


def test_bounds_and_low_bits_of_variables_are_known():
    solver = Solver()
    assert solver.satisfiable([not_(eq(add(A, B), add(B, const(1, 3))))]) == "sat"
    wide = mul(A, var("solve.one", 3, 1, 1))
    assert solver.satisfiable([ult(wide, const(1, 3))]) == "unsat"
    assert solver.satisfiable([eq(mul(C, var("solve.unit", 3, 1, 1)), const(5, 3))]) == "unsat"


def test_an_answer_that_takes_too_long_is_unknown_and_proves_nothing():
    x, y = var("solve.x", 64), var("solve.y", 64)
    hard = eq(mul(x, y), const(0x7FFF_FFFF_FFFF_FFE7, 64))
    path = [ult(const(1, 64), x), ult(const(1, 64), y), ult(x, y)]
    solver = Solver(rlimit=500)
    assert solver.satisfiable([hard, *path[:2]]) == "unknown"
    assert not solver.valid(path, not_(hard))
    assert solver.unknowns == 2


def test_connected_literals():
    x, y, z = (var(f"solve.small.{n}", 8) for n in "xyz")
    xy, yz, zz = ult(x, y), ult(y, z), ult(z, const(9, 8))
    alone = ult(var("solve.small.w", 8), const(9, 8))
    assert set(connected([zz, alone, yz, xy], frozenset((x,)))) == {xy, yz, zz}
    assert connected([zz, alone, yz], frozenset((x,))) == []


@pytest.mark.parametrize("seed", range(3 * ROUNDS))
def test_models_hold_and_keep_what_they_can(seed):
    source = random.Random(seed)
    fact = ule(A, B)
    solver = Solver([fact])
    for condition in literals((seed, "model"))[:30]:
        fitting = holding([condition, fact])
        wanted = dict(source.choice(EVERY))
        model = solver.model([condition], [A, B, C, D], wanted)
        if not fitting:
            assert model is None
            continue
        assert model is not None
        held = Valuation(model)
        assert held(condition)
        assert held(fact)
        assert all(v.lo <= n <= v.hi and n & ((1 << v.known) - 1) == v.residue for v, n in model.items())
        if any(all(v(t) == n for t, n in wanted.items()) for v in fitting):
            assert model == wanted
