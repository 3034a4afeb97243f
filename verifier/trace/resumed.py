"""What a context inside the program had when an event struck it, told from a concrete run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.machine.events import EVENTS

if TYPE_CHECKING:
    from verifier.asm.program import Program
    from verifier.trace.trace import Step, Trace

_RETURNS = ("iret", "ret", "sysret")


def context_resumed(trace: Trace) -> dict[str, int] | None:
    """The cells that the context had which the last step has returned to, by name; None if it returned to none.

    It is the one that the latest event struck at this RIP and RSP, unless control has returned there since. Its flags
    and selectors are those of the frame that the processor pushed, the rest what the handler found.
    """
    program, last = trace.model.machine.program, trace.steps[-1]
    if last.ended is not None or not _returns(program, last):
        return None
    place = last.after.rip, last.after.cells["rsp"]
    found: dict[str, int] | None = None
    for step in trace.steps[:-1]:
        if step.at is not None and step.delivered == (step.move.action,):
            cells = _cells_of(step)
            if (step.before.rip, cells["rsp"]) == place:
                found = cells
        elif _returns(program, step) and (step.after.rip, step.after.cells["rsp"]) == place:
            found = None
    return found


def _returns(program: Program, step: Step) -> bool:
    if step.at is None or step.move.action != "execute" or step.delivered:
        return False
    instruction = program.instructions[step.at]
    return instruction.mnemonic in _RETURNS or instruction.indirect


def _cells_of(step: Step) -> dict[str, int]:
    """What the context had that a step struck: words of its frame, which lies above the error code if there is one."""
    after = step.after
    frame = after.cells["rsp"] + 8 * EVENTS[step.move.action].error_code
    _, cs, image, rsp, ss = (after.read(frame + 8 * i, 8) for i in range(5))
    flags = {name: image >> bit & (1 << width) - 1 for name, (bit, width) in RFLAGS_LAYOUT.items()}
    return {**after.cells, **flags, "cs": cs, "rsp": rsp, "ss": ss}
