"""Faults that no instruction there means, in the text, in code that is not shown and in the interrupted context.

A real instruction that raises them is put where the fault is to be.

The page of the code is exchanged for a scratch page with the instruction, and put back after the step; code that was
executed before is never changed, since emulators remember it. None of the instructions touches a register or a flag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.replay.machine import Unsupported
from verifier.replay.pages import OPEN, PAGE, pages_of

if TYPE_CHECKING:
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine


_WRITE, _USER = 2, 4
#: An instruction is at most this long, in bytes.
LONGEST = 15
#: The prefix %ss:.
_SS = b"\x36"


@dataclass(frozen=True, slots=True)
class Raiser:
    """Code that raises a fault, ``before`` bytes before the rip of the frame; the error code and CR2 it leads to."""

    code: bytes
    before: int = 0
    error: int | None = None
    cr2: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault is to be raised. ``wide``: by 64-bit code, not 32-bit code."""

    rip: int
    cpl: int
    wide: bool

    def access(self, opcode: bytes, content: bytes) -> bytes:
        """An instruction whose opcode and ModRM lead to ``content`` behind it; through SS, since DS may be null."""
        if self.wide:
            return opcode + bytes(4) + content
        return _SS + opcode + struct.pack("<I", self.rip + 7) + content


def raiser(image: Image, event: str, place: Place, error: int | None, cr2: int | None) -> Raiser:
    """The code for a fault, with the error code and CR2 that are wanted as far as there is an instruction for them.

    Raises Unsupported.
    """
    if event == "page_fault":
        return _page_fault(image, place, error or 0, cr2 or 0)
    if event == "general_protection":
        return _general_protection(place, error or 0)
    if event == "divide_error":
        return Raiser(place.access(b"\xf6\x35", b"\0"))
    if event not in _PLAIN:
        raise Unsupported(f"a replay has no instruction that raises {event} in place of any other")
    return _PLAIN[event]


#: INT 1; INT3; INT 4; UD2. (A #DE is DIVB of the zero byte behind it.)
_PLAIN = {
    "debug": Raiser(b"\xcd\x01", 2),
    "breakpoint": Raiser(b"\xcc", 1),
    "overflow": Raiser(b"\xcd\x04", 2),
    "invalid_opcode": Raiser(b"\x0f\x0b"),
}


def _page_fault(image: Image, place: Place, error: int, cr2: int) -> Raiser:
    """A read or write (bit 1 of the error code) of AL at CR2, or of another page that does not exist."""
    canonical = cr2 >> 47 in (0, 0x1FFFF) and cr2 >> 39 != image.window >> 39
    if (canonical if place.wide else cr2 >> 32 == 0) and cr2 & -PAGE not in image.entries:
        address = cr2
    elif place.wide:
        address = image.window + (1 << 38) + cr2 % PAGE
    else:
        address = next(p for p in range(PAGE, 1 << 32, PAGE) if p not in image.entries) + cr2 % PAGE
    opcode = b"\xa2" if error & _WRITE else b"\xa0"
    code = opcode + struct.pack("<Q", address) if place.wide else _SS + opcode + struct.pack("<I", address)
    return Raiser(code, 0, error & _WRITE | (_USER if place.cpl == 3 else 0), address)


def _general_protection(place: Place, error: int) -> Raiser:
    """A load of DS by a selector outside the GDT, which stands behind the instruction; or of AL from a bad address;
    or HLT, which only CPL 0 may."""
    if error & 0xFFFC and error >> 16 == 0:
        return Raiser(place.access(b"\x8e\x1d", struct.pack("<H", error | 4)), 0, error & 0xFFFC | 4)
    if place.cpl == 3:
        return Raiser(b"\xf4", 0, 0)
    return Raiser(b"\xa0" + struct.pack("<Q", 1 << 63), 0, 0)


class Scratch:
    """Scratch pages of an image, by what stands in them: none is used for two things."""

    def __init__(self, machine: Machine, image: Image) -> None:
        self._machine = machine
        self._image = image
        self._used: dict[tuple[int, bytes], int] = {}

    def page(self, offset: int, content: bytes) -> int:
        """The physical address of a page with ``content`` at an offset. Raises Unsupported if there is none left."""
        key = (offset, content)
        if key not in self._used:
            if len(self._used) == len(self._image.scratch):
                raise Unsupported(f"a replay has room for {len(self._used)} different faults in code that is not shown")
            self._used[key] = self._image.scratch[len(self._used)]
            self._machine.store(self._image.window + self._used[key] + offset, content)
        return self._used[key]

    def step_with(self, address: int, code: bytes) -> None:
        """One step of the machine with ``code`` in place of what stands at an address.

        Raises Unsupported where that lies at the edge of the canonical addresses.
        """
        saved = {}
        for page in pages_of(address, len(code)):
            first = max(page, address)
            part = code[first - address : page + PAGE - address]
            entry = self._image.entries.get(page)
            if entry is None:
                raise Unsupported(f"there is no room at {address:#x} for an instruction that raises a fault")
            saved[page] = self._machine.load(entry, 8)
            self._exchange(page, struct.pack("<Q", self.page(first - page, part) | OPEN))
        self._machine.step()
        for page, entry_data in saved.items():
            self._exchange(page, entry_data)

    def _exchange(self, page: int, entry: bytes) -> None:
        self._machine.store(self._image.entries[page], entry)
        self._machine.forget(page)
