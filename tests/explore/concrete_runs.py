"""Random concrete runs of a model, made by the concrete interpreter alone."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_NAMES, CELLS
from verifier.machine.config import Pointer
from verifier.machine.layout import Layout
from verifier.machine.rules import RULES
from verifier.machine.state import starts
from verifier.machine.step import EXECUTE
from verifier.terms import Term, Valuation
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Outcome, Start
from verifier.trace.trace import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from verifier.machine.config import Region
    from verifier.machine.state import State
    from verifier.machine.step import Edge, Stepper
    from verifier.spec.model import Model

MASK = (1 << 64) - 1
INTERESTING = (0, 1, 0x10, 0x18, 0x33, MASK)
STEPS = 4000


class ConcreteRun:
    """One run from a random start under random events, up to its end. ``steps`` and the last ``ended``."""

    def __init__(self, model: Model, random: Random, events: int) -> None:
        self.model = model
        self.random = random
        self.layout = Layout(model.machine)
        self.first: State = random.choice(list(starts(self.layout)))
        self.start = self._start()
        self._interpreter = Interpreter(model.machine, self.start)
        self.steps: list[Step] = []
        self.ended: str | None = None
        self._run(events)

    # the start

    def _start(self) -> Start:
        bases = self._bases()
        context = self.first.home.context
        user = context.cpl == 3
        home = self._address(user) if user else 0xFFFF_FFFF_9000_0000 + self.random.randrange(1 << 20)
        cells = {name: self._cell(name, width) for name, width in CELLS.items()} | dict(context.fixed)
        cells |= {"cs": context.cs, "ss": context.ss, "cpl": context.cpl, "inhibit": 0}
        cells |= {name: self.random.choice((*range(4), context.ss)) for name in ("ds", "es", "fs", "gs")}
        for name in ("fs_base", "gs_base", "kernel_gs_base"):
            cells[name] = self._address(self.random.random() < 0.5)
        cells |= {"cr3": cells["cr3"] & ~(1 << 63), "dr6": cells["dr6"] & 0xE00F | 0xFFFF_0FF0}
        if context.low_gs:
            cells["gs_base"] = self._address(True)
        if self.model.machine.percpu is not None:
            cells["gs_base" if context.gs == "kernel" else "kernel_gs_base"] = bases[self.model.machine.percpu]
        if context.stack is not None:
            cells["rsp"] = bases[context.stack] + self.model.machine.regions[context.stack].size // 2
        rules = {name: self.random.randrange(2) for name in RULES}
        if user and self.random.random() < 0.3:
            home = self.random.choice(list(self.model.machine.program.instructions))
        return Start(ConcreteState(home, cells, self._memory(bases)), home, bases, rules)

    def _bases(self) -> dict[str, int]:
        bases = {}
        for i, region in enumerate(self.model.machine.regions.values()):
            base = 0xFFFF_C900_0000_0000 + (i << 24) + self.random.randrange(1 << 16) * 16
            bases[region.name] = region.address if region.address is not None else base + self._skew(region.alignment)
        return bases

    def _skew(self, alignment: int) -> int:
        return self.random.randrange(0, 16, alignment)

    def _address(self, user: bool) -> int:
        return self.random.randrange(1 << 47) if user else 0xFFFF_8000_0000_0000 + self.random.randrange(1 << 47)

    def _cell(self, name: str, width: int) -> int:
        value = self.random.choice((self.random.getrandbits(width), self.random.choice(INTERESTING)))
        return 0 if name == "tf" else value & ((1 << width) - 1)

    def _memory(self, bases: dict[str, int]) -> dict[int, int]:
        memory: dict[int, int] = {}
        for region in self.model.machine.regions.values():
            base = bases[region.name]
            for offset in _used(region):
                memory[base + offset] = self.random.getrandbits(8) if region.writable else region.contents[offset]
            for datum in region.data:
                if datum.initially is not None:
                    value = datum.initially
                    number = bases[value.region] + value.offset if isinstance(value, Pointer) else value
                    data = number.to_bytes(datum.size, "little")
                    memory.update({base + datum.offset + i: byte for i, byte in enumerate(data)})
        return memory

    # the run

    def _run(self, events: int) -> None:
        state, at = self.start.state, None
        names = list(self.model.environment.events)
        while self.ended is None and len(self.steps) < STEPS:
            actions = [EXECUTE]
            if at is None:
                actions = list(self.model.environment.outermost)
            elif events and self.random.random() < 0.5:
                actions = [*self.random.sample(names, len(names)), EXECUTE]
            tried = ((action, self._try(state, action)) for action in actions)
            action, (move, outcome) = next((a, found) for a, found in tried if found is not None)
            events -= action != EXECUTE
            self.steps.append(
                Step(at, move, state, outcome.state, outcome.delivered, outcome.ended, outcome.detail)
            )
            state, self.ended, at = outcome.state, outcome.ended, outcome.state.rip

    def _try(self, state: ConcreteState, action: str) -> tuple[Move, Outcome] | None:
        """The move with whatever choices are asked for; None if it is not possible here."""
        choices: list[tuple[str, int]] = []
        while True:
            move = Move(action, tuple(choices))
            try:
                return move, self._interpreter.step(state, move)
            except Disagreement as problem:
                asked = re.match(r"a choice (\S+) of (\d+) bits is missing", str(problem))
                if asked is None:
                    return None
                choices.append((asked[1], self._cell("", int(asked[2]))))


def _used(region: Region) -> range:
    """The bytes that are random at the start: of a stack, those that runs come near to."""
    if region.kind == "stack":
        return range(max(0, region.size - 512), region.size)
    if region.kind == "interrupted":
        return range(max(0, region.size // 2 - 256), region.size // 2)
    return range(region.size)


class Shadow:
    """Follows a concrete run on the symbolic machine: each of its steps must be one of the symbolic ones."""

    def __init__(self, run: ConcreteRun, stepper: Stepper) -> None:
        self._run = run
        self._stepper = stepper
        self._layout = stepper.layout
        self._values: dict[Term, int] = {}

    def follow(self) -> None:
        """AssertionError at the first step that is not exactly one of the symbolic steps."""
        state: State | None = next(s for s in starts(self._layout) if s.home.context == self._run.first.home.context)
        for number, step in enumerate(self._run.steps):
            assert state is not None
            edges = self._edges(state, step.move.action)
            taken = [e for e in edges if self._taken(e, step)]
            assert len(taken) == 1, f"step {number}: {len(taken)} of {len(edges)} symbolic steps are this one"
            (edge,) = taken
            self._values.update(_chosen(edge, step))
            self._same(number, edge, step)
            state = edge.state

    def _edges(self, state: State, action: str) -> list[Edge]:
        stepper = self._stepper
        return list(stepper.execute(state) if action == EXECUTE else stepper.strike(state, action))

    def _taken(self, edge: Edge, step: Step) -> bool:
        if [kind for kind, _ in edge.choices] != [kind for kind, _ in step.move.choices]:
            return False
        values = self._values | _chosen(edge, step)
        known = Valuation(values | self._variables(edge.path, values))
        return all(known(literal) for literal in edge.path)

    def _variables(self, terms: Iterable[Term], values: dict[Term, int]) -> dict[Term, int]:
        support = frozenset[Term]().union(*[t.support for t in terms])
        return {v: self._value(v) for v in support if v.op == "var"}

    def _value(self, v: Term) -> int:
        """What a variable of the symbolic start is in the run's start."""
        start, name = self._run.start, str(v.attr)
        if name.startswith("rule:"):
            return start.rules[name.removeprefix("rule:")]
        if name.endswith(".base"):
            return start.bases[name.removesuffix(".base")]
        if name in ("rip0", "kernel_rip0"):
            return start.home
        if "+0x" in name:
            region, _, offset = name.rpartition("+")
            return start.state.read(start.bases[region] + int(offset, 16), 8)
        return start.state.cells[name.removesuffix("0")]

    def _same(self, number: int, edge: Edge, step: Step) -> None:
        state = edge.state
        ended = edge.ended or ("home" if state is not None and state.rip < 0 else None)
        assert ended == step.ended, f"step {number}: {ended} against {step.ended}"
        if state is None:
            return
        terms = [*state.cells, *state.memory.values()]
        value = Valuation(self._values | self._variables(terms, self._values))
        for name, term in zip(CELL_NAMES, state.cells, strict=True):
            assert value(term) == step.after.cells[name], f"step {number}: {name}"
        for at, term in state.memory.items():
            place = self._layout.place_of(at)
            base = self._run.start.bases[self._layout.regions[place.region].name]
            assert value(term) == step.after.read(base + place.offset, 8), f"step {number}: word {place}"
        assert (state.nmi_blocked, state.nmi_pending) == (step.after.nmi_blocked, step.after.nmi_pending)


def _chosen(edge: Edge, step: Step) -> dict[Term, int]:
    return {term: value for (_, term), (_, value) in zip(edge.choices, step.move.choices, strict=True)}


def places(run: ConcreteRun) -> Iterator[tuple[int, Step]]:
    """The steps after which control is inside the program, with their numbers."""
    for number, step in enumerate(run.steps):
        if step.ended is None:
            yield number, step
