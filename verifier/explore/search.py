"""The fixpoint search: every reachable state, with events at every boundary, until nothing new appears.

States are taken in order of events, then steps, so that what is found first is short.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Protocol

from verifier.errors import SpecError
from verifier.explore.graph import End, Graph, Node
from verifier.explore.memory import holds_more_than
from verifier.explore.recognise import Recogniser
from verifier.explore.resume import Watcher
from verifier.machine.events import EVENTS
from verifier.machine.state import HOME, State, in_shadow, starts
from verifier.machine.step import EXECUTE, HELD, Edge, Stepper
from verifier.terms import FALSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from verifier.explore.schedule import Ghost, Script
    from verifier.terms import Term


#: Why a search that is asked nothing more has ended.
ALL_REFUTED = "every property was refuted"


class Observer(Protocol):
    """Watches a search on behalf of properties."""

    def node(self, node: Node) -> tuple[Iterable[int], Iterable[Term]]:
        """A new state; returns the locations and the variables that its judgement depended on."""

    def settled(self, cost: tuple[int, int]) -> bool:
        """Whether nothing that costs more than this can change any judgement."""

    def end(self, end: End) -> tuple[Iterable[int], Iterable[Term]]:
        """A run has ended; returns the locations after its last step, and the variables, that the judgement
        depended on."""


@dataclass(slots=True)
class Tally:
    """What became of the events offered at boundaries: per (event, rip), states where it was offered and struck,
    and per reason how often it was held back."""

    offered: Counter[tuple[str, int]] = field(default_factory=Counter)
    struck: Counter[tuple[str, int]] = field(default_factory=Counter)
    held: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)

    def any_struck(self, event: str) -> bool:
        return any(n for (name, _), n in self.struck.items() if name == event)

    def held_back(self, event: str, rip: int, reason: str) -> None:
        self.held.setdefault((event, rip), Counter())[reason] += 1


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search gives up: it then says so, and proves nothing.

    ``states``: how many it may explore; ``megabytes``: how large the process may be, a backstop.
    """

    states: int = 100_000
    megabytes: int = 2_000

    def reached(self, explored: int) -> str:
        """What limit a search has come to, or nothing."""
        if explored > self.states:
            return f"{self.states} states (--max-states allows more)"
        if holds_more_than(self.megabytes):
            return f"{self.megabytes} MB of memory"
        return ""


class Explorer:
    """What every kind of search shares: starting, offering events, following edges.

    ``latching``: let NMIs arrive while they are blocked, to be held pending and delivered at the first boundary where
    they are not. That adds no behaviour where NMIs may strike at any such boundary anyway, only states.
    """

    def __init__(self, stepper: Stepper, script: Script, observer: Observer, latching: bool = False) -> None:
        self.latching = latching
        self.stepper = stepper
        self.script = script
        self.observer = observer
        self.tally = Tally()
        self.reached: Counter[int] = Counter()
        self._watcher = Watcher(stepper, script.resumed) if script.resumed else None

    def start_nodes(self) -> Iterator[Node]:
        solver = self.stepper.solver
        for state in starts(self.stepper.layout):
            with solver.asking(state=state, question="whether there is such an interrupted context"):
                possible = solver.satisfiable(state.path)
            if possible == "unsat":
                name = state.home.context.name
                raise SpecError(f"no such context can be interrupted: what is said of '{name}' contradicts itself")
            yield Node(state, self.script.start(), 0, 0)

    def edges(self, node: Node) -> Iterator[tuple[Edge, Ghost]]:
        """Every way on from a node, with the ghost after it."""
        for edge, ghost in self._edges(node):
            if self._watcher is None:
                yield edge, ghost
            else:
                for struck in self._watcher.after(ghost.struck, node.state.rip, edge):
                    yield edge, replace(ghost, struck=struck)

    def _edges(self, node: Node) -> Iterator[tuple[Edge, Ghost]]:
        state, ghost = node.state, node.ghost
        self.reached[state.rip] += 1
        forced = state.nmi_pending and not state.nmi_blocked
        if forced:
            yield from self._pending(state, ghost)
        for event in self.script.offers(ghost, state.rip):
            if not forced or event == "machine_check":
                yield from self._strikes(node, event)
        if state.rip != HOME and not (forced and in_shadow(state.cell("inhibit")) is FALSE):
            for edge in self.stepper.execute(state):
                yield edge, self._arrive(ghost, edge)

    def _pending(self, state: State, ghost: Ghost) -> Iterator[tuple[Edge, Ghost]]:
        """The delivery of an NMI that was held pending: rule N7."""
        for edge in self.stepper.strike(state, "nmi"):
            yield edge, self._arrive(self.script.delivered(ghost, "nmi"), edge)

    def _strikes(self, node: Node, event: str) -> Iterator[tuple[Edge, Ghost]]:
        state = node.state
        if not self.stepper.can_arise(state, event):
            return
        self.tally.offered[event, state.rip] += 1
        counted = self.script.came(node.ghost, event, state.rip)
        if self.latching and EVENTS[event].blocks_nmi and state.nmi_blocked and not state.nmi_pending:
            yield self.stepper.latch(state), counted
        after = self.script.delivered(counted, event)
        any_edge = False
        for edge in self.stepper.strike(state, event):
            if edge.ended == HELD:
                self.held(node, edge)
                continue
            any_edge = True
            yield edge, self._arrive(after, edge)
        if any_edge:
            self.tally.struck[event, state.rip] += 1
        else:
            self.tally.held_back(event, state.rip, why_held(state, event))

    def held(self, node: Node, edge: Edge) -> None:
        """An event was held back at a node, wherever the edge's path holds."""

    def _arrive(self, ghost: Ghost, edge: Edge) -> Ghost:
        return ghost if edge.state is None else self.script.arrived(ghost, edge.state.rip)


