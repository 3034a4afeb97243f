"""Who is interrupted, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from verifier.errors import SpecError, nearest
from verifier.ir.cells import CELLS
from verifier.machine.config import Context, MachineConfig
from verifier.machine.events import EVENTS
from verifier.spec.memory import INTERRUPTED
from verifier.spec.model import Environment

if TYPE_CHECKING:
    from verifier.spec.document import Fields, Value
    from verifier.spec.names import Names

#: What code between two events does not have set, unless the spec frees it.
FIXED_BY_DEFAULT = {"iopl": 0, "vm": 0, "nt": 0, "vif": 0, "vip": 0}
_CPL = {"user": 3, "kernel": 0}
#: Cells that a context says by a key of its own; ``inhibit`` is never set before the first event.
_OWN_KEY = {"cs": "cs", "ss": "ss", "cpl": "cpl", "gs_base": "gs", "kernel_gs_base": "gs", "rsp": "stack"}
MAX_COUNT = 1000


def read_contexts(environment: Fields, selectors: Mapping[str, int]) -> tuple[Context, ...]:
    """The contexts that the first event may interrupt. SpecError for none, or two of one name."""
    contexts: dict[str, Context] = {}
    for item in environment["interrupted"].items():
        key, changes = _named(item)
        name = key.identifier("a context's name")
        if name in contexts:
            raise key.error(f"the context '{name}' stands here twice")
        contexts[name] = _context(key, name, changes, selectors)
    if not contexts:
        raise environment["interrupted"].error("no context can be interrupted", "[user, kernel]")
    return tuple(contexts.values())


def _named(item: Value) -> tuple[Value, Value | None]:
    """``user``, or ``user: {gs: user}``."""
    if not item.is_mapping:
        return item, None
    entries = item.entries()
    if len(entries) != 1:
        raise item.error("one context per item", "write '- user: {gs: user}'")
    return entries[0]


def _context(key: Value, name: str, changes: Value | None, selectors: Mapping[str, int]) -> Context:
    fields = changes.fields(("cpl", "cs", "ss", "gs", "stack", "fixed")) if changes else None
    cpl = _CPL.get(name)
    if fields and "cpl" in fields:
        cpl = fields["cpl"].integer(0, 3)
        if cpl not in (0, 3):
            raise fields["cpl"].error(f"contexts run at CPL 0 or 3, not {cpl}")
    if cpl is None:
        hint = nearest(name, _CPL) or f"write '- {name}: {{cpl: 0}}'"
        raise key.error(f"nothing says at which CPL '{name}' runs", hint)
    side = "kernel" if cpl == 0 else "user"
    cs, ss, stack = selectors[f"{side}_cs"], selectors[f"{side}_ss"], INTERRUPTED if cpl == 0 else None
    if fields is None:
        return Context(name, cpl, cs, ss, "kernel", stack, dict(FIXED_BY_DEFAULT))
    stack = fields.get("stack", lambda v: _stack(v, cpl), stack)
    gs = fields.get("gs", lambda v: v.choice(("kernel", "user"), "GS base"), "kernel")
    return Context(
        name,
        cpl,
        fields.get("cs", lambda v: _selector(v, cpl, null=False), cs),
        fields.get("ss", lambda v: _selector(v, cpl, null=cpl == 0), ss),
        cast("Literal['kernel', 'user']", gs),
        stack,
        _fixed(fields),
    )


def _selector(value: Value, cpl: int, *, null: bool) -> int:
    selector = value.integer(0 if null else 4, 0xFFFF)
    if selector & 3 != cpl:
        raise value.error(f"{value.path} must have RPL {cpl}, {selector:#x} has {selector & 3}")
    return selector


def _stack(value: Value, cpl: int) -> str | None:
    name = value.choice((INTERRUPTED, "none"), "stack of an interrupted context")
    if name != "none" and cpl == 3:
        raise value.error("a user context's RSP is arbitrary", "leave 'stack' out")
    return None if name == "none" else name


def _fixed(fields: Fields) -> dict[str, int]:
    fixed = dict(FIXED_BY_DEFAULT)
    for key, value in fields.entries("fixed"):
        cell = key.choice((c for c in CELLS if c != "inhibit"), "register or flag")
        if cell in _OWN_KEY:
            raise key.error(f"'{cell}' is not fixed here", f"use the key '{_OWN_KEY[cell]}' of the context")
        if value.is_plain and value.node.value == "any":
            fixed.pop(cell, None)
        else:
            fixed[cell] = value.integer(0, (1 << CELLS[cell]) - 1)
    return fixed


def read_environment(environment: Fields, machine: MachineConfig, names: Names) -> Environment:
    """Events with their counts. SpecError for an event that cannot happen or has no gate."""
    events: dict[str, int | None] = {}
    contracts = machine.contracts
    for key, value in environment["events"].entries():
        name = key.choice(EVENTS, "event")
        if not EVENTS[name].asynchronous and not any(name in c.may_raise for c in contracts.values()):
            hint = f"let a hole raise it (may: [{name}]); faults of the text's own instructions always strike"
            raise key.error(f"nothing can raise {name}", hint)
        if machine.gate_of(name) is None:
            label = next((label for label in names.code if name in label), "…")
            hint = f"add '{name}: {{entry: {label}, gate: interrupt}}' to machine.idt"
            raise key.error(f"the event {name} has no gate", hint)
        events[name] = _count(value)
    for contract in contracts.values():
        for name in contract.may_raise:
            if name not in events:
                message = f"the hole {contract.name} may raise {name}, which is missing here"
                raise environment["events"].error(message, f"add '{name}: any'")
    return Environment(events, _outermost(environment, events))


def _count(value: Value) -> int | None:
    if value.is_plain and value.node.value == "any":
        return None
    if value.is_mapping or value.is_sequence or not value.node.value.lstrip("-").isdigit():
        raise value.error(f"{value.path} must be 'any' or a count")
    return value.integer(1, MAX_COUNT)


def _outermost(environment: Fields, events: Mapping[str, int | None]) -> tuple[str, ...]:
    asynchronous = tuple(e for e in events if EVENTS[e].asynchronous)
    if "outermost" not in environment:
        if not asynchronous:
            raise environment["events"].error("no event can interrupt the first context", "add 'nmi: any'")
        return asynchronous
    items = environment["outermost"].items()
    if not items:
        raise environment["outermost"].error("no event can interrupt the first context")
    return tuple(dict.fromkeys(v.choice(asynchronous, "asynchronous event") for v in items))


def check_stacks(environment: Fields, machine: MachineConfig, outermost: tuple[str, ...]) -> None:
    """SpecError if an event may strike user mode and neither its gate nor RSP0 gives it a stack."""
    if machine.rsp0 is not None or all(c.cpl == 0 for c in machine.contexts):
        return
    for gate in machine.gates.values():
        if gate.event in outermost and gate.stack is None:
            message = f"{gate.event} may strike at CPL 3, and nothing says which stack it uses then"
            hint = f"give its gate a stack, or set machine.rsp0, or list 'outermost' without {gate.event}"
            raise SpecError(message, environment.whole.span, hint)
