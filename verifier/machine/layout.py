"""Where the regions are: their symbolic bases, their words, and what their bytes are at the start.

A region without a fixed address has a variable for a base. Its bounds keep it in the kernel half and below the last
4 GB, so that no sum of base and offset wraps and kernel text is never meant by it; that it overlaps no other region is
a *fact* given to the solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX
from verifier.machine.config import MachineConfig, Pointer, Region
from verifier.machine.frame import Wanted
from verifier.terms import FALSE, Term, add, concat, const, extract, not_, or_, param, rewrite, ule, ult, var

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Memory locations are numbered after the cells: region number, then 8-byte word.
_REGION_SHIFT = 32
LOWEST_BASE = 0xFFFF_8000_0001_0000
HIGHEST_END = 0xFFFF_FFFF_0000_0000

CELL_COUNT = len(CELL_INDEX)


@dataclass(frozen=True, slots=True)
class Place:
    """A byte offset in a region, by number."""

    region: int
    offset: int


class Layout:
    """The regions of one machine as terms.

    ``processor``: rules of `verifier.machine.rules` that are known, by name; the others go both ways.
    """

    def __init__(self, machine: MachineConfig, processor: Mapping[str, int] | None = None) -> None:
        self.machine = machine
        self.processor = dict(processor or {})
        self.regions: tuple[Region, ...] = tuple(machine.regions.values())
        self.number = {r.name: i for i, r in enumerate(self.regions)}
        self.bases: tuple[Term, ...] = tuple(_base(r) for r in self.regions)
        self._by_base = {b: i for i, b in enumerate(self.bases) if not b.is_const}
        self._of_home = tuple(self._home_words())
        self._params: dict[int, Term] = {}
        self._ordered: dict[Term, Term] = {}
        self._initial: dict[int, Term] = {}
        self.facts: tuple[Term, ...] = tuple(self._disjointness())

    def base(self, name: str) -> Term:
        return self.bases[self.number[name]]

    def top(self, name: str) -> Term:
        """The address just above a region: where an empty stack points."""
        return add(self.base(name), const(self.machine.regions[name].size, 64))

    def location(self, region: int, word: int) -> int:
        """The location number of an 8-byte word."""
        return CELL_COUNT + (region << _REGION_SHIFT) + word

    def place_of(self, location: int) -> Place:
        """The lowest byte of the word that a location number means."""
        region, word = divmod(location - CELL_COUNT, 1 << _REGION_SHIFT)
        return Place(region, word * 8)

    def belongs_to_home(self, location: int) -> bool:
        """Whether a word lies at or above the RSP of an interrupted kernel context, on the stack it runs on."""
        return any([location in words for words in self._of_home])

    def _home_words(self) -> Iterator[range]:
        for i, region in enumerate(self.regions):
            if region.kind == "interrupted":
                yield range(self.location(i, -(-region.size // 16)), self.location(i + 1, 0))

    def locate(self, address: Term, size: int) -> Place | None:
        """The place of an address whose region folding can tell; None if it cannot, or if it is in none.

        An offset outside its own region is in none. Raises Wanted for an address that is left open.
        """
        if address.params:
            raise Wanted(address.params)
        if address.is_const:
            for i, base in enumerate(self.bases):
                if base.is_const and 0 <= address.value - base.value <= self.regions[i].size - size:
                    return Place(i, address.value - base.value)
            return None
        root, offset = _split(address)
        number = self._by_base.get(root)
        if number is None or not 0 <= offset <= self.regions[number].size - size:
            return None
        return Place(number, offset)

    def is_region_address(self, address: Term) -> bool:
        """Whether an address is a constant distance from some region's base, inside it or not. Raises Wanted."""
        if address.params:
            raise Wanted(address.params)
        return address.is_const or _split(address)[0] in self._by_base

    def describe(self, address: Term) -> str | None:
        """``region+offset`` for an address a constant distance from a region's base, else None."""
        root, offset = _split(address)
        number = self._by_base.get(root)
        return None if number is None else f"{self.regions[number].name}{offset:+#x}"

    def ordered(self, condition: Term) -> Term:
        """A condition in which addresses of different regions are compared as the regions lie: they do not overlap.

        So all comparisons of two regions are one condition (or its negation), whatever the offsets.
        """
        if condition.op in ("const", "var") or not self._bases_in(condition):
            return condition
        found = self._ordered.get(condition)
        if found is None:
            found = self._ordered[condition] = rewrite(condition, self._compared)
        return found

    def _bases_in(self, condition: Term) -> bool:
        return sum(v in self._by_base for v in condition.support) > 1

    def _compared(self, op: str, args: tuple[Term, ...]) -> Term | None:
        """What a comparison of addresses means if both are in regions, or just above them, and not in one."""
        if op not in ("ult", "eq") or args[0].params or args[1].params:
            return None
        (one, i), (other, j) = _split(args[0]), _split(args[1])
        a, b = self._by_base.get(one), self._by_base.get(other)
        if a is None or b is None or a == b or "msr" in (self.regions[a].kind, self.regions[b].kind):
            return None
        one_size, other_size = self.regions[a].size, self.regions[b].size
        if op == "eq":
            return FALSE if -one_size < j - i < other_size else None  # they would overlap
        if not (0 <= i <= one_size and 0 <= j <= other_size and (i < one_size or j)):
            return None
        return ult(one, other)

    def inside(self, region: int, address: Term, size: int) -> Term:
        """The condition that ``size`` bytes at an address lie in a region."""
        base, limit = self.bases[region], self.regions[region].size - size
        return not_(or_(ult(address, base), ult(add(base, const(limit, 64)), address)))

    def initial(self, location: int) -> Term:
        """The word at a location before anything was written to it."""
        found = self._initial.get(location)
        if found is None:
            found = self._initial[location] = self._initial_word(self.place_of(location))
        return found

    def param(self, location: int) -> Term:
        """What stands for the word at a location that a nested run did not write; read-only words are known."""
        found = self._params.get(location)
        if found is None:
            writable = self.regions[self.place_of(location).region].writable
            found = self._params[location] = param(location, 64) if writable else self.initial(location)
        return found

    def locations_of(self, variables: frozenset[object]) -> set[int]:
        """The words whose contents at the start some of these variables stand for, as far as they were asked for."""
        return {at for at, word in self._initial.items() if not word.support.isdisjoint(variables)}

    def _initial_word(self, place: Place) -> Term:
        region = self.regions[place.region]
        if not region.writable:
            return const(int.from_bytes(region.contents[place.offset : place.offset + 8], "little"), 64)
        word = var(f"{region.name}+{place.offset:#x}", 64)
        for datum in region.data:
            if datum.initially is None:
                continue
            value = self.initial_value(datum.initially, datum.size)
            word = _overlay(word, place.offset, value, datum.offset)
        return word

    def initial_value(self, initially: int | Pointer, size: int) -> Term:
        """A datum's value at rest, ``size`` bytes wide."""
        if isinstance(initially, Pointer):
            return add(self.base(initially.region), const(initially.offset, 64))
        return const(initially, size * 8)

    def _disjointness(self) -> Iterator[Term]:
        fixed = [
            (const(s.address, 64), len(s.data)) for s in self.machine.program.sections if s.executable and s.data
        ]
        reachable = zip(self.bases, self.regions, strict=True)
        spans = [*((base, r.size) for base, r in reachable if r.kind != "msr"), *fixed]
        for i, (a, a_size) in enumerate(spans):
            for b, b_size in spans[:i]:
                apart = or_(ule(add(a, const(a_size, 64)), b), ule(add(b, const(b_size, 64)), a))
                if not apart.is_const:
                    yield apart


def _base(region: Region) -> Term:
    if region.address is not None:
        return const(region.address, 64)
    return var(f"{region.name}.base", 64, LOWEST_BASE, HIGHEST_END - region.size, region.alignment)


def _split(address: Term) -> tuple[Term, int]:
    if address.op == "add" and address.args[1].is_const:
        offset = address.args[1].value
        return address.args[0], offset - (1 << 64) if offset >> 63 else offset
    return address, 0


def _overlay(word: Term, at: int, value: Term, start: int) -> Term:
    """A word at byte ``at`` with the bytes of ``value``, which begins at byte ``start``, put over it."""
    parts: list[Term] = []
    for byte in reversed(range(at, at + 8)):
        inside = 0 <= byte - start < value.width // 8
        source, low = (value, (byte - start) * 8) if inside else (word, (byte - at) * 8)
        parts.append(extract(source, low + 7, low))
    return concat(*parts)
