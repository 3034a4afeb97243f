"""Shapes: two terms have one exactly if they are alike but for the names of their havoc variables."""

from __future__ import annotations

import random

from terms_grow import FULL

from verifier.ir.cells import CELL_INDEX, CELL_NAMES, CELLS, RFLAGS_LAYOUT
from verifier.machine.rflags import pack, unpack
from verifier.terms import Term, Valuation, apply, concat, const, extract, havoc, ite, sext, var, zext

ROUNDS = 20 if FULL else 1
_SERIALS = iter(range(1 << 60, 1 << 61))


def written(term: Term, numbers: dict[Term, int]) -> str:
    """The term with its havoc variables numbered in the order in which they are read."""
    if term.op == "havoc":
        return f"?{numbers.setdefault(term, len(numbers))}:{term.width}"
    inside = " ".join(written(a, numbers) for a in term.args)
    return f"({term.op} {term.attr} {term.width} {inside})"


def grow(source: random.Random, leaves: list[Term], steps: int) -> Term:
    """A random term of 8 bits over some leaves of 8 bits."""
    pool = list(leaves)
    for _ in range(steps):
        a, b = source.choice(pool), source.choice(pool)
        operation = source.choice(("add", "sub", "and", "or", "xor", "mul", "shl", "concat", "ite", "sext"))
        if operation == "concat":
            made = concat(extract(a, 3, 0), extract(b, 7, 4))
        elif operation == "ite":
            made = ite(extract(a, 0, 0), a, b)
        elif operation == "sext":
            made = sext(extract(b, 4, 0), 8)
        else:
            made = apply(operation, (a, b))
        pool.append(made)
    return pool[-1]


def test_one_shape_if_and_only_if_equal_but_for_names():
    source = random.Random("shapes")
    by_shape: dict[int, str] = {}
    by_text: dict[str, int] = {}
    x = var("shape.x", 8)
    for _ in range(400 * ROUNDS):
        seed, steps = source.randrange(150), source.randrange(1, 5)
        names = [havoc(next(_SERIALS), 8) for _ in range(3)]
        leaves = source.choice(([*names, x], [*names, const(3, 8)], [names[0], names[0], names[1], x]))
        term = grow(random.Random(seed), leaves, steps)
        text = written(term, {})
        assert by_shape.setdefault(term.shape, text) == text
        assert by_text.setdefault(text, term.shape) == term.shape
    assert len(by_text) < 300 * ROUNDS, "no two terms were alike: the test says nothing"


def test_havocs_are_in_the_order_of_their_first_occurrence():
    source = random.Random("order")
    for _ in range(200 * ROUNDS):
        names = [havoc(next(_SERIALS), 8) for _ in range(4)]
        term = grow(source, [*names, var("shape.x", 8)], 5)
        numbers: dict[Term, int] = {}
        written(term, numbers)
        assert term.havocs == tuple(numbers)
        assert term.support >= frozenset(numbers)


def test_shapes_tell_widths_and_repetitions_apart():
    a, b, c = (havoc(next(_SERIALS), 8) for _ in range(3))
    wide = havoc(next(_SERIALS), 16)
    assert a.shape == b.shape != wide.shape
    assert apply("add", (a, b)).shape == apply("add", (b, c)).shape
    assert apply("mul", (a, a)).shape != apply("mul", (a, b)).shape
    assert var("shape.x", 8).shape not in (var("shape.y", 8).shape, a.shape)


def test_packing_and_unpacking_rflags_gives_back_the_same_terms():
    source = random.Random("rflags")
    for number in range(100 * ROUNDS):
        cells = [var(f"shape.{name}", width) for name, width in CELLS.items()]
        for name, width in CELLS.items():
            kind = source.randrange(3)
            if kind:
                value = const(source.getrandbits(width), width) if kind == 1 else havoc(next(_SERIALS), width)
                cells[CELL_INDEX[name]] = value
        rf = const(number, 1)
        flags = unpack(pack(cells, {"rf": rf}))
        assert flags == {name: rf if name == "rf" else cells[CELL_INDEX[name]] for name in RFLAGS_LAYOUT}
        assert pack([flags.get(name, cell) for name, cell in zip(CELL_NAMES, cells, strict=True)]) is pack(
            cells, {"rf": rf}
        )


def test_unpacking_and_packing_keeps_all_but_the_reserved_bits():
    image = var("shape.image", 64)
    flags = unpack(image)
    cells = [flags.get(name, const(0, width)) for name, width in CELLS.items()]
    packed = pack(cells)
    mask = sum(((1 << width) - 1) << bit for bit, width in RFLAGS_LAYOUT.values())
    for value in (0, 1, 2, (1 << 64) - 1, 0x246, 0x3F_7FD7, 1 << 63):
        assert Valuation({image: value})(packed) == value & mask | 2


def test_short_images_have_only_their_flags():
    image = var("shape.image", 64)
    assert "rf" not in unpack(extract(image, 15, 0))
    assert unpack(extract(image, 31, 0))["id"] is unpack(image)["id"]
    assert unpack(zext(extract(image, 15, 0), 64))["rf"] is const(0, 1)
