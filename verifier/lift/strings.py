"""String instructions. SDM vol. 2: MOVS, STOS, LODS, CMPS, SCAS and the REP prefixes; rule N11.

One execution of the block is one iteration: it ends by branching to itself while more is to be done, so that
events can strike between iterations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Mem
from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


def _element(b: Lifter, register: str) -> Mem:
    """The memory operand at RSI (any segment) or RDI (always ES)."""
    written = (o for o in b.instruction.operands if isinstance(o, Mem) and o.base == register)
    return next(written, Mem(register, None, 1, 0, b.width))


def _advance(b: Lifter, *registers: str) -> None:
    """By the element's size, down if DF is set."""
    for name in registers:
        width = _element(b, name).address_width
        size = b.const(b.width // 8, width)
        step = b.ite(b.get("df"), b.unary("neg", size), size)
        b.set_register(name, b.binary("add", b.register(name, width), step))


def _is_repeated(b: Lifter) -> bool:
    return "rep" in b.instruction.prefixes or "repne" in b.instruction.prefixes


def _begin(b: Lifter, register: str) -> None:
    """A repeated instruction with a count of 0 does nothing at all."""
    if _is_repeated(b):
        b.skip_if(b.is_zero(b.register("rcx", _element(b, register).address_width)))


def _repeat(b: Lifter, register: str, more: Value | None = None) -> None:
    """Count down; go on while the count is not 0 and ``more`` holds. RF then stays set (rule N11)."""
    if not _is_repeated(b):
        return
    width = _element(b, register).address_width
    count = b.binary("sub", b.register("rcx", width), b.const(1, width))
    b.set_register("rcx", count)
    again = b.invert(b.is_zero(count))
    if more is not None:
        again = b.binary("and", again, more)
    b.put("rf", again)
    b.end("branch", again, attr=b.instruction.address)


@instruction("movs")
def movs(b: Lifter) -> None:
    _begin(b, "rsi")
    b.write(_element(b, "rdi"), b.read(_element(b, "rsi")))
    _advance(b, "rsi", "rdi")
    _repeat(b, "rsi")


@instruction("stos")
def stos(b: Lifter) -> None:
    _begin(b, "rdi")
    b.write(_element(b, "rdi"), b.register("rax"))
    _advance(b, "rdi")
    _repeat(b, "rdi")


@instruction("lods")
def lods(b: Lifter) -> None:
    _begin(b, "rsi")
    b.set_register("rax", b.read(_element(b, "rsi")))
    _advance(b, "rsi")
    _repeat(b, "rsi")


def _while_comparing(b: Lifter, equal: Value) -> Value:
    """REPE goes on while equal, REPNE while not."""
    return b.invert(equal) if "repne" in b.instruction.prefixes else equal


@instruction("cmps")
def cmps(b: Lifter) -> None:
    _begin(b, "rsi")
    first, second = b.read(_element(b, "rsi")), b.read(_element(b, "rdi"))
    status.subtract(b, first, second)
    _advance(b, "rsi", "rdi")
    _repeat(b, "rsi", _while_comparing(b, b.binary("eq", first, second)))


@instruction("scas")
def scas(b: Lifter) -> None:
    _begin(b, "rdi")
    accumulator, element = b.register("rax"), b.read(_element(b, "rdi"))
    status.subtract(b, accumulator, element)
    _advance(b, "rdi")
    _repeat(b, "rdi", _while_comparing(b, b.binary("eq", accumulator, element)))
