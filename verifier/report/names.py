"""Names for what a run shows as numbers: code, named data, places in regions, flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT

if TYPE_CHECKING:
    from verifier.machine.config import Datum, Region
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Trace

#: The words of a hardware frame, from its lowest address.
FRAME = ("rip", "cs", "rflags", "rsp", "ss")
WORD = 8


def rflags_of(state: ConcreteState) -> int:
    """The packed image of the flags; bit 1 reads as 1 (SDM vol. 1, 3.4.3)."""
    return 2 | sum(state.cells[flag] << bit for flag, (bit, _) in RFLAGS_LAYOUT.items())


def flags_text(image: int) -> str:
    """``0x246 [PF ZF IF]``: an RFLAGS image with the names of what is set in it."""
    names = [f.upper() for f, (bit, width) in RFLAGS_LAYOUT.items() if image >> bit & ((1 << width) - 1)]
    return f"{image:#x} [{' '.join(names)}]"


def frame_of(state: ConcreteState, rip: int) -> dict[str, int]:
    """The five words that a hardware frame would save of a context in this state."""
    cells = state.cells
    values = (rip, cells["cs"], rflags_of(state), cells["rsp"], cells["ss"])
    return dict(zip(FRAME, values, strict=True))


class Names:
    """What the addresses of one run are called."""

    def __init__(self, trace: Trace) -> None:
        self._program = trace.model.machine.program
        regions = trace.model.machine.regions
        self._spans = [(base, regions[name]) for name, base in trace.start.bases.items()]

    def region_at(self, address: int) -> tuple[Region, int] | None:
        """The region that a byte lies in, and the byte's offset."""
        for base, region in self._spans:
            if 0 <= address - base < region.size:
                return region, address - base
        return None

    def datum_at(self, address: int) -> tuple[Datum, int] | None:
        """The datum that a byte belongs to, and the address where the datum starts."""
        found = self.region_at(address)
        if found is None:
            return None
        region, offset = found
        for datum in region.data:
            if datum.offset <= offset < datum.offset + datum.size:
                return datum, address - offset + datum.offset
        return None

    def address(self, address: int) -> str:
        """A byte's name: a datum, ``region+offset``, ``label+offset``, or the number."""
        named = self.datum_at(address)
        if named is not None:
            return _plus(named[0].name, address - named[1])
        found = self.region_at(address)
        if found is not None:
            return _plus(found[0].name, found[1])
        return self._program.describe(address)

    def value(self, value: int) -> str:
        """A 64-bit value: as an address where it is one of a region, of its top, or of an instruction."""
        if self.region_at(value) is not None or value in self._program.instructions:
            return self.address(value)
        top = next((r.name for base, r in self._spans if value == base + r.size), None)
        return f"{top}.top" if top else f"{value:#x}"

    def code(self, at: int | None) -> str:
        """A boundary; None is one of the interrupted context."""
        return "the interrupted context" if at is None else self._program.describe(at)

    def frame(self, words: dict[str, int]) -> str:
        return "  ".join(f"{name} {self.value(word)}" for name, word in words.items())


def _plus(name: str, offset: int) -> str:
    return f"{name}+{offset:#x}" if offset else name
