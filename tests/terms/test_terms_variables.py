"""Variables of one name in two models: each keeps its own bounds."""

from __future__ import annotations

from verifier.terms import Solver, const, extract, ult, var


def test_a_name_with_other_bounds_is_another_variable():
    """Two specifications in one process may call regions of different size and alignment alike."""
    first = var("same.base", 64, 0x1000, 0x9000, 16)
    second = var("same.base", 64, 0x1000, 0x8000, 4096)
    third = var("same.base", 64, 0, 0x8000, 16)
    assert len({first, second, third}) == 3
    assert var("same.base", 64, 0x1000, 0x8000, 4096) is second
    assert [(v.lo, v.hi, v.known) for v in (first, second, third)] == [
        (0x1000, 0x9000, 4),
        (0x1000, 0x8000, 12),
        (0, 0x8000, 4),
    ]
    assert Solver().satisfiable([ult(const(0x8000, 64), first)]) == "sat"
    assert not extract(first, 11, 4).is_const
    assert extract(second, 11, 4) is const(0, 8)
