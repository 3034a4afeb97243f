"""Addition, subtraction and comparison. SDM vol. 2; flags: vol. 1, appendix A."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.lift.lifter import Lifter


@instruction("add")
def add(b: Lifter) -> None:
    b.write(b.destination, status.add(b, b.read(b.destination), b.read(b.source)))


@instruction("adc")
def adc(b: Lifter) -> None:
    b.write(b.destination, status.add(b, b.read(b.destination), b.read(b.source), b.get("cf")))


@instruction("sub")
def sub(b: Lifter) -> None:
    b.write(b.destination, status.subtract(b, b.read(b.destination), b.read(b.source)))


@instruction("sbb")
def sbb(b: Lifter) -> None:
    b.write(b.destination, status.subtract(b, b.read(b.destination), b.read(b.source), b.get("cf")))


@instruction("cmp")
def cmp(b: Lifter) -> None:
    status.subtract(b, b.read(b.destination), b.read(b.source))


@instruction("neg")
def neg(b: Lifter) -> None:
    b.write(b.destination, status.subtract(b, b.const(0, b.width), b.read(b.destination)))


@instruction("inc")
def inc(b: Lifter) -> None:
    result = status.add(b, b.read(b.destination), b.const(1, b.width))
    b.keep("cf")
    b.write(b.destination, result)


@instruction("dec")
def dec(b: Lifter) -> None:
    result = status.subtract(b, b.read(b.destination), b.const(1, b.width))
    b.keep("cf")
    b.write(b.destination, result)
