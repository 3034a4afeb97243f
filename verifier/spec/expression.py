"""The abstract syntax of property expressions: parsed by `verifier.spec.grammar`, meaning by ``prove/``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class CellRef:
    """A register, flag or piece of state now: ``cell`` in `verifier.ir.cells` or ``rip``, ``rflags``,
    ``nmi_blocked``, ``nmi_pending``; bits ``low`` up to ``low + width``.

    ``interrupted``: not its value now but the one it had when the first event struck.
    """

    cell: str
    low: int
    width: int
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class MemoryRef:
    """A memory operand, read now: segment base + base + index*scale + disp; ``width`` in bits.

    ``region``: the lowest address of this region is added too (a datum on a stack).
    """

    segment: str | None
    base: str | None
    index: str | None
    scale: int
    disp: int
    width: int
    region: str | None = None


@dataclass(frozen=True, slots=True)
class RegionRef:
    """The lowest address of a region, or the address just above it."""

    region: str
    edge: Literal["base", "top"]


@dataclass(frozen=True, slots=True)
class Count:
    """How many events of a kind have struck so far in this run."""

    event: str


@dataclass(frozen=True, slots=True)
class Unary:
    """``not`` is logical; ``~`` and ``-`` work on 64 bits."""

    op: Literal["not", "~", "-"]
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    """``->`` implies; ``<`` and its kin are unsigned, ``s<`` and its kin signed; arithmetic is modulo 2^64.

    Every value counts as 64 bits, zero-extended; a value where a truth is wanted is compared with 0.
    """

    op: Literal[
        "+", "-", "*", "&", "|", "^", "<<", ">>",
        "==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=",
        "and", "or", "->",
    ]  # fmt: skip
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Restored:
    """Each named cell (or ``rip``, ``rflags``) has the value it had when the first event struck.

    ``memory``: so has what lies at and above RSP on the stack that an interrupted kernel context runs on.
    """

    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resumed:
    """Whenever a return brings control back to where an event struck inside the program (same RIP, same RSP), each
    named cell has the value it had there when the event struck."""

    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intact:
    """The five saved words of the interrupted context can still be recovered.

    ``frame`` None: each is held in some register or word of memory. Otherwise: they lie, in the order of a
    hardware frame (rip, cs, rflags, rsp, ss), at the address that this expression gives.
    """

    frame: Expression | None


@dataclass(frozen=True, slots=True)
class Handled:
    """Every delivered ``event`` was followed by a run of the hole or label ``body`` (its address)."""

    event: str
    body: int


@dataclass(frozen=True, slots=True)
class Progress:
    """From every reachable state some run without further events reaches the outermost return."""


@dataclass(frozen=True, slots=True)
class AtRest:
    """Everything that the spec gives as ``initially`` holds again."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Control never comes to this address."""

    address: int


@dataclass(frozen=True, slots=True)
class NoMishap:
    """No run ends in a mishap. Since a mishap refutes every property, nothing else need be asked."""


Expression = (
    Number
    | CellRef
    | MemoryRef
    | RegionRef
    | Count
    | Unary
    | Binary
    | Restored
    | Resumed
    | Intact
    | Handled
    | Progress
    | AtRest
    | NoMishap
    | Unreachable
)
