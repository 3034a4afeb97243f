"""Instruction encoding: AT&T mnemonic and raw operands to the bytes that GNU as 2.40 emits (64-bit mode)."""

from verifier.asm.encode.diagnose import unknown
from verifier.asm.encode.form import Form
from verifier.asm.encode.matching import match, mnemonics
from verifier.asm.encode.raw import EncodeError, Raw, RawImm, RawMem, RawReg, RawTarget

__all__ = [
    "EncodeError",
    "Form",
    "Raw",
    "RawImm",
    "RawMem",
    "RawReg",
    "RawTarget",
    "match",
    "mnemonics",
    "unknown",
]
