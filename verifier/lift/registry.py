"""The table of mnemonics, and the decorator that fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import LiftError
from verifier.lift.lifter import Lifter

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.asm.program import Instruction
    from verifier.ir.ops import Block

    Semantics = Callable[[Lifter], None]

_SEMANTICS: dict[str, Semantics] = {}


def instruction(*mnemonics: str) -> Callable[[Semantics], Semantics]:
    """Register a function as the meaning of these canonical mnemonics."""

    def register(semantics: Semantics) -> Semantics:
        for mnemonic in mnemonics:
            assert mnemonic not in _SEMANTICS, mnemonic
            _SEMANTICS[mnemonic] = semantics
        return semantics

    return register


def supported() -> frozenset[str]:
    """The canonical mnemonics that have a meaning here."""
    return frozenset(_SEMANTICS)


def lift(instruction: Instruction) -> Block:
    """The SSA of one instruction. Raises `LiftError` for what has no semantics here."""
    semantics = _SEMANTICS.get(instruction.mnemonic)
    if semantics is None:
        raise LiftError(
            f"'{instruction.mnemonic}' has no semantics here",
            instruction.span,
            "code that cannot be modelled can stand as a hole ('...') with a contract in the specification",
        )
    lifter = Lifter(instruction)
    semantics(lifter)
    return lifter.build()
