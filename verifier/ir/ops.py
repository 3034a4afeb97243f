"""The SSA operations that an instruction lifts to, and the block that holds them.

A `Block` is the meaning of one instruction: straight-line SSA, then one terminator. All ``get`` read the state
before the instruction; ``put`` and ``store`` take effect together at its end (a later ``put`` of the same cell
wins; stores happen in order and later loads see them), unless a ``fault_if`` fires: then nothing takes effect
(SDM vol. 3A 6.5: a fault restores the state before the instruction).

========== =================== ============================================================================
opcode     arguments           meaning; ``attr``
========== =================== ============================================================================
const                          the integer ``attr``
undef                          any value, chosen afresh at each execution (an architecturally undefined result)
get                            the cell named ``attr`` (see `verifier.ir.cells`)
add … ashr a, b                bit-vector arithmetic of one width; shift counts are unsigned, >= width gives 0
                               (ashr: the sign)
udiv urem  a, b                unsigned quotient and remainder; division by zero is guarded by fault_if before
sdiv srem  a, b                signed, truncating towards zero; remainder has the dividend's sign
not neg    a
eq ult ule slt sle  a, b       one-bit results
ite        c, a, b             a if c else b; c has one bit
concat     hi, lo
extract    a                   bits ``attr=(high, low)``, both inclusive
zext sext  a                   to the result's width
load       address             ``width`` bits, little endian; ``attr`` is an `Access`
store      address, value      no result; ``attr`` is an `Access`
put        value               no result; cell ``attr``
fault_if   condition, error    no result; raise vector ``attr`` with that error code (32 bits) if the condition
                               holds. For vectors without an error code the argument is ignored
skip_if    condition           no result; if it holds the instruction ends here without any effect and control goes
                               to the next one (REP with a count of 0). Stands before every access
rdmsr      index (32)          64 bits of that MSR
tsc_aux    otherwise           32 bits of IA32_TSC_AUX; ``otherwise`` where the machine does not tell them
descriptor selector (16),      what LSL, LAR, VERR or VERW (``attr``) find of a selector: bit 32 is ZF, below it lie
           otherwise (33)      the limit or the rights. What the machine does not tell is that of ``otherwise``
wrmsr      index (32), value   no result
========== =================== ============================================================================

Terminators: ``next``; ``jump`` to the constant ``attr``; ``branch`` on a one-bit value to the constant ``attr``,
else next; ``jump_indirect`` to a 64-bit value; ``iret``, ``sysret`` and ``lret`` with ``attr`` = operand size in
bits (16, 32, 64); ``syscall``; ``interrupt`` (INT n, INT3: software, ``attr`` = vector, saved rip = next);
``exception`` (UD2: a fault, ``attr`` = vector, saved rip = this one); ``halt``; ``hole_enter`` and ``hole_body``
(code that is not shown: its contract says what it may do).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.asm.program import Instruction

BINARY = frozenset(
    ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "udiv", "urem", "sdiv", "srem")
)
COMPARE = frozenset(("eq", "ult", "ule", "slt", "sle"))
UNARY = frozenset(("not", "neg"))
#: The instructions that look at a descriptor and load nothing.
QUERIES = frozenset(("lsl", "lar", "verr", "verw"))
EFFECTS = frozenset(("store", "put", "fault_if", "skip_if", "wrmsr"))
OPCODES = (
    BINARY
    | COMPARE
    | UNARY
    | EFFECTS
    | {"const", "undef", "get", "ite", "concat", "extract", "zext", "sext", "load", "rdmsr", "tsc_aux", "descriptor"}
)
TERMINATORS = frozenset(
    (
        "next",
        "jump",
        "branch",
        "jump_indirect",
        "iret",
        "sysret",
        "lret",
        "syscall",
        "interrupt",
        "exception",
        "halt",
        "hole_enter",
        "hole_body",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """How a memory operand is reached: decides the fault that a bad address raises (rule A2).

    ``stack``: based on RSP or RBP without ``%fs:`` or ``%gs:``, or an implicit stack access: #SS(0) rather than
    #GP(0). ``segment``: the override as written or None; the base of FS or GS is already in the address.
    """

    stack: bool = False
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value: ``%index`` of ``width`` bits. Defined once, by the operation of that index."""

    index: int
    width: int

    def __str__(self) -> str:
        return f"%{self.index}"


Attr = int | str | tuple[int, int] | Access | None


@dataclass(frozen=True, slots=True)
class Operation:
    opcode: str
    args: tuple[Value, ...]
    attr: Attr = None
    result: Value | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The SSA of one instruction. ``terminator.opcode`` is in `TERMINATORS`."""

    instruction: Instruction
    operations: tuple[Operation, ...]
    terminator: Operation

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    @property
    def address(self) -> int:
        return self.instruction.address
