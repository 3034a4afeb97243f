"""Instruction to SSA, one short function per mnemonic."""

from verifier.lift import (  # importing a family registers its mnemonics
    arithmetic,
    atomics,
    bits,
    control,
    flags,
    logic,
    moves,
    multiply,
    rotates,
    shifts,
    stack,
    strings,
    system,
)
from verifier.lift.registry import lift, supported

__all__ = [
    "arithmetic",
    "atomics",
    "bits",
    "control",
    "flags",
    "lift",
    "logic",
    "moves",
    "multiply",
    "rotates",
    "shifts",
    "stack",
    "strings",
    "supported",
    "system",
]
