"""The stacks of the machine, and the data that live at fixed places of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.machine.config import Datum, Region
from verifier.spec.memory import INTERRUPTED, MAX_SIZE, Declared
from verifier.spec.names import PERCPU, DataName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.asm.program import Program
    from verifier.spec.document import Fields, Value

#: The largest alignment of a stack, in bytes.
_PAGES = 1 << 16


@dataclass(frozen=True, slots=True)
class Stacks:
    """The regions, and the data in them: what was declared, and the places, by name."""

    regions: dict[str, Region]
    declared: tuple[Declared, ...]
    names: dict[str, DataName]


@dataclass(frozen=True, slots=True)
class _Item:
    declared: Declared
    place: DataName

    @property
    def datum(self) -> Datum:
        return Datum(self.declared.name, self.place.address, self.place.size)


def read_stacks(machine: Fields, taken: Mapping[str, DataName], program: Program) -> Stacks:
    """``machine.stacks`` and ``machine.interrupted_stack``. ``taken``: the names of other data."""
    regions: dict[str, Region] = {}
    found: list[_Item] = []
    others = {*taken, *program.symbols, PERCPU, INTERRUPTED, *(key.text() for key, _ in machine.entries("stacks"))}
    for key, value in machine.entries("stacks"):
        name = key.identifier("a stack's name", dots=False)
        if name in (PERCPU, INTERRUPTED):
            raise key.error(f"'{name}' is the name of another region", "choose another name")
        fields = value.fields(("size", "alignment", "data"), required=("size",))
        size = fields["size"].integer(64, MAX_SIZE, 16)
        alignment = fields.get("alignment", lambda v: _power_of_two(v, 16, _PAGES), 16)
        inside: list[_Item] = []
        for inner, place in fields.entries("data"):
            item = _item(inner, place, name, size)
            if item.declared.name in others:
                raise inner.error(f"'{item.declared.name}' is the name of something else", "choose another name")
            _refuse_overlap(item, inside)
            others.add(item.declared.name)
            inside.append(item)
        data = sorted((i.datum for i in inside), key=lambda d: d.offset)
        regions[name] = Region(name, "stack", size, alignment=alignment, data=tuple(data))
        found += inside
    regions[INTERRUPTED] = _interrupted(machine)
    return Stacks(regions, tuple(i.declared for i in found), {i.declared.name: i.place for i in found})


def _interrupted(machine: Fields) -> Region:
    size, alignment = 4096, 8
    if "interrupted_stack" in machine:
        fields = machine["interrupted_stack"].fields(("size", "alignment"))
        size = fields.get("size", lambda v: v.integer(512, MAX_SIZE, 16), size)
        alignment = fields.get("alignment", lambda v: _power_of_two(v, 1, 16), alignment)
    return Region(INTERRUPTED, "interrupted", size, alignment=alignment)


def _item(key: Value, value: Value, stack: str, stack_size: int) -> _Item:
    """One entry of ``data``: so many bytes below the top of the stack."""
    name = key.identifier("a data name")
    fields = value.fields(("from_top", "size", "initially"), required=("from_top",))
    from_top = fields["from_top"].integer(1, stack_size)
    size = fields.get("size", lambda v: v.integer(1, from_top), min(8, from_top))
    offset = stack_size - from_top
    declared = Declared(key, name, size, offset, fields.found.get("initially"), percpu=False, placed=True)
    return _Item(declared, DataName(offset, size, percpu=False, region=stack))


def _refuse_overlap(item: _Item, others: Iterable[_Item]) -> None:
    place = item.place
    for other in others:
        start, end = other.place.address, other.place.address + other.place.size
        if place.address < end and start < place.address + place.size:
            raise item.declared.key.error(f"'{item.declared.name}' overlaps '{other.declared.name}'")


def _power_of_two(value: Value, low: int, high: int) -> int:
    number = value.integer(low, high)
    if number & (number - 1):
        raise value.error(f"{value.path} must be a power of two, not {number}")
    return number
