"""System instructions. SDM vol. 2; rules I6, I9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.lift.lifter import Lifter


@instruction("nop", "pause", "lfence", "mfence", "sfence", "endbr64", "endbr32")
def nop(b: Lifter) -> None:
    """No effect that one CPU's run can see (rule A13). A memory operand of NOP is not accessed."""
