"""Sections while they are being filled: a list of items whose sizes may still change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm.program import is_percpu
from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.encode import Form
    from verifier.asm.expression import Node
    from verifier.asm.operands import Written
    from verifier.source import Span


@dataclass(slots=True, eq=False)
class Item:
    """Something that takes ``size`` bytes at ``offset`` of its section; both are final after relaxation."""

    span: Span
    size: int = 0
    offset: int = 0


@dataclass(slots=True, eq=False)
class Bytes(Item):
    data: bytes = b""


@dataclass(slots=True, eq=False)
class Datum(Item):
    """An integer of ``size`` bytes, little endian."""

    node: Node = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Code(Item):
    """An instruction; ``sizes`` has two lengths if it is a jump that may be short or near."""

    form: Form = field(kw_only=True)
    operands: tuple[Written, ...] = field(kw_only=True)
    indirect: bool = field(kw_only=True)
    text: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Hole(Item):
    """One of the two nominal bytes of a ``...``: ``kind`` is ``hole_enter`` or ``hole_body``."""

    kind: str = field(kw_only=True)
    name: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Pad(Item):
    """Alignment to ``alignment`` bytes unless that takes more than ``limit``; ``fill`` None: nops."""

    alignment: int = field(kw_only=True)
    limit: int = field(kw_only=True)
    fill: int | None = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Org(Item):
    node: Node = field(kw_only=True)
    fill: int = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Fill(Item):
    """``unit`` repeated ``node`` times."""

    node: Node = field(kw_only=True)
    unit: bytes = field(kw_only=True)
    known: bool = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Before item ``index`` of a section.

    Two places with the same ``epoch`` have only items of known size between them: their distance is the
    difference of ``fixed``, whatever relaxation does.
    """

    section: SectionBuilder
    index: int
    epoch: int
    fixed: int

    @property
    def offset(self) -> int:
        """The offset in the section, as far as relaxation has got."""
        items = self.section.items
        return items[self.index].offset if self.index < len(items) else self.section.size


@dataclass(slots=True, eq=False)
class SectionBuilder:
    """A section. ``percpu`` sections hold offsets from a per-CPU base: they are laid out from address 0.

    ``label`` is the name that a hole goes by here; ``hole_open``: another ``...`` continues the last one.
    """

    name: str
    executable: bool
    writable: bool
    allocated: bool
    nobits: bool
    alignment: int = 1
    items: list[Item] = field(default_factory=list)
    size: int = 0
    address: int = 0
    epoch: int = 0
    fixed: int = 0
    label: str | None = None
    hole_open: bool = False

    @property
    def percpu(self) -> bool:
        return is_percpu(self.name)

    def here(self) -> Place:
        return Place(self, len(self.items), self.epoch, self.fixed)

    def add(self, item: Item, variable: bool = False) -> None:
        """``variable``: the size may change in relaxation."""
        self.items.append(item)
        if variable:
            self.epoch += 1
            self.fixed = 0
        else:
            self.fixed += item.size


#: name prefix -> flags that GNU as gives a section without flags of its own
_KNOWN = (
    (".text", "ax"), (".init", "ax"), (".fini", "ax"), (".data", "aw"), (".bss", "aw"), (".rodata", "a"),
    (".tdata", "awT"), (".tbss", "awT"), (".init_array", "aw"), (".fini_array", "aw"),
)  # fmt: skip
_FLAGS = frozenset("awxdeoGlMSTR?")


def new_section(name: str, flags: str | None, kind: str | None, span: Span | None) -> SectionBuilder:
    """A section with the flags and type written, or those its name implies; `AsmError` for unknown ones."""
    if flags is None:
        flags = next((f for n, f in reversed(_KNOWN) if name == n or name.startswith(n + ".")), "")
    if unknown := set(flags) - _FLAGS:
        raise AsmError(
            f"unknown section flag '{min(unknown)}'", span, "a: allocated, w: writable, x: executable"
        )
    nobits = kind == "nobits" or (kind is None and (name == ".bss" or name.startswith(".bss.")))
    return SectionBuilder(name, {"a", "x"} <= set(flags), "w" in flags, "a" in flags, nobits)
