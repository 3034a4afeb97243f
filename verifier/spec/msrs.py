"""``machine.msrs``: the model-specific registers that RDMSR and WRMSR reach besides the bases of FS and GS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.machine.config import MSR_ADDRESS, MSR_CELLS, MSRS, Datum, Region, msr_name
from verifier.spec.memory import Declared
from verifier.spec.names import DataName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.spec.document import Fields

_LAST = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Registers:
    """The region that holds them (none if there are none), and what was declared, as data of it."""

    regions: dict[str, Region]
    declared: tuple[Declared, ...]
    names: dict[str, DataName]


def read_msrs(machine: Fields, taken: Iterable[str], regions: Iterable[str]) -> Registers:
    """By number. SpecError for one that is a register of its own, and for one that stands there twice.

    ``taken``: the names of other data; ``regions``: those of other regions.
    """
    declared: dict[str, Declared] = {}
    for key, value in machine.entries("msrs"):
        number = key.integer(0, _LAST)
        name = msr_name(number)
        if number in MSR_CELLS:
            raise key.error(f"{number:#x} is {MSR_CELLS[number]}, a register of its own", "leave it out")
        if name in declared or name in taken:
            raise key.error(f"'{name}' is the name of something else", "each register stands here once")
        fields = value.fields(("initially",))
        offset = 8 * len(declared)
        declared[name] = Declared(key, name, 8, offset, fields.found.get("initially"), percpu=False, placed=True)
    if not declared:
        return Registers({}, (), {})
    if MSRS in regions:
        raise machine["msrs"].error(f"'{MSRS}' is the name of a stack or of data", "choose another name there")
    data = tuple(Datum(name, item.address, 8) for name, item in declared.items())
    region = Region(MSRS, "msr", 8 * len(data), MSR_ADDRESS, 8, data)
    places = {name: DataName(item.address, 8, percpu=False, region=MSRS) for name, item in declared.items()}
    return Registers({MSRS: region}, tuple(declared.values()), places)
