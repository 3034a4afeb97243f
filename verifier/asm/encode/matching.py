"""From a mnemonic and its operands to a form: the first row that takes them."""

from __future__ import annotations

from dataclasses import replace

from verifier.asm.encode import address
from verifier.asm.encode.diagnose import diagnose, unknown
from verifier.asm.encode.emit import emit
from verifier.asm.encode.form import Bound, Form
from verifier.asm.encode.kinds import SIZE, accepts, signed64
from verifier.asm.encode.prefixes import is_repeat, read
from verifier.asm.encode.raw import EncodeError, Raw, RawImm, RawMem, RawReg
from verifier.asm.encode.registers import REGISTERS
from verifier.asm.encode.rows import CANDIDATES, Candidate, Row


def mnemonics() -> frozenset[str]:
    """Every mnemonic that `match` knows, suffixed ones included."""
    return frozenset(CANDIDATES)


def match(mnemonic: str, operands: tuple[Raw, ...], *, indirect: bool, prefixes: tuple[str, ...]) -> Form:
    """The form that GNU as 2.40 chooses; ``operands`` in AT&T order, ``indirect`` for one written with ``*``.

    Raises EncodeError where there is none, or where what GNU as would take is not what was meant.
    """
    if mnemonic == "nop" and not operands and any(map(is_repeat, prefixes)):
        rest = tuple(word for word in prefixes if not is_repeat(word))
        return match("pause", (), indirect=indirect, prefixes=rest)
    candidates = CANDIDATES.get(mnemonic)
    if candidates is None:
        raise unknown(mnemonic, CANDIDATES)
    operands = tuple(_plain(raw, candidates[0].row) for raw in operands)
    for i, raw in enumerate(operands):
        _check(raw, i)
    for candidate in candidates:
        bounds = _bind(candidate.row, operands) if candidate.row.has("star") == indirect else None
        size = _size(candidate, bounds) if bounds is not None else None
        if bounds is not None and size is not None and all(accepts(b.kind, b.raw, size) for b in bounds):
            return _form(candidate, bounds, size, prefixes)
    raise diagnose(mnemonic, candidates, operands, indirect)


def _plain(raw: Raw, row: Row) -> Raw:
    """``(%dx)`` is the other way to write the port register; no displacement is one of 0."""
    if not isinstance(raw, RawMem) or raw.has_disp:
        return raw
    port = raw.base == "dx" and raw.index is None and row.mnemonic in ("in", "out", "ins", "outs")
    return RawReg("dx") if port else replace(raw, disp=0)


def _check(raw: Raw, operand: int) -> None:
    if isinstance(raw, RawMem):
        address.check(raw, operand)
    if isinstance(raw, RawReg) and raw.name not in REGISTERS:
        raise EncodeError(f"bad register name '%{raw.name[:40]}'", operand)


def _bind(row: Row, operands: tuple[Raw, ...]) -> tuple[Bound, ...] | None:
    """The operands with their kinds, the ones left unwritten filled in; None if their number is wrong."""
    if len(operands) != row.arity:
        return None
    written: list[tuple[Raw, int | None]] = [(raw, i) for i, raw in enumerate(operands)]
    if row.has("one"):
        written.insert(0, (RawImm(1), None))
    if row.has("twice"):
        written.append(written[-1])
    return tuple(Bound(kind, raw, i) for kind, (raw, i) in zip(row.kinds, written, strict=True))


def _size_of_register(bounds: tuple[Bound, ...]) -> int | None:
    """The operand size that a register operand tells."""
    for bound in bounds:
        if isinstance(bound.raw, RawReg) and SIZE in bound.kind.widths:
            return REGISTERS[bound.raw.name].width
    return None


def _size(candidate: Candidate, bounds: tuple[Bound, ...]) -> int | None:
    if candidate.size is not None:
        return candidate.size
    told = _size_of_register(bounds) if candidate.row.sizes else None
    size = candidate.row.default_size if told is None else told
    return size if size in candidate.row.sizes or not size else None


def _form(candidate: Candidate, bounds: tuple[Bound, ...], size: int, prefixes: tuple[str, ...]) -> Form:
    row = candidate.row
    warning = _warning(candidate, bounds, size)
    if warning is not None:
        _check_assumed(bounds, size)
    words = read(prefixes, row, tuple(bound.raw for bound in bounds), size)
    code = emit(row, size, bounds, words)
    return Form(
        mnemonic=row.mnemonic,
        condition=row.condition,
        width=_width(row, size),
        prefixes=words.canonical,
        warning=warning,
        head=code.head,
        near_head=code.near_head,
        fields=code.fields,
        bounds=() if row.has("bare") else bounds,
    )


def _width(row: Row, size: int) -> int:
    if row.mnemonic == "nop":
        return 0
    return 16 if row.has("as16") else 32 if row.has("as32") else size


def _warning(candidate: Candidate, bounds: tuple[Bound, ...], size: int) -> str | None:
    row = candidate.row
    told = candidate.size is not None or _size_of_register(bounds) is not None
    if told or len(row.sizes) < 2 or row.has("d64"):
        return None
    return f"neither suffix nor register tells the operand size of '{row.mnemonic}': {size} bits assumed"


def _check_assumed(bounds: tuple[Bound, ...], size: int) -> None:
    """An immediate that is another number at another size needs its size written."""
    for bound in bounds:
        value = bound.raw.value if isinstance(bound.raw, RawImm) else None
        if value is not None and not -(1 << (size - 1)) <= signed64(value) < 1 << (size - 1):
            hint = "add a suffix to the mnemonic: b, w, l or q"
            raise EncodeError(f"ambiguous operand size for immediate {value:#x}", bound.written, hint)
