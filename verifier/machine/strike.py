"""An event that strikes at a boundary (rules N, S and E), and the #DB of single steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX
from verifier.machine.config import MSRS
from verifier.machine.delivery import deliver, masked
from verifier.machine.events import MCG_STATUS, PAGE_FAULT_USER, Event
from verifier.machine.execution import Mishap
from verifier.machine.holes import run_hole
from verifier.machine.state import HOME, rule
from verifier.terms import Term, and_, const, eq, extract, or_, sext, zext

if TYPE_CHECKING:
    from verifier.machine.config import Contract
    from verifier.machine.execution import Execution

_DEBUG = 1
_DR6_BS = 1 << 14
#: DR6.B0 to B3.
_DR6_BREAKPOINTS = 15
#: The bit of MCG_STATUS (SDM vol. 3B, "IA32_MCG_STATUS MSR").
_MCIP = 2
_RF = CELL_INDEX["rf"]

#: The ``inhibit`` cell after MOV SS and POP SS.
SS_SHADOW = const(2, 2)


def strike(x: Execution, event: Event, contract: Contract | None, in_iret: bool) -> bool:
    """An event that can arise at this boundary strikes; False if it is held back.

    ``contract``: of the hidden code that control is in. ``in_iret``: an IRET stands here, which may have begun.
    """
    if event.held_by_ss and x.decide(eq(x.get("inhibit"), SS_SHADOW)):
        return False
    if contract is not None:
        run_hole(x, contract)
    if event.blocks_nmi and x.nmi_blocked:
        return False
    home = x.before.rip == HOME
    if x.decide(masked(x, event)) or (home and event.saved_rf and not x.decide(x.get("rf"))):  # rule E4
        return False
    if event.name == "machine_check":
        _check_in_progress(x)
    held = held_trap(x)
    saved_rip = x.before.home.rip if home else const(x.before.rip, 64)
    error_code = _load_cause(x, event)
    if in_iret and x.decide(x.choose("fault.in_iret", 1)):
        x.nmi_blocked = False  # rule E3
    gate = x.layout.machine.gate_of(event.name)
    if gate is None:
        raise Mishap("no-gate", f"{event.name} at {x.describe(saved_rip)}")
    saved_rf = const(1, 1) if event.saved_rf else None
    x.struck = tuple(x.cells)
    if saved_rf is not None:
        x.struck = (*x.struck[:_RF], saved_rf, *x.struck[_RF + 1 :])
    restart = saved_rip if event.software else None
    deliver(x, gate.vector, saved_rip, error_code, saved_rf=saved_rf, event=event, restart=restart)
    if x.decide(and_(held, rule(_keeps_held_trap(event)))):
        single_step(x)
    return True


def _load_cause(x: Execution, event: Event) -> Term | None:
    """What tells why an event struck: CR2, DR6 and the error code, if it has one (rules E1 and E2)."""
    error_code = None
    if event.error_code:
        bits = event.error_bits & ~(PAGE_FAULT_USER if event.name == "page_fault" and x.cpl != 3 else 0)
        error_code = and_(x.choose("fault.error_code", 32), const(bits, 32))
    if event.name == "page_fault":
        x.put("cr2", sext(x.choose("fault.cr2", 48), 64))  # any other address is #GP
    if event.name == "debug":
        sticky = and_(x.get("dr6"), const(~_DR6_BREAKPOINTS, 64))
        x.put("dr6", or_(sticky, zext(x.choose("debug.breakpoints", 4), 64)))
    return error_code


def _check_in_progress(x: Execution) -> None:
    """Rule E7: a machine check sets MCG_STATUS.MCIP, and shuts down where it is set. Its other bits are open."""
    word = x.msr(MCG_STATUS)
    if word is None:
        return
    region = x.layout.number[MSRS]
    if x.decide(extract(x.word(region, word), _MCIP, _MCIP)):
        raise Mishap("shutdown", "machine_check while MCG_STATUS.MCIP is set")
    others = and_(x.choose("mcg_status", 4), const(~(1 << _MCIP), 4))
    x.write_at(region, 8 * word, zext(or_(others, const(1 << _MCIP, 4)), 64))


def _keeps_held_trap(event: Event) -> str:
    """The rule by which a #DB that a load of SS holds back survives an event at the next boundary (S6, S7)."""
    if event.software:
        return "int_keeps_held_trap"
    return "fault_keeps_held_trap" if event.saved_rf else "event_keeps_held_trap"


def held_trap(x: Execution) -> Term:
    """The condition that a load of SS has held back the #DB of TF at this boundary (rules S3 and S4)."""
    return and_(x.get("tf"), extract(x.get("inhibit"), 1, 1))


def single_step(x: Execution) -> None:
    """Rule I4: TF was set when the instruction started, so #DB follows it."""
    x.put("dr6", or_(x.get("dr6"), const(_DR6_BS, 64)))
    deliver(x, _DEBUG, x.next)
