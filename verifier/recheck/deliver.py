"""Delivery through the IDT (rules F1 to F17, H1 to H6; SDM vol. 3A, "Interrupt and Exception Handling")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.ops import Access
from verifier.machine.events import BY_VECTOR, EVENTS
from verifier.recheck.expression import Expr, and_, concat, const, eq, extract, ite, offset, or_, zext
from verifier.recheck.step import Fault, Mishap
from verifier.recheck.world import canonical, image, rule

if TYPE_CHECKING:
    from verifier.machine.config import Gate
    from verifier.machine.events import FaultClass
    from verifier.recheck.step import Step

_PUSH = Access(stack=True)
_DOUBLE_FAULT = EVENTS["double_fault"]

#: First and second class that make a double fault (rule H2).
_DOUBLE: frozenset[tuple[FaultClass, FaultClass]] = frozenset(
    (("contributory", "contributory"), ("page", "contributory"), ("page", "page"))
)


@dataclass(frozen=True, slots=True)
class Strike:
    """Something on its way to its handler.

    ``rip``: what the frame says; ``restart``: what that of a fault in this delivery says (F13); ``error`` None: no
    error code; ``external``: bit 0 of the error code of such a fault (F9); ``rf``: the RF of the frame, None: as
    it is (F14).
    """

    name: str
    gate: Gate | None
    rip: Expr
    restart: Expr
    error: Expr | None = None
    rf: Expr | None = None
    external: bool = True
    blocks_nmi: bool = False
    fault_class: FaultClass = "benign"


def of_event(step: Step, name: str, rip: Expr, error: Expr | None = None) -> Strike:
    """An exception or an event from outside, with the rip that its frame shows."""
    event = EVENTS[name]
    if event.error_code and error is None:
        error = const(0, 32)
    return Strike(
        name,
        step.world.machine.gate_of(name) if event.vector is None else step.world.machine.gates.get(event.vector),
        rip,
        rip,
        error if event.error_code else None,
        const(1, 1) if event.saved_rf else None,
        external=not event.software,
        blocks_nmi=event.blocks_nmi,
        fault_class=event.fault_class,
    )


def of_fault(step: Step, fault: Fault, rip: Expr) -> Strike:
    return of_event(step, BY_VECTOR[fault.vector].name, rip, fault.error)


def deliver(step: Step, strike: Strike) -> None:
    """Control ends at the first instruction of a handler. Raises Mishap where the run ends."""
    while True:
        try:
            _enter(step, strike)
        except Fault as fault:
            if strike.blocks_nmi and step.decide(rule("fault_in_nmi_delivery_blocks")):
                step.nmi_blocked = True  # H5
            strike = _second(step, strike, fault)
        else:
            return


def _second(step: Step, first: Strike, fault: Fault) -> Strike:
    """What a fault in a delivery becomes (rules H2, H3)."""
    second = BY_VECTOR[fault.vector]
    if first.name == _DOUBLE_FAULT.name:
        raise Mishap("shutdown", f"{second.name} while double_fault is delivered")
    if (first.fault_class, second.fault_class) in _DOUBLE:
        strike = of_event(step, _DOUBLE_FAULT.name, first.restart)
        if strike.gate is None:
            raise Mishap("double-fault", f"{second.name} while {first.name} is delivered")
        return strike
    return of_event(step, second.name, first.restart, or_(fault.error, const(int(first.external), 32)))


def _enter(step: Step, strike: Strike) -> None:
    """Push the frame and go to the handler. Raises Fault where the stack is bad."""
    gate = strike.gate
    if gate is None:
        raise Mishap("no-gate", f"no gate for {strike.name}")
    rsp = _aligned(step, _new_stack(step, gate))
    flags = {name: step.get(name) for name in step.before.home.cells}
    if strike.rf is not None:
        flags["rf"] = strike.rf
    cs, rip = step.get("cs"), strike.rip
    if strike.name == _DOUBLE_FAULT.name:  # H6
        cs, rip = step.choose(16), step.choose(64)
    words = [zext(step.get("ss"), 64), step.get("rsp"), image(flags), zext(cs, 64), rip]
    if strike.error is not None:
        words.append(zext(strike.error, 64))
    lowest = offset(rsp, -8 * len(words))
    _push(step, lowest, words)
    _arrive(step, strike, gate, lowest)


def _new_stack(step: Step, gate: Gate) -> Expr:
    """Rules F4 and F5."""
    machine = step.world.machine
    if gate.stack is not None:
        rsp = step.world.top(gate.stack)
    elif gate.slot is not None:
        slot = machine.datum(gate.slot)
        assert slot is not None
        rsp = step.read((slot[0].name, slot[1].offset), 8)
    elif step.cpl == 0:
        rsp = step.get("rsp")
    elif machine.rsp0 is None:
        raise Mishap("no-gate", f"the frame of {gate.event} needs RSP0, which is not given")
    else:
        rsp = step.world.top(machine.rsp0)
    if step.decide(canonical(rsp)):
        return rsp
    above_the_lower_half = eq(extract(rsp, 63, 4), const(1 << 43, 60))
    if not step.decide(and_(above_the_lower_half, rule("frame_below_the_edge"))):
        raise Fault(12)
    return rsp


def _aligned(step: Step, rsp: Expr) -> Expr:
    """Rule F6: rounded down to 16."""
    if not step.world.is_anchored(rsp):
        return concat(extract(rsp, 63, 4), const(0, 4))
    for bit in range(4):
        if step.decide(extract(rsp, bit, bit)):
            rsp = offset(rsp, -(1 << bit))
    return rsp


def _push(step: Step, lowest: Expr, words: list[Expr]) -> None:
    """The words, the last one lowest. Of a frame that is not all canonical any of the words that are may be written
    (F15)."""
    size = 8 * len(words)
    places = [(offset(lowest, size - 8 * i), word) for i, word in enumerate(words, 1)]
    try:
        found = step.reach(lowest, size, _PUSH, write=True)
    except Fault:
        for address, word in places:
            if step.decide(canonical(address)) and step.decide(step.choose(1)):
                step.store(address, word, _PUSH)
        raise
    assert found is not None
    for address, word in places:
        step.store(address, word, _PUSH)


def _arrive(step: Step, strike: Strike, gate: Gate, rsp: Expr) -> None:
    if step.cpl != 0:
        step.number("ss", 0)
    elif gate.ist:
        step.put("ss", ite(rule("ist_nulls_ss"), const(0, 16), step.get("ss")))  # F10
    step.put("rsp", rsp)
    step.number("cs", step.world.machine.kernel_cs)
    for flag in ("tf", "nt", "rf", "vm") + (("if",) if gate.kind == "interrupt" else ()):  # F11
        step.number(flag, 0)
    step.number("inhibit", 0)
    step.cpl = 0
    step.at = gate.entry
    step.nmi_blocked = step.nmi_blocked or strike.blocks_nmi
    step.delivered.append(strike.name)
