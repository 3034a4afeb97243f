"""A chosen form: known length, bytes once the values are known, operands in canonical shape."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.asm.encode.address import SEGMENT_PREFIXES, displacement
from verifier.asm.encode.kinds import Kind, fits, signed64
from verifier.asm.encode.raw import EncodeError, Raw, RawImm, RawMem, RawReg
from verifier.asm.encode.registers import POINTER, REGISTERS
from verifier.asm.program import Imm, Mem, Operand, Reg, Target

_ADDRESSES = 1 << 64

DISP, RIP, MOFFS_FIELD, IMMEDIATE, RELATIVE = "disp", "rip", "moffs", "immediate", "relative"


@dataclass(frozen=True, slots=True)
class Bound:
    """An operand bound to its kind; ``written`` is its place in the source, None if it is implied there."""

    kind: Kind
    raw: Raw
    written: int | None


@dataclass(frozen=True, slots=True)
class Field:
    """A value behind the opcode: which operand it belongs to and how many bytes it takes.

    ``width`` is the address width of a displacement in bits.
    """

    role: str
    bound: Bound
    size: int
    width: int = 64


@dataclass(frozen=True, slots=True)
class Form:
    """What an instruction line means. ``width`` is the operand size in bits, 0 where there is none.

    ``warning`` tells of a size that GNU as assumed. ``head`` has the bytes before the fields; ``near_head``
    those of the form with a 32-bit displacement, for a branch that has two.
    """

    mnemonic: str
    condition: str | None
    width: int
    prefixes: tuple[str, ...]
    warning: str | None
    head: bytes
    near_head: bytes | None
    fields: tuple[Field, ...]
    bounds: tuple[Bound, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The possible lengths in bytes: one, or short and near of a relaxable branch."""
        length = len(self.head) + sum(field.size for field in self.fields)
        return (length,) if self.near_head is None else (length, len(self.near_head) + 4)

    def encode(self, values: tuple[int | None, ...], address: int, size: int) -> bytes:
        """The bytes at ``address`` in the length ``size`` (one of `sizes`).

        ``values`` has one entry per written operand: the immediate, the displacement, the absolute target of
        a branch or of a rip-relative operand (for a plain number before ``(%rip)``: the number counted from
        the end of the instruction); None where there is nothing to know. Addresses are unsigned numbers: a
        kernel address does not fit a 32-bit immediate, absolute -1 does.
        Raises EncodeError where a value does not fit, as GNU as or ld would.
        """
        near = self.near_head is not None and size != self.sizes[0]
        code = bytearray(self.near_head if near and self.near_head is not None else self.head)
        for field in self.fields:
            length = 4 if near and field.role == RELATIVE else field.size
            code += _field_value(field, length, values, address + size, self.width).to_bytes(length, "little")
        return bytes(code)

    def operands(self, values: tuple[int | None, ...]) -> tuple[Operand, ...]:
        """The operands as the CPU uses them, implied ones included; a target's text is left to the caller."""
        segment = SEGMENT_PREFIXES.get(self.head[0])
        return tuple(_operand(bound, values, self.width, segment) for bound in self.bounds)


def _value(bound: Bound, values: tuple[int | None, ...]) -> int:
    """The value given for the operand, else the plain number it was written with."""
    given = None if bound.written is None else values[bound.written]
    if given is None and isinstance(bound.raw, RawImm):
        given = bound.raw.value
    if given is None and isinstance(bound.raw, RawMem) and bound.raw.base != "rip":
        given = bound.raw.disp
    if given is None:
        raise EncodeError("the value of this operand is not known", bound.written)
    return given


def _field_value(field: Field, length: int, values: tuple[int | None, ...], end: int, width: int) -> int:
    value = _value(field.bound, values)
    written = field.bound.written
    if field.role in (RELATIVE, RIP):
        return _relative(value, end, length, written)
    if field.role == MOFFS_FIELD:
        return _absolute(value, written)
    if field.role == DISP:
        return _displacement(value, field, length)
    return _immediate(value, field.bound, length, width)


def _relative(target: int, end: int, length: int, written: int | None) -> int:
    distance = signed64((target - end) % _ADDRESSES)
    bits = 8 * length
    if not -(1 << (bits - 1)) <= distance < 1 << (bits - 1):
        raise EncodeError(f"{target % _ADDRESSES:#x} is out of reach of a {bits}-bit displacement", written)
    return distance % (1 << bits)


def _absolute(value: int, written: int | None) -> int:
    if not -(1 << 63) <= value < _ADDRESSES:
        raise EncodeError(f"{value:#x} is no 64-bit address", written)
    return value % _ADDRESSES


def _displacement(value: int, field: Field, length: int) -> int:
    raw = field.bound.raw
    address = field.width == 32 and isinstance(raw, RawMem) and raw.disp is None and value >= 1 << 32
    fitting = None if address else displacement(value, field.width)
    bits = 8 * length
    if fitting is None or not -(1 << (bits - 1)) <= fitting < 1 << (bits - 1):
        message = f"{value:#x} is out of range of a signed {bits}-bit displacement"
        raise EncodeError(message, field.bound.written)
    return fitting % (1 << bits)


def _immediate(value: int, bound: Bound, length: int, width: int) -> int:
    """A symbol's value is sign-extended from a field of a 64-bit operand only, else it must fit unsigned."""
    known = isinstance(bound.raw, RawImm) and bound.raw.value is not None
    bits = 8 * length
    extended = known or (width == 64 and not bound.kind.strict)
    if not fits(bound.kind, value, width) or (value >= 1 << bits and not extended):
        raise EncodeError(f"{value:#x} is out of range of a {bits}-bit immediate", bound.written)
    return value % (1 << bits)


def _operand(bound: Bound, values: tuple[int | None, ...], size: int, segment: str | None) -> Operand:
    width = bound.kind.bits(size)
    if isinstance(bound.raw, RawReg):
        register = REGISTERS[bound.raw.name]
        return Reg(register.name, width, register.high)
    value = _value(bound, values)
    if isinstance(bound.raw, RawMem):
        return _memory(bound.raw, value, width, segment)
    if isinstance(bound.raw, RawImm):
        return Imm(value % (1 << width), width)
    return Target(value % _ADDRESSES, "")


def _memory(raw: RawMem, value: int, width: int, segment: str | None) -> Mem:
    base = REGISTERS[raw.base] if raw.base is not None else None
    index = REGISTERS[raw.index] if raw.index is not None else None
    address_width = (base or index or REGISTERS["rax"]).width
    if base is not None and base.file == POINTER:
        return Mem(None, None, 1, value % _ADDRESSES, width, segment, True, address_width)
    signed = displacement(value, address_width)
    return Mem(
        base=base.name if base else None,
        index=index.name if index else None,
        scale=raw.scale if index else 1,
        disp=signed64(value) if signed is None else signed,
        width=width,
        segment=segment,
        address_width=address_width,
    )
