"""Who interrupted whom: the contexts that still have to be resumed, derived from deliveries and returns.

A delivery pushes a context. Control that leaves by a return or an indirect jump pops down to the context that it
arrives in, judged by saved rip and rsp, else by the frame that an iret pops, else by rip alone: code returns in
odd ways, and a reader wants to see where it goes. Code that takes over another handler's frame shows as a return
past several contexts at once.
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
    """Control came back to ``context``; ``odd``: which of rip and rsp are not what its frame saved."""

    context: Saved
    odd: tuple[str, ...]


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
        instruction = self.program.instructions.get(step.before.rip)
        if instruction is None or not (instruction.mnemonic in _RETURNS or instruction.indirect):
            return None
        context = self._resumed(step, instruction.mnemonic == "iret")
        if context is None:
            return None
        now = {"rip": step.after.rip, "rsp": step.after.cells["rsp"]}
        return Return(context, tuple(name for name, value in now.items() if context.words[name] != value))

    def _resumed(self, step: Step, by_iret: bool) -> Saved | None:
        """The context that control is in after leaving a handler, by the best of several reasons to think so."""
        inwards = self.live[::-1]
        there = [s for s in inwards if s.words["rip"] == step.after.rip]
        exact = [s for s in there if s.words["rsp"] == step.after.cells["rsp"]]
        home = self.live[:1] if step.ended == "home" else []
        # a handler may have changed the frame that it returns by, as a fixup does
        popped = [s for s in inwards if by_iret and s.frame == step.before.cells["rsp"]]
        return next(iter([*home, *exact, *popped, *there]), None)


def contexts_before_last(trace: Trace) -> list[Saved]:
    """The contexts not yet resumed just before the last step."""
    contexts = Contexts(trace.model.machine.program)
    for step in trace.steps[:-1]:
        contexts.follow(step)
    return contexts.live
