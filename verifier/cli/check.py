"""``check``: every verdict of many specifications against what each expects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifier.api import load
from verifier.cli import codes
from verifier.cli.processes import Death, each_in_a_process
from verifier.cli.terminal import Progress
from verifier.errors import CutShort, InternalError, UsageError, VerifierError, nearest
from verifier.report.diagnostics import diagnostic_text
from verifier.report.document import document, error_entry, result_entry
from verifier.report.dump import Dump
from verifier.report.table import table

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping

    from verifier.api import Outcome
    from verifier.cli.terminal import Terminal

_HEADER = ("spec", "property", "verdict", "expected", "states", "seconds")


@dataclass(slots=True)
class Checked:
    """One specification's verdicts as plain data, so that another process can hand it over.

    ``entries``: as in the JSON document; ``texts``: the verdict as text, by property; ``error``: what to say
    if the specification could not be judged to its end.
    """

    spec: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    error_entry: dict[str, Any] | None = None
    code: int = codes.OK


def check(arguments: Namespace, terminal: Terminal, tool: Mapping[str, str]) -> int:
    specs = specifications(arguments.paths)
    checked = []
    for one in _all(specs, arguments):
        checked.append(one)
        if not arguments.json:
            _tell(one, arguments, terminal)
    rows = [entry for one in checked for entry in one.entries]
    errors = [one.error_entry for one in checked if one.error_entry is not None]
    if arguments.json:
        terminal.say(json.dumps(document(tool, rows, errors), indent=1))
    else:
        _summary(checked, terminal)
    return codes.worst(one.code for one in checked)


def specifications(paths: Iterable[str]) -> list[Path]:
    """The files named, and the ``*.yaml`` below the folders named. Raises UsageError where there are none."""
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        try:
            folder = path.is_dir()
        except OSError as error:  # a name too long
            raise UsageError(f"{name[:200]}: {error.strerror}") from None
        if folder:
            inside = sorted(p for p in path.rglob("*.yaml") if p.is_file())
            if not inside:
                raise UsageError(f"{name}: no *.yaml below this folder")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UsageError(f"{name}: no such file or folder", None, nearest(path.name, siblings))
    return list(dict.fromkeys(found))


def _all(specs: list[Path], arguments: Namespace) -> Iterator[Checked]:
    """Each in a process of its own, unless there is but one."""

    def judge(path: Path) -> Checked:
        with Progress(str(path), arguments.quiet or arguments.jobs > 1) as progress:
            return check_one(path, arguments.max_states, progress, arguments.dump_smt, arguments.routines)

    if len(specs) == 1:
        yield judge(specs[0])
        return
    for path, answer in zip(specs, each_in_a_process(judge, specs, arguments.jobs), strict=True):
        yield _died(path, answer) if isinstance(answer, Death) else answer


def _died(path: Path, death: Death) -> Checked:
    """The kernel kills a process that takes too much memory, for example."""
    error = CutShort(f"{path}: the process that judged it {death}; no verdict was reached")
    return Checked(str(path), error=error.render(), error_entry=error_entry(error), code=codes.UNKNOWN)


def check_one(
    path: Path,
    states: int | None = None,
    progress: Progress | None = None,
    dump: str | None = None,
    routines: bool = False,
) -> Checked:
    """Judge one specification; whatever is wrong with it is part of the answer."""
    checked = Checked(str(path))
    try:
        spec = load(path)
        checked.notes = [diagnostic_text(d) for d in spec.model.machine.program.diagnostics]
        listener = Dump.of(dump, spec.model)
        for outcome in spec.outcomes(states=states, progress=progress, listener=listener, routines=routines):
            checked.entries.append(result_entry(outcome.result, outcome.trace))
            checked.texts[outcome.name] = outcome.text
            if not is_fine(outcome):
                checked.code = 1
        order = [p.name for p in spec.properties]
        checked.entries.sort(key=lambda entry: order.index(entry["property"]))
    except VerifierError as error:
        checked.error, checked.error_entry, checked.code = error.render(), error_entry(error), codes.USAGE
    except (MemoryError, RecursionError) as error:
        what = "memory" if isinstance(error, MemoryError) else "Python's stack"
        short = CutShort(f"{path}: ran out of {what}; no verdict was reached")
        checked.error, checked.error_entry, checked.code = short.render(), error_entry(short), codes.UNKNOWN
    except InternalError as error:
        checked.error = f"{path}: internal error: {error}"
        checked.error_entry, checked.code = error_entry(error), codes.INTERNAL
    return checked


def is_fine(outcome: Outcome) -> bool:
    """As expected; without an expectation, decided either way."""
    expected = outcome.result.as_expected
    return outcome.verdict in ("proved", "refuted") if expected is None else expected


def _tell(one: Checked, arguments: Namespace, terminal: Terminal) -> None:
    """What does not fit in the table: errors, and verdicts that are not as expected in full."""
    if one.error:
        terminal.complain(one.error)
    for note in one.notes if arguments.verbose else ():
        terminal.complain(note)
    for entry in one.entries:
        name = entry["property"]
        if arguments.verbose:
            terminal.say(f"{one.spec}\n{one.texts[name]}\n")
        elif not _entry_is_fine(entry) and not arguments.quiet:
            known = entry["verdict"] != "unknown"
            terminal.say(f"{one.spec}\n{one.texts[name] if known else _short(entry)}\n")


def _short(entry: Mapping[str, Any]) -> str:
    expected = f" (expected: {entry['expect']})" if entry["expect"] else ""
    return f"{entry['property']}: {entry['verdict']}{expected}\n  reason    {entry['reason']}"


def _entry_is_fine(entry: Mapping[str, Any]) -> bool:
    if entry["as_expected"] is None:
        return entry["verdict"] in ("proved", "refuted")
    return bool(entry["as_expected"])


def _summary(checked: list[Checked], terminal: Terminal) -> None:
    names = [Path(one.spec).stem for one in checked]
    rows: list[tuple[str, ...]] = []
    for one, stem in zip(checked, names, strict=True):
        name = stem if names.count(stem) == 1 else one.spec
        rows += [_row(name, entry) for entry in one.entries]
        if one.error:
            rows.append((name, "", "error", "", "", "", "see above"))
    for line in table(_HEADER, rows):
        terminal.say(line)
    terminal.say(f"\n{_closing(checked)}")


def _row(spec: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    remark = () if _entry_is_fine(entry) else ("<- not as expected",)
    expected = entry["expect"] or "-"
    seconds = f"{entry['seconds']:.2f}"
    return (spec, entry["property"], entry["verdict"], expected, str(entry["states"]), seconds, *remark)


def _closing(checked: list[Checked]) -> str:
    entries = [entry for one in checked for entry in one.entries]
    wrong = sum(1 for entry in entries if not _entry_is_fine(entry))
    broken = sum(1 for one in checked if one.error)
    told = f"{wrong} not as expected" if wrong else "all as expected"
    errors = f"; {broken} specifications with errors" if broken else ""
    return f"{len(entries)} properties of {len(checked)} specifications: {told}{errors}"
