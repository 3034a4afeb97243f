"""What a decoder that nobody here wrote tells of an instruction's bytes, in the terms of `Program`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import iced_x86

from verifier.asm.program import SEGMENT_REGISTERS, Imm, Mem, Operand, Reg, Target

if TYPE_CHECKING:
    from verifier.asm.encode import Form
    from verifier.asm.program import Instruction

DECODER_NAMES = {number: name.lower() for name, number in vars(iced_x86.Mnemonic).items() if type(number) is int}
FORMATTER = iced_x86.Formatter(iced_x86.FormatterSyntax.NASM)
IMMEDIATE_WIDTHS = {
    iced_x86.OpKind.IMMEDIATE8: 8,
    iced_x86.OpKind.IMMEDIATE8_2ND: 8,
    iced_x86.OpKind.IMMEDIATE16: 16,
    iced_x86.OpKind.IMMEDIATE32: 32,
    iced_x86.OpKind.IMMEDIATE64: 64,
    iced_x86.OpKind.IMMEDIATE8TO16: 16,
    iced_x86.OpKind.IMMEDIATE8TO32: 32,
    iced_x86.OpKind.IMMEDIATE8TO64: 64,
    iced_x86.OpKind.IMMEDIATE32TO64: 64,
}
#: These use 16 bits of a register or, prefetches, nothing of memory; the decoder tells the form's width.
NARROW = ("lar", "lsl", "lldt", "ltr", "lmsw", "verr", "verw", "prefetch", "prefetchw", "prefetchnta",
          "prefetcht0", "prefetcht1", "prefetcht2")  # fmt: skip
STRINGS = ("movs", "cmps", "stos", "lods", "scas", "ins", "outs")
#: The decoder spells the operand size of these in the name.
SIZED_NAMES = {
    ("iret", 32): "iretd",
    ("iret", 64): "iretq",
    ("pushf", 64): "pushfq",
    ("popf", 64): "popfq",
    ("sysret", 64): "sysretq",
    ("sysexit", 64): "sysexitq",
    ("xlat", 8): "xlatb",
    **{
        (name, width): name + letter
        for name in STRINGS
        for width, letter in {8: "b", 16: "w", 32: "d", 64: "q"}.items()
    },
}
OTHER_NAMES = {"lret": "retf", "ljmp": "jmp", "lcall": "call"}


def _decoder_name(form: Form | Instruction, operands: tuple[Operand, ...]) -> str:
    if form.condition:
        return form.mnemonic.removesuffix("cc") + form.condition
    if form.mnemonic == "movsx" and not isinstance(operands[0], Imm | Target) and operands[0].width == 32:
        return "movsxd"
    return SIZED_NAMES.get((form.mnemonic, form.width), OTHER_NAMES.get(form.mnemonic, form.mnemonic))


def differences(
    ours: Form | Instruction, operands: tuple[Operand, ...], code: bytes, address: int
) -> list[tuple[object, object]]:
    """What we and the decoder tell of these bytes, where it is not the same: name, length, operands."""
    decoded = iced_x86.Decoder(64, code, ip=address).decode()
    told = [(_decoder_name(ours, operands), DECODER_NAMES[decoded.mnemonic]), (len(code), decoded.len)]
    if ours.mnemonic not in (*STRINGS, "xlat", "nop"):
        told.append(_operands(ours, operands, decoded))
    return [(mine, theirs) for mine, theirs in told if mine != theirs]


def _operands(
    form: Form | Instruction, operands: tuple[Operand, ...], decoded: iced_x86.Instruction
) -> tuple[object, object]:
    theirs = [_decoded_operand(decoded, i) for i in range(decoded.op_count)]
    ours = [_comparable(operand) for operand in operands]
    if form.mnemonic != "enter":
        theirs.reverse()
    if form.mnemonic in ("xchg", "test"):
        theirs.sort()
        ours.sort()
    if form.mnemonic in NARROW or "segment" in {item[0] for item in ours}:
        theirs, ours = [item[:2] for item in theirs], [item[:2] for item in ours]
    return ours, theirs


def _comparable(operand: Operand) -> tuple[object, ...]:
    """Kind, value, width: all that `_decoded_operand` tells."""
    match operand:
        case Reg(name, width, high):
            return ("segment" if name in SEGMENT_REGISTERS else "register", name, width, high)
        case Imm(value, width):
            return ("immediate", value, width)
        case Mem():
            where = (operand.base, operand.index, operand.scale, operand.disp % (1 << 64), operand.segment)
            return ("memory", str((*where, operand.rip_relative, operand.address_width)), operand.width)
        case Target(address):
            return ("target", address)


def _decoded_operand(decoded: iced_x86.Instruction, i: int) -> tuple[object, ...]:
    kind = decoded.op_kind(i)
    if kind == iced_x86.OpKind.REGISTER:
        register = decoded.op_register(i)
        return _decoded_register(register)
    if kind in IMMEDIATE_WIDTHS:
        width = IMMEDIATE_WIDTHS[kind]
        return ("immediate", decoded.immediate(i) % (1 << width), width)
    if kind == iced_x86.OpKind.MEMORY:
        return _decoded_memory(decoded)
    assert kind == iced_x86.OpKind.NEAR_BRANCH64
    return ("target", decoded.near_branch_target)


def _name(register: int) -> str | None:
    return FORMATTER.format_register(register) if register != iced_x86.Register.NONE else None


def _decoded_register(register: int) -> tuple[object, ...]:
    name = _name(register) or ""
    if iced_x86.RegisterExt.is_segment_register(register):
        return ("segment", name, 16, False)
    full = _name(iced_x86.RegisterExt.full_register(register)) or ""
    return ("register", full, 8 * iced_x86.RegisterExt.size(register), name in ("ah", "bh", "ch", "dh"))


def _decoded_memory(decoded: iced_x86.Instruction) -> tuple[object, ...]:
    rip = decoded.is_ip_rel_memory_operand
    parts = [part for part in (decoded.memory_base, decoded.memory_index) if part != iced_x86.Register.NONE and not rip]
    width = min((8 * iced_x86.RegisterExt.size(part) for part in parts), default=64)
    base, index = (
        None if register == iced_x86.Register.NONE or rip else _name(iced_x86.RegisterExt.full_register(register))
        for register in (decoded.memory_base, decoded.memory_index)
    )
    disp = decoded.ip_rel_memory_address if rip else decoded.memory_displacement
    if width == 32 and disp >> 31:
        disp += (1 << 64) - (1 << 32)
    segment = _name(decoded.segment_prefix)
    where = (
        base,
        index,
        decoded.memory_index_scale,
        disp,
        segment,
        rip,
        width,
    )
    return ("memory", str(where), 8 * iced_x86.MemorySizeExt.size(decoded.memory_size))
