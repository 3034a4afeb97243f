"""The memory of the machine: stacks, per-CPU and other named data, and the program's own data sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from verifier.asm.program import is_percpu
from verifier.machine.config import Datum, Pointer, Region
from verifier.spec.among_code import code_around, datum_among_code, region_among_code
from verifier.spec.document import Value, integer_from
from verifier.spec.expression import Binary, Expression, Number, RegionRef, Unary
from verifier.spec.grammar import parse
from verifier.spec.names import PERCPU, DataName, Names
from verifier.spec.operands import Scope, signed
from verifier.spec.positions import locator
from verifier.spec.sources import KERNEL_HALF

if TYPE_CHECKING:
    from verifier.asm.program import Program, Section
    from verifier.spec.document import Fields

MAX_SIZE = 16 << 20
INTERRUPTED = "interrupted_stack"
#: Named data stand this far above the text, each in a stretch of its own with a gap before the next.
DATA_DISTANCE = 1 << 28
_GAP = 64


@dataclass(frozen=True, slots=True)
class Declared:
    """One entry of ``percpu`` or ``data``; ``address`` is an offset for the former. ``size`` 0: not given.

    ``placed``: the specification itself gives the address or offset.
    """

    key: Value
    name: str
    size: int
    address: int
    initially: Value | None
    percpu: bool
    placed: bool


def natural_alignment(size: int) -> int:
    """The largest power of two that divides the size, at most 16."""
    return min(16, size & -size) if size else 1


def declare(machine: Fields, text_base: int) -> tuple[Declared, ...]:
    """The declared names, placed in order, but for those that are a part of others. SpecError for a size that is none
    or a name given twice."""
    items = [_declared(key, value, percpu=True, address=0) for key, value in _wholes(machine, "percpu")]
    found = {item.name: item for item in _in_order(items, 0)}
    address = text_base + DATA_DISTANCE
    for key, value in _wholes(machine, "data"):
        item = _declared(key, value, percpu=False, address=address)
        if item.name in found:
            raise key.error(f"'{item.name}' is a per-CPU name already")
        found[item.name] = item
        if not item.placed:
            address += -(-(item.size + _GAP) // _GAP) * _GAP
    return tuple(found.values())


def is_member(value: Value) -> bool:
    """Whether an entry says of what it is a part (`verifier.spec.members`)."""
    return value.is_mapping and any(k.node.value == "of" for k, _ in value.entries())


def _wholes(machine: Fields, part: str) -> Iterator[tuple[Value, Value]]:
    return ((key, value) for key, value in machine.entries(part) if not is_member(value))


def _declared(key: Value, value: Value, *, percpu: bool, address: int) -> Declared:
    where = "offset" if percpu else "address"
    low, high = (0, MAX_SIZE) if percpu else (KERNEL_HALF, (1 << 64) - MAX_SIZE)
    fields = value.fields(("size", "initially", where))
    size = fields.get("size", lambda v: v.integer(1, MAX_SIZE), 0)
    place = fields.get(where, lambda v: v.integer(low, high), address)
    initially = fields.found.get("initially")
    return Declared(
        key, key.identifier("a data name"), size, place, initially, percpu, placed=where in fields
    )


def _in_order(items: Iterable[Declared], offset: int) -> list[Declared]:
    """Per-CPU names, each behind the one before it or where it says. SpecError for two in one place."""
    found: list[Declared] = []
    for given in items:
        alignment = natural_alignment(given.size)
        item = given if given.placed else replace(given, address=-(-offset // alignment) * alignment)
        other = next((o for o in found if _overlap(o, item)), None)
        if other is not None:
            raise item.key.error(f"'{item.name}' overlaps '{other.name}' (at offset {other.address:#x})")
        found.append(item)
        offset = item.address + item.size
    return found


def _overlap(one: Declared, other: Declared) -> bool:
    return one.address < other.address + other.size and other.address < one.address + one.size


def in_percpu(program: Program, name: str) -> bool:
    """Whether the text itself defines the name in a per-CPU section."""
    symbol = program.symbols.get(name)
    return symbol is not None and is_percpu(symbol.section)


def percpu_origin(program: Program) -> int:
    """What the addresses of per-CPU data count from: where the program's own begin, and 0 without them."""
    return min((s.address for s in program.sections if is_percpu(s.name) and s.data), default=0)


