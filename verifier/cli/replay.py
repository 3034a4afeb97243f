"""``replay``: the runs that break properties, on machines that nobody here wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.api import Specification, load
from verifier.cli import codes
from verifier.cli.terminal import Progress
from verifier.errors import UsageError
from verifier.files import is_inside
from verifier.replay.replay import Kind, expect_tools, replay
from verifier.report.reading import read_traces, trace_of
from verifier.report.replay import replay_document, replay_text

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

    from verifier.cli.terminal import Terminal
    from verifier.replay.replay import Replayed
    from verifier.trace.trace import Trace

_CODES: Mapping[Kind, int] = {"agreed": codes.OK, "deviates": codes.OK, "differs": 1, "not-shown": codes.UNKNOWN}


def replay_command(arguments: Namespace, terminal: Terminal, tool: Mapping[str, str]) -> int:
    machines = list(dict.fromkeys(arguments.on or ["qemu"]))
    for name in machines:
        expect_tools(name)
    found: list[Replayed] = []
    recorded = Path(arguments.what).suffix == ".json"
    for trace in _recorded(arguments) if recorded else _found(arguments):
        for name in machines:
            found.append(replay(trace, name) if recorded else Specification(trace.model).replay(trace, name))
            if not arguments.json:
                text = replay_text(found[-1])
                terminal.say(text.split("\n")[0] if arguments.quiet else text)
    if arguments.json:
        terminal.say(json.dumps(replay_document(tool, found), indent=1))
    return codes.worst(_CODES[r.kind] for r in found)


def _found(arguments: Namespace) -> Iterator[Trace]:
    """The runs that break the properties of a specification."""
    spec = load(arguments.what)
    with Progress(arguments.what, arguments.quiet) as progress:
        outcomes = list(spec.outcomes(arguments.property, states=arguments.max_states, progress=progress))
    for outcome in outcomes:
        if outcome.trace is not None:
            yield outcome.trace
        elif arguments.property:
            hint = "only a refuted property has a run that breaks it"
            raise UsageError(f"{outcome.name} is {outcome.verdict}: there is no run to replay", None, hint)
    if not any(outcome.trace is not None for outcome in outcomes):
        raise UsageError(f"{arguments.what}: no property is refuted, so there is no run to replay")


def _recorded(arguments: Namespace) -> Iterator[Trace]:
    """The runs in a document, of the specifications that it names, or of the one that is given."""
    path = Path(arguments.what)
    recorded = read_traces(path)
    known = [r.property for r in recorded]
    for name in arguments.property or ():
        if name not in known:
            raise UsageError(f"{path}: no run breaks '{name}'", None, f"there are runs for {', '.join(known)}")
    for r in recorded:
        if not arguments.property or r.property in arguments.property:
            yield trace_of(r, load(arguments.spec or _inside(path, r.spec)).model)


def _inside(path: Path, spec: str) -> Path:
    """The specification that a document names: a file cannot make us read what lies outside the folder we are in."""
    found = Path(spec)
    inside = is_inside(found, Path.cwd())
    if not inside or not found.is_file():
        problem = "is not there" if inside else "lies outside the folder that you are in"
        raise UsageError(f"{path}: its specification {spec[:200]} {problem}", None, "name it with --spec")
    return found
