"""Operands as written, before any choice of encoding, and the error that says why none fits."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.errors import AsmError


class EncodeError(AsmError):
    """An instruction that does not exist in this form. ``operand_index`` counts from 0 in AT&T order."""

    def __init__(self, message: str, operand_index: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, None, hint)
        self.operand_index = operand_index


@dataclass(frozen=True, slots=True)
class RawReg:
    """A register as written, without ``%``: ``eax``, ``ah``, ``gs``, ``cr3``, ``db7``."""

    name: str


@dataclass(frozen=True, slots=True)
class RawImm:
    """An immediate; ``value`` is None while it is no absolute constant (a symbol, a forward reference)."""

    value: int | None


@dataclass(frozen=True, slots=True)
class RawMem:
    """A memory operand, register names as written.

    ``disp`` is None for a symbolic displacement. ``has_disp`` tells ``0(%rax)`` from ``(%rax)``, which encode
    alike.
    """

    segment: str | None
    base: str | None
    index: str | None
    scale: int
    disp: int | None
    has_disp: bool


@dataclass(frozen=True, slots=True)
class RawTarget:
    """A direct branch target."""


Raw = RawReg | RawImm | RawMem | RawTarget
