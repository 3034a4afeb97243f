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

#: Valid outside 64-bit mode only (Vol. 2, "Inv." in the 64-bit column).
_NOT_IN_64_BIT = frozenset(
    (
        "aaa", "aad", "aam", "aas", "arpl", "bound", "calll", "daa", "das", "into", "jcxz", "lds", "les",
        "popa", "popal", "popaw", "popfl", "popl", "pusha", "pushal", "pushaw", "pushfl", "pushl", "retl",
    )
)  # fmt: skip
#: Accepted by GNU as; Intel ignores the operand-size prefix here, AMD truncates RIP (Vol. 2A, CALL and RET).
_CPU_DEPENDENT = frozenset(("callw", "jmpw", "retw"))
_NO_SUCH = "x87, vector, virtualization and enclave instructions are not supported"


def unknown(mnemonic: str, known: Iterable[str]) -> EncodeError:
    """The error for a mnemonic that no row has."""
    if mnemonic in _NOT_IN_64_BIT:
        return EncodeError(f"'{mnemonic}' does not exist in 64-bit mode")
    if mnemonic in _CPU_DEPENDENT:
        hint = f"write '{mnemonic[:-1]}' for the 64-bit one"
        return EncodeError(f"'{mnemonic}' is not supported: CPUs differ on 16-bit near branches", None, hint)
    hint = nearest(mnemonic[:40], known) or _NO_SUCH
    return EncodeError(f"unknown mnemonic '{mnemonic[:40]}'", None, hint)


def diagnose(
    mnemonic: str, candidates: Sequence[Candidate], operands: tuple[Raw, ...], indirect: bool
) -> EncodeError:
    """The error for operands that no row of the mnemonic takes."""
    starred = {candidate.row.has("star") for candidate in candidates}
    if indirect not in starred:
        return EncodeError(
            f"'{mnemonic}' {'takes no' if indirect else 'needs a'} '*'", 0 if operands else None
        )
    if len(starred) == 2 and operands and isinstance(operands[0], RawTarget) == indirect:
        return EncodeError(f"'{mnemonic}' to where a register or memory points is written with '*'", 0)
    arities = sorted({candidate.row.arity for candidate in candidates})
    if len(operands) not in arities:
        takes = " or ".join(map(str, arities))
        return EncodeError(f"wrong number of operands: '{mnemonic}' takes {takes}, not {len(operands)}")
    fitting = [candidate for candidate in candidates if candidate.row.arity == len(operands)]
    return (
        _sort_error(mnemonic, fitting, operands)
        or _value_error(mnemonic, fitting, operands)
        or _width_error(mnemonic, fitting, operands)
        or EncodeError(f"'{mnemonic}' does not take these operands together", len(operands) - 1)
    )


def _sort_error(mnemonic: str, candidates: list[Candidate], operands: tuple[Raw, ...]) -> EncodeError | None:
    """An operand of a sort that no form has in its place."""
    for i, raw in enumerate(operands):
        if not any(_right_sort(_written_kinds(candidate)[i], raw) for candidate in candidates):
            hint = _segment_hint(mnemonic, raw)
            return EncodeError(f"'{mnemonic}' takes no {_describe(raw)} there", i, hint)
    if sum(isinstance(raw, RawMem) for raw in operands) > 1:
        string = any(kind.pointer for candidate in candidates for kind in candidate.row.kinds)
        hint = "a string instruction works on %ds:(%rsi) and %es:(%rdi)" if string else None
        return EncodeError(f"'{mnemonic}' cannot take these two memory operands", len(operands) - 1, hint)
    return None


def _value_error(mnemonic: str, candidates: list[Candidate], operands: tuple[Raw, ...]) -> EncodeError | None:
    """An immediate that is all that keeps a form from fitting."""
    for i, raw in enumerate(operands):
        if not isinstance(raw, RawImm) or raw.value is None:
            continue
        if any(_all_but(i, candidate, operands) for candidate in candidates):
            wide = not -(1 << 31) <= raw.value < 1 << 31
            hint = "only 'mov' and 'movabs' to a register take a 64-bit immediate" if wide else None
            return EncodeError(f"immediate {raw.value:#x} is out of range for '{mnemonic}'", i, hint)
    return None


def _width_error(mnemonic: str, candidates: list[Candidate], operands: tuple[Raw, ...]) -> EncodeError | None:
    """A register that no form takes, or registers that do not go together."""
    registers = [(i, raw) for i, raw in enumerate(operands) if isinstance(raw, RawReg)]
    for i, raw in registers:
        kinds = [(_written_kinds(c)[i], size) for c in candidates for size in _sizes(c)]
        if not any(accepts(kind, raw, size) for kind, size in kinds):
            message = f"operand size mismatch: '{mnemonic}' takes no {_width(raw)}-bit {_describe(raw)}"
            return EncodeError(message, i)
    if len({_width(raw) for _, raw in registers}) > 1:
        widths = " and ".join(f"{_width(raw)}-bit '%{raw.name}'" for _, raw in registers)
        return EncodeError(f"operand size mismatch: '{mnemonic}' of {widths}", registers[-1][0])
    return None


def _all_but(i: int, candidate: Candidate, operands: tuple[Raw, ...]) -> bool:
    kinds = _written_kinds(candidate)
    others = [(kind, raw) for j, (kind, raw) in enumerate(zip(kinds, operands, strict=True)) if j != i]
    return _right_sort(kinds[i], operands[i]) and any(
        all(accepts(kind, raw, size) for kind, raw in others) for size in _sizes(candidate)
    )


def _written_kinds(candidate: Candidate) -> tuple[Kind, ...]:
    kinds = candidate.row.kinds
    if candidate.row.has("one"):
        return kinds[1:]
    return (*kinds[:-2], kinds[-1]) if candidate.row.has("twice") else kinds


def _sizes(candidate: Candidate) -> tuple[int, ...]:
    return (candidate.size,) if candidate.size is not None else candidate.row.sizes or (0,)


def _right_sort(kind: Kind, raw: Raw) -> bool:
    """Whether the operand could stand there, were its width or value another."""
    if isinstance(raw, RawReg):
        register = REGISTERS[raw.name]
        allowed = kind.only in (None, register.name) and kind.excluded != register.name
        return kind.file == register.file and allowed
    if isinstance(raw, RawImm):
        return kind.place == IMM or kind.constant is not None
    return accepts(kind, raw, 64) or (isinstance(raw, RawMem) and kind.place == MOFFS)


def _segment_hint(mnemonic: str, raw: Raw) -> str | None:
    if not isinstance(raw, RawReg) or REGISTERS[raw.name].file != SEGMENT:
        return None
    if mnemonic.startswith(("push", "pop")):
        return "in 64-bit mode push and pop take no segment register but %fs and %gs"
    return "CS is loaded by far branches, returns and interrupts only" if raw.name == "cs" else None


def _width(raw: RawReg) -> int:
    return REGISTERS[raw.name].width


def _describe(raw: Raw) -> str:
    if isinstance(raw, RawReg):
        return f"register '%{raw.name}'"
    if isinstance(raw, RawImm):
        return "immediate operand"
    return "memory operand" if isinstance(raw, RawMem) else "branch target"
