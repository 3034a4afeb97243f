"""Random terms, grown one operation at a time, each beside what it must mean.

The meaning is that of `verifier.ir.evaluate` on a list of assignments, computed from the meanings of the arguments
and never from the term: a wrong fold shows as the first step where the two differ.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from verifier.ir.evaluate import evaluate
from verifier.terms import Term, Valuation, apply, concat, const, extract, ite, sext, show, zext

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = os.environ.get("VERIFIER_FULL") == "1"

BINARY = (
    *("add", "add", "sub", "sub", "and", "and", "or", "or", "xor", "mul", "shl", "lshr", "ashr"),
    *("udiv", "urem", "sdiv", "srem"),
)
COMPARE = ("eq", "eq", "ult", "ule", "slt", "sle")
SHAPES = ("extract", "extract", "concat", "zext", "sext", "ite", "not", "neg")
LINEAR = ("add", "add", "sub", "and", "or", "extract", "concat")


@dataclass(frozen=True, slots=True)
class Grown:
    """A term and its value under each assignment."""

    term: Term
    values: tuple[int, ...]
    recipe: str = ""


class Garden:
    """Grows terms over variables. ``assignments``: variable -> value, within the bounds of the variables."""

    def __init__(
        self,
        seed: object,
        assignments: list[dict[Term, int]],
        widths: tuple[int, ...],
        operations: tuple[str, ...] = BINARY + COMPARE * 2 + SHAPES * 2,
    ) -> None:
        self.source = random.Random(repr(seed))
        self.valuations = [Valuation(a) for a in assignments]
        self.operations = operations
        self.widths = widths
        self.seeds = [Grown(v, tuple(a[v] for a in assignments), show(v)) for v in assignments[0]]
        self.pool: dict[int, list[Grown]] = {}
        for seed_term in self.seeds:
            self._keep(seed_term)

    def _keep(self, grown: Grown) -> None:
        self.pool.setdefault(grown.term.width, []).append(grown)

    def constant(self, width: int) -> Grown:
        """Edges, powers of two, masks of both ends, small numbers of either sign, and anything."""
        bit = self.source.randrange(width + 1)
        value = self.source.choice(
            (
                0,
                1,
                -1,
                1 << bit,
                (1 << bit) - 1,
                -1 << bit,
                (1 << width) // 2 - 1,
                self.source.randrange(-9, 10),
                self.source.getrandbits(width),
            )
        )
        term = const(value, width)
        return Grown(term, (term.value,) * len(self.valuations), hex(term.value))

    def pick(self, width: int | None = None) -> Grown:
        """A recent term, an old one, a variable or a constant."""
        if width is None:
            width = self.source.choice(sorted(self.pool))
        known = self.pool.get(width, [])
        if not known or self.source.random() < 0.25:
            return self.constant(width)
        return self.source.choice(known[-12:] if self.source.random() < 0.7 else known[:40])

    def step(self) -> Grown:
        """One more term from those there are."""
        operation = self.source.choice(self.operations)
        grown = getattr(self, f"_{operation}", self._binary)(operation)
        if len(grown.recipe) > 500:
            grown = Grown(grown.term, grown.values, show(grown.term)[:500])
        if not grown.term.is_const and grown.term.width in self.widths:
            self._keep(grown)
        return grown

    def grow(self, steps: int, lifetime: int = 60) -> Iterator[Grown]:
        """Terms, starting again from the variables now and then, so that they stay small."""
        for number in range(steps):
            if number % lifetime == 0:
                self.pool.clear()
                for grown in self.seeds:
                    self._keep(grown)
            yield self.step()

    # operations

    def _made(self, operation: str, term: Term, args: tuple[Grown, ...], width: int, attr: object = None) -> Grown:
        widths = tuple(a.term.width for a in args)
        values = tuple(
            evaluate(operation, numbers, widths, width, attr)  # type: ignore[arg-type]
            for numbers in zip(*(a.values for a in args), strict=True)
        )
        given = f" {attr}" if attr is not None else ""
        return Grown(term, values, f"({operation}{given} {' '.join(a.recipe for a in args)})")

    def _binary(self, operation: str) -> Grown:
        a = self.pick()
        b = self.pick(a.term.width)
        if self.source.random() < 0.5:
            a, b = b, a
        width = 1 if operation in COMPARE else a.term.width
        return self._made(operation, apply(operation, (a.term, b.term)), (a, b), width)

    def _not(self, operation: str) -> Grown:
        a = self.pick()
        return self._made(operation, apply(operation, (a.term,)), (a,), a.term.width)

    _neg = _not

    def _ite(self, operation: str) -> Grown:
        condition, a = self.pick(1), self.pick()
        b = self.pick(a.term.width)
        return self._made(operation, ite(condition.term, a.term, b.term), (condition, a, b), a.term.width)

    def _concat(self, operation: str) -> Grown:
        high, low = self.pick(), self.pick()
        width = high.term.width + low.term.width
        return self._made(operation, concat(high.term, low.term), (high, low), width)

    def _extract(self, operation: str) -> Grown:
        a = self.pick()
        high = self.source.randrange(a.term.width)
        low = self.source.choice((0, high, self.source.randrange(high + 1)))
        return self._made(operation, extract(a.term, high, low), (a,), high - low + 1, (high, low))

    def _round(self, _operation: str) -> Grown:
        """Down to a multiple of a power of two, or up to just below one; or one bit alone, cleared or set."""
        a = self.pick()
        high = -1 << self.source.randrange(a.term.width)
        bit = high & -high
        operation, value = self.source.choice((("and", high), ("or", ~high), ("and", ~bit), ("or", bit)))
        mask = const(value, a.term.width)
        b = Grown(mask, (mask.value,) * len(self.valuations), hex(mask.value))
        return self._made(operation, apply(operation, (a.term, mask)), (a, b), a.term.width)

    def _bit(self, _operation: str) -> Grown:
        a = self.pick()
        at = min(a.term.width - 1, self.source.choice((a.term.known, self.source.randrange(a.term.width))))
        return self._made("extract", extract(a.term, at, at), (a,), 1, (at, at))

    def _extend(self, operation: str) -> Grown:
        a = self.pick()
        width = self.source.choice([w for w in self.widths if w >= a.term.width] or [a.term.width])
        made = zext(a.term, width) if operation == "zext" else sext(a.term, width)
        return self._made(operation, made, (a,), width)

    _zext = _sext = _extend


def every_assignment(*variables: Term) -> list[dict[Term, int]]:
    """All of them that the bounds allow: for small variables."""
    ranges = [[n for n in range(v.lo, v.hi + 1) if n & ((1 << v.known) - 1) == v.residue] for v in variables]
    return [dict(zip(variables, values, strict=True)) for values in product(*ranges)]


def some_assignments(source: random.Random, count: int, *variables: Term) -> list[dict[Term, int]]:
    """At and near the bounds, near each other, and anywhere."""
    found = []
    for _ in range(count):
        assignment: dict[Term, int] = {}
        for v in variables:
            near = source.choice([*assignment.values(), v.lo, v.hi])
            wish = source.choice((v.lo, v.hi, near, near + source.randrange(-9, 10), source.randint(v.lo, v.hi)))
            mask = (1 << v.known) - 1
            value = (wish & ((1 << v.width) - 1) & ~mask) | v.residue
            assignment[v] = value if v.lo <= value <= v.hi else (v.lo + mask & ~mask) | v.residue
        found.append(assignment)
    return found
