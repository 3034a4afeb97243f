"""Concrete machine states, and the protocol between a symbolic run and the interpreter that re-executes it.

A run is a start state and a list of `Move`. Whatever the manual leaves open is a named choice: the symbolic engine
records the terms it invented, the model gives them values, and the interpreter asks for them, by kind, in the order
below. A kind that does not match, a choice left over or one missing is a disagreement.

=================== ===== ==================================================================================
kind                width when it is asked for
=================== ===== ==================================================================================
undef               any   an ``undef`` operation is executed, in block order
hole.ends           1     ``hole_body`` is executed whose code may stay away: whether it does
                          (nothing else is asked then)
hole.iret           1     hidden code that may execute an IRET runs on (see hole.CELL) while NMIs are blocked: whether
                          it unblocks them; just before the cells
hole.CELL           cell  each clobbered cell of a contract, in its order, whenever an event strikes at ``hole_body``
                          (before the event is delivered: the hidden code ran on for a while) and when
                          ``hole_body`` is executed (before it leaves, and before saved registers come back)
hole.memory         64    each 8-byte word of the hole's stack, upwards from the lowest, then each byte-exact datum of
                          ``writes`` (its size in bits), just after the cells;
                          then all regions and operands that it writes, in pieces of 8 bytes
fault.error_code    32    an injected fault with an error code is delivered; of the value the defined bits count (E2)
fault.cr2           48    an injected page fault is delivered, after its error code; sign-extended (E1)
mcg_status          4     a machine check is delivered, and MCG_STATUS is modelled: its low bits, MCIP apart (E7)
debug.breakpoints   4     an injected #DB is delivered: the low bits of DR6 (E5)
fault.in_iret       1     an injected fault with an error code, while NMIs are blocked, at an IRET: whether that had
                          begun, after the others (E3)
load                any   a read at an address outside every region that the specification allows to be read
ldt.cs, ldt.ss      2     an IRET pops such a selector of the LDT: 0 it is good, else it is not (R13); CS first
ldt.data            2     the same for MOV and POP to DS, ES, FS and GS
double_fault.cs     16    a #DF is delivered, whose saved CS is not defined (rule H6), after its gate is found
double_fault.rip    64    the same, just after
frame.written       1     a frame is not all at canonical addresses: for each of its words that is, from the
                          highest down, whether it is written before the fault (rule F15)
=================== ===== ==================================================================================

A choice stays taken where the instruction then faults. A latched NMI asks for none. INT n is delivered under the name
``breakpoint`` (3), ``overflow`` (4) or else ``software_interrupt``: it is no NMI or fault, whatever its vector (N9).

Machine rules that differ between processors are fixed for a run, in ``Start.rules``, by the names of
`verifier.machine.rules.RULES`; one that is missing is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ConcreteState:
    """Every cell's value by name, memory as byte address -> byte, and the two NMI latches.

    The mappings are never changed after construction. Bytes never mentioned are 0.
    """

    rip: int
    cells: Mapping[str, int]
    memory: Mapping[int, int]
    nmi_blocked: bool = False
    nmi_pending: bool = False

    def read(self, address: int, size: int) -> int:
        """``size`` bytes at ``address``, little endian."""
        mask = (1 << 64) - 1
        return int.from_bytes(
            bytes(self.memory.get((address + i) & mask, 0) for i in range(size)), "little"
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts: at a boundary of the interrupted context, before the first event.

    ``home`` is the interrupted rip; ``bases`` the address of every region; ``rules`` as above.
    """

    state: ConcreteState
    home: int
    bases: Mapping[str, int]
    rules: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a run: ``action`` is ``execute`` (the instruction at rip) or the name of an event that strikes.

    ``latch``: the event is an NMI that arrives while NMIs are blocked and is held pending.
    """

    action: str
    choices: tuple[tuple[str, int], ...] = ()
    latch: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a move led to. ``delivered``: the events and faults whose handler was entered in it, in order.
    ``writes``: address and size in bytes of every store, in order: of the instruction, of hidden code, of frames.
    ``chosen``: the same of every read that a choice ``load`` has answered.

    ``ended``: None while the run goes on, ``home`` when control is back in the interrupted context, else a kind of
    `verifier.machine.events.MISHAPS`, with ``detail`` saying what and where. An instruction that ends a run by a bad
    access takes no effect.
    """

    state: ConcreteState
    delivered: tuple[str, ...] = ()
    ended: str | None = None
    detail: str = ""
    writes: tuple[tuple[int, int], ...] = field(default=())
    chosen: tuple[tuple[int, int], ...] = field(default=())


class Disagreement(Exception):
    """The interpreter and the symbolic run differ: an error of ours, never shown as a verdict."""
