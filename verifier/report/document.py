"""The JSON document of verdicts, format 1; its schema is ``results.json`` beside this file.

64-bit values are hexadecimal strings, since readers of JSON keep no more than 53 bits of a number.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from verifier.errors import InternalError, VerifierError
from verifier.report.changes import changed_bytes
from verifier.report.timeline import broken
from verifier.report.verdict import bound_of, places_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.prove.verdict import Coverage, Result
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Step, Trace

    Json = dict[str, Any]

FORMAT = 1


def document(tool: Mapping[str, str], results: Iterable[Json], errors: Iterable[Json] = ()) -> Json:
    """All verdicts of one call; ``errors`` is there if some specification could not be judged."""
    whole: Json = {"format": FORMAT, "tool": dict(tool), "results": list(results)}
    found = list(errors)
    return whole | {"errors": found} if found else whole


def error_document(tool: Mapping[str, str], error: Exception) -> Json:
    """The document in place of verdicts where there are none."""
    return {"format": FORMAT, "tool": dict(tool), "error": error_entry(error)}


def error_entry(error: Exception) -> Json:
    """``kind`` is the class of a VerifierError, or ``InternalError`` for everything that is our fault."""
    span = error.span if isinstance(error, VerifierError) else None
    return {
        "kind": type(error).__name__ if isinstance(error, VerifierError) else InternalError.__name__,
        "message": error.message if isinstance(error, VerifierError) else str(error),
        "file": span.file if span else None,
        "line": (span.line or None) if span else None,
        "column": span.column if span else None,
        "hint": error.hint if isinstance(error, VerifierError) else None,
    }


def result_entry(result: Result, trace: Trace | None) -> Json:
    """One verdict. ``bound`` None: any number and depth of every event; else those events that have one."""
    p = result.property
    return {
        "spec": str(result.model.path),
        "property": p.name,
        "that": p.text,
        "at": places_of(result),
        "during": None if p.during is None else [item.text for item in p.during],
        "verdict": result.verdict,
        "bound": bound_of(result) or None,
        "expect": p.expect,
        "as_expected": result.as_expected,
        "states": result.states,
        "seconds": round(result.seconds, 3),
        "assumptions": list(result.model.assumptions),
        "coverage": _coverage(result.coverage),
        "reason": result.reason,
        "trace": None if trace is None else trace_entry(trace),
    }


def _coverage(coverage: Coverage) -> Json:
    reached, total = coverage.instructions
    return {
        "instructions": {"reached": reached, "all": total},
        "missed": list(coverage.missed),
        "events": {name: {"offered": n, "struck": hit} for name, (n, hit) in coverage.events.items()},
        "returns": coverage.returns,
        "ended": dict(coverage.ended),
        "notes": list(coverage.notes),
    }


def trace_entry(trace: Trace) -> Json:
    """A run, complete: its start, every step with all that it changed, and what it breaks."""
    describe = trace.model.machine.program.describe
    return {
        "initial": _initial(trace),
        "schedule": [
            {"event": event, "at": None if at is None else describe(at), "occurrence": n}
            for event, at, n in trace.schedule
        ],
        "steps": [_step(trace, step) for step in trace.steps],
        "violation": {
            "kind": trace.kind,
            "message": broken(trace),
            "names": list(trace.names),
            "quiet_from": trace.quiet_from,
        },
    }


def _initial(trace: Trace) -> Json:
    start = trace.start
    return {
        "context": trace.context.name,
        "rip": hex(start.home),
        "cells": {name: hex(value) for name, value in start.state.cells.items()},
        "memory": _runs(start.state, sorted(start.state.memory)),
        "regions": {name: hex(base) for name, base in start.bases.items()},
        "rules": dict(start.rules),
    }


def _step(trace: Trace, step: Step) -> Json:
    program = trace.model.machine.program
    instruction = None if step.at is None else program.instructions.get(step.at)
    before, after = step.before, step.after
    return {
        "at": None if step.at is None else program.describe(step.at),
        "address": None if step.at is None else hex(step.at),
        "file": instruction.span.file if instruction else None,
        "line": (instruction.span.line or None) if instruction else None,
        "text": instruction.text if instruction else None,
        "action": step.move.action,
        "latch": step.move.latch,
        "choices": [{"kind": kind, "value": hex(value)} for kind, value in step.move.choices],
        "delivered": list(step.delivered),
        "rip": hex(after.rip),
        "cells": {n: hex(v) for n, v in after.cells.items() if before.cells[n] != v},
        "memory": _runs(after, changed_bytes(before, after)),
        "nmi_blocked": after.nmi_blocked,
        "nmi_pending": after.nmi_pending,
        "ended": step.ended,
        "detail": step.detail,
    }


def _runs(state: ConcreteState, addresses: Iterable[int]) -> list[Json]:
    """Bytes of memory as stretches: the address of the first byte, then the bytes upwards in hexadecimal."""
    wanted = list(addresses)
    starts = wanted[:1] + [b for a, b in pairwise(wanted) if b != a + 1]
    ends = [a for a, b in pairwise(wanted) if b != a + 1] + wanted[-1:]
    return [
        {"address": hex(first), "bytes": bytes(state.memory.get(a, 0) for a in range(first, last + 1)).hex()}
        for first, last in zip(starts, ends, strict=True)
    ]
