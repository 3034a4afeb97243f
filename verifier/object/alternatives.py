"""Code that Linux and Xen replace while they boot, by the processor's features (``.altinstructions``).

Its table has an entry for each replacement: where, by what, for which feature. The layout has changed over the years;
the sizes of entries tell which one it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import iced_x86 as iced

from verifier.asm.link import NOPS
from verifier.errors import AsmError
from verifier.object import limits
from verifier.object.code import Refusal

if TYPE_CHECKING:
    from verifier.object.layout import Layout, Placed

TABLE = ".altinstructions"
#: Features that every processor has, and the bit that turns an entry's condition round.
ALWAYS = 3 * 32 + 21
_NEGATED, _NOT, _CALL = 1 << 15, 1, 2
_LARGEST_FEATURE = 64 * 32
_LONGEST_NOP = 8
_PATCHED = "control comes to code that is replaced while the system boots, on processors"


@dataclass(frozen=True, slots=True)
class Alternative:
    """``length`` bytes at ``address`` give way to ``new_length`` bytes from ``new``, with nops behind them.

    That is so on processors with ``feature`` (word * 32 + bit), or without it if ``negated``. ``indirect``: what the
    call there leads to is read from memory, and a direct call written.
    """

    address: int
    length: int
    new: int
    new_length: int
    feature: int
    negated: bool
    indirect: bool = False

    @property
    def end(self) -> int:
        return self.address + self.length

    @property
    def condition(self) -> str:
        return f"{'without' if self.negated else 'with'} feature {self.feature}"

    def holds(self, features: Collection[int]) -> bool:
        return (self.feature in features or self.feature == ALWAYS) != self.negated


@dataclass(frozen=True, slots=True)
class _Format:
    """``read`` makes an alternative of the fields of an entry at an address; None if no such entry can be."""

    layout: struct.Struct
    read: Callable[[int, tuple[int, ...]], Alternative | None]


def _absolute(_at: int, fields: tuple[int, ...]) -> Alternative | None:
    place, new, feature, length, new_length = fields[:5]
    return None if any(fields[5:]) else Alternative(place, length, new, new_length, feature, False)


def _relative(at: int, fields: tuple[int, ...]) -> Alternative | None:
    place, new, feature, length, new_length = fields[:5]
    if any(padding > length for padding in fields[5:]):
        return None
    return Alternative(at + place, length, at + 4 + new, new_length, feature & ~_NEGATED, bool(feature & _NEGATED))


def _flagged(at: int, fields: tuple[int, ...]) -> Alternative | None:
    place, new, feature, flags, length, new_length = fields
    if flags & ~(_NOT | _CALL):
        return None
    return Alternative(at + place, length, at + 4 + new, new_length, feature, bool(flags & _NOT), bool(flags & _CALL))


def _padded(at: int, fields: tuple[int, ...]) -> Alternative | None:
    place, new, feature, length, new_length, padding, private = fields
    if private or not length + new_length:
        return None
    negated = bool(feature & _NEGATED)
    return Alternative(at + place, length + padding, at + 4 + new, new_length, feature & ~_NEGATED, negated)


#: Newest first: Linux 6.3 and later; 4.1 to 5.12; 3.3 to 4.0 and 5.13 to 6.2; before 3.3; before 2.6.36; and Xen.
_FORMATS = (
    _Format(struct.Struct("<iiHHBB"), _flagged),
    _Format(struct.Struct("<iiHBBB"), _relative),
    _Format(struct.Struct("<iiHBB"), _relative),
    _Format(struct.Struct("<QQHBBI"), _absolute),
    _Format(struct.Struct("<QQBBBBI"), _absolute),
    _Format(struct.Struct("<iiHBBBB"), _padded),
)
SIZES = tuple(sorted({form.layout.size for form in _FORMATS}))


def read_alternatives(layout: Layout, entry: int | None) -> list[Alternative]:
    """The table's entries in order; none without a table. ``entry``: their size, if the specification gives it.

    Raises AsmError if the size cannot be told, or the entries make no sense.
    """
    found: list[Alternative] = []
    for table in layout.placed:
        if table.section.name == TABLE and table.data:
            found += _entries(table, layout, (entry,) if entry else SIZES)
    return list(_alike(found))


def _entries(table: Placed, layout: Layout, sizes: Collection[int]) -> list[Alternative]:
    formats = [form for form in _FORMATS if form.layout.size in sizes]
    fitting = [(form.layout.size, found) for form in formats if (found := _read(table, layout, form)) is not None]
    if len(fitting) == 1:
        return fitting[0][1]
    what = f"{table.object.name}: the entries of {TABLE} "
    if fitting:
        possible = " or ".join(str(size) for size, _ in fitting)
        raise AsmError(f"{what}can have {possible} bytes", None, "say which with program.alternatives_entry")
    raise AsmError(f"{what}make no sense", None, f"sizes of {', '.join(map(str, SIZES))} bytes are known")


def _read(table: Placed, layout: Layout, form: _Format) -> list[Alternative] | None:
    """The entries, if all of them are possible: they replace code by no more code than there was."""
    if len(table.data) % form.layout.size or len(table.data) > limits.ALTERNATIVES * form.layout.size:
        return None
    found: list[Alternative] = []
    for n, fields in enumerate(form.layout.iter_unpack(table.data)):
        entry = form.read(table.address + n * form.layout.size, fields)
        if entry is None or not _is_possible(entry, layout):
            return None
        found.append(entry)
    return found


def _is_possible(entry: Alternative, layout: Layout) -> bool:
    if not entry.length or entry.new_length > entry.length or entry.feature >= _LARGEST_FEATURE:
        return False
    stretches = [(entry.address, entry.end)]
    if entry.new_length:
        stretches.append((entry.new, entry.new + entry.new_length))
    holders = [(layout.at(start), end) for start, end in stretches]
    return all(held is not None and held.section.executable and end <= held.end for held, end in holders)


def _alike(entries: list[Alternative]) -> Iterator[Alternative]:
    """Entries in a row for one place are all as long as the longest: those that it nests have less padding."""
    for _, group in groupby(entries, key=lambda e: e.address):
        some = list(group)
        length = max(e.length for e in some)
        yield from (replace(e, length=length) for e in some)


def patch(entries: Iterable[Alternative], features: Collection[int], layout: Layout) -> None:
    """Writes the replacements for a processor with these features, in order; later ones replace earlier ones.

    Code that gives way to what is not known is refused where control comes to it.
    """
    for entry in entries:
        if entry.holds(features):
            place = layout.at(entry.address)
            assert place is not None
            code, refused = _unknown(entry, place) if entry.indirect else _replacement(entry, layout)
            _write(place, entry.address - place.address, code, refused)


def _unknown(entry: Alternative, place: Placed) -> tuple[bytes, dict[int, Refusal]]:
    """A call whose target is read from memory while the system boots: the bytes stay, and none of them is known."""
    start = entry.address - place.address
    why = Refusal(
        f"{_PATCHED} {entry.condition}, by a call of what a pointer holds then",
        "not supported: leave the feature out, or say 'alternatives: original'",
    )
    return bytes(place.data[start : start + entry.length]), dict.fromkeys(range(entry.length), why)


def _replacement(entry: Alternative, layout: Layout) -> tuple[bytes, dict[int, Refusal]]:
    source = layout.at(entry.new) if entry.new_length else None
    code, refused = (b"", {}) if source is None else _moved(entry, source)
    left = entry.length - len(code)
    while left:
        nop = NOPS[min(left, _LONGEST_NOP) - 1]
        code += nop
        left -= len(nop)
    return code, refused


def _write(place: Placed, start: int, code: bytes, refused: Mapping[int, Refusal]) -> None:
    data = place.data if isinstance(place.data, bytearray) else bytearray(place.data)
    data[start : start + len(code)] = code
    place.data = data
    for at in range(start, start + len(code)):
        place.refused.pop(at, None)
    place.refused |= {start + at: why for at, why in refused.items()}


def _moved(entry: Alternative, source: Placed) -> tuple[bytes, dict[int, Refusal]]:
    """The replacement as it reads at its new place, and its bytes that are not known."""
    start = entry.new - source.address
    code = bytearray(source.data[start : start + entry.new_length])
    refused = {at - start: why for at, why in source.refused.items() if start <= at < start + entry.new_length}
    decoder = iced.Decoder(64, bytes(code), ip=entry.new)
    while decoder.can_decode:
        found = decoder.decode()
        _follow(code, found, found.ip - entry.new, decoder, entry)
    return bytes(code), refused


def _follow(code: bytearray, found: iced.Instruction, at: int, decoder: iced.Decoder, entry: Alternative) -> None:
    """Lets a branch out of the replacement, and an address relative to rip, mean what they meant."""
    offsets = decoder.get_constant_offsets(found)
    if found.is_ip_rel_memory_operand:
        target, field, size = found.ip_rel_memory_address, offsets.displacement_offset, offsets.displacement_size
    elif found.op_count and found.op0_kind == iced.OpKind.NEAR_BRANCH64:
        target, field, size = found.near_branch_target, offsets.immediate_offset, offsets.immediate_size
    else:
        return
    if entry.new <= target < entry.new + entry.new_length:
        return
    first = at + field
    distance = int.from_bytes(code[first : first + size], "little", signed=True) + entry.new - entry.address
    try:
        code[first : first + size] = distance.to_bytes(size, "little", signed=True)
    except OverflowError:
        raise AsmError(f"the replacement of the code at {entry.address:#x} jumps too far") from None


def undecided(entries: Iterable[Alternative]) -> dict[range, Refusal]:
    """What to say of the code that would be replaced, where the specification does not tell by what."""
    hint = "say 'alternatives: original' in 'program', or list the features that the processor has: [16, 235]"
    return {range(e.address, e.end): Refusal(f"{_PATCHED} {e.condition}", hint) for e in reversed(list(entries))}
