"""Sizes: jumps short or near, alignment, ``.org`` and computed ``.skip``, to a fixpoint, as GNU as finds it.

GNU as sweeps a section again and again; in a sweep, a target that still lies ahead is assumed to move by as
much as everything before it did (``relax_segment`` in its write.c). Jumps only grow. The result depends on
this order.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from verifier.asm.budget import EVALUATION_DEPTH, RELAX_STEPS, SECTION_BYTES
from verifier.asm.expression import At, Const, Operation, Reference
from verifier.asm.sections import Code, Fill, Org, Pad
from verifier.errors import AsmError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verifier.asm.expression import Node, Value
    from verifier.asm.sections import Item, Place, SectionBuilder


class Relaxation:
    """One run over all sections. ``evaluate`` gives a node's value by the offsets so far."""

    def __init__(
        self, sections: Sequence[SectionBuilder], evaluate: Callable[[Node, SectionBuilder], Value]
    ) -> None:
        self._sections = sections
        self._evaluate = evaluate
        self._steps = 0
        self._targets: dict[int, tuple[Place, int]] = {}
        self._regions: dict[int, list[int]] = {}

    def run(self) -> None:
        """Sets ``offset`` and ``size`` of every item and the ``size`` of every section."""
        for section in self._sections:
            self._start(section)
        changed = True
        while changed:
            changed = False
            for section in self._sections:
                while self._sweep(section):
                    changed = True
        for section in self._sections:
            self._check(section)

    def _start(self, section: SectionBuilder) -> None:
        at = 0
        for item in section.items:
            item.offset = at
            if isinstance(item, Code) and len(item.form.sizes) > 1:
                target = destination(item.operands[0].node)
                if target and target[0].section is section:
                    self._targets[id(item)] = target
                else:
                    item.size = item.form.sizes[-1]
            elif isinstance(item, Pad):
                item.size = _padding(item)
            at += item.size
        section.size = at

    def _sweep(self, section: SectionBuilder) -> bool:
        """One pass over a section; whether anything changed its size."""
        self._steps += len(section.items)
        if self._steps > RELAX_STEPS and section.items:
            raise AsmError("the sizes of jumps and alignments do not settle", section.items[0].span)
        stretch, changed = 0, False
        for index, item in enumerate(section.items):
            item.offset += stretch
            growth = self._wanted(item, section, index, stretch) - item.size
            if growth:
                item.size += growth
                stretch += growth
                changed = True
                if item.offset + item.size > SECTION_BYTES:
                    raise AsmError(
                        f"section {section.name} grows larger than {SECTION_BYTES >> 20} MB", item.span
                    )
        section.size += stretch
        return changed

    def _wanted(self, item: Item, section: SectionBuilder, index: int, stretch: int) -> int:
        """The size that the item needs where it now stands."""
        if isinstance(item, Code):
            return self._jump(item, index, stretch)
        if isinstance(item, Pad):
            return _padding(item)
        if isinstance(item, Fill) and not item.known:
            self._steps += 20
            count = self._evaluate(item.node, section)
            return max(0, count.number) * len(item.unit)
        if isinstance(item, Org):
            self._steps += 20
            return max(0, self._evaluate(item.node, section).number - item.offset)
        return item.size

    def _jump(self, item: Code, index: int, stretch: int) -> int:
        short, *near = item.form.sizes
        if not near or item.size != short:
            return item.size
        place, addend = self._targets[id(item)]
        target = place.offset + addend
        if stretch and place.index > index:
            if stretch < 0 or self._region(place, place.index) == self._region(place, index):
                target += stretch
            elif target < item.offset:
                return short
        return short if -128 <= target - (item.offset + short) <= 127 else near[0]

    def _region(self, place: Place, index: int) -> int:
        """How many alignments and ``.org`` stand before an item: they may swallow a stretch."""
        counts = self._regions.get(id(place.section))
        if counts is None:
            barriers = (isinstance(item, Pad | Org) for item in place.section.items)
            counts = self._regions[id(place.section)] = list(accumulate(barriers, initial=0))
        return counts[index]

    def _check(self, section: SectionBuilder) -> None:
        """What only the final sizes can tell: counts that are no numbers or negative, ``.org`` backwards."""
        for item in section.items:
            if isinstance(item, Fill):
                count = self._evaluate(item.node, section)
                if count.base is not None:
                    raise AsmError("the count is an address, not a number", item.span)
                if count.number < 0:
                    raise AsmError(f"the count is negative: {count.number}", item.span)
            elif isinstance(item, Org):
                target = self._evaluate(item.node, section)
                if target.base not in (None, section):
                    raise AsmError(".org names another section", item.span)
                if target.number < item.offset:
                    raise AsmError(
                        f".org goes backwards, from {item.offset:#x} to {target.number:#x}", item.span
                    )


def destination(node: Node | None) -> tuple[Place, int] | None:
    """The place and the addend a branch goes to; None if that is not of this shape, undefined or weak."""
    addend = 0
    for _ in range(EVALUATION_DEPTH):
        match node:
            case At(place):
                return place, addend
            case Reference(symbol) if symbol.binding != "weak":
                node = symbol.definition
            case Operation("+" | "-" as sign, left, Const(value)):
                node, addend = left, addend + (value if sign == "+" else -value)
            case Operation("+", Const(value), right):
                node, addend = right, addend + value
            case _:
                return None
    return None


def _padding(item: Pad) -> int:
    needed = -item.offset % item.alignment
    return needed if needed <= item.limit else 0