def moved_behind_text(declared: Iterable[Declared], program: Program) -> tuple[Declared, ...]:
    """The per-CPU names that the text does not define, placed behind those that it does."""
    end = max((s.end for s in program.sections if is_percpu(s.name)), default=0)
    own = [item for item in declared if item.percpu and not in_percpu(program, item.name)]
    for item in own:
        if item.placed and item.address < end:
            raise item.key.error(f"'{item.name}' overlaps the program's per-CPU data ({end} bytes)")
    moved = {item.name: item for item in _in_order(own, end)}
    return tuple(moved.get(item.name, item) for item in declared)


def placed(declared: Iterable[Declared], program: Program) -> dict[str, DataName]:
    """Every datum's place and size: as declared, or as the text defines it.

    SpecError where the two disagree, where neither gives a size, and where the text defines the name as
    something else.
    """
    names: dict[str, DataName] = {}
    for section in program.sections:
        if not section.executable:
            percpu = is_percpu(section.name)
            sizes = _sizes(program, section)
            names |= {name: DataName(a, size, percpu) for name, (a, size) in sizes.items()}
    for item in declared:
        symbol = program.symbols.get(item.name)
        around = code_around(program, item.name)
        if around is not None:
            names[item.name] = datum_among_code(item, around, program)
        elif symbol is None or symbol.section is None:
            if not item.size:
                raise item.key.error(f"'{item.name}' has no size", f"add 'size: 8' to {item.key.path}")
            names[item.name] = DataName(item.address, item.size, item.percpu)
        else:
            names[item.name] = _agreed(item, names.get(item.name), symbol.size)
    return names


def _agreed(item: Declared, place: DataName | None, stated_size: int) -> DataName:
    """The declaration of a name that the text defines too."""
    if place is None or place.percpu != item.percpu:
        kind = "per-CPU datum" if item.percpu else "datum outside the per-CPU sections"
        raise item.key.error(f"the program defines '{item.name}', but not as a {kind}")
    if item.placed:
        key = "offset" if item.percpu else "address"
        raise item.key.error(f"the program places '{item.name}'", f"leave '{key}' out")
    if item.size and (item.size > place.size or (stated_size and item.size != stated_size)):
        message = f"'{item.name}' has {place.size} bytes in the program, {item.size} here"
        raise item.key.error(message, "leave 'size' out: the program gives it")
    return replace(place, size=item.size or place.size)


def _sizes(program: Program, section: Section) -> dict[str, tuple[int, int]]:
    """Address and size of each symbol in a section: its ``.size``, or up to the next symbol.

    A linker's own symbols may be of a section and lie elsewhere.
    """
    own = (s for s in program.symbols.values() if s.section == section.name and not s.defined_by_set)
    symbols = [s for s in own if section.address <= s.value < section.end and s.size <= section.end - s.value]
    edges = sorted({s.value for s in symbols} | {section.end})
    after = dict(pairwise(edges))
    sizes = {s.name: (s.value, s.size or after.get(s.value, s.value) - s.value) for s in symbols}
    return {name: place for name, place in sizes.items() if place[1]}


def data_regions(
    declared: Iterable[Declared], names: Mapping[str, DataName], program: Program
) -> dict[str, Region]:
    """The per-CPU region, one per declared datum, one per data section; nothing ``initially`` yet.

    SpecError for two that overlap, or of one name.
    """
    regions = {}
    percpu = {n: d for n, d in names.items() if d.percpu}
    if percpu:
        origin = percpu_origin(program)
        size = max(d.address + d.size for d in percpu.values()) - origin
        regions[PERCPU] = Region(PERCPU, "percpu", size, data=_data(percpu, origin))
    for section in program.sections:
        if not section.executable and section.data and not is_percpu(section.name):
            regions[section.name] = _section_region(section, names)
    for item in declared:
        symbol = program.symbols.get(item.name)
        around = code_around(program, item.name)
        if around is not None:
            regions[item.name] = region_among_code(item.name, names[item.name], around)
        elif not item.percpu and (symbol is None or symbol.section is None):
            if item.name in regions:
                raise item.key.error(f"'{item.name}' is the name of another region", "choose another name")
            data = _data(_within(names, item.address, item.address + item.size), item.address)
            regions[item.name] = Region(item.name, "data", item.size, item.address, 1, data)
    _refuse_overlaps(declared, regions, program)
    return regions


def together(machine: Fields, stacks: dict[str, Region], data: dict[str, Region]) -> dict[str, Region]:
    """All regions. SpecError for a stack that has the name of data."""
    for name in stacks:
        if name in data:
            where = machine.found.get("stacks", machine.whole)
            raise where.error(f"'{name}' names a stack and data", "choose another name for the stack")
    return stacks | data


