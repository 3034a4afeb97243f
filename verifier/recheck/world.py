"""The machine of a specification as expressions: where regions lie, what is in them at first, who is interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.machine.config import Pointer
from verifier.recheck.expression import (
    Expr,
    any_of,
    concat,
    const,
    eq,
    extract,
    not_,
    offset,
    or_,
    sext,
    split,
    ule,
    ult,
    var,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Context, MachineConfig, Region

#: Where a region without an address can lie (docs/machine-model.md, "What the specification's memory means").
LOWEST: Final = 0xFFFF_8000_0001_0000
HIGHEST: Final = 0xFFFF_FFFF_0000_0000
KERNEL_HALF: Final = 0xFFFF_8000_0000_0000
#: A word of memory: a region's name and the offset of its lowest byte, a multiple of 8.
Word = tuple[str, int]

#: High and low bit, and value: what no write to DR6 changes (rule I12).
_DR6_RESERVED = ((63, 32, 0), (31, 17, 0x7FFF), (12, 12, 0), (10, 4, 0x7F))


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """An interrupted context as it was: every cell, ``rip``, the image of the flags, and what is true of them."""

    context: Context
    cells: Mapping[str, Expr]
    rip: Expr
    rflags: Expr
    axioms: tuple[Expr, ...]

    def was(self, name: str) -> Expr:
        """A cell, ``rip`` or ``rflags`` when the first event struck."""
        return {"rip": self.rip, "rflags": self.rflags}.get(name) or self.cells[name]


class World:
    """One machine. ``facts``: what holds of its addresses; ``homes``: by the name of the context."""

    def __init__(self, machine: MachineConfig) -> None:
        self.machine = machine
        self.bases = {r.name: _base(r) for r in machine.regions.values()}
        self._by_base = {b: name for name, b in self.bases.items() if not b.is_const}
        self.facts = tuple(f for f in (*self._bounds(), *self._apart()) if not f.is_const)
        self.homes = {c.name: self._home(c) for c in machine.contexts}

    # memory

    def top(self, region: str) -> Expr:
        """The address just above a region."""
        return offset(self.bases[region], self.machine.regions[region].size)

    def find(self, address: Expr, size: int) -> Word | None:
        """Region and offset of ``size`` bytes that lie in one region for sure; None otherwise."""
        root, distance = split(address)
        if root is None:
            for r in self.machine.regions.values():
                if r.address is not None and 0 <= distance - r.address <= r.size - size:
                    return r.name, distance - r.address
            return None
        name = self._by_base.get(root)
        if name is None:
            return None
        distance -= (distance >> 63) << 64
        return (name, distance) if 0 <= distance <= self.machine.regions[name].size - size else None

    def is_anchored(self, address: Expr) -> bool:
        """Whether an address is a number, or a number of bytes away from some region's base."""
        root = split(address)[0]
        return root is None or root in self._by_base

    def inside(self, region: Region, address: Expr, size: int) -> Expr:
        """The condition that ``size`` bytes at an address lie in a region."""
        base = self.bases[region.name]
        return not_(or_(ult(address, base), ult(offset(base, region.size - size), address)))

    def belongs_to_home(self, word: Word) -> bool:
        """Whether a word lies at or above RSP on the stack that an interrupted kernel context runs on."""
        region = self.machine.regions[word[0]]
        return region.kind == "interrupted" and word[1] >= region.size // 2

    def contents(self, word: Word) -> Expr | None:
        """What a word holds for ever, if it is read-only."""
        region = self.machine.regions[word[0]]
        if region.writable:
            return None
        return const(int.from_bytes(region.contents[word[1] : word[1] + 8], "little"), 64)

    def initial(self, word: Word) -> Expr:
        """What a word holds before the first event."""
        fixed = self.contents(word)
        if fixed is not None:
            return fixed
        name, start = word
        whole = var(64, "initial", name, start)
        pieces = [extract(whole, 8 * i + 7, 8 * i) for i in range(8)]
        for datum in self.machine.regions[name].data:
            if datum.initially is not None:
                value = self.at_rest(datum.initially, datum.size)
                for i in range(max(datum.offset, start), min(datum.offset + datum.size, start + 8)):
                    low = 8 * (i - datum.offset)
                    pieces[i - start] = extract(value, low + 7, low)
        return concat(*reversed(pieces))

    def at_rest(self, initially: int | Pointer, size: int) -> Expr:
        """A datum's value at rest, ``size`` bytes wide."""
        if isinstance(initially, Pointer):
            return offset(self.bases[initially.region], initially.offset)
        return const(initially, 8 * size)

    def in_text(self, address: Expr) -> Iterator[Expr]:
        """Per executable section: the condition that an address lies in it."""
        for section in self.machine.program.sections:
            if section.executable and section.data:
                low, high = const(section.address, 64), const(section.end, 64)
                yield not_(or_(ult(address, low), ule(high, address)))

    def _bounds(self) -> Iterator[Expr]:
        for region in self.machine.regions.values():
            base = self.bases[region.name]
            if not base.is_const:
                yield ule(const(LOWEST, 64), base)
                yield ule(base, const(HIGHEST - region.size, 64))
                if region.alignment > 1:
                    bits = region.alignment.bit_length() - 1
                    yield eq(extract(base, bits - 1, 0), const(0, bits))

    def _apart(self) -> Iterator[Expr]:
        """Regions overlap neither each other nor the text."""
        spans = [(self.bases[r.name], r.size) for r in self.machine.regions.values() if r.kind != "msr"]
        sections = [s for s in self.machine.program.sections if s.executable and s.data]
        spans += [(const(s.address, 64), len(s.data)) for s in sections]
        for i, (a, a_size) in enumerate(spans):
            for b, b_size in spans[:i]:
                yield or_(ule(offset(a, a_size), b), ule(offset(b, b_size), a))

    # the interrupted context

    def _home(self, context: Context) -> Home:
        cells = {name: _arbitrary(context, name) for name in CELLS}
        cells["rsp"] = var(64, "interrupted", "rsp")
        if context.stack is not None:
            cells["rsp"] = offset(self.bases[context.stack], self.machine.regions[context.stack].size // 2)
        for name, value in (("cs", context.cs), ("ss", context.ss)):
            if name not in context.ldt:
                cells[name] = const(value, 16)
        cells["cpl"], cells["inhibit"] = const(context.cpl, 2), const(0, 2)
        if self.machine.percpu is not None:
            name = "gs_base" if context.gs == "kernel" else "kernel_gs_base"
            cells[name] = offset(self.bases[self.machine.percpu], -self.machine.percpu_origin)
        rip = var(64, "interrupted", "rip")
        axioms = tuple(a for a in self._axioms(context, cells, rip) if not a.is_const)
        return Home(context, cells, rip, image(cells), axioms)

    def _axioms(self, context: Context, cells: Mapping[str, Expr], rip: Expr) -> Iterator[Expr]:
        """Rules P4, I9, R10 and R13: what can be interrupted."""
        if self.machine.is_32_bit(context):
            yield ult(rip, const(1 << 32, 64))
        elif context.cpl == 3:
            yield canonical(rip)
        else:
            yield ule(const(KERNEL_HALF, 64), rip)
            yield from (not_(inside) for inside in self.in_text(rip))
        yield from (in_ldt(cells[name]) for name in context.ldt)
        for name in ("fs_base", "gs_base", "kernel_gs_base"):
            yield canonical(cells[name])
        if context.low_gs:
            yield not_(extract(cells["gs_base"], 63, 63))
        yield not_(extract(cells["cr3"], 63, 63))
        for high, low, value in _DR6_RESERVED:
            yield eq(extract(cells["dr6"], high, low), const(value, high - low + 1))
        for name in ("es", "ds", "fs", "gs"):
            yield not_(self.too_privileged(cells[name], context.cpl))

    def too_privileged(self, selector: Expr, cpl: int) -> Expr:
        """The condition that a selector means a segment whose DPL is below a CPL."""
        index = extract(selector, 15, 2)
        segments = self.machine.segments.values()
        return any_of(eq(index, const(s.selector >> 2, 14)) for s in segments if s.dpl < cpl)


def _base(region: Region) -> Expr:
    return var(64, "base", region.name) if region.address is None else const(region.address, 64)


def _arbitrary(context: Context, name: str) -> Expr:
    if name in context.fixed:
        return const(context.fixed[name], CELLS[name])
    return var(CELLS[name], "interrupted", name)


def canonical(address: Expr) -> Expr:
    """Bits 63 to 47 of an address are equal (rule A1)."""
    return eq(sext(extract(address, 47, 0), 64), address)


def in_ldt(selector: Expr) -> Expr:
    """The condition that a selector has TI=1 and RPL 3 (rule R13)."""
    return eq(extract(selector, 2, 0), const(7, 3))


def image(cells: Mapping[str, Expr]) -> Expr:
    """RFLAGS: bit 1 is set, the other reserved bits are clear (SDM vol. 1, 3.4.3)."""
    parts: list[Expr] = []
    at = 0
    for name, (bit, width) in RFLAGS_LAYOUT.items():
        if bit > at:
            parts.append(const(int(at == 1), bit - at))
        parts.append(cells[name])
        at = bit + width
    parts.append(const(0, 64 - at))
    return concat(*reversed(parts))


def rule(name: str) -> Expr:
    """A rule in which processors differ: one unknown bit for the whole run."""
    return var(1, "rule", name)
