"""What the processor's tables have to say at each step of a run: IST slots, and descriptors that come and go.

An IST slot that is a datum of the program stands in the image's TSS, and has the datum's value whenever a step begins.
A descriptor of the LDT is, before each instruction that looks at it, what the run says that is found there (rule R13).
A segment that the interrupted context holds and no table has any more is there while its registers are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift import lift
from verifier.machine.config import LDT_CODE, Segment
from verifier.replay.deviation import items, return_size
from verifier.replay.machine import Unsupported
from verifier.replay.tables import descriptor
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import Move

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Course, Leg
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine
    from verifier.trace.run import Start

_PRESENT = 1 << 47
_DATA, _CODE = descriptor(Segment(7, "data", 3)), descriptor(LDT_CODE)
_NOTHING = 0
#: A choice of what an instruction finds in the LDT -> the descriptors that it may choose of; any further one is none.
_FOUND: Mapping[str, tuple[int, ...]] = {
    "ldt.cs": (_CODE, _CODE & ~_PRESENT),
    "ldt.ss": (_DATA, _DATA & ~_PRESENT, _DATA & ~_PRESENT),
    "ldt.data": (_DATA, _DATA & ~_PRESENT),
}
#: The item that IRET pops CS and SS from.
_POPPED = {"ldt.cs": 1, "ldt.ss": 4}


def vanished(machine: MachineConfig, start: Start) -> list[Segment]:
    """The segments of the GDT that the interrupted context holds in CS and SS, and the specification does not have."""
    cells, known = start.state.cells, {s.selector >> 3 for s in machine.segments.values()}
    gone = {name: cells[name] for name in ("cs", "ss") if cells[name] & ~3 and not cells[name] & 4}
    gone = {name: selector for name, selector in gone.items() if selector >> 3 not in known}
    kinds = {"cs": Segment(0, "code", cells["cpl"], long=True), "ss": Segment(0, "data", cells["cpl"])}
    return [_at(kinds[name], selector) for name, selector in gone.items()]


def _at(kind: Segment, selector: int) -> Segment:
    return Segment(selector, kind.kind, kind.dpl, kind.long)


class Changing:
    """The tables of an image while a machine follows a course."""

    def __init__(self, machine: Machine, image: Image, course: Course) -> None:
        self._machine = machine
        self._image = image
        self._course = course
        self._slots: dict[str, int] = {}

    def before_start(self) -> None:
        """Let the segments of the interrupted context be there."""
        cells = self._course.start.state.cells
        held = {cells[name]: quad for name, quad in (("cs", _CODE), ("ss", _DATA)) if cells[name] & 4}
        gone = vanished(self._course.machine, self._course.start)
        if cells["cs"] >> 2 == cells["ss"] >> 2 and (held or gone):
            raise Unsupported(f"the interrupted context has selector {cells['cs']:#x} in CS and in SS")
        for selector, quad in held.items():
            self._set(selector, quad)

    def after_start(self) -> None:
        """Its registers are loaded: what the tables have no more goes."""
        for segment in vanished(self._course.machine, self._course.start):
            self._machine.store(self._image.gdt + (segment.selector & ~7), bytes(8))

    def before(self, leg: Leg) -> None:
        """A step begins."""
        for name, place in self._image.slots.items():
            self._fill(name, place, leg)
        found: dict[int, int] = {}
        for selector, quad in self._found(leg):
            if found.setdefault(selector & ~7, quad) != quad:
                raise Unsupported(f"an IRET pops selector {selector:#x} for CS and for SS")
        for selector, quad in found.items():
            self._set(selector, quad)

    def _fill(self, name: str, place: int, leg: Leg) -> None:
        found = self._course.machine.datum(name)
        assert found is not None, name
        region, datum = found
        address = self._course.start.bases[region.name] + datum.offset
        value = leg.before.read(address, datum.size)
        if self._slots.get(name) != value:
            self._machine.store(place, self._machine.load(address, datum.size))
            self._slots[name] = value

    def _found(self, leg: Leg) -> Iterator[tuple[int, int]]:
        """Selectors of the LDT that a step looks at, and what it finds."""
        for kind, value in leg.move.choices:
            if kind in _FOUND:
                quads = _FOUND[kind]
                yield self._selector(kind, leg), quads[value] if value < len(quads) else _NOTHING

    def _selector(self, kind: str, leg: Leg) -> int:
        size = return_size(self._course.machine, leg)
        if kind in _POPPED and size is not None:
            return items(self._course.machine, leg, 5, size // 8)[_POPPED[kind]] & 0xFFFF
        good = Move(leg.move.action, tuple((k, 0 if k == kind else v) for k, v in leg.move.choices))
        after = Interpreter(self._course.machine, self._course.start).step(leg.before, good).state
        block = lift(self._course.machine.program.instructions[leg.before.rip])
        return next(after.cells[str(o.attr)] for o in block if o.opcode == "put" and o.attr in ("ds", "es", "fs", "gs"))

    def _set(self, selector: int, quad: int) -> None:
        assert self._image.ldt is not None
        self._machine.store(self._image.ldt + (selector & ~7), quad.to_bytes(8, "little"))
