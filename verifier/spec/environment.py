"""Who is interrupted, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from verifier.errors import nearest
from verifier.ir.cells import CELLS
from verifier.machine.config import Context
from verifier.spec.memory import INTERRUPTED

if TYPE_CHECKING:
    from verifier.spec.document import Fields, Value

#: What code between two events does not have set, unless the spec frees it.
FIXED_BY_DEFAULT = {"iopl": 0, "vm": 0, "nt": 0, "vif": 0, "vip": 0}
_CPL = {"user": 3, "kernel": 0}
#: Stands for any selector with TI=1 and RPL 3.
_LDT_SELECTOR = 7
_GS_BASES = ("kernel", "user", "user_lower_half")
#: Cells that a context says by a key of its own; ``inhibit`` is never set before the first event.
_OWN_KEY = {"cs": "cs", "ss": "ss", "cpl": "cpl", "gs_base": "gs", "kernel_gs_base": "gs", "rsp": "stack"}


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
    own: Literal["kernel", "user"] = "kernel" if cpl == 0 else "user"
    side: str = own
    cs, ss, stack = selectors[f"{side}_cs"], selectors[f"{side}_ss"], INTERRUPTED if cpl == 0 else None
    if fields is None:
        return Context(name, cpl, cs, ss, own, stack, dict(FIXED_BY_DEFAULT))
    stack = fields.get("stack", lambda v: _stack(v, cpl), stack)
    ldt = tuple(x for x in ("cs", "ss") if x in fields and _is_ldt(fields[x], cpl))
    gs = fields.get("gs", lambda v: v.choice(_GS_BASES, "GS base"), side)
    return Context(
        name,
        cpl,
        fields.get("cs", lambda v: _selector(v, cpl, null=False), cs) if "cs" not in ldt else _LDT_SELECTOR,
        fields.get("ss", lambda v: _selector(v, cpl, null=cpl == 0), ss) if "ss" not in ldt else _LDT_SELECTOR,
        "kernel" if gs == "kernel" else "user",
        stack,
        _fixed(fields),
        ldt,
        gs == "user_lower_half",
    )


def _is_ldt(value: Value, cpl: int) -> bool:
    if not value.is_plain or value.node.value != "ldt":
        return False
    if cpl != 3:
        raise value.error("only code at CPL 3 has segments of the LDT", "give the selector")
    return True


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
