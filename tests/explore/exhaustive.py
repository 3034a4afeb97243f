"""Every concrete run of a small model from a few starts, with every event at every place up to a bound.

An explicit-state search on the concrete interpreter: numbers, no terms, no solver, no liveness. Two runs are taken
for one only where everything is the same: registers, flags, memory, latches, and what a property may ask of the past.
What properties mean is said here once more, of whole sets of concrete states.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field
from itertools import count, product
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.machine.config import Pointer
from verifier.machine.events import EVENTS, NO_RETURN
from verifier.machine.rules import RULES
from verifier.spec.expression import Handled, Progress, Resumed
from verifier.trace.confirm import View
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Outcome, Start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

    from verifier.machine.config import Context
    from verifier.spec.model import Model, Property

EXECUTE = "execute"
#: Values that hidden code and undefined flags take; of several values at once, not all combinations.
CHOSEN = (0, 1)
Cost = tuple[int, int]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Past:
    """What properties ask of the past: events so far, handlers owed, and what contexts had that may be resumed."""

    counts: tuple[int, ...]
    owed: frozenset[tuple[str, int]] = frozenset()
    struck: frozenset[tuple[Place, tuple[int, ...]]] = frozenset()


@dataclass(slots=True, eq=False)
class Point:
    """A concrete state that was reached. ``quiet``: where it leads without an event; ``home``: that it can be home
    next, or in hidden code for good."""

    state: ConcreteState
    past: Past
    cost: Cost
    quiet: list[Point] = field(default_factory=list)
    home: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """As much of a trace as `View` asks for."""

    model: Model
    start: Start
    counts: Mapping[str, int]

    @property
    def context(self) -> Context:
        cells = self.start.state.cells
        own = ("cpl", "cs", "ss")
        return next(c for c in self.model.machine.contexts if all(getattr(c, x) == cells[x] for x in own))

    @property
    def schedule(self) -> list[tuple[str, None, int]]:
        return [(event, None, 0) for event, n in self.counts.items() for _ in range(n)]


class TooMany(Exception):
    """More states than asked for."""


class Exhaustive:
    """All runs from one start. ``broken``: per property, the cost of the cheapest run that breaks it."""

    def __init__(self, model: Model, start: Start, bound: Mapping[str, int], limit: int = 4000) -> None:
        self.model = model
        self.broken: dict[str, Cost] = {}
        self.lost: Cost | None = None
        self.resumed = 0
        self._start = start
        self._bound = bound
        self._events = tuple(bound)
        self._interpreter = Interpreter(model.machine, start)
        self._asked: dict[tuple[int, str], list[tuple[str, int]]] = {}
        self._seen: dict[object, Point] = {}
        self._watches = [(p.that.event, p.that.body) for p in model.properties if isinstance(p.that, Handled)]
        self._wanted = tuple({c: 0 for p in model.properties if isinstance(p.that, Resumed) for c in p.that.cells})
        self._explore(limit)
        self._judge_progress()

    @property
    def states(self) -> int:
        return len(self._seen)

    # the search

    def _explore(self, limit: int) -> None:
        """Cheapest first, as the engines count: events, then steps."""
        serial = count()
        first = Point(self._start.state, Past((0,) * len(self._events)), (0, 0))
        frontier = [(first.cost, next(serial), first)]
        while frontier:
            cost, _, point = heapq.heappop(frontier)
            if point.done:
                continue
            point.done = True
            if cost != (0, 0):
                self._judge_here(point)
            for action, outcome in self._steps(point):
                then = (cost[0] + (action != EXECUTE), cost[1] + 1)
                past = self._past(point, action, outcome)
                if outcome.ended is not None:
                    self._end(point, outcome, past, then)
                    continue
                target = self._met(outcome.state, past, then)
                if target.cost == then and not target.done:
                    heapq.heappush(frontier, (then, next(serial), target))
                if action == EXECUTE:
                    point.quiet.append(target)
            if len(self._seen) > limit:
                raise TooMany

    def _met(self, state: ConcreteState, past: Past, cost: Cost) -> Point:
        latches = state.nmi_blocked, state.nmi_pending
        key = state.rip, tuple(state.cells.values()), frozenset(state.memory.items()), latches, past
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = Point(state, past, cost)
        found.cost = min(found.cost, cost)
        return found

    def _steps(self, point: Point) -> Iterator[tuple[str, Outcome]]:
        at_home = point.cost == (0, 0)
        actions = list(self.model.environment.outermost) if at_home else [*self._events, EXECUTE]
        for action in actions:
            if action != EXECUTE and point.past.counts[self._events.index(action)] >= self._bound[action]:
                continue
            for outcome in self._outcomes(point.state, action):
                yield action, outcome

    def _outcomes(self, state: ConcreteState, action: str) -> Iterator[Outcome]:
        """A move with small values for whatever is left open; none if it is not possible here."""
        asked = self._asked.setdefault((state.rip, action), [])
        while True:
            options = [CHOSEN[:1] if kind.startswith("fault.") else CHOSEN for kind, _ in asked[:3]]
            options += [CHOSEN[:1]] * (len(asked) - 3)
            try:
                found = [
                    self._interpreter.step(state, Move(action, tuple(zip((k for k, _ in asked), values, strict=True))))
                    for values in product(*options)
                ]
            except Disagreement as problem:
                missing = re.match(r"a choice (\S+) of (\d+) bits is missing", str(problem))
                if missing is None:
                    break
                asked.append((missing[1], int(missing[2])))
            else:
                yield from found
                return
        yield from self._one_by_one(state, action, asked)

    def _one_by_one(self, state: ConcreteState, action: str, asked: list[tuple[str, int]]) -> Iterator[Outcome]:
        """Some values of a choice rule the move out, or change what is asked for: each on its own."""
        for values in product(CHOSEN, repeat=min(len(asked), 3)):
            choices: list[tuple[str, int]] = []
            while True:
                try:
                    yield self._interpreter.step(state, Move(action, tuple(choices)))
                except Disagreement as problem:
                    missing = re.match(r"a choice (\S+) of (\d+) bits is missing", str(problem))
                    if missing is None:
                        break
                    n = len(choices)
                    choices.append((missing[1], values[n] if n < len(values) else 0))
                else:
                    break

    # what properties ask of the past

    def _past(self, point: Point, action: str, outcome: Outcome) -> Past:
        past, after = point.past, outcome.state
        counts = tuple(n + (e == action) for e, n in zip(self._events, past.counts, strict=True))
        owed = set(past.owed)
        if action != EXECUTE:
            owed |= {w for w in self._watches if w[0] == action}
        if outcome.ended is None:
            owed = {w for w in owed if w[1] != after.rip}
        return Past(counts, frozenset(owed), self._struck(point, action, outcome))

    def _struck(self, point: Point, action: str, outcome: Outcome) -> frozenset[tuple[Place, tuple[int, ...]]]:
        if not self._wanted:
            return frozenset()
        struck = dict(point.past.struck)
        if action == EXECUTE:
            if point.state.rip != outcome.state.rip and self._returns(point, outcome):
                place = outcome.state.rip, outcome.state.cells["rsp"]
                if place in struck:
                    self.resumed += 1
                    self._judge_resumed(struck.pop(place), outcome, (point.cost[0], point.cost[1] + 1))
        elif point.cost != (0, 0) and outcome.delivered == (action,):
            had = self._had(action, outcome.state)
            struck[point.state.rip, had["rsp"]] = tuple([had[c] for c in self._wanted])
        return frozenset(struck.items())

    def _returns(self, point: Point, outcome: Outcome) -> bool:
        instruction = self.model.machine.program.instructions.get(point.state.rip)
        if instruction is None or outcome.delivered or outcome.ended is not None:
            return False
        return instruction.mnemonic in ("iret", "ret") or instruction.indirect

    def _had(self, event: str, after: ConcreteState) -> dict[str, int]:
        frame = after.cells["rsp"] + 8 * EVENTS[event].error_code
        rip, cs, image, rsp, ss = (after.read(frame + 8 * i, 8) for i in range(5))
        flags = {name: image >> bit & (1 << width) - 1 for name, (bit, width) in RFLAGS_LAYOUT.items()}
        return {**after.cells, **flags, "rip": rip, "cs": cs, "rsp": rsp, "ss": ss}

    # judgement

    def _break(self, p: Property, cost: Cost) -> None:
        self.broken[p.name] = min(cost, self.broken.get(p.name, cost))

    def _view(self, state: ConcreteState, past: Past, home: bool) -> View:
        told = Told(self.model, self._start, dict(zip(self._events, past.counts, strict=True)))
        return View(told, state, home)  # type: ignore[arg-type]

    def _judge_here(self, point: Point) -> None:
        for p in self.model.properties:
            if p.at == "outermost-return" or isinstance(p.that, (Progress, Resumed)):
                continue
            wanted = (p.at == "always" or point.state.rip in p.at) and p.name not in self.broken
            if wanted and not self._view(point.state, point.past, False).truth(p.that):
                self._break(p, point.cost)

    def _judge_resumed(self, had: tuple[int, ...], outcome: Outcome, cost: Cost) -> None:
        values = dict(zip(self._wanted, had, strict=True))
        for p in self.model.properties:
            if isinstance(p.that, Resumed) and any(outcome.state.cells[c] != values[c] for c in p.that.cells):
                self._break(p, cost)

    def _end(self, point: Point, outcome: Outcome, past: Past, cost: Cost) -> None:
        if outcome.ended == NO_RETURN:
            point.home = True  # good for progress, and nothing is judged
            return
        if outcome.ended != "home":
            self.lost = min(cost, self.lost or cost)
            return
        point.home = True
        view = self._view(outcome.state, past, True)
        for p in self.model.properties:
            if p.at != "outermost-return" or isinstance(p.that, Progress):
                continue
            if isinstance(p.that, Handled):
                if (p.that.event, p.that.body) in past.owed:
                    self._break(p, cost)
            elif not view.truth(p.that):
                self._break(p, cost)

    def _judge_progress(self) -> None:
        wanted = [p for p in self.model.properties if isinstance(p.that, Progress)]
        if not wanted:
            return
        before: dict[int, list[Point]] = {}
        work = [p for p in self._seen.values() if p.home]
        reaches = {id(p) for p in work}
        for point in self._seen.values():
            for target in point.quiet:
                before.setdefault(id(target), []).append(point)
        while work:
            for point in before.get(id(work.pop()), ()):
                if id(point) not in reaches:
                    reaches.add(id(point))
                    work.append(point)
        stuck = [p.cost for p in self._seen.values() if id(p) not in reaches]
        for p in wanted if stuck else ():
            self._break(p, min(stuck))


# starts


class Starts:
    """Random small starts of a model: most values are 0, 1 or an address that the program knows."""

    def __init__(self, model: Model, random: Random) -> None:
        self._machine = model.machine
        self._random = random
        self._code = list(model.machine.program.instructions)

    def one(self) -> Start:
        r, machine = self._random, self._machine
        context = r.choice(machine.contexts)
        bases = {
            region.name: region.address or 0xFFFF_C900_0000_0000 + (i << 20) + r.randrange(0, 16, region.alignment)
            for i, region in enumerate(machine.regions.values())
        }
        cells = self._cells(context, bases)
        home = r.choice(self._code) if context.cpl == 3 and r.random() < 0.6 else 0x40_1000
        if context.cpl == 0:
            home = 0xFFFF_FFFF_9000_0000
        rules = {name: r.randrange(2) for name in RULES}
        return Start(ConcreteState(home, cells, self._memory(bases)), home, bases, rules)

    def _cells(self, context: Context, bases: Mapping[str, int]) -> dict[str, int]:
        r, machine = self._random, self._machine
        cells = dict.fromkeys(CELLS, 0) | {"dr6": 0xFFFF_0FF0}
        cells |= {name: self._value() for name in ("rax", "rcx", "rdx")}
        cells |= {name: r.randrange(2) for name in ("cf", "zf", "sf", "of", "df", "if", "if")}
        cells |= {"cs": context.cs, "ss": context.ss, "cpl": context.cpl, "rsp": 0x7FFF_F000}
        cells |= dict(context.fixed)
        if machine.percpu is not None:
            cells["gs_base" if context.gs == "kernel" else "kernel_gs_base"] = bases[machine.percpu]
        if context.stack is not None:
            cells["rsp"] = bases[context.stack] + machine.regions[context.stack].size // 2
        return cells

    def _value(self) -> int:
        r = self._random
        return r.choice((0, 0, 0, 1, 1, 5, 0x10, r.choice(self._code), r.getrandbits(64)))

    def _memory(self, bases: Mapping[str, int]) -> dict[int, int]:
        memory: dict[int, int] = {}

        def put(address: int, size: int, value: int) -> None:
            memory.update({address + i: value >> 8 * i & 0xFF for i in range(size)})

        for region in self._machine.regions.values():
            for offset, byte in enumerate(region.contents):
                memory[bases[region.name] + offset] = byte
            if region.kind == "interrupted":
                for word in range(-4, 2):
                    put(bases[region.name] + region.size // 2 + 8 * word, 8, self._value())
            if region.kind == "stack":
                for word in range(1, 10, 2):
                    put(bases[region.name] + region.size - 8 * word, 8, self._value())
            for datum in region.data:
                value = datum.initially
                if isinstance(value, Pointer):
                    value = bases[value.region] + value.offset
                number = self._value() & (1 << 8 * datum.size) - 1 if value is None else value
                put(bases[region.name] + datum.offset, datum.size, number)
        return memory
