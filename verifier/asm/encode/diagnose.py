"""Why no form takes the operands: the message and hint of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.encode.kinds import IMM, MOFFS, Kind, accepts
from verifier.asm.encode.raw import EncodeError, Raw, RawImm, RawMem, RawReg, RawTarget
from verifier.asm.encode.registers import REGISTERS, SEGMENT
from verifier.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verifier.asm.encode.rows import Candidate

#: Valid in 32-bit mode only (Vol. 2, "Invalid" in the 64-bit column).
_NOT_IN_64_BIT = frozenset(
    "aaa aad aam aas bound daa das into jcxz lds les popa popal popaw popal pusha pushal pushaw pushl popl "
    "pushfl popfl retl arpl calll".split()
)
#: Accepted by GNU as, but CPUs differ on what they do (Vol. 2A, CALL: near branches in 64-bit mode).
_CPU_DEPENDENT = frozenset("retw callw jmpw".split())


def unknown(mnemonic: str, known: Iterable[str]) -> EncodeError:
    """The error for a mnemonic that no row has."""
    if mnemonic in _NOT_IN_64_BIT:
        return EncodeError(f"'{mnemonic}' does not exist in 64-bit mode")
    if mnemonic in _CPU_DEPENDENT:
        hint = "CPUs differ on what a 16-bit near branch does in 64-bit mode"
        return EncodeError(f"'{mnemonic}' is not supported", None, hint)
    return EncodeError(f"unknown mnemonic '{mnemonic}'", None, nearest(mnemonic, known))


def diagnose(
    mnemonic: str, candidates: Sequence[Candidate], operands: tuple[Raw, ...], indirect: bool
) -> EncodeError:
    """The error for operands that no row of the mnemonic takes."""
    starred = {candidate.row.has("star") for candidate in candidates}
    if indirect not in starred:
        return EncodeError(f"'{mnemonic}' takes no '*'" if indirect else f"'{mnemonic}' needs a '*' operand")
    if len(starred) == 2 and operands and isinstance(operands[0], RawTarget) == indirect:
        return EncodeError(f"'{mnemonic}' of a register or memory operand is written with '*'", 0)
    arities = sorted({candidate.row.arity for candidate in candidates})
    if len(operands) not in arities:
        takes = " or ".join(map(str, arities))
        return EncodeError(f"wrong number of operands: '{mnemonic}' takes {takes}, not {len(operands)}")
    return _operands(mnemonic, [c for c in candidates if c.row.arity == len(operands)], operands)


def _operands(mnemonic: str, candidates: list[Candidate], operands: tuple[Raw, ...]) -> EncodeError:
    for i, raw in enumerate(operands):
        kinds = [(c, _written_kinds(c)[i]) for c in candidates]
        if not any(_shape(kind, raw) for _, kind in kinds):
            return EncodeError(f"'{mnemonic}' takes no {_describe(raw)} there", i, _segment_hint(raw))
        sizes = {
            size for c, kind in kinds for size in _sizes(c) if _shape(kind, raw) and accepts(kind, raw, size)
        }
        if not sizes:
            return _value_or_size(mnemonic, raw, i)
    return _combination(mnemonic, operands)


def _written_kinds(candidate: Candidate) -> tuple[Kind, ...]:
    kinds = candidate.row.kinds
    if candidate.row.has("one"):
        return kinds[1:]
    return (*kinds[:-2], kinds[-1]) if candidate.row.has("twice") else kinds


def _sizes(candidate: Candidate) -> tuple[int, ...]:
    return (candidate.size,) if candidate.size is not None else candidate.row.sizes or (0,)


def _shape(kind: Kind, raw: Raw) -> bool:
    """Whether the operand is of the right sort, whatever its width or value."""
    if isinstance(raw, RawReg):
        register = REGISTERS[raw.name]
        return kind.file == register.file and kind.only in (None, register.name)
    if isinstance(raw, RawImm):
        return kind.place == IMM or kind.constant is not None
    return accepts(kind, raw, 64) or isinstance(raw, RawMem) and kind.place == MOFFS


def _value_or_size(mnemonic: str, raw: Raw, operand: int) -> EncodeError:
    if isinstance(raw, RawImm) and raw.value is not None:
        hint = "only 'mov' and 'movabs' to a 64-bit register take a 64-bit immediate"
        message = f"immediate {raw.value:#x} is out of range for '{mnemonic}'"
        return EncodeError(message, operand, hint if abs(raw.value) >> 31 else None)
    return EncodeError(f"operand size mismatch: '{mnemonic}' cannot take {_describe(raw)}", operand)


def _combination(mnemonic: str, operands: tuple[Raw, ...]) -> EncodeError:
    registers = [raw for raw in operands if isinstance(raw, RawReg)]
    if len({REGISTERS[raw.name].width for raw in registers}) > 1:
        widths = ", ".join(map(_describe, registers))
        return EncodeError(f"operand size mismatch: '{mnemonic}' of {widths}", len(operands) - 1)
    if sum(isinstance(raw, RawMem) for raw in operands) > 1:
        return EncodeError(f"'{mnemonic}' cannot take two memory operands", len(operands) - 1)
    known = next(
        (i for i, raw in enumerate(operands) if isinstance(raw, RawImm) and raw.value is not None), None
    )
    if known is not None:
        return EncodeError(f"this immediate does not fit '{mnemonic}' with these operands", known)
    return EncodeError(f"'{mnemonic}' does not take these operands together")


def _describe(raw: Raw) -> str:
    if isinstance(raw, RawReg):
        register = REGISTERS[raw.name]
        return f"the {register.width}-bit register '%{raw.name}'"
    if isinstance(raw, RawImm):
        return "immediate operand"
    return "memory operand" if isinstance(raw, RawMem) else "branch target"


def _segment_hint(raw: Raw) -> str | None:
    if isinstance(raw, RawReg) and REGISTERS[raw.name].file == SEGMENT:
        return "in 64-bit mode push and pop take only %fs and %gs, and arithmetic no segment register"
    return None
