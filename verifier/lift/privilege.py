"""Checks of the privilege level (rules I3, I9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

INVALID_OPCODE = 6
GENERAL_PROTECTION = 13


def protect(b: Lifter, condition: Value) -> None:
    """#GP(0) if the condition holds."""
    b.fault_if(condition, GENERAL_PROTECTION)


def outside_cpl0(b: Lifter) -> Value:
    return b.invert(b.is_zero(b.get("cpl")))


def above_iopl(b: Lifter) -> Value:
    """CPL > IOPL."""
    return b.binary("ult", b.get("iopl"), b.get("cpl"))


def require_cpl0(b: Lifter) -> None:
    protect(b, outside_cpl0(b))


def require_iopl(b: Lifter) -> None:
    protect(b, above_iopl(b))
