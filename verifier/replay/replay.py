"""A run on a machine, from building its image to the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from verifier.errors import UsageError
from verifier.lift import lift
from verifier.replay.bochs import Bochs
from verifier.replay.course import adapted
from verifier.replay.follow import Follower, Report
from verifier.replay.image import Image, build, plan_of
from verifier.replay.machine import Machine
from verifier.replay.qemu import Qemu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.replay.course import Course


MACHINES: Mapping[str, Callable[[Image], Machine]] = {"qemu": Qemu, "bochs": Bochs}
#: Control registers that have to be what the image made them.
_FIXED = ("cr0", "cr3", "cr4")
#: What no driver has to tell: as the image leaves them.
_AFTER_BOOT = {"cr8": 0, "dr6": 0xFFFF_0FF0}


def replay(
    course: Course, start_machine: Callable[[Image], Machine], rules: Mapping[str, int]
) -> tuple[Report, Course]:
    """Let a machine follow a course; the report, and the course as that processor takes it.

    ``rules``: those of the machine. Raises Disagreement if the run is not possible on a processor with them,
    UsageError if it needs what a replay cannot give, MachineError where the emulator fails.
    """
    _expect_replayable(course)
    course = adapted(course, rules, _loadable(course))
    touched = [place for leg in course.legs for place in leg.outcome.chosen]
    image = build(plan_of(course.machine, course.start, touched))
    with start_machine(image) as machine:
        now = machine.read()
        course = adapted(course, rules, _AFTER_BOOT | {n: now[n] for n in (*_FIXED, "cr8", "dr6") if n in now})
        return Follower(machine, image, course).follow(), course


def _loadable(course: Course) -> dict[str, int]:
    """Data segment registers that select nothing in the GDT become null: no processor can hold them."""
    cells, segments = course.start.state.cells, {s & ~3 for s in course.machine.segments}
    return {n: 0 for n in ("ds", "es", "fs", "gs") if cells[n] & ~3 and cells[n] & ~3 not in segments}


def _expect_replayable(course: Course) -> None:
    for number, leg in enumerate(course.legs, 1):
        instruction = course.machine.program.instructions.get(leg.before.rip)
        if leg.move.action == "execute" and instruction is not None:
            changed = {op.attr for op in lift(instruction) if op.opcode == "put"} & set(_FIXED)
            if changed:
                names = ", ".join(sorted(map(str, changed)))
                raise UsageError(f"step {number} changes {names}: a replay cannot follow it", instruction.span)
