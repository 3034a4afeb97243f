"""Prefixes written as words before the mnemonic: which are allowed, what they emit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.encode.raw import EncodeError, Raw, RawMem

if TYPE_CHECKING:
    from verifier.asm.encode.rows import Row

_REPEAT = {"rep": b"\xf3", "repe": b"\xf3", "repz": b"\xf3", "repne": b"\xf2", "repnz": b"\xf2"}
_SEGMENTS = {"es": b"\x26", "cs": b"\x2e", "ss": b"\x36", "ds": b"\x3e", "fs": b"\x64", "gs": b"\x65"}
_NEAR_BRANCHES = ("jmp", "call", "ret", "jcc")


@dataclass(frozen=True, slots=True)
class Words:
    """Bytes ahead of the operand-size prefix and behind it, and what the prefixes mean."""

    before: bytes = b""
    after: bytes = b""
    canonical: tuple[str, ...] = ()


def is_repeat(word: str) -> bool:
    """Whether the word is ``rep`` or ``repe`` in one of its spellings: what makes a ``nop`` a ``pause``."""
    return _REPEAT.get(word) == b"\xf3"


def read(words: tuple[str, ...], row: Row, operands: tuple[Raw, ...], size: int) -> Words:
    """Raise EncodeError for a prefix the instruction cannot have; one that pads only emits its byte."""
    result = Words()
    for word in words:
        one = _word(word, row, operands, size)
        if (one.before and result.before) or (one.after and result.after):
            raise EncodeError(f"prefix '{word}' cannot follow those before it")
        result = Words(result.before + one.before, result.after + one.after, result.canonical + one.canonical)
    return result


def _word(word: str, row: Row, operands: tuple[Raw, ...], size: int) -> Words:
    if word == "lock":
        if not (row.has("lock") and any(isinstance(raw, RawMem) for raw in operands)):
            hint = "it needs a read-modify-write instruction with a memory destination"
            raise EncodeError(f"'{row.mnemonic}' cannot be locked in this form", None, hint)
        return Words(after=b"\xf0", canonical=("lock",))
    if word in _REPEAT:
        return _repeat(word, row)
    if word in _SEGMENTS and row.mnemonic == "nop":
        return Words(before=_SEGMENTS[word])
    if word == "data16" and row.mnemonic == "nop" and size != 16:
        return Words(after=b"\x66")
    if word == "notrack" and row.has("star") and row.mnemonic in _NEAR_BRANCHES:
        return Words(before=b"\x3e")
    if word in ("cs", "ds") and row.mnemonic in _NEAR_BRANCHES and not any(isinstance(r, RawMem) for r in operands):
        skipped = row.mnemonic == "call" and not row.has("star")  # as GNU as does, with a warning
        return Words() if skipped else Words(before=_SEGMENTS[word])
    if word == "bnd" and row.mnemonic in _NEAR_BRANCHES:
        return Words(after=b"\xf2")
    padding = word == "data16" or word in _SEGMENTS
    advice = "write the segment in the operand, the size in the suffix" if padding else None
    raise EncodeError(f"prefix '{word}' is not supported before '{row.mnemonic}'", None, advice)


def _repeat(word: str, row: Row) -> Words:
    code = _REPEAT[word]
    if row.has("rep"):
        return Words(after=code, canonical=("rep" if code == b"\xf3" else "repne",))
    if row.mnemonic == "ret" and code == b"\xf3":
        return Words(after=code)
    hint = f"'{word}' belongs to string instructions"
    raise EncodeError(f"'{row.mnemonic}' cannot be repeated", None, hint)
