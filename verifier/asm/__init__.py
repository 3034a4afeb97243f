"""AT&T x86-64 text to a laid-out `Program`."""

from verifier.asm.assembler import assemble, assemble_text
from verifier.asm.program import (
    Diagnostic,
    Imm,
    Instruction,
    Mem,
    Operand,
    Program,
    Reg,
    Section,
    Symbol,
    Target,
)

__all__ = [
    "Diagnostic",
    "Imm",
    "Instruction",
    "Mem",
    "Operand",
    "Program",
    "Reg",
    "Section",
    "Symbol",
    "Target",
    "assemble",
    "assemble_text",
]
