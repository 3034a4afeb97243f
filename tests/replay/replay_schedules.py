"""Random runs of a specification: a start that it allows, and events at random boundaries or by a schedule."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.machine.config import Pointer
from verifier.machine.layout import HIGHEST_END, LOWEST_BASE
from verifier.spec.expression import Progress
from verifier.trace.allowed import problems
from verifier.trace.confirm import View
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Outcome, Start
from verifier.trace.trace import Step, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Context, Region
    from verifier.spec.model import Model, Property, ScheduleItem

MASK = (1 << 64) - 1
ODD = (0, 1, 0x10, 0x18, 0x33, 0x2B, MASK, 1 << 63, (1 << 63) - 1)
MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A run from its start, to its end or to `MOST_STEPS`. ``complete``: every event of its schedule has struck."""

    model: Model
    context: Context
    start: Start
    steps: tuple[Step, ...]
    complete: bool

    @property
    def ended(self) -> str | None:
        return self.steps[-1].ended

    def trace(self, p: Property, steps: int | None = None) -> Trace:
        """The run, or its first steps, as one that is to break a property."""
        return Trace(self.model, p, self.context, self.start, self.steps[:steps], "", "")

    def broken(self, p: Property) -> int | None:
        """The step after which the property is false, or None."""
        if isinstance(p.that, Progress):
            return None
        for number, step in enumerate(self.steps, 1):
            at_home = step.ended == "home"
            inside = not at_home and (p.at == "always" or (isinstance(p.at, frozenset) and step.after.rip in p.at))
            asked = at_home if p.at == "outermost-return" else inside
            if asked and not View(self.trace(p, number), step.after, at_home).truth(p.that):
                return number
        return None


def draw(
    model: Model,
    seed: str,
    rules: Mapping[str, int],
    schedule: tuple[ScheduleItem, ...] | None = None,
    most: int = MOST_STEPS,
    *,
    nmi_in_shadow: bool = False,
) -> Drawn:
    """A run to its end, or of ``most`` steps.

    Without a schedule it has up to eight events; with one, the schedule's, at places that it allows. Where the machine
    always holds back an event of the schedule, a run with those before it. ``nmi_in_shadow``: whether NMIs may strike
    in the shadow of STI or MOV SS; processors differ there.
    """
    for attempt in range(60):
        drawn = _Draw(model, Random(f"{seed}/{attempt}"), rules, schedule, nmi_in_shadow).run(most)
        if drawn.complete:
            break
    return drawn


