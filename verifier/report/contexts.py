"""Who interrupted whom: the contexts that still have to be resumed, derived from deliveries and returns.

A delivery pushes a context. Control that leaves by a return or an indirect jump and arrives where a saved
frame says pops down to that context, with the saved rsp first, else without it: code may return in odd ways,
and a reader wants to see where it goes. Code that takes over another handler's frame shows as a return past
several contexts at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.machine.events import EVENTS
from verifier.report.names import FRAME, WORD

if TYPE_CHECKING:
    from verifier.asm.program import Program
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Step, Trace

_RETURNS = frozenset({"iret", "ret", "lret", "sysret"})


@dataclass(frozen=True, slots=True)
class Saved:
    """A context that ``event`` interrupted: its frame's address, and the five words as they were pushed.

    ``within``: the event whose handler was interrupted; None for the interrupted context itself.
    """

    event: str
    within: str | None
    frame: int
    words: dict[str, int]

    @property
    def whose(self) -> str:
        return "the interrupted context" if self.within is None else f"the {self.within} handler"

    def now(self, state: ConcreteState) -> dict[str, int]:
        """What stands in the frame's place."""
        return {name: state.read(self.frame + WORD * i, WORD) for i, name in enumerate(FRAME)}


@dataclass(frozen=True, slots=True)
class Return:
    """Control came back to ``context``, in an odd way if its rsp is not the saved one."""

    context: Saved
    odd: bool


@dataclass(slots=True)
class Contexts:
    """The stack of contexts not yet resumed, outermost first; follows a run step by step."""

    program: Program
    live: list[Saved] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return len(self.live)

    def follow(self, step: Step) -> Return | None:
        """Take one step; the return that it was, if it was one."""
        returned = self._returned(step) if step.move.action == "execute" and not step.delivered else None
        if returned is not None:
            del self.live[self.live.index(returned.context) :]
        if step.delivered:
            self._push(step)
        return returned

    def _push(self, step: Step) -> None:
        event = step.delivered[-1]
        kind = EVENTS.get(event)
        frame = step.after.cells["rsp"] + (WORD if kind is not None and kind.error_code else 0)
        within = self.live[-1].event if self.live else None
        words = {name: step.after.read(frame + WORD * i, WORD) for i, name in enumerate(FRAME)}
        self.live.append(Saved(event, within, frame, words))

    def _returned(self, step: Step) -> Return | None:
        if step.ended == "home" and self.live:
            outermost = self.live[0]
            return Return(outermost, step.after.cells["rsp"] != outermost.words["rsp"])
        if not self._leaves(step):
            return None
        there = [s for s in reversed(self.live) if s.words["rip"] == step.after.rip]
        exact = next((s for s in there if s.words["rsp"] == step.after.cells["rsp"]), None)
        if exact is not None:
            return Return(exact, False)
        return Return(there[0], True) if there else None

    def _leaves(self, step: Step) -> bool:
        instruction = self.program.instructions.get(step.before.rip)
        return instruction is not None and (instruction.mnemonic in _RETURNS or instruction.indirect)


def contexts_before_last(trace: Trace) -> list[Saved]:
    """The contexts not yet resumed just before the last step."""
    contexts = Contexts(trace.model.machine.program)
    for step in trace.steps[:-1]:
        contexts.follow(step)
    return contexts.live
