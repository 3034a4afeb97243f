"""The mutable copy of a state that one step works on, its choices, and the ways it can be cut short."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.trace.run import ConcreteState, Disagreement, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK64 = (1 << 64) - 1


class Fault(Exception):
    """The modelled processor raises a fault: ``vector``, and an error code if that vector has one."""

    def __init__(self, vector: int, error: int = 0) -> None:
        super().__init__(vector, error)
        self.vector = vector
        self.error = error


class Mishap(Exception):
    """The run ends here: ``kind`` is a key of `verifier.machine.events.MISHAPS`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class Choices:
    """The named choices of one move, handed out in order."""

    def __init__(self, choices: tuple[tuple[str, int], ...]) -> None:
        self._choices = choices
        self._taken = 0

    def take(self, kind: str, width: int) -> int:
        """The next choice, which must be of this kind and fit in ``width`` bits."""
        if self._taken == len(self._choices):
            raise Disagreement(f"a choice {kind} of {width} bits is missing")
        given, value = self._choices[self._taken]
        if given != kind:
            raise Disagreement(f"choice {self._taken} is {given} where {kind} is asked for")
        if not 0 <= value < 1 << width:
            raise Disagreement(f"choice {kind} = {value:#x} does not fit in {width} bits")
        self._taken += 1
        return value

    def finish(self) -> None:
        if self._taken != len(self._choices):
            raise Disagreement(f"choice {self._choices[self._taken][0]} is left over")


@dataclass(slots=True)
class Work:
    """A `ConcreteState` under change, and what the step has done so far (see `Outcome`)."""

    rip: int
    cells: dict[str, int]
    memory: dict[int, int]
    nmi_blocked: bool
    nmi_pending: bool
    choices: Choices
    delivered: list[str] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    chosen: list[tuple[int, int]] = field(default_factory=list)
    detail: str = ""

    @staticmethod
    def of(state: ConcreteState, choices: Choices) -> Work:
        cells, memory = dict(state.cells), dict(state.memory)
        return Work(state.rip, cells, memory, state.nmi_blocked, state.nmi_pending, choices)

    def state(self) -> ConcreteState:
        return ConcreteState(self.rip, self.cells, self.memory, self.nmi_blocked, self.nmi_pending)

    def outcome(self, ended: str | None = None, detail: str = "") -> Outcome:
        made = tuple(self.delivered), ended, detail or self.detail, tuple(self.writes), tuple(self.chosen)
        return Outcome(self.state(), *made)

    def rflags(self) -> int:
        """The packed image of the flags; bit 1 reads as 1 (SDM vol. 1, 3.4.3)."""
        return 2 | sum(self.cells[flag] << bit for flag, (bit, _) in RFLAGS_LAYOUT.items())

    def load_flags(self, image: int, flags: Iterable[str]) -> None:
        """Set these flags from a packed image, and leave the others."""
        for flag in flags:
            bit, width = RFLAGS_LAYOUT[flag]
            self.cells[flag] = image >> bit & ((1 << width) - 1)
