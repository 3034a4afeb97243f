"""Verdicts as an aligned table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_RIGHT = frozenset({"states", "seconds"})


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest entry, numbers to the right; a row may end in a remark of its own."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            f"{cell:>{w}}" if name in _RIGHT else f"{cell:{w}}"
            for name, cell, w in zip(header, row, widths, strict=False)
        ]
        return "  ".join([*cells, *row[len(header) :]]).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *(line(row) for row in rows)]
