"""Bitwise logic. SDM vol. 2: AND, OR, XOR, TEST, NOT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.lift.lifter import Lifter


@instruction("and", "or", "xor")
def bitwise(b: Lifter) -> None:
    result = b.binary(b.instruction.mnemonic, b.read(b.destination), b.read(b.source))
    b.write(b.destination, status.logical(b, result))


@instruction("test")
def test(b: Lifter) -> None:
    status.logical(b, b.binary("and", b.read(b.destination), b.read(b.source)))


@instruction("not")
def not_(b: Lifter) -> None:
    b.write(b.destination, b.unary("not", b.read(b.destination)))
