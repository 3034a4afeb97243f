"""Memory operands: ModRM, SIB and displacement in 64-bit mode (Vol. 2A, 2.1.5 and 2.2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.asm.encode.kinds import signed64
from verifier.asm.encode.raw import EncodeError, RawMem
from verifier.asm.encode.registers import GENERAL, POINTER, REGISTERS, SEGMENT, Register

_SEGMENT_PREFIX = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}
#: What the first byte of an instruction says of the segment of its memory operand.
SEGMENT_PREFIXES = {byte: name for name, byte in _SEGMENT_PREFIX.items()}
_SCALES = (1, 2, 4, 8)
_SIB = 4
_NO_INDEX = 4
_NO_BASE = 5


@dataclass(frozen=True, slots=True)
class Address:
    """An encoded memory operand: ``modrm`` without its reg field, REX.X and REX.B, displacement bytes."""

    modrm: int
    sib: int | None
    rex_x: int
    rex_b: int
    disp_size: int
    rip_relative: bool
    width: int
    segment_prefix: bytes


def check(raw: RawMem, operand: int) -> None:
    """Raise EncodeError unless 64-bit mode can address this."""
    if raw.segment is not None and (raw.segment not in REGISTERS or REGISTERS[raw.segment].file != SEGMENT):
        raise EncodeError(f"'%{raw.segment[:40]}' is no segment register", operand)
    if raw.scale not in _SCALES:
        raise EncodeError(f"scale factor {raw.scale}", operand, "the scale is 1, 2, 4 or 8")
    if raw.base is None and raw.index is None and not raw.has_disp:
        raise EncodeError("a memory operand needs an address", operand)
    parts = [_part(name, operand) for name in (raw.base, raw.index) if name is not None]
    if len({part.width for part in parts}) > 1:
        raise EncodeError("base and index register have different widths", operand)
    if raw.index is not None and parts[-1].name in ("rsp", "rip"):
        raise EncodeError(f"'%{raw.index}' cannot be an index register", operand)
    if len(parts) > 1 and parts[0].file == POINTER:
        raise EncodeError("'%rip' takes no index register", operand)


def _part(name: str, operand: int) -> Register:
    register = REGISTERS.get(name)
    if register is None:
        raise EncodeError(f"bad register name '%{name[:40]}'", operand)
    if register.file not in (GENERAL, POINTER) or register.width not in (32, 64):
        hint = "addresses are made of 64-bit (or 32-bit) general registers"
        raise EncodeError(f"'%{name}' cannot address memory in 64-bit mode", operand, hint)
    return register


def displacement(value: int, width: int) -> int | None:
    """The signed 32-bit displacement that means ``value`` at an address width, or None."""
    value = signed64(value)
    if width == 32 and 1 << 31 <= value < 1 << 32:
        value -= 1 << 32
    return value if -(1 << 31) <= value < 1 << 31 else None


def encode(raw: RawMem, operand: int) -> Address:
    """ModRM, SIB and displacement size as GNU as chooses them: the shortest, 32 bits for a symbol."""
    base = REGISTERS[raw.base] if raw.base is not None else None
    index = REGISTERS[raw.index] if raw.index is not None else None
    width = (base or index or REGISTERS["rax"]).width
    if raw.disp is not None and displacement(raw.disp, width) is None:
        message = f"{raw.disp:#x} is out of range of a signed 32-bit displacement"
        raise EncodeError(message, operand, "movabs reaches any address, to or from the accumulator")
    rip_relative = base is not None and base.file == POINTER
    mod, disp_size = _displacement_form(raw, base, width)
    needs_sib = not rip_relative and (base is None or index is not None or base.number & 7 == _SIB)
    rm = _NO_BASE if rip_relative else _SIB if needs_sib or base is None else base.number & 7
    return Address(
        modrm=mod << 6 | rm,
        sib=_sib(raw, base, index) if needs_sib else None,
        rex_x=index.number >> 3 if index else 0,
        rex_b=base.number >> 3 if base and not rip_relative else 0,
        disp_size=disp_size,
        rip_relative=rip_relative,
        width=width,
        segment_prefix=segment_prefix(raw.segment, base),
    )


def _displacement_form(raw: RawMem, base: Register | None, width: int) -> tuple[int, int]:
    if base is None or base.file == POINTER:
        return 0, 4
    if raw.disp is None:
        return 2, 4
    value = displacement(raw.disp, width)
    if not value and base.number & 7 != _NO_BASE:
        return 0, 0
    return (1, 1) if value is not None and -128 <= value <= 127 else (2, 4)


def _sib(raw: RawMem, base: Register | None, index: Register | None) -> int:
    scale = _SCALES.index(raw.scale) if index else 0
    return (
        scale << 6 | (index.number & 7 if index else _NO_INDEX) << 3 | (base.number & 7 if base else _NO_BASE)
    )


def segment_prefix(segment: str | None, base: Register | None) -> bytes:
    """Nothing where the segment is the one used anyway, as GNU as does."""
    default = "ss" if base is not None and base.name in ("rsp", "rbp") else "ds"
    return bytes([_SEGMENT_PREFIX[segment]]) if segment is not None and segment != default else b""
