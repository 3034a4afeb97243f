"""A run out of the JSON document that `verifier.report.document` writes; nothing in the file is taken on trust.

What the file says of its steps is compared with what the interpreter makes of them by whoever follows the trace
(`verifier.replay.course.course_of`).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from verifier.errors import UsageError, nearest
from verifier.files import read_file
from verifier.trace.allowed import problems
from verifier.trace.run import ConcreteState, Move, Start
from verifier.trace.trace import Step, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from verifier.spec.model import Model, Property

    Json = dict[str, Any]

#: The largest file that is read, in bytes: a run of 4,000 steps takes about 4 MB.
MOST = 32 << 20
#: The most bytes of modelled memory that the states of a run may hold together.
MOST_BYTES = 5_000_000
_NOT_OURS = "write it with 'verifier prove SPEC --json' or 'verifier refute SPEC -p NAME --json'"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run in a file, not looked into yet: the specification and property that it names."""

    file: str
    spec: str
    property: str
    entry: Json


def read_traces(path: Path) -> list[Recorded]:
    """The runs in a document of verdicts. UsageError for a file that is none, and for one without a run."""
    whole = _checked(path, _parsed(path))
    found = [Recorded(str(path), r["spec"], r["property"], r["trace"]) for r in whole.get("results", ()) if r["trace"]]
    if not found:
        raise UsageError(f"{path}: there is no run in it", None, "only a refuted property has one")
    return found


def _parsed(path: Path) -> object:
    data = read_file(path, MOST)
    try:
        return json.loads(data.decode())  # bytes may be UTF-16, and mean another text
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path}: this is no JSON document: {what}", None, _NOT_OURS) from None


@cache
def _schema() -> Json:
    schema: Json = json.loads(files("verifier.report").joinpath("results.json").read_text("utf-8"))
    return schema


def _checked(path: Path, document: object) -> Json:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    problem = best_match(Draft202012Validator(_schema()).iter_errors(document))
    if problem is not None:
        where = "/".join(str(p) for p in problem.absolute_path)
        raise UsageError(f"{path}: not a document of verdicts: {where or 'whole'}: {problem.message}", None, _NOT_OURS)
    assert isinstance(document, dict)
    return document


def trace_of(recorded: Recorded, model: Model) -> Trace:
    """The run as a trace of the specification it names. UsageError where it does not fit it."""
    entry, where = recorded.entry, f"{recorded.file}: {recorded.property}"
    p = model.property_named(recorded.property)
    if p is None:
        hint = nearest(recorded.property, [q.name for q in model.properties])
        raise UsageError(f"{where}: {model.path} has no such property", None, hint)
    initial = entry["initial"]
    context = next((c for c in model.machine.contexts if c.name == initial["context"]), None)
    if context is None:
        raise UsageError(f"{where}: {model.path} has no interrupted context '{initial['context']}'")
    start = _start(initial)
    for problem in problems(model.machine, context, start):
        raise UsageError(f"{where}: the specification allows no run from this start: {problem}")
    violation = entry["violation"]
    steps = tuple(_steps(start.state, entry["steps"], where))
    quiet = violation["quiet_from"]
    if not steps or (quiet is not None and not 0 <= quiet < len(steps)):
        raise UsageError(f"{where}: the run has no steps" if not steps else f"{where}: there is no step {quiet}")
    for problem in _forbidden(model, p, steps):
        raise UsageError(f"{where}: the specification does not allow {problem}")
    names = tuple(violation["names"])
    return Trace(model, p, context, start, steps, violation["kind"], violation["message"], names, quiet)


def _forbidden(model: Model, p: Property, steps: Iterable[Step]) -> Iterator[str]:
    """What of the events of a run the specification does not allow."""
    allowed, struck = model.environment.events, Counter[str]()
    for number, step in enumerate(steps, 1):
        name = step.move.action
        if name == "execute":
            continue
        struck[name] += not step.before.nmi_pending
        limit = allowed.get(name, 0)
        if limit is not None and struck[name] > limit:
            often = f" {struck[name]} times" if limit else ""
            yield f"{name} to strike{often}, as it does in step {number}"
        if number == 1 and p.during is None and name not in model.environment.outermost:
            yield f"{name} to strike first"


def _start(initial: Json) -> Start:
    cells = {name: int(value, 16) for name, value in initial["cells"].items()}
    bases = {name: int(value, 16) for name, value in initial["regions"].items()}
    home = int(initial["rip"], 16)
    return Start(ConcreteState(home, cells, _bytes(initial["memory"])), home, bases, dict(initial["rules"]))


def _bytes(stretches: Iterable[Json]) -> dict[int, int]:
    return {
        int(s["address"], 16) + i & (1 << 64) - 1: byte
        for s in stretches
        for i, byte in enumerate(bytes.fromhex(s["bytes"]))
    }


def _steps(state: ConcreteState, entries: Iterable[Json], where: str) -> Iterator[Step]:
    held = len(state.memory)
    for number, e in enumerate(entries, 1):
        held += len(state.memory)
        if held > MOST_BYTES:
            raise UsageError(f"{where}: more memory than a run of this program has")
        cells = {name: int(value, 16) for name, value in e["cells"].items()}
        if not set(cells) <= set(state.cells):
            raise UsageError(f"{where}: step {number} changes '{min(set(cells) - set(state.cells))}', which is no cell")
        memory = {**state.memory, **_bytes(e["memory"])}
        after = ConcreteState(
            int(e["rip"], 16), {**state.cells, **cells}, memory, e["nmi_blocked"], e["nmi_pending"]
        )
        choices = tuple((c["kind"], int(c["value"], 16)) for c in e["choices"])
        at = None if e["address"] is None else int(e["address"], 16)
        move = Move(e["action"], choices, e["latch"])
        yield Step(at, move, state, after, tuple(e["delivered"]), e["ended"], e["detail"])
        state = after