def why_held(state: State, event: str) -> str:
    """Why an event that was offered could not strike."""
    if EVENTS[event].blocks_nmi and state.nmi_blocked:
        return "NMIs blocked"
    if EVENTS[event].held_by_ss:
        return "the shadow of MOV SS"
    enabled = state.cell("if")
    return "IF=0" if enabled.is_const and not enabled.value else "IF=0 or an interrupt shadow"


class Fixpoint(Explorer):
    """Explores to a fixpoint. ``tracked``, ``guarded`` and ``shortest`` as in `Recogniser`."""

    def __init__(
        self,
        stepper: Stepper,
        script: Script,
        observer: Observer,
        *,
        tracked: bool = False,
        guarded: bool = False,
        latching: bool = False,
        shortest: bool = True,
        limits: Limits | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(stepper, script, observer, latching)
        self.recogniser = Recogniser(stepper.layout, tracked=tracked, guarded=guarded, shortest=shortest)
        self.limits = limits or Limits()
        self.graph = Graph()
        self._progress = progress
        self._serial = count()
        self._frontier: list[tuple[int, int, int, Node]] = []
        self.returned_to: set[int] = set()
        self._postponed: dict[int, list[tuple[Node, Edge, Ghost]]] = {}

    def run(self) -> Graph:
        for node in self.start_nodes():
            self.graph.starts.append(node)
            self._meet(node)
        explored = level = 0
        while self._frontier or self._refresh():
            if self._frontier[0][0] > level:
                self._refresh()
                level = self._frontier[0][0]
                continue
            events, steps, _, node = heapq.heappop(self._frontier)
            if node.merged is not None or node.expanded:
                continue
            if self.observer.settled((events, steps)):
                heapq.heappush(self._frontier, (events, steps, next(self._serial), node))
                if self._refresh() and self._frontier[0][:2] < (events, steps):
                    continue  # something cheaper was taken for like another, and is not
                self.graph.limit = ALL_REFUTED
                break
            explored += 1
            self.graph.limit = self.limits.reached(explored)
            if self.graph.limit:
                break
            if self._progress is not None and explored % 256 == 0:
                self._progress(explored, len(self._frontier))
            self._expand(node)
        else:
            self.graph.complete = True
        self.graph.merges = self.recogniser.merges
        return self.graph

    def held(self, node: Node, edge: Edge) -> None:
        self.recogniser.step(node, edge)

    def _refresh(self) -> bool:
        """Compare merged nodes again where more turned out to matter; True if some are back on the frontier."""
        for node in self.recogniser.refresh():
            self._new(node)
        return bool(self._frontier)

    def _meet(self, node: Node) -> None:
        self.graph.nodes.append(node)
        if self.recogniser.meet(node):
            self._new(node)

    def _new(self, node: Node) -> None:
        locations, variables = self.observer.node(node)
        self.recogniser.learn(node, locations, (), variables)
        self._push(node)

    def _push(self, node: Node) -> None:
        heapq.heappush(self._frontier, (node.events, node.steps, next(self._serial), node))

    def _expand(self, node: Node) -> None:
        node.expanded = True
        for edge, ghost in self.edges(node):
            if edge.state is None or edge.state.rip == HOME:
                self._end(node, edge, ghost)
            elif edge.struck is None or ghost.struck is None or ghost.struck.rip in self.returned_to:
                self._follow(node, edge, ghost)
            else:
                self._postponed.setdefault(ghost.struck.rip, []).append((node, edge, ghost))

    def _follow(self, node: Node, edge: Edge, ghost: Ghost) -> None:
        assert edge.state is not None
        self.recogniser.step(node, edge)
        if self._watcher is not None:
            self.recogniser.learn(node, self._watcher.taken(node.state, edge, ghost.struck), (), ())
        events = node.events + (edge.action != EXECUTE)
        target = Node(edge.state, ghost, events, node.steps + 1, node, edge)
        node.successors.append((edge, target))
        self._meet(target)
        if self._watcher is not None and self._watcher.returns(node.state.rip, edge):
            self._watch_at(edge.state.rip)

    def _watch_at(self, rip: int) -> None:
        """A return has come to an address: contexts struck there are worth watching. Where none ever comes, none is
        resumed; that all returns are seen does not depend on what is watched."""
        self.returned_to.add(rip)
        for node, edge, ghost in self._postponed.pop(rip, ()):
            self._follow(node, edge, ghost)

    def _end(self, node: Node, edge: Edge, ghost: Ghost) -> None:
        end = End(edge.ended or "home", node, edge, ghost)
        self.recogniser.step(node, edge)
        node.successors.append((edge, end))
        self.graph.ends.append(end)
        self.judged_end(end)

    def judged_end(self, end: End) -> None:
        """A run is over: what the judgement depends on matters where its last step was taken from."""
        locations, variables = self.observer.end(end)
        self.recogniser.ended(end, set(locations), variables)
