"""Faults and traps that no instruction of the program means: raised by another, and then made what was chosen."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.machine.events import EVENTS
from verifier.replay.faults import Place, Scratch, raiser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.replay.course import Leg
    from verifier.replay.deviations import Item
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine
    from verifier.trace.run import Move

_DEBUG = 1
_RF = 1 << 16


@dataclass(slots=True)
class Step:
    """One step under way: what the machine is to have after it. ``set``: what the debugger then sets, because no real
    event has the values that the run has chosen."""

    number: int
    leg: Leg
    right: dict[Item, int]
    set: dict[Item, int] = field(default_factory=dict)


class Raising:
    """See above."""

    def __init__(self, machine: Machine, image: Image) -> None:
        self._machine = machine
        self._image = image
        self._scratch = Scratch(machine, image)

    def let(self, step: Step) -> None:
        """Let a real instruction raise the fault, and see to it that the values chosen for it are there afterwards."""
        move, after = step.leg.move, step.leg.outcome.state
        error, cr2 = self._error_code(step), after.cells["cr2"] if move.action == "page_fault" else None
        now = self._machine.read()
        cpl = step.leg.before.cells["cpl"]
        place = Place(now["rip"], cpl, not self._image.is_narrow(now["cs"]))
        source = raiser(self._image, move.action, place, error, cr2)
        first = now["rip"] - source.before
        if now["rflags"] & _RF and not EVENTS[move.action].saved_rf:  # whether a trap saves RF=1 is not stated
            saved = (after.cells["rsp"] + 16, 8)
            step.set[saved], step.right[saved] = step.right[saved], step.right[saved] & ~_RF
            now["rflags"] &= ~_RF
        self._machine.write({"rip": first, "rflags": now["rflags"]})
        with self._open_gate(_DEBUG if move.action == "debug" and cpl == 3 else None):
            self._scratch.step_with(first, source.code)
        if move.action == "debug" and "dr6" in step.right:
            step.set["dr6"], step.right["dr6"] = after.cells["dr6"], step.leg.before.cells["dr6"]
        if source.cr2 is not None and source.cr2 != cr2:
            step.set["cr2"], step.right["cr2"] = after.cells["cr2"], source.cr2
        if source.error is not None and source.error != error and step.leg.outcome.delivered[-1] == move.action:
            code = (after.cells["rsp"], 8)
            step.set[code], step.right[code] = step.right[code], source.error

    @contextmanager
    def _open_gate(self, vector: int | None) -> Iterator[None]:
        """Let CPL 3 use a gate by INT n for one step, which then plays an event that no DPL keeps away."""
        if vector is None:
            yield
            return
        at = self._image.idt + 16 * vector + 5
        saved = self._machine.load(at, 1)
        self._machine.store(at, bytes([saved[0] | 3 << 5]))
        yield
        self._machine.store(at, saved)

    @staticmethod
    def _error_code(step: Step) -> int | None:
        """What a fault that strikes has for an error code: of the value chosen, the bits that it can have."""
        chosen, event = _choice(step.leg.move, "fault.error_code"), EVENTS[step.leg.move.action]
        if chosen is None or step.leg.outcome.delivered[-1:] != (event.name,):
            return chosen
        return step.leg.outcome.state.read(step.leg.outcome.state.cells["rsp"], 8)


def _choice(move: Move, kind: str) -> int | None:
    return next((value for name, value in move.choices if name == kind), None)
