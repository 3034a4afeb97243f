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


def gdt(segments: Iterable[Segment], tss: int) -> tuple[bytes, int]:
    """Flat descriptors at their selectors, and behind or between them a TSS at ``tss``; the selector of that."""
    entries: dict[int, int] = {0: 0}
    for segment in segments:
        entries[segment.selector >> 3] = _descriptor(segment)
    slot = _free_pair(entries)
    limit, access = TSS_SIZE - 1, 0x89
    entries[slot] = limit | (tss & 0xFFFFFF) << 16 | access << 40 | (tss >> 24 & 0xFF) << 56
    entries[slot + 1] = tss >> 32
    words = [entries.get(i, 0) for i in range(max(entries) + 1)]
    return struct.pack(f"<{len(words)}Q", *words), slot << 3


def _free_pair(taken: Collection[int]) -> int:
    slot = next(i for i in range(1, 1 << 14) if i not in taken and i + 1 not in taken)
    if slot + 1 >= 1 << 13:
        raise UsageError("the segments of the specification leave no room for a TSS in the GDT")
    return slot


def _descriptor(segment: Segment) -> int:
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


def tss(rsp0: int, ist: Sequence[int]) -> bytes:
    """``ist``: the stack pointers of the slots from 1 up."""
    slots = [*ist, *[0] * (7 - len(ist))]
    return struct.pack("<I3QQ7QQHH", 0, rsp0, 0, 0, 0, *slots, 0, 0, TSS_SIZE)