class _Draw:
    def __init__(
        self,
        model: Model,
        random: Random,
        rules: Mapping[str, int],
        schedule: tuple[ScheduleItem, ...] | None,
        nmi_in_shadow: bool,
    ) -> None:
        self.nmi_in_shadow = nmi_in_shadow
        self.model, self.machine, self.random = model, model.machine, random
        self.context = random.choice(model.machine.contexts)
        self.start = self._start(rules)
        assert list(problems(self.machine, self.context, self.start)) == []
        self.left = None if schedule is None else list(schedule)
        self.events = random.randint(1, 8)
        self.struck: Counter[str] = Counter()
        self.rate = random.choice((0.02, 0.05, 0.15, 0.4))
        self.interpreter = Interpreter(self.machine, self.start)

    # the start

    def _start(self, rules: Mapping[str, int]) -> Start:
        bases = self._bases()
        cells = {name: self._value(width) for name, width in CELLS.items()} | dict(self.context.fixed)
        cells |= {"cs": self.context.cs, "ss": self.context.ss, "cpl": self.context.cpl, "inhibit": 0}
        cells |= {name: self.random.getrandbits(13) << 3 | 7 for name in self.context.ldt}
        if "tf" not in self.context.fixed:
            cells["tf"] = int(self.random.random() < 0.1)
        for name in ("ds", "es", "fs", "gs"):
            cells[name] = self.random.choice([0, 1, 2, 3, *self._data_selectors()])
        for name in ("fs_base", "gs_base", "kernel_gs_base"):
            cells[name] = self._address()
        if self.context.low_gs:
            cells["gs_base"] %= 1 << 47
        cells |= {"cr3": cells["cr3"] & ~(1 << 63), "dr6": cells["dr6"] & 0xE00F | 0xFFFF_0FF0}
        if self.machine.percpu is not None:
            cells["gs_base" if self.context.gs == "kernel" else "kernel_gs_base"] = bases[self.machine.percpu]
        if self.context.stack is not None:
            cells["rsp"] = bases[self.context.stack] + self.machine.regions[self.context.stack].size // 2
        if self._narrow():
            cells["rsp"] &= 0xFFFF_FFFF
        home = self._home()
        return Start(ConcreteState(home, cells, self._memory(bases)), home, bases, dict(rules))

    def _narrow(self) -> bool:
        """Whether 32-bit code is interrupted."""
        segment = self.machine.segments.get(self.context.cs)
        return segment is not None and not segment.long

    def _data_selectors(self) -> list[int]:
        segments = self.machine.segments.values()
        return [s.selector for s in segments if s.kind == "data" and s.dpl >= self.context.cpl]

    def _home(self) -> int:
        if self._narrow():
            return self.random.randrange(1 << 32)
        if self.context.cpl == 3:
            own = self.random.choice(list(self.machine.program.instructions))
            return self.random.choice([self._address(), self.random.randrange(1 << 47), own])
        return 0xFFFF_FFFF_9000_0000 + self.random.randrange(1 << 24)

    def _bases(self) -> dict[str, int]:
        """Anywhere in the kernel half; now and then one right behind the other."""
        bases, at, packed = {}, 0, self.random.random() < 0.3
        for region in self.random.sample(list(self.machine.regions.values()), len(self.machine.regions)):
            if not packed or not at:
                at = self.random.randrange(LOWEST_BASE, HIGHEST_END - (1 << 26)) & ~0xFFF | self.random.getrandbits(12)
            base = -(-at // region.alignment) * region.alignment
            bases[region.name] = base if region.address is None else region.address
            at = base + region.size
        return {name: bases[name] for name in self.machine.regions}

    def _address(self) -> int:
        return self.random.choice([self.random.randrange(1 << 47), MASK - self.random.randrange(1 << 47)])

    def _value(self, width: int) -> int:
        value = self.random.choice((self.random.getrandbits(width), self.random.choice(ODD)))
        return value & (1 << width) - 1

    def _memory(self, bases: Mapping[str, int]) -> dict[int, int]:
        memory: dict[int, int] = {}
        for region in self.machine.regions.values():
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

    def run(self, most: int) -> Drawn:
        state, at = self.start.state, None
        steps: list[Step] = []
        while len(steps) < most and (not steps or steps[-1].ended is None):
            move, outcome = next(self._possible(state, at))
            if move.action != "execute":
                self.events -= 1
                self.struck[move.action] += 1
                if self.left is not None:
                    self.left.pop(0)
            steps.append(Step(at, move, state, outcome.state, outcome.delivered, outcome.ended, outcome.detail))
            state, at = outcome.state, outcome.state.rip
        return Drawn(self.model, self.context, self.start, tuple(steps), not self.left)

    def _possible(self, state: ConcreteState, at: int | None) -> Iterator[tuple[Move, Outcome]]:
        for action in self._actions(at):
            found = self._try(state, action)
            if found is not None:
                yield found

    def _actions(self, at: int | None) -> Iterator[str]:
        """What to try at a boundary, the best first."""
        inside = at is not None and self.machine.program.instructions[at].mnemonic == "hole_body"
        struck = at is None or self.random.random() < (0.6 if inside else self.rate)
        if self.left is not None:
            if self.left and struck and (self.left[0].addresses is None or at in self.left[0].addresses):
                yield self.left[0].event
        elif at is None or (struck and self.events > 0):
            events = self.model.environment.events
            allowed = self.model.environment.outermost if at is None else tuple(events)
            yield from (e for e in self.random.sample(allowed, len(allowed)) if not self._used_up(e, events[e]))
        if at is not None:
            yield "execute"

    def _used_up(self, event: str, most: int | None) -> bool:
        return most is not None and self.struck[event] >= most

    def _try(self, state: ConcreteState, action: str) -> tuple[Move, Outcome] | None:
        """The move with whatever choices are asked for; None if it is not possible here."""
        choices: list[tuple[str, int]] = []
        if action == "nmi" and state.cells["inhibit"] and not self.nmi_in_shadow:
            return None
        while True:
            move = Move(action, tuple(choices))
            try:
                return move, self.interpreter.step(state, move)
            except Disagreement as problem:
                asked = re.match(r"a choice (\S+) of (\d+) bits is missing", str(problem))
                if asked is None:
                    return None
                choices.append((asked[1], self._chosen(asked[1], int(asked[2]))))

    def _chosen(self, kind: str, width: int) -> int:
        if kind == "fault.error_code":
            return self.random.choice([0, 2, 0, 2, self.random.getrandbits(5)])
        if kind == "ldt.ss":  # emulators raise #NP for one that is not present, not #SS
            return self.random.choice([0, 2, 3])
        if kind == "fault.cr2":
            return self.random.choice([self._address(), self._value(width)]) & (1 << width) - 1
        return self._value(width)


def _used(region: Region) -> range:
    """The bytes that are random at the start: of a stack, those that runs come near to."""
    if region.kind == "stack":
        return range(max(0, region.size - 768), region.size)
    if region.kind == "interrupted":
        return range(max(0, region.size // 2 - 512), region.size // 2 + 64)
    return range(region.size)
