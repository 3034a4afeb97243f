"""Instruction to SSA, one short function per mnemonic."""

from verifier.lift import (  # importing a family registers its mnemonics
    arithmetic,
    control,
    flags,
    logic,
    moves,
    stack,
    system,
)
from verifier.lift.registry import lift, supported

__all__ = ["arithmetic", "control", "flags", "lift", "logic", "moves", "stack", "supported", "system"]
