"""Data that are a part of other data, such as one field of a structure that the program defines: ``{of: NAME}``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.spec.memory import MAX_SIZE, Declared, is_member
from verifier.spec.names import DataName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from verifier.spec.document import Fields, Value


@dataclass(frozen=True, slots=True)
class Member:
    """``declared.address`` counts from where ``of`` begins."""

    declared: Declared
    of: Value


def read_members(machine: Fields) -> tuple[Member, ...]:
    """Those of ``machine.percpu`` and ``machine.data``."""
    return tuple(_members(machine, "percpu", percpu=True)) + tuple(_members(machine, "data", percpu=False))


def _members(machine: Fields, part: str, *, percpu: bool) -> Iterator[Member]:
    for key, value in machine.entries(part):
        if is_member(value):
            fields = value.fields(("of", "offset", "size", "initially"), required=("of", "size"))
            offset = fields.get("offset", lambda v: v.integer(0, MAX_SIZE), 0)
            size, name = fields["size"].integer(1, MAX_SIZE), key.identifier("a data name")
            declared = Declared(key, name, size, offset, fields.found.get("initially"), percpu, placed=True)
            yield Member(declared, fields["of"])


def place_members(
    members: Iterable[Member], data: Mapping[str, DataName], symbols: Iterable[str]
) -> dict[str, DataName]:
    """Where they lie. SpecError for a name that means something else, and for what ends outside of the whole."""
    taken, found = {*data, *symbols}, {}
    for member in members:
        item = member.declared
        if item.name in taken:
            raise item.key.error(f"'{item.name}' is the name of something else", "choose another name")
        whole = data[member.of.choice((n for n, d in data.items() if d.percpu == item.percpu), "datum")]
        if item.address + item.size > whole.size:
            raise item.key.error(f"'{item.name}' ends behind '{member.of.text()}', which has {whole.size} bytes")
        taken.add(item.name)
        found[item.name] = DataName(whole.address + item.address, item.size, item.percpu)
    return found
