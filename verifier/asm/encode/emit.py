"""From a row and its operands to bytes: prefixes, REX or VEX, opcode, ModRM, SIB (Vol. 2A, chapter 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.encode import address
from verifier.asm.encode.form import DISP, IMMEDIATE, MOFFS_FIELD, RELATIVE, RIP, Bound, Field
from verifier.asm.encode.kinds import IMM, MOFFS, OPCODE, REG, REL, RM, VEX
from verifier.asm.encode.raw import EncodeError, RawMem, RawReg
from verifier.asm.encode.registers import REGISTERS, Register

if TYPE_CHECKING:
    from verifier.asm.encode.prefixes import Words
    from verifier.asm.encode.rows import Row

_CALL = 0xE8
_VEX_MAPS = {b"\x0f\x38": 2, b"\x0f\x3a": 3}
_VEX_PREFIXES = {b"": 0, b"\x66": 1, b"\xf3": 2, b"\xf2": 3}


@dataclass(frozen=True, slots=True)
class Code:
    """The bytes of an instruction before its fields, and the fields."""

    head: bytes
    near_head: bytes | None
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The operands by their place in the instruction."""

    reg: Register | None
    vex: Register | None
    opcode: Register | None
    rm: Register | None
    memory: address.Address | None
    registers: tuple[tuple[Bound, Register], ...]

    @property
    def base_extension(self) -> int:
        if self.memory:
            return self.memory.rex_b
        low = self.rm or self.opcode
        return low.number >> 3 if low else 0

    @property
    def index_extension(self) -> int:
        return self.memory.rex_x if self.memory else 0

    @property
    def reg_extension(self) -> int:
        return self.reg.number >> 3 if self.reg else 0


def emit(row: Row, size: int, bounds: tuple[Bound, ...], words: Words) -> Code:
    """The head and the fields of the row's instruction at operand size ``size`` (bits)."""
    parts = _parts(bounds)
    segment = _segment(bounds, parts)
    before = words.before + segment
    if words.before and segment:
        raise EncodeError("two segment prefixes")
    if parts.memory and parts.memory.width == 32:
        before += b"\x67"
    tail = _modrm(row, parts)
    plain = row.has("plain") or row.has("as16") or row.has("as32")
    before += b"\x66" if size == 16 and not plain else b""
    wide = size == 64 and not plain and not row.has("d64")
    fields = _fields(row, bounds, parts, size)
    before += words.after
    if row.has("vex"):
        return Code(before + _vex(row, parts, wide) + tail, None, fields)
    before += row.mandatory + _rex(parts, wide)
    near = before + row.near if row.near else None
    return Code(before + _opcode(row, size, parts) + tail, near, fields)


def _parts(bounds: tuple[Bound, ...]) -> _Parts:
    registers = tuple((b, REGISTERS[b.raw.name]) for b in bounds if isinstance(b.raw, RawReg))
    at = {bound.kind.place: register for bound, register in registers}
    memory = next((b for b in bounds if isinstance(b.raw, RawMem) and b.kind.place == RM), None)
    encoded = None
    if memory is not None and isinstance(memory.raw, RawMem):
        encoded = address.encode(memory.raw, memory.written or 0)
    return _Parts(at.get(REG), at.get(VEX), at.get(OPCODE), at.get(RM), encoded, registers)


def _segment(bounds: tuple[Bound, ...], parts: _Parts) -> bytes:
    if parts.memory:
        return parts.memory.segment_prefix
    moffs = next((b.raw for b in bounds if b.kind.place == MOFFS and isinstance(b.raw, RawMem)), None)
    return address.segment_prefix(moffs.segment, None) if moffs else b""


def _opcode(row: Row, size: int, parts: _Parts) -> bytes:
    added = (parts.opcode.number & 7 if parts.opcode else 0) + (row.sized_opcode and size != 8)
    return row.opcode[:-1] + bytes([row.opcode[-1] + added])


def _modrm(row: Row, parts: _Parts) -> bytes:
    reg = parts.reg.number & 7 if parts.reg else row.digit or 0
    if parts.memory:
        sib = b"" if parts.memory.sib is None else bytes([parts.memory.sib])
        return bytes([parts.memory.modrm | reg << 3]) + sib
    return bytes([0xC0 | reg << 3 | parts.rm.number & 7]) if parts.rm else b""


def _rex(parts: _Parts, wide: bool) -> bytes:
    rex = wide << 3 | parts.reg_extension << 2 | parts.index_extension << 1 | parts.base_extension
    if not rex and not any(register.needs_rex for _, register in parts.registers):
        return b""
    for bound, register in parts.registers:
        if register.high and isinstance(bound.raw, RawReg):
            hint = "ah, ch, dh, bh exist only without REX: no 64-bit size, no r8 to r15, spl, bpl, sil, dil"
            message = f"'%{bound.raw.name}' cannot stand in an instruction with REX"
            raise EncodeError(message, bound.written, hint)
    return bytes([0x40 | rex])


def _vex(row: Row, parts: _Parts, wide: bool) -> bytes:
    extensions = parts.reg_extension << 2 | parts.index_extension << 1 | parts.base_extension
    second = (extensions ^ 7) << 5 | _VEX_MAPS[row.opcode[:2]]
    source = parts.vex.number if parts.vex else 0
    third = wide << 7 | (source ^ 15) << 3 | _VEX_PREFIXES[row.mandatory]
    return bytes([0xC4, second, third]) + row.opcode[2:]


def _fields(row: Row, bounds: tuple[Bound, ...], parts: _Parts, size: int) -> tuple[Field, ...]:
    found = [_field(row, bound, parts, size) for bound in bounds]
    ordered = sorted((f for f in found if f and f.size), key=lambda f: f.role == IMMEDIATE)
    return tuple(ordered)


def _field(row: Row, bound: Bound, parts: _Parts, size: int) -> Field | None:
    place = bound.kind.place
    if place == RM and parts.memory and isinstance(bound.raw, RawMem):
        role = RIP if parts.memory.rip_relative else DISP
        return Field(role, bound, parts.memory.disp_size, parts.memory.width)
    if place == MOFFS:
        return Field(MOFFS_FIELD, bound, 8)
    if place == IMM:
        bits = bound.kind.field if bound.kind.strict or bound.kind.field == 8 else min(bound.kind.field, size)
        return Field(IMMEDIATE, bound, bits // 8)
    if place == REL:
        return Field(RELATIVE, bound, 1 if row.opcode[-1] != _CALL else 4)
    return None
