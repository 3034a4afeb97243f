"""A value that a specification asks of a state: straight-line SSA like that of an instruction, but it only reads.

Its operations are the pure ones of `verifier.ir.ops`, ``load``, ``get`` of a cell or of ``nmi_blocked`` (one bit), and
``base`` and ``top``: the lowest address of the region named ``attr``, and the one just above it. The value is that of
the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.ir.ops import Operation


@dataclass(frozen=True, slots=True)
class Formula:
    """``text``: as its author wrote it. A truth has 1 bit, any other value 64."""

    text: str
    operations: tuple[Operation, ...]
