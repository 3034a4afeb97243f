"""``machine.segments``: the descriptors of the GDT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from verifier.machine.config import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.spec.document import Fields, Value

#: name -> selector unless the spec says otherwise, kind, DPL, whether 64-bit code.
NAMED: dict[str, tuple[int, Literal["code", "data"], int, bool]] = {
    "kernel_cs": (0x10, "code", 0, True),
    "kernel_ss": (0x18, "data", 0, False),
    "user_cs": (0x33, "code", 3, True),
    "user_ss": (0x2B, "data", 3, False),
    "user32_cs": (0x23, "code", 3, False),
}
_OTHERS = "others"
#: What another descriptor can be -> kind, whether 64-bit code, whether it is writable data.
_KINDS: dict[str, tuple[Literal["code", "data"], bool, bool]] = {
    "data": ("data", False, True),
    "read_only_data": ("data", False, False),
    "code": ("code", True, True),
    "code32": ("code", False, True),
}
_LARGEST_LIMIT = (1 << 32) - 1
_PAGE = 1 << 12
#: The field has 20 bits, and counts bytes or pages (SDM vol. 3A, 3.4.5).
_FIELD = 1 << 20


def read_selectors(machine: Fields) -> dict[str, int]:
    """The selectors that have names. SpecError for one whose RPL does not fit, or two for one descriptor."""
    given = _given(machine)
    selectors: dict[str, int] = {}
    for name, (default, _, dpl, _) in NAMED.items():
        value = given[name] if given and name in given else None
        selector = value.integer(8, 0xFFFF) if value else default
        if value and selector & 7 != dpl:
            message = f"{name} must select the GDT with RPL {dpl}, {selector:#x} does not"
            raise value.error(message, f"write {selector & ~7 | dpl:#x}")
        taken = next((n for n, s in selectors.items() if s >> 3 == selector >> 3), None)
        if taken:
            where = value or machine["segments"]
            raise where.error(f"{name} and {taken} select the same descriptor ({selector & ~7:#x})")
        selectors[name] = selector
    return selectors


def read_segments(machine: Fields, selectors: Mapping[str, int]) -> dict[int, Segment]:
    """All descriptors by selector, RPL included: those of ``selectors``, then the others.

    SpecError for a selector that is no one's or taken, and for what a descriptor cannot be.
    """
    segments = {
        selectors[name]: Segment(selectors[name], kind, dpl, long) for name, (_, kind, dpl, long) in NAMED.items()
    }
    given = _given(machine)
    for key, value in given.entries(_OTHERS) if given else ():
        segment = _other(key, value)
        taken = next((s for s in segments if s >> 3 == segment.selector >> 3), None)
        if taken is not None:
            raise key.error(f"{key.node.value} selects the same descriptor as {taken:#x}")
        segments[segment.selector] = segment
    return segments


def _given(machine: Fields) -> Fields | None:
    return machine["segments"].fields((*NAMED, _OTHERS)) if "segments" in machine else None


def _other(key: Value, value: Value) -> Segment:
    """A descriptor whose DPL is the RPL of the selector that stands for it."""
    selector = key.integer(8, 0xFFFF)
    if selector & 4:
        raise key.error(f"{selector:#x} selects the LDT", "say 'ss: ldt' of a context for its selectors")
    fields = value.fields(("kind", "limit"), required=("kind",))
    kind, long, writable = _KINDS[fields["kind"].choice(_KINDS, "kind of segment")]
    if kind == "code" and not long and "limit" in fields:
        raise fields["limit"].error("32-bit code with a limit of its own is not modelled", "leave 'limit' out")
    limit = fields.get("limit", _limit, None)
    return Segment(selector, kind, selector & 3, long, limit, writable)


def _limit(value: Value) -> int:
    limit = value.integer(0, _LARGEST_LIMIT)
    if limit >= _FIELD and limit % _PAGE != _PAGE - 1:
        below = (limit + 1) // _PAGE * _PAGE - 1
        raise value.error(f"no descriptor has the limit {limit:#x}", f"the next one below is {below:#x}")
    return limit
