"""The model-specific registers that a specification lists.

Some the emulators have: those are real. The debugger plays the instructions that reach the others, since no emulator
has a place for what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.config import MSR_ADDRESS, MSRS, TSC_AUX
from verifier.machine.events import MCG_STATUS
from verifier.replay.probe import restore
from verifier.trace.interpreter.memory import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from verifier.replay.course import Course, Leg
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine
    from verifier.trace.run import ConcreteState

#: What both emulators have, each with the values that it takes: SYSENTER_ESP and _EIP, LSTAR, CSTAR, TSC_AUX.
_REAL: Mapping[int, Callable[[int], bool]] = {
    **dict.fromkeys((0x175, 0x176, 0xC000_0082, 0xC000_0083), canonical),
    TSC_AUX: lambda value: value >> 32 == 0,
}
_LOW = 0xFFFF_FFFF
_MCIP = 1 << 2


class ModelSpecific:
    """These registers while a machine follows a course."""

    def __init__(self, machine: Machine, image: Image, course: Course) -> None:
        self._machine = machine
        self._image = image
        region = course.machine.regions.get(MSRS)
        data = region.data if region is not None else ()
        self._places = {int(d.name.removeprefix("msr_"), 0): MSR_ADDRESS + d.offset for d in data}
        states = [course.start.state, *(leg.outcome.state for leg in course.legs)]
        self._real = [n for n in _REAL if n in self._places and all(_REAL[n](self._value(n, s)) for s in states)]

    def at_start(self, state: ConcreteState) -> None:
        for number in self._real:
            self._write(number, self._value(number, state))

    def played(self, leg: Leg, mnemonic: str) -> int | None:
        """The register that an instruction is after and the machine has no place for, if it is so."""
        number = leg.before.cells["rcx"] & _LOW
        reached = mnemonic in ("rdmsr", "wrmsr") and number in self._places and number not in self._real
        return number if reached else None

    def check_in_progress(self, state: ConcreteState) -> bool:
        """Whether MCG_STATUS is listed and has MCIP set (rule E7)."""
        return MCG_STATUS in self._places and bool(self._value(MCG_STATUS, state) & _MCIP)

    def differences(self, state: ConcreteState) -> Iterator[tuple[str, int, int]]:
        """Of each real register that is not what a run has: its name, that, and what it is."""
        for number in self._real:
            right, got = self._value(number, state), self._read(number)
            if right != got:
                yield f"model-specific register {number:#x}", right, got

    def _value(self, number: int, state: ConcreteState) -> int:
        return state.read(self._places[number], 8)

    def set(self, before: ConcreteState, after: ConcreteState) -> None:
        """Have what code that is not shown has changed."""
        for number in self._real:
            if self._value(number, before) != self._value(number, after):
                self._write(number, self._value(number, after))

    def _write(self, number: int, value: int) -> None:
        self._aside("wrmsr_", {"rcx": number, "rax": value & _LOW, "rdx": value >> 32})

    def _read(self, number: int) -> int:
        found = self._aside("rdmsr_", {"rcx": number})
        return found["rdx"] << 32 | found["rax"]

    def _aside(self, piece: str, values: Mapping[str, int]) -> dict[str, int]:
        """Let the processor execute one instruction of the monitor's: the registers after it."""
        saved = self._machine.read()
        self._machine.write(self._image.at(piece) | dict(values))
        self._machine.step()
        found = self._machine.read()
        restore(self._machine, saved)
        return found
