"""Bytes to instructions: a decoder's text, read by the assembler's own rules, and checked against the bytes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import iced_x86 as iced

from verifier.asm.budget import Budget
from verifier.asm.encode import EncodeError, RawTarget, match
from verifier.asm.files import SourceFile
from verifier.asm.instructions import split_prefixes
from verifier.asm.lines import Line
from verifier.asm.operands import read_operands
from verifier.asm.program import Instruction, Target
from verifier.asm.state import Assembly
from verifier.errors import AsmError
from verifier.source import Span

if TYPE_CHECKING:
    from verifier.asm.operands import Written

_ADDRESSES = 1 << 64
LONGEST = 15
_NOWHERE = Span("", 0, 1, 2, "")
#: Only operands and mnemonics are read: no address is that of a place in a text.
_SCOPE = Assembly(Budget())


class Undecodable(Exception):
    """The bytes are no instruction that is known. ``text``: what a decoder calls them, empty if it knows none."""

    def __init__(self, reason: str, text: str = "", length: int = 1) -> None:
        super().__init__(reason)
        self.text, self.length = text, length


@cache
def _formatter() -> Any:
    formatter = iced.Formatter(iced.FormatterSyntax.GAS)
    formatter.rip_relative_addresses = True
    formatter.show_useless_prefixes = True
    formatter.uppercase_hex = False
    formatter.small_hex_numbers_in_decimal = False
    return formatter


_IMMEDIATES = range(iced.OpKind.IMMEDIATE8, iced.OpKind.IMMEDIATE32TO64 + 1)
#: One operation by two names, and operations whose two operands can change places.
_SAME = {iced.Mnemonic.SAL: iced.Mnemonic.SHL}
_EITHER_WAY = (iced.Mnemonic.XCHG, iced.Mnemonic.TEST)
#: What the decoder prints in a way that GNU as reads otherwise, or not at all.
_SPECIAL = {iced.Code.NOPW: "xchg %ax,%ax"}


def decode(data: bytes, address: int) -> Instruction:
    """The instruction that ``data`` starts with, at ``address``; it has no place yet.

    Raises Undecodable for bytes that are none, where processors differ, and where what was understood does not encode
    to bytes that mean the same.
    """
    found = iced.Decoder(64, data[:LONGEST], ip=address).decode()
    if found.is_invalid:
        raise Undecodable("these bytes are no instruction")
    other = iced.Decoder(64, data[:LONGEST], ip=address, options=iced.DecoderOptions.AMD).decode()
    if (found.len, _meaning(found)) != (other.len, _meaning(other)):
        raise Undecodable("Intel's and AMD's processors differ in what they make of it", str(found), found.len)
    encoding = data[: found.len]
    text = _SPECIAL.get(found.code) or _formatter().format(found)
    try:
        instruction, again = _read(text, address, encoding)
    except (AsmError, EncodeError) as error:
        raise Undecodable(f"this instruction is not supported: {error.message}", text, found.len) from error
    if _meaning(found) != _meaning(iced.Decoder(64, again, ip=address).decode()):
        raise Undecodable("this instruction is not supported in this encoding", text, found.len)
    return instruction


def _read(text: str, address: int, encoding: bytes) -> tuple[Instruction, bytes]:
    """The instruction, and the bytes that the assembler would write for it."""
    prefixes, rest = split_prefixes(Line(text, range(len(text) + 1), SourceFile("", text)))
    mnemonic = rest.text.partition(" ")[0]
    operands, indirect = read_operands(rest[len(mnemonic) :].strip(), mnemonic, _SCOPE)
    form = match(mnemonic, tuple(o.raw for o in operands), indirect=indirect, prefixes=prefixes)
    values = tuple(_value(o, address + len(encoding)) for o in operands)
    size = len(encoding) if len(encoding) in form.sizes else form.sizes[-1]
    again = form.encode(values, address, size)
    words = rest.text.split()
    found = tuple(Target(o.address, words[-1]) if isinstance(o, Target) else o for o in form.operands(values))
    instruction = Instruction(
        address, encoding, form.mnemonic, found, form.width, text, _NOWHERE, form.condition, form.prefixes, indirect
    )
    return instruction, again


def _value(operand: Written, following: int) -> int | None:
    number = _SCOPE.constant(operand.node) if operand.node else None
    if number is None:
        return None
    if operand.from_next:
        return (following + number) % _ADDRESSES
    return number % _ADDRESSES if isinstance(operand.raw, RawTarget) else number


def _meaning(found: Any) -> tuple[object, ...]:
    """Everything of a decoded instruction but how it is encoded."""
    operands = [_operand(found, i) for i in range(found.op_count)]
    if found.mnemonic in _EITHER_WAY:
        operands.sort(key=repr)
    size = None if all(kind in ("register", "immediate") for kind, *_ in operands) else found.memory_size
    prefixes = (found.has_lock_prefix, found.has_rep_prefix, found.has_repne_prefix, found.segment_prefix)
    mnemonic = _SAME.get(found.mnemonic, found.mnemonic)
    return mnemonic, size, found.stack_pointer_increment, prefixes, tuple(operands)


def _operand(found: Any, i: int) -> tuple[object, ...]:
    kind = found.op_kind(i)
    if kind == iced.OpKind.REGISTER:
        return ("register", found.op_register(i))
    if kind == iced.OpKind.NEAR_BRANCH64:
        return ("target", found.near_branch64)
    if kind == iced.OpKind.MEMORY:
        return ("memory", *_address(found))
    if kind in _IMMEDIATES:
        return ("immediate", found.immediate(i))
    return ("implied", kind)


def _address(found: Any) -> tuple[object, ...]:
    if found.is_ip_rel_memory_operand:
        return found.memory_base, found.ip_rel_memory_address
    registers = found.memory_base, found.memory_index, found.memory_index_scale
    # an address without registers has 32 or 64 bits, which only its size tells
    size = found.memory_displ_size if registers[:2] == (iced.Register.NONE, iced.Register.NONE) else None
    return *registers, found.memory_displacement, size
