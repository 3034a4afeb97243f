"""Relocations (psABI, "Relocation Types"): what each writes, and whether the value fits there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.object.contents import Relocation

_ADDRESSES = 1 << 64


@dataclass(frozen=True, slots=True)
class Rule:
    """``size`` in bytes; ``relative`` to the place; ``signed``: how the value must fit (None: any way)."""

    size: int
    relative: bool
    signed: bool | None


#: A PLT entry of a program that is linked statically is the function itself.
RULES = {
    "R_X86_64_64": Rule(8, False, None),
    "R_X86_64_PC64": Rule(8, True, None),
    "R_X86_64_PC32": Rule(4, True, True),
    "R_X86_64_PLT32": Rule(4, True, True),
    "R_X86_64_32": Rule(4, False, False),
    "R_X86_64_32S": Rule(4, False, True),
    "R_X86_64_16": Rule(2, False, False),
    "R_X86_64_PC16": Rule(2, True, True),
    "R_X86_64_8": Rule(1, False, True),
    "R_X86_64_PC8": Rule(1, True, True),
}
#: What a relocation's number means; a type without a rule is refused by its name.
TYPES = {
    0: "R_X86_64_NONE", 1: "R_X86_64_64", 2: "R_X86_64_PC32", 3: "R_X86_64_GOT32", 4: "R_X86_64_PLT32",
    5: "R_X86_64_COPY", 6: "R_X86_64_GLOB_DAT", 7: "R_X86_64_JUMP_SLOT", 8: "R_X86_64_RELATIVE",
    9: "R_X86_64_GOTPCREL", 10: "R_X86_64_32", 11: "R_X86_64_32S", 12: "R_X86_64_16", 13: "R_X86_64_PC16",
    14: "R_X86_64_8", 15: "R_X86_64_PC8", 16: "R_X86_64_DTPMOD64", 17: "R_X86_64_DTPOFF64", 18: "R_X86_64_TPOFF64",
    19: "R_X86_64_TLSGD", 20: "R_X86_64_TLSLD", 21: "R_X86_64_DTPOFF32", 22: "R_X86_64_GOTTPOFF",
    23: "R_X86_64_TPOFF32", 24: "R_X86_64_PC64", 25: "R_X86_64_GOTOFF64", 26: "R_X86_64_GOTPC32", 32: "R_X86_64_SIZE32",
    33: "R_X86_64_SIZE64", 37: "R_X86_64_IRELATIVE", 41: "R_X86_64_GOTPCRELX", 42: "R_X86_64_REX_GOTPCRELX",
}  # fmt: skip
#: Loads of a symbol's address from the global offset table. A program that is linked statically needs no such table:
#: GNU ld writes an instruction that has the address itself (psABI, "Optimize GOTPCRELX Relocations").
_FROM_TABLE = ("R_X86_64_GOTPCREL", "R_X86_64_GOTPCRELX", "R_X86_64_REX_GOTPCRELX")
_PC32 = RULES["R_X86_64_PC32"]


def size_of(entry: Relocation) -> int:
    """How many bytes a relocation writes; of one that is not known, how many it might."""
    if entry.type in RULES:
        return RULES[entry.type].size
    return 4 if entry.type in TYPES.values() and not entry.type.endswith("64") else 8


def relocate(data: bytearray, entry: Relocation, value: int, address: int) -> None:
    """Writes ``value`` (S + A) at the relocation's offset in ``data``, which lies at ``address``.

    Raises AsmError for a type not known, a place outside of ``data``, a value that does not fit.
    """
    if entry.type == "R_X86_64_NONE":
        return
    rule, offset = RULES.get(entry.type, _PC32), entry.offset
    if not 0 <= offset <= len(data) - rule.size:
        raise AsmError(f"a relocation outside of its section, which has {len(data):#x} bytes")
    if entry.type in _FROM_TABLE:
        offset -= _without_table(data, offset)
    elif entry.type not in RULES:
        hint = "link the object into an executable without them, statically"
        raise AsmError(f"relocations of type {entry.type} are not supported", None, hint)
    number = (value - (address + offset if rule.relative else 0)) % _ADDRESSES
    if not _fits(number, rule):
        raise AsmError(f"{number:#x} does not fit a relocation of type {entry.type}")
    data[offset : offset + rule.size] = (number % (1 << 8 * rule.size)).to_bytes(rule.size, "little")


def _fits(number: int, rule: Rule) -> bool:
    bits = 8 * rule.size
    if rule.signed is None:
        return True
    if not rule.signed:
        return number < 1 << bits
    return number < 1 << (bits - 1) or number >= _ADDRESSES - (1 << (bits - 1))


def _without_table(data: bytearray, at: int) -> int:
    """Rewrites the instruction that would read the table; by how many bytes its field moves down.

    ``mov x@GOTPCREL(%rip), %r`` becomes ``lea x(%rip), %r``; ``call *x@GOTPCREL(%rip)`` becomes ``addr32 call x``;
    ``jmp *x@GOTPCREL(%rip)`` becomes ``jmp x`` and a ``nop``.
    """
    opcode, modrm = data[at - 2 : at] if at >= 2 else b"\0\0"
    if opcode == 0x8B and modrm & 0xC7 == 0x05:
        data[at - 2] = 0x8D
        return 0
    if (opcode, modrm) == (0xFF, 0x15):
        data[at - 2 : at] = b"\x67\xe8"
        return 0
    if (opcode, modrm) == (0xFF, 0x25):
        data[at - 2], data[at + 3] = 0xE9, 0x90
        return 1
    raise AsmError("a use of the global offset table that is not supported", None, "write no @GOTPCREL")
