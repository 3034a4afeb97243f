"""The instructions of executable sections, decoded where they are asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from verifier.asm.program import Instruction, Mem, Target
from verifier.errors import AsmError
from verifier.object import limits
from verifier.object.decode import LONGEST, Undecodable, decode

if TYPE_CHECKING:
    from verifier.object.places import Places
    from verifier.source import Span

#: Of one stretch that control must not come to, in bytes.
LONGEST_REFUSED = 255
#: What control does not run on from.
_ENDS = frozenset(("jmp", "ret", "iret", "lret", "sysret", "sysexit", "ud2", "hlt"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why control must not come to some bytes, and what to do about it."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Executable bytes at ``address``. ``refused``: the offsets of bytes that are not known, and why.

    ``bare``: of an object that still has to be linked and has no relocations.
    """

    address: int
    data: bytes
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    bare: bool = False

    @property
    def end(self) -> int:
        return self.address + len(self.data)


class Code(Mapping[int, Instruction]):
    """Every address of the texts, as the instruction that begins there.

    Code that nobody reaches may be anything: an address is decoded when it is asked for. Iterating gives what has been
    decoded so far, which is what direct control flow from some entries leads to (`follow`) and whatever else was asked
    for. ``fixed``: instructions that stand at some addresses whatever the bytes there are. ``refused``: stretches that
    control must not come to, and why. ``places`` tells places and names.

    Asking raises AsmError for bytes that are no instruction known here, for an address inside another instruction,
    and for an operand whose symbol nobody defines.
    """

    def __init__(
        self,
        texts: Iterable[Text],
        fixed: Mapping[int, Instruction],
        refused: Mapping[range, Refusal],
        places: Places,
    ) -> None:
        self._texts = sorted((t for t in texts if t.data), key=lambda t: t.address)
        self._starts = [t.address for t in self._texts]
        self._places = places
        self._refused = sorted(refused.items(), key=lambda item: item[0].start)
        self._known: dict[int, Instruction] = {}
        #: Where the second and later bytes of a known instruction lie: the start of that instruction.
        self._inside: dict[int, int] = {}
        for instruction in fixed.values():
            self._enter(instruction)

    @cached_property
    def unknown(self) -> frozenset[int]:
        """The addresses of bytes that control must not come to, because they are not known."""
        stretches = chain.from_iterable(stretch for stretch, _ in self._refused)
        return frozenset(chain(stretches, (t.address + at for t in self._texts for at in t.refused)))

    def follow(self, entries: Iterable[int]) -> None:
        """Decodes all that direct control flow leads to; what cannot be decoded is an error only when it is reached."""
        waiting = list(entries)
        seen: set[int] = set()
        while waiting and len(seen) < limits.FOLLOWED:
            address = waiting.pop()
            if address in seen or address not in self:
                continue
            seen.add(address)
            try:
                instruction = self[address]
            except AsmError:
                continue
            waiting += successors(instruction)

    def __getitem__(self, address: int) -> Instruction:
        known = self._known.get(address)
        if known is None:
            known = self._enter(self._decoded(address))
        return known

    def __contains__(self, address: object) -> bool:
        return address in self._known or (isinstance(address, int) and self._text(address) is not None)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._known))

    def __len__(self) -> int:
        return len(self._known)

    def _enter(self, instruction: Instruction) -> Instruction:
        self._known[instruction.address] = instruction
        for inside in range(instruction.address + 1, instruction.next_address):
            self._inside[inside] = instruction.address
        return instruction

    def _text(self, address: int) -> Text | None:
        index = bisect_right(self._starts, address) - 1
        return self._texts[index] if index >= 0 and address < self._texts[index].end else None

    def _decoded(self, address: int) -> Instruction:
        text = self._text(address)
        if text is None:
            raise KeyError(address)
        offset = address - text.address
        data = text.data[offset : offset + LONGEST]
        if address in self._inside:
            outer = self._known[self._inside[address]]
            hint = f"{outer.text}, at {outer.address:#x}, has {outer.length} bytes; control comes there too"
            raise AsmError("control comes to the middle of an instruction", self._shown(address, data, "?"), hint)
        try:
            found = decode(data, address)
        except Undecodable as error:
            shown = self._shown(address, data[: error.length], error.text or "(bad)")
            raise AsmError(f"control comes here, and {error}", shown) from error
        text_shown = self._places.text(found)
        found = replace(found, text=text_shown, span=self._shown(address, found.encoding, text_shown))
        self._check(found, text, offset)
        return found

    def _check(self, found: Instruction, text: Text, offset: int) -> None:
        if text.bare and _refers_to_next(found):
            hint = "objdump shows relocations with -dr; an object has them unless they were stripped"
            raise AsmError("nothing says what this refers to: the relocations are missing", found.span, hint)
        for stretch, refusal in self._refusals(found):
            if stretch.start < found.next_address and found.address < stretch.stop:
                raise AsmError(refusal.message, found.span, refusal.hint)
        unknown = next((text.refused[at] for at in range(offset, offset + found.length) if at in text.refused), None)
        if unknown is not None:
            raise AsmError(unknown.message, found.span, unknown.hint)
        other = next((self._known[a] for a in range(found.address + 1, found.next_address) if a in self._known), None)
        if other is not None:
            hint = f"the other is {other.text}, at {other.address:#x}"
            raise AsmError("control comes to two instructions that overlap", found.span, hint)

    def _refusals(self, found: Instruction) -> list[tuple[range, Refusal]]:
        """Those that may be about the instruction: they are no longer than 255 bytes."""
        first = bisect_left(self._refused, found.address - LONGEST_REFUSED, key=lambda item: item[0].start)
        last = bisect_left(self._refused, found.next_address, key=lambda item: item[0].start)
        return self._refused[first:last]

    def _shown(self, address: int, data: bytes, text: str) -> Span:
        return self._places.span(address, data, text)


def _refers_to_next(instruction: Instruction) -> bool:
    """Whether a field of 32 bits that is relative to the next instruction is zero, as an assembler leaves it."""
    far = instruction.length > 4
    return far and any(
        (isinstance(o, Target) and o.address == instruction.next_address)
        or (isinstance(o, Mem) and o.rip_relative and o.disp == instruction.next_address)
        for o in instruction.operands
    )


def successors(instruction: Instruction) -> Iterator[int]:
    """Where control may go on from an instruction without being told by data."""
    yield from (o.address for o in instruction.operands if isinstance(o, Target))
    if instruction.mnemonic not in _ENDS:
        yield instruction.next_address
