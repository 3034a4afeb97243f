"""From a model to verdicts: which searches to run, and what each says of its properties."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.explore.graph import cost_of
from verifier.explore.guided import Guided, steps_to
from verifier.explore.nested import Nested
from verifier.explore.paths import Enumeration
from verifier.explore.routine import Again
from verifier.explore.schedule import ANY, Script, Watch
from verifier.explore.search import ALL_REFUTED, Explorer, Fixpoint, Limits
from verifier.lift import lift
from verifier.machine.events import MISHAPS
from verifier.machine.layout import Layout
from verifier.machine.step import Stepper
from verifier.prove.certificate import Proof
from verifier.prove.coverage import coverage_of, schedule_report
from verifier.prove.judge import Describe, Judge, control_lost, walk
from verifier.prove.progress import quiet_run, stuck_nodes
from verifier.prove.vacuity import caveat, vacuous
from verifier.prove.verdict import Result, Violation
from verifier.spec.expression import Count, Handled, Intact, Progress, Restored, Resumed
from verifier.terms import Solver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from verifier.explore.graph import End, Graph, Node
    from verifier.spec.model import Model, Property, Verdict
    from verifier.terms import Term

WITH_ROUTINES = "explored with routines: what handlers that nest do, once for many contexts"
#: How often a search with routines may begin again.
BEGINNINGS = 32


def searches(properties: Iterable[Property]) -> Iterator[list[Property]]:
    """The properties that share a search: those of all runs, but that watching contexts takes more states; then one
    by one those with a schedule."""
    wanted = list(properties)
    shared = [p for p in wanted if p.during is None]
    watching = [p for p in shared if isinstance(p.that, Resumed)]
    yield from (group for group in ([p for p in shared if p not in watching], watching) if group)
    yield from ([p] for p in wanted if p.during is not None)


class Prover:
    """Judges the properties of one model, in as few searches as `searches` says.

    ``bound`` None: to a fixpoint. Otherwise every path with at most that many of each event, by the reference engine,
    which merges nothing. ``progress`` is told of explored and waiting states now and then. ``latching`` as in
    `verifier.explore.search.Explorer`. ``routines``: runs of handlers nested in the program are explored once for all
    contexts that they cannot tell apart (`verifier.explore.routine`); not with a bound. ``processor`` as in
    `verifier.machine.layout.Layout`: verdicts are about that processor then, so this finds runs, and proves nothing.
    """

    def __init__(
        self,
        model: Model,
        bound: Mapping[str, int] | None = None,
        limits: Limits | None = None,
        progress: Callable[[int, int], None] | None = None,
        latching: bool = False,
        witness: Callable[[Proof], None] | None = None,
        processor: Mapping[str, int] | None = None,
        routines: bool = False,
    ) -> None:
        self.model = model
        self.bound = dict(bound) if bound is not None else None
        self.layout = Layout(model.machine, processor)
        self.solver = Solver(self.layout.facts)
        self._limits = limits or Limits()
        self._progress = progress
        self._latching = latching
        self._witness = witness
        self._routines = routines and bound is None and not latching
        self._wishes: dict[int, set[int]] = {}
        program = model.machine.program
        self._stepper = Stepper(self.layout, self.solver, lambda rip: lift(program.instructions[rip]))

    def results(self, properties: Iterable[Property]) -> Iterator[Result]:
        """A verdict per property, in the given order as far as searches allow."""
        for group in searches(properties):
            yield from self._search(group)

    def _search(self, properties: list[Property]) -> Iterator[Result]:
        began = time.perf_counter()
        asked = self.solver.queries
        script = self._script(properties)
        explorer, judge, graph = self._found(properties, script)
        seconds, queries = time.perf_counter() - began, self.solver.queries - asked
        proved = []
        for p in properties:
            verdict, reason, violation = _decide(p, graph, script, judge, explorer)
            coverage = coverage_of(self.model, graph, explorer, script)
            if isinstance(explorer, Nested):
                coverage = replace(coverage, notes=(*coverage.notes, WITH_ROUTINES))
            if verdict == "proved":
                proved.append(p)
            yield Result(
                self.model, p, verdict, reason, graph.states, seconds, coverage, self.bound, violation, queries
            )  # fmt: skip
        if self._witness is not None and proved and isinstance(explorer, Fixpoint):
            self._witness(Proof(proved, explorer, self.layout))

    def _found(self, properties: list[Property], script: Script) -> tuple[Explorer, Judge, Graph]:
        """The search that was asked for; where one with routines does not decide, the one without."""
        if self._routines and not script.resumed:
            nested = self._nested(properties, script)
            if nested is not None:
                return nested
        return self._plain(properties, script)

    def _plain(self, properties: list[Property], script: Script) -> tuple[Explorer, Judge, Graph]:
        judge = Judge(self.layout, self.solver, script, properties, Describe(self.layout))
        explorer = self._explorer(properties, script, judge)
        graph = explorer.run()
        self._judge_progress(properties, graph, judge)
        return explorer, judge, graph

    def _nested(self, properties: list[Property], script: Script) -> tuple[Explorer, Judge, Graph] | None:
        """The search with routines; None if it gives up, or what breaks a property in it is not shown to be a run."""
        for _ in range(BEGINNINGS):
            judge = Judge(self.layout, self.solver, script, properties, Describe(self.layout))
            explorer = Nested(
                self._stepper, script, judge, **self._keyed(properties), shortest=False,
                limits=self._limits, progress=self._progress,
            )  # fmt: skip
            explorer.begin(self._wishes)
            try:
                graph = explorer.run()
            except Again:
                continue
            if graph.limit not in ("", ALL_REFUTED):
                return None
            self._judge_progress(properties, graph, judge)
            return (explorer, judge, graph) if self._followed(properties, script, judge, graph) else None
        return None

    def _followed(self, properties: list[Property], script: Script, judge: Judge, graph: Graph) -> bool:
        """Find the precise run of each violation; False if there is none of some, or the search could not go on."""
        lost, unresolved = _control_lost(graph, script), any(e.kind == "unresolved" for e in graph.ends)
        for p in properties:
            violation = judge.violations.get(p.name) or lost
            if violation is None:
                if unresolved:
                    return False
                if graph.complete and _never_home(p, graph, script, judge) is not None:
                    return False
                continue
            if violation.kind == "stuck":
                return False
            precise = Judge(self.layout, self.solver, script, [p], judge.where)
            guided = Guided(self._stepper, script, precise, *steps_to(violation.end or violation.node))
            found = guided.run()
            shown = precise.violations.get(p.name) or _control_lost(found, script)
            if shown is None:
                return False
            judge.violations[p.name] = shown
        return True

    def _script(self, properties: list[Property]) -> Script:
        inside = [e for p in properties for e in walk(p.that)]
        watches = dict.fromkeys(Watch(e.event, e.body) for e in inside if isinstance(e, Handled))
        counted = {e.event for e in inside if isinstance(e, Count)}
        environment = self.model.environment
        events = dict(environment.events)
        if self.bound is not None:
            events = {name: self.bound.get(name, events[name]) for name in events}
        outermost: Iterable[str] = environment.outermost
        schedule = properties[0].during
        if schedule is not None and all(item.event != ANY for item in schedule):
            events = {name: n for name, n in events.items() if any(i.event == name for i in schedule)}
            outermost = events
        resumed = dict.fromkeys(c for e in inside if isinstance(e, Resumed) for c in e.cells)
        return Script(events, outermost, tuple(watches), schedule, counted, tuple(resumed))

    def _explorer(self, properties: list[Property], script: Script, judge: Judge) -> Fixpoint | Enumeration:
        if self.bound is not None:
            return Enumeration(self._stepper, script, judge, self._limits, self._progress, self._latching)
        return Fixpoint(
            self._stepper, script, judge, **self._keyed(properties),
            latching=self._latching, limits=self._limits, progress=self._progress,
        )  # fmt: skip

    def _keyed(self, properties: list[Property]) -> dict[str, bool]:
        """What the properties ask of the keys of states."""
        inside = [e for p in properties for e in walk(p.that)]
        return {
            "tracked": any(isinstance(e, Intact) for e in inside),
            "guarded": any(isinstance(e, Restored) and "memory" in e.cells for e in inside),
        }

    def _judge_progress(self, properties: list[Property], graph: Graph, judge: Judge) -> None:
        wanted = [p for p in properties if isinstance(p.that, Progress)]
        if not wanted or not graph.complete:
            return
        stuck = stuck_nodes(graph)
        for p in wanted:
            judge.judged[p.name] = graph.states
            if stuck:
                judge.violations[p.name] = no_progress(stuck[0])


def _decide(
    p: Property, graph: Graph, script: Script, judge: Judge, explorer: Explorer
) -> tuple[Verdict, str, Violation | None]:
    """The verdict, its reason, and the violation if there is one."""
    violation = judge.violations.get(p.name) or _control_lost(graph, script)
    if violation is None and graph.complete:
        violation = _never_home(p, graph, script, judge)
    if violation is not None:
        return "refuted", violation.message, violation
    unresolved = next((e for e in graph.ends if e.kind == "unresolved"), None)
    if unresolved is not None:
        where = judge.where(unresolved.node.state.rip)
        return "unknown", f"at {where}: {unresolved.edge.detail}", None
    if not graph.complete:
        return "unknown", f"gave up after {graph.limit}", None
    if p.name in judge.doubts:
        return "unknown", judge.doubts[p.name], None
    if p.during is not None and not script_completed(script, graph):
        return schedule_report(p.during, graph, explorer)
    why = vacuous(p, graph, judge, explorer)
    if why:
        return "vacuous", why, None
    return "proved", caveat(p, graph, judge), None


def script_completed(script: Script, graph: Graph) -> bool:
    return any(script.complete(n.ghost) for n in graph.nodes) or any(script.complete(e.ghost) for e in graph.ends)


def _control_lost(graph: Graph, script: Script) -> Violation | None:
    """The cheapest run that loses control: anything can follow it, so no property holds."""
    lost = [e for e in graph.ends if e.kind in MISHAPS and script.complete(e.ghost)]
    return control_lost(min(lost, key=cost_of)) if lost else None


def _never_home(p: Property, graph: Graph, script: Script, judge: Judge) -> Violation | None:
    """No run comes back at all: the interrupted context is not restored either."""
    if not isinstance(p.that, Restored) or judge.judged[p.name] or not script_completed(script, graph):
        return None
    stuck = [n for n in stuck_nodes(graph) if script.complete(n.ghost)]
    return no_progress(stuck[0]) if stuck else None


def no_progress(node: Node) -> Violation:
    run, how = quiet_run(node)
    message = f"without further events control never comes back to the interrupted context: it {how}"
    return Violation("stuck", node, None, _last_path(node, run), message, (), run)


def _last_path(node: Node, run: tuple[Node | End, ...]) -> frozenset[Term]:
    last = run[-1] if run else node
    return last.edge.path if last.edge is not None else node.state.path
