"""A run on a machine, from building its image to what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from verifier.errors import UsageError
from verifier.machine.events import EVENTS
from verifier.replay import control
from verifier.replay.bochs import Bochs
from verifier.replay.course import adapted, course_of, still_broken
from verifier.replay.faults import LONGEST
from verifier.replay.follow import Follower, Report
from verifier.replay.image import build, plan_of
from verifier.replay.machine import MachineError, Shutdown, Unsupported
from verifier.replay.qemu import Qemu
from verifier.replay.stub import tool
from verifier.trace.run import Disagreement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.replay.course import Course, Leg
    from verifier.trace.trace import Trace

#: What a run can be replayed on besides the interpreter.
MACHINES: Mapping[str, type[Qemu] | type[Bochs]] = {"qemu": Qemu, "bochs": Bochs}
INTERPRETER = "interpreter"
_PROGRAMS = {"qemu": ("qemu-system-x86_64", "qemu-system-x86"), "bochs": ("bochs", "bochs")}
#: What no driver has to tell: as the image leaves them.
_AFTER_BOOT = {"cr8": 0, "dr6": 0xFFFF_0FF0}

Kind = Literal["agreed", "deviates", "differs", "not-shown"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a trace on a machine. ``report`` None: the run cannot be shown there; ``why_not`` says why.

    With a report, ``why_not`` says why another run was asked for first, and not this one.
    """

    trace: Trace
    machine: str
    report: Report | None
    why_not: str = ""

    @property
    def kind(self) -> Kind:
        """``deviates``: it agrees but for known deviations of the emulator."""
        if self.report is None:
            return "not-shown"
        if self.report.differs:
            return "differs"
        return "deviates" if self.report.met else "agreed"


def expect_tools(machine: str) -> None:
    """Raises MissingTool for what is not installed and a replay on that machine needs."""
    if machine in _PROGRAMS:
        for name, package in (("as", "binutils"), ("ld", "binutils"), _PROGRAMS[machine]):
            tool(name, package)


def replay(trace: Trace, machine: str) -> Replayed:
    """Let a machine (a key of `MACHINES`, or the interpreter) follow a trace.

    Raises UsageError for a trace that is not what the interpreter makes of it, and MissingTool.
    """
    try:
        course = course_of(trace)
    except Disagreement as problem:
        message = f"{trace.property.name}: this is no run of {trace.model.path}: {problem}"
        hint = "the trace was edited, or the specification or its program has changed since it was written"
        raise UsageError(message, None, hint) from None
    if not still_broken(trace, course):
        raise UsageError(f"{trace.property.name}: the run does not break the property")
    if machine == INTERPRETER:
        return Replayed(trace, machine, Report(INTERPRETER, len(course.legs)))
    try:
        report, shown = on_machine(course, machine)
    except Disagreement as problem:
        return Replayed(trace, machine, None, f"its processor goes another way where processors may differ: {problem}")
    except (Unsupported, MachineError) as problem:
        return Replayed(trace, machine, None, str(problem))
    except Shutdown:
        return Replayed(trace, machine, None, "its processor shut down where nothing was to happen")
    if not still_broken(trace, shown):
        return Replayed(trace, machine, None, "on its processor the same events do not break the property")
    return Replayed(trace, machine, report)


def on_machine(course: Course, name: str) -> tuple[Report, Course]:
    """The report of a machine, and the course as its processor takes it.

    Raises Disagreement if the run is not possible on a processor with the machine's rules, Unsupported or UsageError
    if it needs what a replay cannot give, MachineError where the emulator fails.
    """
    kind = MACHINES[name]
    course = adapted(course, kind.rules, _loadable(course), kind.choices)
    touched = [place for leg in course.legs for place in leg.outcome.chosen]
    touched += [place for leg in course.legs for place in _raised_at(leg)]
    image = build(plan_of(course.machine, course.start, touched))
    with kind(image) as machine:
        now = machine.read()
        told = {n: now.get(n, value) for n, value in _AFTER_BOOT.items()}
        course = adapted(course, kind.rules, told | control.start_of(course, now))
        control.expect_followable(course)
        return Follower(machine, image, course).follow(), course


def _raised_at(leg: Leg) -> Iterator[tuple[int, int]]:
    """Where an instruction is put that raises an event (`verifier.replay.faults`): one that traps, in front of it."""
    event, rip = EVENTS.get(leg.move.action), leg.before.rip
    if event is None or event.asynchronous:
        return
    yield rip, min(LONGEST, (1 << 47) - rip % (1 << 47))
    if event.name in ("debug", "breakpoint", "overflow"):
        yield rip - 2, 2


def _loadable(course: Course) -> dict[str, int]:
    """Data segment registers that select nothing in the GDT become null: no processor can hold them. Nor has 32-bit
    code an RSP above 4 GB on every one. No descriptor is loaded into CS and into SS."""
    cells, segments = course.start.state.cells, {s & ~3 for s in course.machine.segments}
    changed = {n: 0 for n in ("ds", "es", "fs", "gs") if cells[n] & ~3 and cells[n] & ~3 not in segments}
    code = course.machine.segments.get(cells["cs"])
    if cells["cs"] & 4 and cells["cs"] == cells["ss"]:
        changed["ss"] = cells["ss"] ^ 8
    return changed | ({} if code is not None and code.long else {"rsp": cells["rsp"] & 0xFFFF_FFFF})
