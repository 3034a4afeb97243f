"""Writes down why a property was proved: the states of the search as an invariant (docs/certificates.md).

Each state is listed with what matters of it and nothing else, so that whoever checks the list checks too that the rest
does not matter. What is said of the steps (where each leads, what the unknowns of the target stand for) is a hint.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from typing import TYPE_CHECKING, Final

from verifier.errors import UsageError
from verifier.explore.graph import Node
from verifier.explore.nested import Nested
from verifier.explore.routine import Routine
from verifier.files import replace_file
from verifier.ir.cells import CELL_INDEX, CELL_NAMES
from verifier.machine.layout import CELL_COUNT
from verifier.machine.state import HOME, LEAVING
from verifier.machine.step import EXECUTE
from verifier.prove.progress import quiet_successors
from verifier.spec import project_root
from verifier.terms import all_of, not_

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from verifier.explore.compare import Names
    from verifier.explore.recognise import Summary
    from verifier.explore.schedule import Ghost
    from verifier.explore.search import Fixpoint
    from verifier.machine.layout import Layout
    from verifier.machine.step import Edge
    from verifier.spec.model import Model, Property
    from verifier.terms import Term

FORMAT: Final = "verifier certificate"
VERSION: Final = 1
#: The version with proofs that use routines.
WITH_ROUTINES: Final = 2
_NOWHERE = {HOME: "home", LEAVING: "leaving"}
_CPL = CELL_INDEX["cpl"]
Json = dict[str, object]
Entry = list[object]


class Certificate:
    """Collects the proofs of one specification, whose files are those of the moment when this is made."""

    def __init__(self, model: Model) -> None:
        root = project_root(model.path)
        sources = {name: _hash(root / name) for name in model.machine.program.files}
        self._header = {
            "format": FORMAT,
            "version": VERSION,
            "specification": _named(model.path),
            "sha256": {"specification": _hash(model.path), **sources},
            "assumptions": list(model.assumptions),
        }
        self._lines: list[bytes] = []
        self.proved = 0

    def add(self, proof: Proof) -> None:
        self._lines += proof.lines()
        self.proved += len(proof.properties)
        if proof.routines:
            self._header["version"] = WITH_ROUTINES

    def content(self) -> bytes:
        return b"".join([_line(self._header), *self._lines])

    def write(self, path: Path) -> None:
        """All of it, or nothing. Raises UsageError."""
        replace_file(path, self.content())


def _named(path: Path) -> str:
    """A path as a certificate names it: below the working folder, else the bare name."""
    here = path.cwd()
    full = path.resolve()
    return full.relative_to(here).as_posix() if full.is_relative_to(here) else path.name


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path.name} again: {error.strerror}") from None


class Proof:
    """One finished search, as the proof of some properties."""

    def __init__(
        self, properties: Iterable[Property], search: Fixpoint, layout: Layout
    ) -> None:
        self.properties = tuple(properties)
        self.routines = isinstance(search, Nested)
        self._search = search
        self._script = search.script
        self._recogniser = search.recogniser
        self._layout = layout
        self._nodes = [n for n in search.graph.nodes if n.merged is None]
        self._number = {n: i for i, n in enumerate(self._nodes)}
        self._ranks = ranks(self._nodes)
        self._terms = TermTable(layout)
        self._summaries: dict[Node, Summary] = {}

    def lines(self) -> Iterator[bytes]:
        """The proof, line by line."""
        yield _line(self._opening())
        for node in self._nodes:
            state = self._state(node)
            for entry in self._terms.new():
                yield _line(entry)
            yield _line(state)
        yield _line({"end": len(self._nodes)})

    def _opening(self) -> Json:
        script = self._script
        during = self.properties[0].during
        return {
            "properties": [p.name for p in self.properties],
            "during": None if during is None else [item.text for item in during],
            "events": script.events,
            "outermost": sorted(script.outermost),
            "watches": [[w.event, hex(w.body)] for w in script.watches],
            "counted": list(script.counted),
            "resumed": list(script.resumed),
            "returned_to": [hex(at) for at in sorted(self._search.returned_to)],
            "home_memory": self._recogniser.guarded,
            "starts": [self._number[n.representative()] for n in self._search.graph.starts],
            **({"routines": True} if self.routines else {}),
        }

    def _summary(self, node: Node) -> Summary:
        found = self._summaries.get(node)
        if found is None:
            found = self._summaries[node] = self._recogniser.summary(node, node)
        return found

    def _state(self, node: Node) -> Json:
        summary = self._summary(node)
        numbers = summary.names
        cells: dict[str, int] = {}
        memory: list[Entry] = []
        for location, term in summary.terms.items():
            if location == _CPL:
                continue  # 0 wherever control is in the program
            number = self._terms.number(term, numbers)
            if location < CELL_COUNT:
                cells[CELL_NAMES[location]] = number
            else:
                place = self._layout.place_of(location)
                memory.append([self._layout.regions[place.region].name, place.offset, number])
        return {
            "state": self._number[node],
            "context": node.state.home.context.name,
            "at": _NOWHERE.get(node.state.rip) or hex(node.state.rip),
            **(self._nested(node, numbers) if self.routines else {}),
            "nmi_blocked": node.state.nmi_blocked,
            **_ghost(node.ghost),
            "watched": self._watched(node.ghost, numbers),
            "cells": cells,
            "memory": memory,
            "when": sorted(self._terms.number(t, numbers) for t in summary.literals | _assumed(node)),
            "rank": self._ranks.get(node),
            "steps": self._steps(node, summary),
        }

    def _nested(self, node: Node, numbers: Names) -> Json:
        """The routine that a state is in, by its first state, and where a state leaves it for, at which CPL."""
        state, frame = node.state, node.state.frame
        leaves = None if state.target is None else [self._terms.number(state.target, numbers), state.cpl]
        first = self._number[frame.founder.entry] if isinstance(frame, Routine) else None
        return {"routine": first, "leaves": leaves}

    def _watched(self, ghost: Ghost, numbers: dict[Term, int]) -> Entry | None:
        if ghost.struck is None:
            return None
        values = [self._terms.number(t, numbers) for t in ghost.struck.values]
        return [hex(ghost.struck.rip), ghost.struck.back, values]

    def _steps(self, node: Node, summary: Summary) -> list[Entry]:
        steps: list[Entry] = []
        for edge, target in node.successors:
            if not isinstance(target, Node):
                continue
            standing = target.representative()
            known = self._unknowns(target, edge, summary)
            theirs = self._summary(standing)
            ours = {n: h for h, n in self._recogniser.summary(target, standing).names.items()}
            stands = [known.get(ours.get(number)) for number in sorted(theirs.names.values())]
            step: Entry = [edge.action, self._number[standing], stands]
            if target.call is not None:
                step.append("call")
            elif target.left is not None:
                step.append(self._number[target.left])
            if step not in steps:
                steps.append(step)
        return steps

    def _unknowns(self, target: Node, edge: Edge, summary: Summary) -> dict[Term | None, object]:
        """What a hint says of each havoc variable of the state that a step led to."""
        known: dict[Term | None, object] = {unknown: number for unknown, number in summary.names.items()}
        if target.left is not None:
            call, names = self._search.graph.resumed[target]
            of_run = self._summary(target.left).names
            known |= {new: ["exit", of_run[old]] for old, new in names.items() if old in of_run}
            edge = call.edge
        return known | {value: ["choice", i] for i, (_, value) in enumerate(edge.choices)}


def _line(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _ghost(ghost: Ghost) -> Json:
    return {"counts": list(ghost.counts), "owed": list(ghost.owed), "positions": sorted(ghost.positions)}


def ranks(nodes: Iterable[Node]) -> dict[Node, int]:
    """How many steps without a further event lead home from each node at most, or out of the routine that it is in;
    none where a loop is in between.

    A node has a rank once all that follow it have one.
    """
    waiting: dict[Node, int] = {}
    before: dict[Node, list[Node]] = {}
    found: dict[Node, int] = {}
    ready: deque[Node] = deque()
    for node in nodes:
        targets = _quiet_targets(node)
        waiting[node] = len(targets)
        for target in targets:
            before.setdefault(target, []).append(node)
        if not targets and (node.successors or node.state.rip == LEAVING):
            ready.append(node)
    while ready:
        node = ready.popleft()
        after = [found[t] for t in _quiet_targets(node)]
        found[node] = 1 + max(after, default=0)
        for earlier in before.get(node, ()):
            waiting[earlier] -= 1
            if not waiting[earlier]:
                ready.append(earlier)
    return found


def _quiet_targets(node: Node) -> list[Node]:
    """Where a node leads without a further event, and where nested runs lead back to that it leads to."""
    back = [t.representative() for e, t in node.successors if isinstance(t, Node) and t.left and e.action == EXECUTE]
    return [t for t in quiet_successors(node) if isinstance(t, Node)] + back


def _assumed(node: Node) -> frozenset[Term]:
    """What holds in all contexts that a routine stands for, where it begins."""
    routine = node.state.frame
    if not isinstance(routine, Routine) or node.call is None:
        return frozenset()
    return frozenset([not_(all_of([*given, condition])) for given, condition in routine.excluded])


class TermTable:
    """Numbers terms in the order in which they are first needed; unknowns go by their number in a state."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._regions = {base: r.name for base, r in zip(layout.bases, layout.regions, strict=True)}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._fresh: list[Entry] = []

    def new(self) -> list[Entry]:
        """The entries added since the last call, in order."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def number(self, term: Term, unknowns: dict[Term, int]) -> int:
        done: dict[Term, int] = {}
        stack = [term]
        while stack:
            t = stack[-1]
            missing = [a for a in t.args if a not in done]
            if missing:
                stack += missing
            else:
                done[stack.pop()] = self._add(self._entry(t, [done[a] for a in t.args], unknowns))
        return done[term]

    def _add(self, entry: Entry) -> int:
        key = tuple(entry)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._numbers)
            self._fresh.append(entry)
        return found

    def _entry(self, t: Term, args: list[int], unknowns: dict[Term, int]) -> Entry:
        match t.op:
            case "const":
                return ["const", hex(t.value), t.width]
            case "havoc":
                return ["unknown", unknowns[t], t.width]
            case "var":
                return self._variable(t)
            case "param":
                assert isinstance(t.attr, int)
                return self._param(t.attr)
            case "extract":
                assert isinstance(t.attr, tuple)
                return ["extract", *args, *t.attr]
            case "sext":
                return ["sext", *args, t.width]
            case _:
                return [t.op, *args]

    def _param(self, location: int) -> Entry:
        if location < CELL_COUNT:
            return ["param", CELL_NAMES[location]]
        place = self._layout.place_of(location)
        return ["param", self._layout.regions[place.region].name, place.offset]

    def _variable(self, t: Term) -> Entry:
        """What a name of ``machine/state.py`` or ``machine/layout.py`` means."""
        name = str(t.attr)
        if t in self._regions:
            return ["base", self._regions[t]]
        if name.startswith("rule:"):
            return ["rule", name.removeprefix("rule:")]
        if "+" in name:
            region, _, offset = name.rpartition("+")
            return ["initial", region, int(offset, 16)]
        return ["interrupted", "rip" if name.endswith("_rip0") else name[:-1]]
