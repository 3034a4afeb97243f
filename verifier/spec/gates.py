"""IDT gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from verifier.errors import nearest
from verifier.machine.config import MSRS, Gate, Region
from verifier.machine.events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.spec.document import Fields, Value
    from verifier.spec.names import Names

IRQ_VECTOR = 0x20

#: Faults that code can raise by itself: everything that does not come from outside, but for aborts.
RAISABLE = tuple(e.name for e in EVENTS.values() if not e.asynchronous and e.name != "double_fault")


def code_label(value: Value, names: Names) -> int:
    """The address of a label that an instruction stands at. SpecError with the nearest label."""
    word = value.text("a label")
    if word not in names.code:
        known = "stands at no instruction" if word in names.symbols else "does not exist"
        raise value.error(f"the label '{word}' {known}", nearest(word, names.code))
    return names.code[word]


def read_gates(machine: Fields, names: Names, regions: Mapping[str, Region]) -> dict[int, Gate]:
    """The IDT by vector."""
    gates: dict[int, Gate] = {}
    for key, value in machine.entries("idt"):
        gate = _gate(key, value, names, regions)
        if gate.vector in gates:
            raise key.error(f"vector {gate.vector} has a gate already, for {gates[gate.vector].event}")
        gates[gate.vector] = gate
    return gates


def is_hidden(value: Value) -> bool:
    """Whether a gate leads to a handler that only a contract describes."""
    return value.is_mapping and any(k.node.value == "contract" for k, _ in value.entries())


def handler_label(key: Value, value: Value) -> str:
    """The label of a handler that is not shown: its ``name``, or the event's name and ``_handler``."""
    given = next((v for k, v in value.entries() if k.node.value == "name"), None)
    return given.identifier("a handler's name") if given is not None else f"{key.node.value}_handler"


def _gate(key: Value, value: Value, names: Names, regions: Mapping[str, Region]) -> Gate:
    event = key.choice(EVENTS, "event")
    hidden = is_hidden(value)
    handler = ("contract", "name") if hidden else ("entry",)
    fields = value.fields((*handler, "gate", "stack", "vector", "dpl"), required=(handler[0], "gate"))
    entry = names.code[handler_label(key, value)] if hidden else code_label(fields["entry"], names)
    vector = EVENTS[event].vector
    if vector is None:
        vector = fields.get("vector", lambda v: v.integer(32, 255), IRQ_VECTOR)
    elif "vector" in fields and fields["vector"].integer(0, 255) != vector:
        raise fields["vector"].error(f"the vector of {event} is {vector}", "leave 'vector' out")
    kind = cast("Literal['interrupt', 'trap']", fields["gate"].choice(("interrupt", "trap"), "kind of gate"))
    slotted = "stack" in fields and fields["stack"].is_mapping
    stack = fields.get("stack", lambda v: stack_name(v, regions), None) if not slotted else None
    slot = _slot(fields["stack"], names) if slotted else None
    dpl = fields.get("dpl", lambda v: v.integer(0, 3), 0)
    return Gate(vector, event, entry, kind, stack, dpl, slot)


def _slot(value: Value, names: Names) -> str:
    """``{slot: DATUM}``: where the processor reads RSP at each delivery."""
    item = value.fields(("slot",), required=("slot",))["slot"]
    name = item.choice(names.data, "name of data")
    if names.data[name].size != 8:
        raise item.error(f"'{name}' has {names.data[name].size} bytes: an IST slot has 8")
    if names.data[name].region == MSRS:
        raise item.error(f"'{name}' is no memory", "name a datum of machine.percpu, machine.data or a stack")
    return name


def stack_name(value: Value, regions: Mapping[str, Region]) -> str:
    """The name of a region of ``machine.stacks``."""
    return value.choice((r.name for r in regions.values() if r.kind == "stack"), "stack")
