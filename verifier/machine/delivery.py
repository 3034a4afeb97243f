"""Delivery of events and exceptions through the IDT in 64-bit mode (SDM vol. 3A 6.14; rules F, N and H)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, FLAGS
from verifier.ir.ops import Access
from verifier.machine.events import BY_VECTOR, EVENTS, Event
from verifier.machine.execution import Fault, Mishap
from verifier.machine.rflags import pack
from verifier.machine.state import canonical, in_shadow, rule
from verifier.terms import Term, add, and_, const, eq, extract, ite, not_, or_, zext

if TYPE_CHECKING:
    from verifier.machine.config import Gate
    from verifier.machine.execution import Execution

_PUSH = Access(stack=True)
_DOUBLE_FAULT = 8


def deliver(
    x: Execution,
    vector: int,
    saved_rip: Term,
    error_code: Term | None = None,
    *,
    saved_rf: Term | None = None,
    event: Event | None = None,
    restart: Term | None = None,
) -> None:
    """Deliver a vector to its handler: control ends at the handler's first instruction.

    ``saved_rip`` and ``saved_rf`` go into the frame (``saved_rf`` None: RF as it is, rule F14). ``event`` is given
    for external events, whose vector the specification chose. ``restart`` is given for INT n: the instruction's own
    address, which a fault in its delivery saves (rule F13). Raises Mishap where the run ends.
    """
    event = event or BY_VECTOR.get(vector) or Event(f"vector_{vector}", vector)
    if event.blocks_nmi:
        x.nmi_pending = False
    while True:
        try:
            _enter(x, vector, event, saved_rip, error_code, saved_rf)
        except Fault as second:
            if event.blocks_nmi and x.decide(rule("fault_in_nmi_delivery_blocks")):
                x.nmi_blocked = True  # rule H5
            external = const(restart is None, 32)
            vector, event, error_code = _escalate(event, second, external)
            saved_rf = const(1, 1) if event.saved_rf else None
            saved_rip, restart = restart or saved_rip, None
        else:
            return


def _escalate(first: Event, second: Fault, external: Term) -> tuple[int, Event, Term]:
    """What a fault during the delivery of another event becomes (rules H1 to H3); ``external``: EXT (rule F9)."""
    if first.name == "double_fault":
        raise Mishap("shutdown", f"{BY_VECTOR[second.vector].name} while double_fault is delivered")
    then = BY_VECTOR[second.vector]
    serious = first.fault_class == "contributory" and then.fault_class == "contributory"
    if serious or (first.fault_class == "page" and then.fault_class != "benign"):
        return _DOUBLE_FAULT, EVENTS["double_fault"], const(0, 32)
    return second.vector, then, or_(second.error_code, external)


def _enter(
    x: Execution, vector: int, event: Event, saved_rip: Term, error_code: Term | None, saved_rf: Term | None
) -> None:
    gate = x.layout.machine.gates.get(vector)
    if gate is None:
        if event.name == "double_fault":
            raise Mishap("double-fault", f"at {x.describe(saved_rip)}, and no gate for double_fault")
        raise Mishap("no-gate", f"{event.name} (vector {vector}) at {x.describe(saved_rip)}")
    old_cpl = x.cpl
    rsp = _new_rsp(x, gate, old_cpl)
    image = pack(x.cells, {"rf": saved_rf} if saved_rf is not None else None)
    for flag in FLAGS:
        if flag != "rf" or saved_rf is None:
            x.look(CELL_INDEX[flag])
    cs = x.get("cs")
    if event.name == "double_fault":  # rule H6
        cs, saved_rip = x.choose("double_fault.cs", 16), x.choose("double_fault.rip", 64)
    words = [zext(x.get("ss"), 64), x.get("rsp"), image, zext(cs, 64), saved_rip]
    if event.error_code:
        words.append(zext(error_code if error_code is not None else const(0, 32), 64))
    rsp = add(rsp, const(-8 * len(words), 64))
    _push(x, rsp, words)
    _commit(x, gate, event, rsp, old_cpl)


def _push(x: Execution, rsp: Term, words: list[Term]) -> None:
    """Write a frame. If it is not all at canonical addresses, any of its words that are may be written (rule F15)."""
    try:
        frame = x.place(rsp, 8 * len(words), _PUSH, write=True)
    except Fault:
        for i, word in reversed(list(enumerate(reversed(words)))):
            address = add(rsp, const(8 * i, 64))
            if x.decide(canonical(address)) and x.decide(x.choose("frame.written", 1)):
                x.store(address, word, _PUSH)
        raise
    assert frame is not None
    for i, word in enumerate(reversed(words)):
        x.write_at(frame.region, frame.offset + 8 * i, word)


def _new_rsp(x: Execution, gate: Gate, old_cpl: int) -> Term:
    """Rules F4 to F6: the IST stack always, else RSP0 on a change of CPL, else the stack in use; then aligned."""
    machine = x.layout.machine
    if gate.stack is not None:
        rsp = x.layout.top(gate.stack)
    elif gate.slot is not None:
        rsp = _slot(x, gate.slot)
    elif old_cpl != 0:
        if machine.rsp0 is None:
            raise Mishap("no-gate", f"{gate.event} from CPL {old_cpl} needs RSP0, and the machine has no rsp0 stack")
        rsp = x.layout.top(machine.rsp0)
    else:
        rsp = x.get("rsp")
    if not x.decide(canonical(rsp)):
        edge = eq(extract(rsp, 63, 4), const(1 << 43, 60))
        if not x.decide(and_(edge, rule("frame_below_the_edge"))):
            raise Fault(12)
    if not x.layout.is_region_address(rsp):
        return and_(rsp, const(-16, 64))
    return _align(x, rsp)


def _slot(x: Execution, name: str) -> Term:
    """What an IST slot holds now (rule F4)."""
    found = x.layout.machine.datum(name)
    assert found is not None, name
    region, datum = found
    return x.read_at(x.layout.number[region.name], datum.offset, 64)


def _align(x: Execution, rsp: Term) -> Term:
    """Rule F6: down to 16, with one branch per value of a bit of RSP that is not known."""
    known = min(rsp.known, 4)
    aligned = add(rsp, const(-(rsp.residue & ((1 << known) - 1)), 64))
    for bit in range(known, 4):
        if x.decide(extract(aligned, bit, bit)):
            aligned = add(aligned, const(-(1 << bit), 64))
    return aligned


def _commit(x: Execution, gate: Gate, event: Event, rsp: Term, old_cpl: int) -> None:
    machine = x.layout.machine
    if old_cpl != 0:
        x.put("ss", const(0, 16))
    elif gate.ist:
        x.put("ss", ite(rule("ist_nulls_ss"), const(0, 16), x.get("ss")))  # rule F10
    x.put("rsp", rsp)
    x.put("cs", const(machine.kernel_cs, 16))
    x.put("cpl", const(0, 2))
    for flag in ("tf", "nt", "rf", "vm"):  # rule F11
        x.put(flag, const(0, 1))
    if gate.kind == "interrupt":
        x.put("if", const(0, 1))
    x.put("inhibit", const(0, 2))
    if event.blocks_nmi:
        x.nmi_blocked = True
    x.rip = gate.entry
    x.waits = False
    x.delivered.append(event.name)


def raise_fault(x: Execution, fault: Fault) -> None:
    """An instruction's fault: nothing of it takes effect, and the saved rip is its own (rules F13, F14)."""
    x.roll_back()
    deliver(x, fault.vector, const(x.before.rip, 64), fault.error_code, saved_rf=const(1, 1))


def masked(x: Execution, event: Event) -> Term:
    """The condition that a maskable event is held back: IF=0, or a shadow from STI or MOV SS (rules S1, S3)."""
    if not event.maskable:
        return const(0, 1)
    return not_(and_(x.get("if"), not_(in_shadow(x.get("inhibit")))))
