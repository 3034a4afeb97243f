"""The processor's tables as bytes: GDT, IDT, TSS (SDM vol. 3A, 3.4.5, 6.14, 7.7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from verifier.machine.config import Segment

TSS_SIZE = 104
LDT_SIZE = 1 << 16
#: Types of system segments, present.
_AVAILABLE_TSS, _LDT = 0x89, 0x82
#: Where the IST slots stand in a TSS: slot 1.
_FIRST_IST = 36
#: The IST slot of the monitor; those below are the program's.
OWN_IST = 7


@dataclass(frozen=True, slots=True)
class Entry:
    """A gate of the IDT. ``ist``: 1 to 7, or 0 for none."""

    vector: int
    target: int
    ist: int
    trap: bool
    dpl: int


def gdt(segments: Iterable[Segment], tss: int, ldt: int | None = None) -> tuple[bytes, int, int]:
    """Flat descriptors at their selectors, and behind or between them a TSS at ``tss`` and an LDT of full size at
    ``ldt``; the selectors of these two, 0 for none."""
    entries: dict[int, int] = {0: 0}
    for segment in segments:
        entries[segment.selector >> 3] = descriptor(segment)
    task = _add(entries, tss, TSS_SIZE, _AVAILABLE_TSS)
    local = 0 if ldt is None else _add(entries, ldt, LDT_SIZE, _LDT)
    words = [entries.get(i, 0) for i in range(max(entries) + 1)]
    return struct.pack(f"<{len(words)}Q", *words), task, local


def _add(entries: dict[int, int], base: int, size: int, access: int) -> int:
    """Put the descriptor of a system segment somewhere: its selector."""
    slot = _free_pair(entries)
    entries[slot] = size - 1 | (base & 0xFFFFFF) << 16 | access << 40 | (base >> 24 & 0xFF) << 56
    entries[slot + 1] = base >> 32
    return slot << 3


def _free_pair(taken: Collection[int]) -> int:
    slot = next(i for i in range(1, 1 << 14) if i not in taken and i + 1 not in taken)
    if slot + 1 >= 1 << 13:
        raise UsageError("the segments of the specification leave no room for a TSS or an LDT in the GDT")
    return slot


def descriptor(segment: Segment) -> int:
    """A flat descriptor of the GDT or LDT, that has been accessed."""
    kind = 0xA if segment.kind == "code" else 0x2 if segment.writable else 0
    access = 0x91 | segment.dpl << 5 | kind
    pages = segment.limit is None or segment.limit > 0xF_FFFF
    flags = (0x8 if pages else 0) | (0x2 if segment.long else 0x4)
    limit = 0xF_FFFF if segment.limit is None else segment.limit >> (12 if pages else 0)
    return limit & 0xFFFF | access << 40 | limit >> 16 << 48 | flags << 52


def idt(entries: Iterable[Entry], selector: int) -> bytes:
    """All 256 gates."""
    table = bytearray(256 * 16)
    for e in entries:
        kind = 0x8F if e.trap else 0x8E
        struct.pack_into(
            "<HHBBHII", table, 16 * e.vector,
            e.target & 0xFFFF, selector, e.ist, kind | e.dpl << 5, e.target >> 16 & 0xFFFF, e.target >> 32, 0,
        )  # fmt: skip
    return bytes(table)


def ist_place(slot: int) -> int:
    """The offset of an IST slot in a TSS."""
    return _FIRST_IST + 8 * (slot - 1)


def tss(rsp0: int, ist: Sequence[int]) -> bytes:
    """``ist``: the stack pointers of the slots from 1 up."""
    slots = [*ist, *[0] * (7 - len(ist))]
    return struct.pack("<I3QQ7QQHH", 0, rsp0, 0, 0, 0, *slots, 0, 0, TSS_SIZE)
