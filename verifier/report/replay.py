"""What became of a run on a machine, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.replay.follow import Report
    from verifier.replay.replay import Replayed
    from verifier.trace.trace import Trace

FORMAT = 1


def replay_text(replayed: Replayed) -> str:
    """One line, and below it the known deviations that were met, or what differs."""
    head = f"{replayed.trace.property.name} on {replayed.machine}: "
    report = replayed.report
    if report is None:
        return f"{head}cannot be shown: {replayed.why_not}"
    if report.differs:
        where = _where(replayed.trace, report.steps + 1)
        lines = [f"  {d.where}: {d.run} in the run, {d.machine} on {replayed.machine}" for d in report.differs]
        return "\n".join([f"{head}differs at {where}", *lines, *_met(replayed.trace, report)])
    text = f"{head}agreed on all {report.steps} steps"
    if report.met:
        text += f", but for known deviations of {replayed.machine}"
    notes = [f"  {note}" for note in report.notes]
    if replayed.why_not:
        notes.append(f"  a run found for this machine, since that of 'refute' cannot be shown: {replayed.why_not}")
    return "\n".join([text, *_met(replayed.trace, report), *notes])


def _where(trace: Trace, number: int) -> str:
    """``step 3: pushq %rax at nmi+0x2``; past the last step, the end."""
    if number > len(trace.steps):
        return "the end"
    step, program = trace.steps[number - 1], trace.model.machine.program
    place = "in the interrupted context" if step.at is None else f"at {program.describe(step.at)}"
    what = step.move.action
    if what == "execute" and step.at is not None:
        what = " ".join(program.instructions[step.at].text.split())
    return f"step {number}: {what} {place}"


def _met(trace: Trace, report: Report) -> Iterable[str]:
    """Each deviation once, with the steps that show it."""
    for deviation in dict.fromkeys(met.deviation for met in report.met):
        numbers = [met.step for met in report.met if met.deviation == deviation]
        more = f", and at {len(numbers) - 1} more" if len(numbers) > 1 else ""
        yield f"  {deviation.name}, at {_where(trace, numbers[0])}{more}"


def replay_document(tool: Mapping[str, str], replays: Iterable[Replayed]) -> dict[str, Any]:
    """All replays of one call."""
    return {"format": FORMAT, "tool": dict(tool), "replays": [_entry(r) for r in replays]}


def _entry(replayed: Replayed) -> dict[str, Any]:
    report = replayed.report
    return {
        "spec": str(replayed.trace.model.path),
        "property": replayed.trace.property.name,
        "machine": replayed.machine,
        "outcome": replayed.kind,
        "steps": len(replayed.trace.steps),
        "agreed": report.steps if report else 0,
        "deviations": [{"step": met.step, "name": met.deviation.name} for met in report.met] if report else [],
        "differs": [{"where": d.where, "run": d.run, "machine": d.machine} for d in report.differs] if report else [],
        "notes": [*(report.notes if report else ()), *([replayed.why_not] if replayed.why_not else ())],
    }
