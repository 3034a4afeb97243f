"""Operand kinds, named as in the manual's opcode maps (Vol. 2D, A.2): their place and what they accept."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.asm.encode.raw import Raw, RawImm, RawMem, RawReg, RawTarget
from verifier.asm.encode.registers import CONTROL, DEBUG, GENERAL, REGISTERS, SEGMENT

#: Where an operand stands in the instruction.
REG, RM, OPCODE, VEX = "reg", "rm", "opcode", "vex"
IMM, REL, MOFFS, IMPLIED = "imm", "rel", "moffs", "implied"

#: In place of a width: the operand size of the instruction.
SIZE = -1
#: A far pointer: a selector above an offset of the operand size.
FAR = -2
_SIZE_ONLY = (SIZE,)


@dataclass(frozen=True, slots=True)
class Kind:
    """One operand kind. Widths are in bits; `SIZE` stands for the operand size.

    ``widths`` are the register widths accepted, ``width`` is the one the CPU uses (of register, memory or
    immediate); ``only`` is the one register accepted, ``excluded`` one that is not. ``field`` is the most
    immediate bits encoded; ``strict`` tells that they stand for themselves, whatever the operand size;
    ``constant`` is the one immediate accepted. ``pointer`` is the register of an implied string operand.
    """

    place: str
    file: str | None = None
    widths: tuple[int, ...] = ()
    width: int = SIZE
    memory: bool = False
    field: int = 0
    strict: bool = False
    only: str | None = None
    excluded: str | None = None
    constant: int | None = None
    pointer: str | None = None

    def bits(self, size: int) -> int:
        """The width the CPU uses under operand size ``size``."""
        return size if self.width == SIZE else size + 16 if self.width == FAR else self.width


def _register(place: str, widths: tuple[int, ...] = _SIZE_ONLY, width: int | None = None) -> Kind:
    return Kind(place, GENERAL, widths, widths[0] if width is None else width)


def _either(width: int = SIZE) -> Kind:
    return Kind(RM, GENERAL, (width,), width, memory=True)


def _memory(width: int) -> Kind:
    return Kind(RM, width=width, memory=True)


def _only(name: str) -> Kind:
    register = REGISTERS[name]
    return Kind(IMPLIED, GENERAL, (register.width,), register.width, only=register.name)


KINDS: dict[str, Kind] = {
    "Gv": _register(REG),
    "Gq": _register(REG, (64,)),
    "Ev": _either(),
    "Eb": _either(8),
    "Ew": _either(16),
    "Ed": _either(32),
    "Rv": _register(RM),
    "Rw": _register(RM, (16,)),
    "Rq": _register(RM, (64,)),
    "Rv16": _register(RM, width=16),
    "Zv": _register(OPCODE),
    "Zx": Kind(OPCODE, GENERAL, _SIZE_ONLY, excluded="rax"),
    "Bv": _register(VEX),
    "M": _memory(0),
    "Mv": _memory(SIZE),
    "Mb": _memory(8),
    "Mw": _memory(16),
    "Mq": _memory(64),
    "Mp": _memory(FAR),
    "Ms": _memory(80),
    "Mdq": _memory(128),
    "Sw": Kind(REG, SEGMENT, (16,), 16),
    "Sd": Kind(REG, SEGMENT, (16,), 16, excluded="cs"),
    "Cq": Kind(REG, CONTROL, (64,), 64),
    "Dq": Kind(REG, DEBUG, (64,), 64),
    "O": Kind(MOFFS, memory=True, field=64),
    "Iz": Kind(IMM, field=32),
    "Iv": Kind(IMM, field=64),
    "Is": Kind(IMM, field=8),
    "Ib": Kind(IMM, width=8, field=8, strict=True),
    "Iw": Kind(IMM, width=16, field=16, strict=True),
    "I1": Kind(IMPLIED, width=8, constant=1),
    "I3": Kind(IMPLIED, width=8, constant=3),
    "J": Kind(REL),
    "X": Kind(IMPLIED, pointer="rsi", memory=True),
    "Y": Kind(IMPLIED, pointer="rdi", memory=True),
    "BX": Kind(IMPLIED, pointer="rbx", memory=True),
    "rAX": Kind(IMPLIED, GENERAL, _SIZE_ONLY, only="rax"),
    **{f"={name}": _only(name) for name in ("cl", "dx", "eax", "ecx", "edx", "rax", "rcx", "rdx")},
    "=fs": Kind(IMPLIED, SEGMENT, (16,), 16, only="fs"),
    "=gs": Kind(IMPLIED, SEGMENT, (16,), 16, only="gs"),
}


def signed64(value: int) -> int:
    """GNU as computes in 64 bits: ``0xffffffffffffffff`` is -1."""
    return value - (1 << 64) if 1 << 63 <= value < 1 << 64 else value


def accepts(kind: Kind, raw: Raw, size: int) -> bool:
    """Whether the operand can stand for the kind in an instruction of operand size ``size``."""
    if isinstance(raw, RawReg):
        return _accepts_register(kind, raw.name, size)
    if isinstance(raw, RawMem):
        return kind.memory and _accepts_memory(kind, raw)
    if isinstance(raw, RawImm):
        if kind.constant is not None:
            return raw.value == kind.constant
        return kind.place == IMM and fits(kind, raw.value, size)
    return kind.place == REL and isinstance(raw, RawTarget)


def _accepts_register(kind: Kind, name: str, size: int) -> bool:
    register = REGISTERS.get(name)
    if register is None or register.file != kind.file or (register.high and kind.only):
        return False
    widths = tuple(size if width == SIZE else width for width in kind.widths)
    wanted = kind.only in (None, register.name) and register.name != kind.excluded
    return wanted and (register.width in widths or register.file == SEGMENT)


def _accepts_memory(kind: Kind, raw: RawMem) -> bool:
    if kind.pointer:
        segments = (None, "es") if kind.pointer == "rdi" else (None, "ds")
        return raw.base == kind.pointer and not raw.index and not raw.disp and raw.segment in segments
    return kind.place != MOFFS or (raw.base is None and raw.index is None)


def fits(kind: Kind, value: int | None, size: int) -> bool:
    """Whether an immediate fits the field as GNU as takes it; an unknown one never takes the short form."""
    if value is None:
        return kind.strict or kind.field > 8
    value = signed64(value)
    if kind.strict:
        return -(1 << (kind.field - 1)) <= value < 1 << kind.field
    if size < 64 and kind.field >= min(size, 32):
        return -(1 << size) <= value < 1 << size
    if size < 64 and 1 << (size - 1) <= value < 1 << size:
        value -= 1 << size
    return -(1 << (kind.field - 1)) <= value < 1 << (kind.field - 1)
