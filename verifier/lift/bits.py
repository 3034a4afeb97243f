"""Single bits and bit counting. SDM vol. 2: BT and kin, BSF, BSR, TZCNT, LZCNT, POPCNT, BMI1, BMI2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Mem, Reg
from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

#: mnemonic -> the operand made of the old one and a mask with the selected bit set.
_CHANGED: dict[str, Callable[[Lifter, Value, Value], Value]] = {
    "bts": lambda b, value, mask: b.binary("or", value, mask),
    "btr": lambda b, value, mask: b.binary("and", value, b.unary("not", mask)),
    "btc": lambda b, value, mask: b.binary("xor", value, mask),
}


@instruction("bt", *_CHANGED)
def bit_test(b: Lifter) -> None:
    """CF is the bit; ZF stays; OF, SF, AF, PF undefined."""
    address = _bit_string_address(b)
    destination = b.destination
    if address is not None and isinstance(destination, Mem):
        value = b.load(address, b.width, b.access(destination))
    else:
        value = b.read(destination)
    place = b.binary("and", b.read_as(b.source, b.width), b.const(b.width - 1, b.width))
    b.put("cf", b.bit(b.binary("lshr", value, place), 0))
    status.put_undefined(b, "of", "sf", "af", "pf")
    change = _CHANGED.get(b.instruction.mnemonic)
    if change is None:
        return
    result = change(b, value, b.binary("shl", b.const(1, b.width), place))
    if address is not None and isinstance(destination, Mem):
        b.store(address, result, b.access(destination))
    else:
        b.write(destination, result)


def _bit_string_address(b: Lifter) -> Value | None:
    """Where the selected bit's word lies if a register indexes memory: the offset is signed and unlimited."""
    mem = b.destination
    if not isinstance(mem, Mem) or not isinstance(b.source, Reg):
        return None
    log_bits, log_bytes = b.width.bit_length() - 1, b.width.bit_length() - 4
    words = b.binary("ashr", b.read(b.source), b.const(log_bits, b.width))
    offset = b.binary("shl", b.sext(words, 64), b.const(log_bytes, 64))
    offset = b.extract(offset, mem.address_width - 1, 0)
    return b.linear(mem, b.binary("add", b.effective(mem), offset))


def _position(b: Lifter, source: Value, positions: Iterable[int], otherwise: Value) -> Value:
    """The last of the positions whose bit is set."""
    result = otherwise
    for position in positions:
        result = b.ite(b.bit(source, position), b.const(position, source.width), result)
    return result


@instruction("bsf", "bsr")
def bit_scan(b: Lifter) -> None:
    """ZF says that the source is 0: then the destination is undefined, its upper half too."""
    source = b.read(b.source)
    up = range(b.width)
    result = _position(b, source, up if b.instruction.mnemonic == "bsr" else reversed(up), b.undef(b.width))
    b.put("zf", b.is_zero(source))
    status.put_undefined(b, "cf", "of", "sf", "af", "pf")
    b.write(b.destination, result)
    if b.width == 32 and isinstance(b.destination, Reg):
        name = b.destination.name
        b.put(name, b.ite(b.is_zero(source), b.undef(64), b.current(name)))


@instruction("tzcnt", "lzcnt")
def count_zeros(b: Lifter) -> None:
    """The operand size if the source is 0."""
    source = b.read(b.source)
    up, none = range(b.width), b.const(b.width, b.width)
    if b.instruction.mnemonic == "tzcnt":
        result = _position(b, source, reversed(up), none)
    else:
        highest = _position(b, source, up, b.const(-1, b.width))
        result = b.binary("sub", b.const(b.width - 1, b.width), highest)
    b.put("cf", b.is_zero(source))
    b.put("zf", b.is_zero(result))
    status.put_undefined(b, "of", "sf", "af", "pf")
    b.write(b.destination, result)


@instruction("popcnt")
def popcnt(b: Lifter) -> None:
    source = b.read(b.source)
    total = b.zext(b.bit(source, 0), b.width)
    for position in range(1, b.width):
        total = b.binary("add", total, b.zext(b.bit(source, position), b.width))
    for flag in ("of", "sf", "af", "cf", "pf"):
        b.put(flag, b.const(0, 1))
    b.put("zf", b.is_zero(source))
    b.write(b.destination, total)


@instruction("andn")
def andn(b: Lifter) -> None:
    inverted = b.unary("not", b.read(b.instruction.operands[1]))
    result = b.binary("and", inverted, b.read(b.source))
    _put_bmi_flags(b, result, b.const(0, 1))
    b.write(b.destination, result)


def _put_bmi_flags(b: Lifter, result: Value, carry: Value) -> None:
    b.put("sf", b.sign(result))
    b.put("zf", b.is_zero(result))
    b.put("cf", carry)
    b.put("of", b.const(0, 1))
    status.put_undefined(b, "af", "pf")


@instruction("bextr")
def bextr(b: Lifter) -> None:
    """The bits from control[7:0] on, as many as control[15:8] says."""
    control, source = b.read(b.source), b.read(b.instruction.operands[1])
    start, length = (b.zext(b.extract(control, low + 7, low), b.width) for low in (0, 8))
    all_ones = b.const(-1, b.width)
    mask = b.unary("not", b.binary("shl", all_ones, length))
    result = b.binary("and", b.binary("lshr", source, start), mask)
    _put_bmi_flags(b, result, b.const(0, 1))
    status.put_undefined(b, "sf")
    b.write(b.destination, result)


@instruction("bzhi")
def bzhi(b: Lifter) -> None:
    """Zero the bits from index[7:0] on; CF says that there are none."""
    index = b.zext(b.extract(b.read(b.source), 7, 0), b.width)
    mask = b.unary("not", b.binary("shl", b.const(-1, b.width), index))
    result = b.binary("and", b.read(b.instruction.operands[1]), mask)
    _put_bmi_flags(b, result, b.binary("ule", b.const(b.width, b.width), index))
    b.write(b.destination, result)


@instruction("blsr")
def blsr(b: Lifter) -> None:
    """Reset the lowest set bit."""
    source = b.read(b.source)
    result = b.binary("and", source, b.binary("sub", source, b.const(1, b.width)))
    _put_bmi_flags(b, result, b.is_zero(source))
    b.write(b.destination, result)


@instruction("blsi")
def blsi(b: Lifter) -> None:
    """Isolate the lowest set bit."""
    source = b.read(b.source)
    result = b.binary("and", source, b.unary("neg", source))
    _put_bmi_flags(b, result, b.invert(b.is_zero(source)))
    b.write(b.destination, result)


@instruction("blsmsk")
def blsmsk(b: Lifter) -> None:
    """A mask up to the lowest set bit."""
    source = b.read(b.source)
    result = b.binary("xor", source, b.binary("sub", source, b.const(1, b.width)))
    _put_bmi_flags(b, result, b.is_zero(source))
    b.put("zf", b.const(0, 1))
    b.write(b.destination, result)