def _data(names: Mapping[str, DataName], base: int) -> tuple[Datum, ...]:
    data = [Datum(name, d.address - base, d.size) for name, d in names.items()]
    return tuple(sorted(data, key=lambda d: (d.offset, d.name)))


def _within(names: Mapping[str, DataName], start: int, end: int) -> dict[str, DataName]:
    return {n: d for n, d in names.items() if not d.percpu and start <= d.address < end}


def _section_region(section: Section, names: Mapping[str, DataName]) -> Region:
    contents = b"" if section.writable else section.data
    size, data = len(section.data), _data(_within(names, section.address, section.end), section.address)
    return Region(section.name, "data", size, section.address, 1, data, section.writable, contents)


def _refuse_overlaps(declared: Iterable[Declared], regions: Mapping[str, Region], program: Program) -> None:
    taken = [(r.address, r.address + r.size, r.name) for r in regions.values() if r.address is not None]
    taken += [(s.address, s.end, s.name) for s in program.sections if s.executable and s.data]
    for item in declared:
        for start, end, name in taken:
            if (
                not item.percpu
                and name != item.name
                and code_around(program, item.name) is None
                and start < item.address + item.size
                and item.address < end
            ):
                raise item.key.error(f"'{item.name}' overlaps '{name}' ({start:#x}..{end:#x})")


def with_initial_values(
    regions: Mapping[str, Region], declared: Sequence[Declared], names: Names
) -> dict[str, Region]:
    """The regions with every ``initially`` filled in."""
    values = {d.name: _initial(d, regions, names) for d in declared if d.initially is not None}
    filled = {}
    for name, region in regions.items():
        data = tuple(replace(d, initially=values.get(d.name)) for d in region.data)
        filled[name] = replace(region, data=data)
    for item in declared:
        if item.name in values and not item.percpu:
            _refuse_read_only(item, filled)
    _refuse_two_values({d.name: d.key for d in declared}, filled)
    return filled


def _refuse_two_values(keys: Mapping[str, Value], regions: Mapping[str, Region]) -> None:
    """Data may overlap where one is a part of another, but only one of them says what lies there."""
    for region in regions.values():
        known = sorted((d for d in region.data if d.initially is not None), key=lambda d: d.offset)
        for one, other in pairwise(known):
            if other.offset < one.offset + one.size:
                raise keys[other.name].error(f"'{other.name}' and '{one.name}' say what lies at one place")


def _refuse_read_only(item: Declared, regions: Mapping[str, Region]) -> None:
    for region in regions.values():
        if not region.writable and any(d.name == item.name for d in region.data):
            raise item.key.error(f"'{item.name}' lies in the read-only section {region.name}")


def _initial(item: Declared, regions: Mapping[str, Region], names: Names) -> int | Pointer:
    value = item.initially
    assert value is not None
    size = names.data[item.name].size
    if size not in (1, 2, 4, 8):
        message = f"'{item.name}' has {size} bytes: only 1, 2, 4 or 8 can have a value"
        raise value.error(message, "leave 'initially' out: it is arbitrary then")
    number = integer_from(value.text("an integer, a label or a region's edge"))
    if value.is_plain and number is not None:
        bits = 8 * size
        return value.integer(-(1 << bits - 1), (1 << bits) - 1) & ((1 << bits) - 1)
    if size != 8:
        raise value.error(f"'{item.name}' has {size} bytes: an address has 8")
    result = _constant(parse(value.text(), Scope(names, locator(value))), regions)
    if result is None:
        raise value.error("not a constant", "an integer, $label, stack.top - 16")
    return result


_Combine = Callable[[int, int], int]
_SIGNS: dict[str, _Combine] = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}


def _constant(expression: Expression, regions: Mapping[str, Region]) -> int | Pointer | None:
    """An address known before the run: a number, or a place in a region."""
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, RegionRef):
        region = regions[expression.region]
        return Pointer(region.name, region.size if expression.edge == "top" else 0)
    if isinstance(expression, Unary) and expression.op == "-" and isinstance(expression.operand, Number):
        return -expression.operand.value & ((1 << 64) - 1)
    if isinstance(expression, Binary) and expression.op in _SIGNS and isinstance(expression.right, Number):
        left, combine = _constant(expression.left, regions), _SIGNS[expression.op]
        if isinstance(left, Pointer):
            return Pointer(left.region, combine(left.offset, signed(expression.right.value)))
        if left is not None:
            return combine(left, expression.right.value) & ((1 << 64) - 1)
    return None
