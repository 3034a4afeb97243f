"""Four-level page tables (SDM vol. 3A, 4.5), built on the host."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = 4096
LARGE = 2 << 20
PRESENT, WRITABLE, USER, UNCACHED, BIG = 1, 2, 4, 0x10, 0x80
OPEN = PRESENT | WRITABLE | USER


def in_memory(address: int) -> bool:
    """Whether an address of a run is one of memory: a run keeps model-specific registers where no canonical one is."""
    return address >> 47 in (0, 0x1FFFF)


def pages_of(address: int, size: int) -> range:
    """The addresses of the pages that ``size`` bytes from ``address`` on lie in."""
    return range(address & -PAGE, address + size, PAGE)


class Tables:
    """Page tables from physical address ``at`` on, upwards."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._tables: list[dict[int, int]] = []
        self._below: dict[tuple[int, int], int] = {}

    @property
    def size(self) -> int:
        return PAGE * len(self._tables)

    def root(self) -> int:
        """A new empty table of the highest level: its physical address."""
        self._tables.append({})
        return self._at + PAGE * (len(self._tables) - 1)

    def pair(self) -> int:
        """A new empty table of the highest level at a multiple of 8 KB, and right above it another that is the same."""
        root = self.root()
        if root % (2 * PAGE):
            root = self.root()
        self._tables.append(self._tables[-1])
        return root

    def map_page(self, root: int, virtual: int, entry: int) -> int:
        """Let a 4 KB page be ``entry``, an address with bits; the physical address of the entry."""
        return self._set(root, virtual, 1, entry)

    def map_large(self, root: int, virtual: int, entry: int) -> None:
        """The same for 2 MB."""
        self._set(root, virtual, 2, entry | BIG)

    def _set(self, table: int, virtual: int, level: int, entry: int) -> int:
        for upper in range(4, level, -1):
            table = self._next(table, virtual >> (12 + 9 * (upper - 1)) & 0x1FF)
        index = virtual >> (12 + 9 * (level - 1)) & 0x1FF
        self._table(table)[index] = entry
        return table + 8 * index

    def _next(self, table: int, index: int) -> int:
        if (table, index) not in self._below:
            self._below[table, index] = self.root()
            self._table(table)[index] = self._below[table, index] | OPEN
        return self._below[table, index]

    def _table(self, address: int) -> dict[int, int]:
        return self._tables[(address - self._at) // PAGE]

    def data(self) -> bytes:
        return b"".join(_packed(table) for table in self._tables)


def _packed(table: Mapping[int, int]) -> bytes:
    return struct.pack("<512Q", *[table.get(i, 0) for i in range(512)])
