"""Data movement between registers and memory. SDM vol. 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Mem, Reg
from verifier.lift import segments, status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


@instruction("mov")
def mov(b: Lifter) -> None:
    destination = b.destination
    if isinstance(destination, Reg) and segments.is_special(destination):
        segments.move_to(b, destination)
    elif isinstance(b.source, Reg) and segments.is_special(b.source):
        b.write(destination, b.zext(segments.move_from(b, b.source), b.destination_width))
    else:
        b.write(destination, b.read(b.source))


@instruction("movnti")
def movnti(b: Lifter) -> None:
    b.write(b.destination, b.read(b.source))


@instruction("movzx")
def movzx(b: Lifter) -> None:
    b.write(b.destination, b.zext(b.read(b.source), b.destination_width))


@instruction("movsx")
def movsx(b: Lifter) -> None:
    b.write(b.destination, b.sext(b.read(b.source), b.destination_width))


@instruction("lea")
def lea(b: Lifter) -> None:
    """The effective address: no segment base, no access."""
    assert isinstance(b.source, Mem)
    address = b.zext(b.effective(b.source), 64)
    b.write(b.destination, b.extract(address, b.destination_width - 1, 0))


@instruction("xchg")
def xchg(b: Lifter) -> None:
    first, second = b.read(b.source), b.read(b.destination)
    b.write(b.destination, first)
    b.write(b.source, second)


@instruction("cmovcc")
def cmovcc(b: Lifter) -> None:
    """The source is read, and a 32-bit destination zero-extended, whether or not the condition holds (A6)."""
    source, old = b.read(b.source), b.read(b.destination)
    b.write(b.destination, b.ite(status.condition(b), source, old))


@instruction("setcc")
def setcc(b: Lifter) -> None:
    b.write(b.destination, b.zext(status.condition(b), 8))


@instruction("bswap")
def bswap(b: Lifter) -> None:
    if b.width == 16:
        b.write(b.destination, b.undef(16))
    else:
        b.write(b.destination, _reverse_bytes(b, b.read(b.destination)))


@instruction("movbe")
def movbe(b: Lifter) -> None:
    b.write(b.destination, _reverse_bytes(b, b.read(b.source)))


def _reverse_bytes(b: Lifter, value: Value) -> Value:
    result = b.extract(value, 7, 0)
    for low in range(8, value.width, 8):
        result = b.concat(result, b.extract(value, low + 7, low))
    return result


@instruction("cbw")
def cbw(b: Lifter) -> None:
    b.set_register("rax", b.sext(b.register("rax", 8), 16))


@instruction("cwde")
def cwde(b: Lifter) -> None:
    b.set_register("rax", b.sext(b.register("rax", 16), 32))


@instruction("cdqe")
def cdqe(b: Lifter) -> None:
    b.set_register("rax", b.sext(b.register("rax", 32), 64))


def _sign_into_rdx(b: Lifter, width: int) -> None:
    b.set_register("rdx", b.sext(b.sign(b.register("rax", width)), width))


@instruction("cwd")
def cwd(b: Lifter) -> None:
    _sign_into_rdx(b, 16)


@instruction("cdq")
def cdq(b: Lifter) -> None:
    _sign_into_rdx(b, 32)


@instruction("cqo")
def cqo(b: Lifter) -> None:
    _sign_into_rdx(b, 64)


@instruction("xlat")
def xlat(b: Lifter) -> None:
    operand = next((o for o in b.instruction.operands if isinstance(o, Mem)), None)
    width = operand.address_width if operand else 64
    table = Mem("rbx", None, 1, 0, 8, operand.segment if operand else None, address_width=width)
    offset = b.binary("add", b.effective(table), b.zext(b.register("rax", 8), width))
    b.set_register("rax", b.load(b.linear(table, offset), 8, b.access(table)))
