"""Which events may strike, how often, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verifier.errors import SpecError, nearest
from verifier.machine.events import EVENTS
from verifier.spec.boundaries import Boundaries
from verifier.spec.gates import RAISABLE
from verifier.spec.model import Environment
from verifier.spec.properties import addresses_of

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from verifier.asm.program import Program
    from verifier.machine.config import MachineConfig
    from verifier.spec.document import Fields, Value
    from verifier.spec.names import Names

MAX_COUNT = 1000
ANYWHERE, MEMORY = "anywhere", "memory"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event of ``environment.events``; ``times`` None: any number; ``where``: ``at`` in words."""

    times: int | None
    raised: Boundaries | None = None
    where: str = ""


def read_environment(environment: Fields, machine: MachineConfig, names: Names) -> tuple[Environment, MachineConfig]:
    """Events with their counts, and the machine that knows where they strike. SpecError for an event that cannot
    happen or has no gate."""
    entries = {}
    for key, value in environment["events"].entries():
        name = key.choice(EVENTS, "event")
        entries[name] = _entry(name, value, machine.program, names)
    outermost = _outermost(environment, tuple(entries), machine)
    _refuse_impossible(environment, entries, machine, outermost, names)
    places = {name: e.where for name, e in entries.items() if e.where}
    raised = {name: e.raised for name, e in entries.items() if e.raised is not None}
    at_home = frozenset(name for name in outermost if not EVENTS[name].asynchronous)
    found = Environment({name: e.times for name, e in entries.items()}, outermost, places)
    return found, replace(machine, raised=raised, raised_outside=at_home)


def _refuse_impossible(
    environment: Fields,
    entries: Mapping[str, _Entry],
    machine: MachineConfig,
    outermost: tuple[str, ...],
    names: Names,
) -> None:
    """SpecError for an event that nothing raises or that has no gate, and for one that a hole raises and is missing."""
    allowed = {name for contract in machine.contracts.values() for name in contract.may_raise}
    for key, _ in environment["events"].entries():
        name = str(key.node.value)
        possible = EVENTS[name].asynchronous or name in allowed or name in outermost
        if not possible and entries[name].raised is None:
            hint = (
                f"let a hole raise it (may: [{name}]), or say where in the text it strikes: "
                f"{{times: any, at: {MEMORY}}}; faults of the text's own instructions always strike"
            )
            raise key.error(f"nothing can raise {name}", hint)
        if machine.gate_of(name) is None:
            label = next((label for label in names.code if name in label), "…")
            hint = f"add '{name}: {{entry: {label}, gate: interrupt}}' to machine.idt"
            raise key.error(f"the event {name} has no gate", hint)
    for contract in machine.contracts.values():
        for name in contract.may_raise:
            if name not in entries:
                message = f"the hole {contract.name} may raise {name}, which is missing here"
                raise environment["events"].error(message, f"add '{name}: any'")


def _entry(name: str, value: Value, program: Program, names: Names) -> _Entry:
    if not value.is_mapping:
        return _Entry(_count(value))
    fields = value.fields(("times", "at"))
    times = fields.get("times", _count, None)
    if "at" not in fields:
        return _Entry(times)
    if name not in RAISABLE:
        hint = "leave 'at' out; 'during' of a property speaks of chosen places"
        raise fields["at"].error(f"{name} strikes wherever the machine lets it", hint)
    return _Entry(times, *_places(name, fields["at"], program, names))


def _places(name: str, value: Value, program: Program, names: Names) -> tuple[Boundaries, str]:
    """The addresses, and what they are in words."""
    if not value.is_sequence and value.text("a place") == ANYWHERE:
        return Boundaries(program, name), "at every boundary of the text that is shown"
    if not value.is_sequence and value.text("a place") == MEMORY:
        return Boundaries(program, name, memory=True), "at every instruction that accesses memory"
    shown = Boundaries(program, name)
    found: list[Container[int]] = []
    words = []
    for item in value.one_or_more():
        text = " ".join(item.text("a label").split())
        how, _, label = text.rpartition(" ")
        addresses = addresses_of(how or "at", label, names, program) if how in ("", "at", "in") else None
        if addresses is None:
            hint = nearest(label, (ANYWHERE, MEMORY, *names.code)) or f"{ANYWHERE}, {MEMORY}, or [LABEL, in LABEL]"
            raise item.error(f"'{text}' is no place in the text", hint)
        hidden = next((i for i in program if i.address in addresses and i.address not in shown), None)
        if hidden is not None:
            raise item.error(f"'{text}' has code that is not shown", f"let the hole raise it: holes.{hidden.hole}.may")
        found.append(addresses)
        words.append(text if how else f"at {text}")
    if not found:
        raise value.error("no place stands here", f"{ANYWHERE}, {MEMORY}, or labels")
    return Boundaries(program, name, places=tuple(found)), ", ".join(words)


def _count(value: Value) -> int | None:
    if value.is_plain and value.node.value == "any":
        return None
    if value.is_mapping or value.is_sequence or not value.node.value.lstrip("-").isdigit():
        raise value.error(f"{value.path} must be 'any' or a count")
    return value.integer(1, MAX_COUNT)


def _outermost(environment: Fields, events: tuple[str, ...], machine: MachineConfig) -> tuple[str, ...]:
    asynchronous = tuple(e for e in events if EVENTS[e].asynchronous)
    if "outermost" not in environment:
        if not asynchronous:
            hint = "add 'nmi: any', or list in 'outermost' what the interrupted context itself raises"
            raise environment["events"].error("no event can interrupt the first context", hint)
        return asynchronous
    items = environment["outermost"].items()
    if not items:
        raise environment["outermost"].error("no event can interrupt the first context")
    for item in items:
        _refuse_outside(item, item.choice(events, "event of environment.events"), machine)
    return tuple(dict.fromkeys(item.text() for item in items))


def _refuse_outside(item: Value, name: str, machine: MachineConfig) -> None:
    """SpecError for what an interrupted context cannot raise."""
    event, gate = EVENTS[name], machine.gate_of(name)
    if name not in RAISABLE and not event.asynchronous:
        raise item.error(f"an interrupted context does not raise {name}", "it comes of another fault's delivery")
    for context in machine.contexts:
        if event.saved_rf and not context.fixed.get("rf", 1):
            hint = f"leave rf out of 'fixed' of {context.name}"
            raise item.error(f"the frame of a fault has RF=1, and {context.name} has it 0", hint)
        if event.software and gate is not None and gate.dpl < context.cpl:
            hint = f"add 'dpl: {context.cpl}' to machine.idt.{name}"
            raise item.error(f"{name} of {context.name} needs a gate that CPL {context.cpl} may use", hint)


def check_stacks(environment: Fields, machine: MachineConfig, outermost: tuple[str, ...]) -> None:
    """SpecError if an event may strike user mode and neither its gate nor RSP0 gives it a stack."""
    if machine.rsp0 is not None or all(c.cpl == 0 for c in machine.contexts):
        return
    for gate in machine.gates.values():
        if gate.event in outermost and not gate.ist:
            message = f"{gate.event} may strike at CPL 3, and nothing says which stack it uses then"
            hint = f"give its gate a stack, or set machine.rsp0, or list 'outermost' without {gate.event}"
            raise SpecError(message, environment.whole.span, hint)
