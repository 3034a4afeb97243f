"""Instruction to SSA, one short function per mnemonic.

A new mnemonic is a function under `registry.instruction` in the module of its family, and its forms in the
tables of the tests. The function gets a `Lifter`: the builder of `verifier.ir` that knows the operands.
"""

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
