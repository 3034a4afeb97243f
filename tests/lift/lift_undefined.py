"""Which flags the manual leaves undefined (SDM vol. 1, appendix A, and the pages of vol. 2), by form and by state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Imm, Reg
from verifier.ir.cells import STATUS_FLAGS

if TYPE_CHECKING:
    from lift_concrete import State

    from verifier.asm.program import Instruction

_NOT_CARRY_OR_ZERO = frozenset(("of", "sf", "af", "pf"))
#: Undefined whatever the operands.
_ALWAYS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("and", "or", "xor", "test"), frozenset(("af",))),
    **dict.fromkeys(("mul", "imul"), frozenset(("sf", "zf", "af", "pf"))),
    **dict.fromkeys(("div", "idiv"), frozenset(STATUS_FLAGS)),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), _NOT_CARRY_OR_ZERO),
    **dict.fromkeys(("bsf", "bsr"), _NOT_CARRY_OR_ZERO | {"cf"}),
    **dict.fromkeys(("tzcnt", "lzcnt"), _NOT_CARRY_OR_ZERO),
    **dict.fromkeys(("andn", "blsr", "blsi", "blsmsk", "bzhi"), frozenset(("af", "pf"))),
    "bextr": frozenset(("sf", "af", "pf")),
}
#: Not undefined, but not known here: they depend on chance, or on a descriptor.
_UNKNOWN = dict.fromkeys(("rdrand", "rdseed"), "cf")
_QUERIES = ("verr", "verw", "lar", "lsl")
_SHIFTS = ("shl", "shr", "sar", "shld", "shrd")
_ROTATES = ("rol", "ror", "rcl", "rcr")


def undefined_flags(i: Instruction, before: State | None = None) -> set[str]:
    """After the instruction from a state; without one, those that are undefined after some."""
    if i.mnemonic in _SHIFTS:
        return _after_shift(i, masked_count(i, before))
    if i.mnemonic in _ROTATES:
        return {"of"} if masked_count(i, before) not in (0, 1) else set()
    if i.mnemonic in _QUERIES:
        return set() if before is not None and before.told(_selector(i, before)) else {"zf"}
    if _moves_control(i):
        return set(STATUS_FLAGS)
    return set(_ALWAYS.get(i.mnemonic, ())) | set(filter(None, (_UNKNOWN.get(i.mnemonic),)))


def _moves_control(i: Instruction) -> bool:
    return i.mnemonic == "mov" and any(getattr(o, "name", "")[:2] in ("cr", "dr") for o in i.operands)


def _selector(i: Instruction, before: State) -> int:
    operand = i.operands[0]
    if isinstance(operand, Reg):
        return before.cells[operand.name] & 0xFFFF
    start = before.loads[0][0] - before.origin
    return int.from_bytes(before.memory[start : start + 2], "little")


def masked_count(i: Instruction, before: State | None = None) -> int:
    """How far an instruction shifts; without a state, the highest that is possible."""
    mask = 0x3F if i.width == 64 else 0x1F
    if len(i.operands) == 1:
        return 1
    first = i.operands[0]
    if isinstance(first, Imm):
        return first.value & mask
    return mask if before is None else before.cells["rcx"] & mask


def _after_shift(i: Instruction, count: int) -> set[str]:
    if count == 0:
        return set()
    if i.mnemonic in ("shld", "shrd") and count > i.width:
        return set(STATUS_FLAGS)
    undefined = {"af"} if count == 1 else {"af", "of"}
    if i.mnemonic in ("shl", "shr") and count >= i.width:
        undefined.add("cf")
    return undefined
