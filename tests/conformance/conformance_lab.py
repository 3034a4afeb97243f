"""One scenario after the other on one machine that was booted once: its own gates, registers and memory each time.

The interpreter says what a scenario leads to; the machine does it, and everything is compared as in a replay.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from verifier.asm import assemble_text
from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.machine.config import Context, Gate, MachineConfig, Region, Segment
from verifier.replay.course import Course, Leg
from verifier.replay.follow import Follower, Report
from verifier.replay.image import Image, build, plan_of
from verifier.replay.machine import Unsupported
from verifier.replay.pages import PAGE, PRESENT
from verifier.replay.probe import NO_FLAGS, unblock
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verifier.asm import Program
    from verifier.asm.program import Instruction
    from verifier.replay.follow import Machine
    from verifier.replay.raising import Step

IST, STACK, RSP0 = 0xFFFF_8880_0000_1000, 0xFFFF_8880_0000_2000, 0xFFFF_8880_0000_3000
SIZE = 0x200
MIDDLE = STACK + SIZE // 2
HOME, USER_RSP = 0x40_1000, 0x7FFF_0000
#: Canonical, and no page is there.
NOWHERE = 0x7F00_1234_5000
#: The lowest address that is not canonical, and the lowest of the upper canonical half.
BAD, EDGE = 0x8000_0000_0000, 0xFFFF_8000_0000_0000
#: Whose stack pointers fit in 32 bits.
LOW = 0x5000_0000
PLACES = {"ist": IST, "stack": STACK, "rsp0": RSP0, "edge": EDGE, "low": LOW}

#: A choice: the address of the scenario's first instruction.
HERE = "here"

SEGMENTS = (
    Segment(0x10, "code", 0, long=True),
    Segment(0x18, "data", 0),
    Segment(0x23, "code", 3),
    Segment(0x2B, "data", 3),
    Segment(0x33, "code", 3, long=True),
)
#: event -> vector; each handler is a NOP and an IRETQ, behind eight bytes off the stack where there is an error code.
HANDLERS = {"divide_error": 0, "debug": 1, "nmi": 2, "breakpoint": 3, "invalid_opcode": 6, "double_fault": 8,
            "stack_fault": 12, "general_protection": 13, "machine_check": 18, "irq": 0x20, "system": 0x80}  # fmt: skip
CODED = ("double_fault", "stack_fault", "general_protection")


def flags(**given: int) -> int:
    """An image of RFLAGS with these flags set."""
    return 2 | sum(n << RFLAGS_LAYOUT[name.rstrip("_")][0] for name, n in given.items())


@dataclass(frozen=True)
class Way:
    """Moves that a processor may take, and the bits of rules with which it does.

    A move is ``execute``, ``latch`` (an NMI arrives while blocked) or the name of an event that strikes.
    ``execute+nmi``: an NMI is pending already, which must not strike yet, and the ``nmi`` that follows is that one.
    Likewise with ``irq``, and ``nmi+irq``: both are pending, and the NMI strikes. ``label``: what a processor does
    that goes this way, where the manual leaves it open each time.
    """

    moves: tuple[str, ...]
    rules: Mapping[str, int] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Scenario:
    """Instructions, the state before them, and what happens. ``rules``: the rules of the document that it shows.

    ``ist``, ``trap``: events whose gates have the IST stack, or are trap gates; ``dpl``: that of all gates. ``words``:
    what stands at ``rsp``. ``at``: ``text``, ``home`` for the interrupted context at CPL 3, or ``user`` for the text at
    CPL 3, one instruction of it. ``choices``: of the last move. ``on``: the machines that can show it, ``why`` the
    others cannot.
    """

    name: str
    rules: str
    text: str = "nop"
    ways: tuple[Way, ...] = (Way(("execute",)),)
    ist: tuple[str, ...] = ()
    trap: tuple[str, ...] = ()
    dpl: int = 0
    cells: Mapping[str, int] = field(default_factory=dict)
    words: tuple[int | str, ...] = ()
    rsp: int = MIDDLE
    blocked: bool = False
    at: str = "text"
    home: int = HOME
    choices: tuple[tuple[str, int | str], ...] = ()
    on: tuple[str, ...] = ("qemu", "bochs")
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """What a machine makes of a scenario: the ways that it agrees with, each with the deviations it showed there."""

    ways: Mapping[int, tuple[str, ...]]
    differs: tuple[str, ...]


class Conformer(Follower):
    """A follower whose events can be pending for a while before they strike."""

    def __init__(self, machine: Machine, image: Image, course: Course, moves: Sequence[str]) -> None:
        super().__init__(machine, image, course)
        self._moves = moves
        self._pending: set[str] = set()

    def _act(self, step: Step) -> None:
        action, *early = self._moves[step.number - 1].split("+")
        for event in early:
            self._machine.pend(event, HANDLERS[event])
            self._pending.add(event)
        if action in self._pending:
            self._pending.remove(action)
            self._machine.step()
        elif action == "execute":
            self._machine.step()
        else:
            super()._act(step)


class AtAnyLevel(Interpreter):
    """An interpreter that executes an instruction of the program at CPL 3 too. Where it leads is a wild jump."""

    def _instruction(self, state: ConcreteState) -> Instruction | None:
        return self._machine.program.instructions.get(state.rip)


class Laboratory:
    """All scenarios as one program, and one image of it."""

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self._labels = {s.name: f"scenario_{i}" for i, s in enumerate(scenarios)}
        self.program = _program(scenarios, self._labels)
        first = Start(ConcreteState(HOME, dict.fromkeys(CELLS, 0), {}), HOME, PLACES, {})
        config = self.machine(Scenario("", "", ist=tuple(HANDLERS)))
        self.image = build(plan_of(config, first))

    def machine(self, scenario: Scenario) -> MachineConfig:
        regions = {name: Region(name, "stack", SIZE, at) for name, at in PLACES.items()}
        gates = {
            vector: Gate(
                vector,
                event,
                self.program.symbols[event].value,
                "trap" if event in scenario.trap else "interrupt",
                "ist" if event in scenario.ist else None,
                scenario.dpl,
            )
            for event, vector in HANDLERS.items()
        }
        user = Context("user", 3, 0x33, 0x2B, "kernel", None)
        return MachineConfig(
            self.program, regions, gates, {s.selector: s for s in SEGMENTS}, {}, (user,), rsp0="rsp0"
        )

    def ask(self, machine: Machine, scenario: Scenario) -> Answer:
        """Every way of a scenario on a machine, each from the same start."""
        ways, differs = {}, []
        for number, way in enumerate(scenario.ways):
            report = _Run(self, machine, scenario, way).report()
            if report is None:
                continue
            if report.agreed:
                ways[number] = tuple(sorted({met.deviation.name for met in report.met}))
            else:
                where = f"way {number}, step {report.steps + 1}"
                differs += [f"{where}: {d.where}: {d.machine}, not {d.run}" for d in report.differs]
        return Answer(ways, tuple(differs))

    def value(self, word: int | str) -> int:
        """A number, or the address of a label."""
        return word if isinstance(word, int) else self.program.symbols[word].value

    def entry(self, scenario: Scenario) -> int:
        return self.program.symbols[self._labels[scenario.name]].value


def _program(scenarios: Sequence[Scenario], labels: Mapping[str, str]) -> Program:
    pieces = [f"{labels[s.name]}:\n{s.text}\n nop\n nop\n nop\n" for s in scenarios]
    pieces += [f"{e}:\n {'add $8, %rsp' if e in CODED else 'nop'}\n iretq\n" for e in HANDLERS if e != "system"]
    pieces.append("system:\n mov (%rax), %rax\n iretq\ntarget:\n nop\n nop\n nop\n")
    return assemble_text(".text\n" + "".join(pieces), "scenarios.s")


@dataclass
class _Run:
    """One way of a scenario on a machine."""

    lab: Laboratory
    machine: Machine
    scenario: Scenario
    way: Way

    def report(self) -> Report | None:
        """None where such a run is not possible: the interpreter says so of the model, or the driver of its machine."""
        try:
            legs = tuple(self._legs())
        except Disagreement:
            return None
        self._prepare()
        course = Course(self._config, self._start(self._first), legs)
        try:
            return Conformer(self.machine, self.lab.image, course, self.way.moves).follow()
        except Unsupported:
            return None

    @cached_property
    def _config(self) -> MachineConfig:
        return self.lab.machine(self.scenario)

    @cached_property
    def _home(self) -> ConcreteState:
        given = {name.rstrip("_"): value for name, value in self.scenario.cells.items()}
        now = self.machine.read()
        kept = {name: now[name] for name in ("cr0", "cr3", "cr4", "cr8") if name in now}
        cells = dict.fromkeys(CELLS, 0) | {"dr6": now.get("dr6", 0xFFFF_0FF0)} | kept | given
        cells |= {"cs": 0x33, "ss": 0x2B, "cpl": 3, "rsp": USER_RSP}
        return ConcreteState(self.scenario.home, cells, self._memory())

    @cached_property
    def _first(self) -> ConcreteState:
        if self.scenario.at == "home":
            return replace(self._home, nmi_blocked=self.scenario.blocked)
        if self.scenario.at == "user":
            cells = {**self._home.cells, "rsp": self.scenario.rsp}
            return ConcreteState(self.lab.entry(self.scenario), cells, self._memory(), self.scenario.blocked)
        cells = {**self._home.cells, "cs": 0x10, "ss": 0x18, "cpl": 0, "rsp": self.scenario.rsp}
        cells |= {name: value for name, value in self.scenario.cells.items() if name in ("ss",)}
        return ConcreteState(self.lab.entry(self.scenario), cells, self._memory(), self.scenario.blocked)

    def _memory(self) -> dict[int, int]:
        words = struct.pack(f"<{len(self.scenario.words)}Q", *[self.lab.value(w) for w in self.scenario.words])
        return {self.scenario.rsp + i: byte for i, byte in enumerate(words)}

    def _start(self, state: ConcreteState) -> Start:
        return Start(state, self.scenario.home, PLACES, {**self.machine.rules, **self.way.rules})

    def _legs(self) -> Iterator[Leg]:
        kind = AtAnyLevel if self.scenario.at == "user" else Interpreter
        interpreter = kind(self._config, self._start(self._home))
        state = self._first
        for number, word in enumerate(self.way.moves, 1):
            action = word.split("+")[0]
            choices = self.scenario.choices if number == len(self.way.moves) else ()
            known = tuple((kind, self._first.rip if v == HERE else self.lab.value(v)) for kind, v in choices)
            latch = action == "latch"
            move = Move("nmi" if latch else action, known, latch)
            outcome = interpreter.step(state, move)
            yield Leg(move, state, outcome, {})
            state = outcome.state

    # the machine

    def _prepare(self) -> None:
        """NMIs blocked or not, nothing pending, the gates and memory of the scenario."""
        self._set_gates(self.lab.machine(Scenario("", "", ist=tuple(HANDLERS))))
        self._let_in()
        if self.scenario.blocked:
            self.machine.pend("nmi")
            self._pause()
        self._set_gates(self._config)
        for name, base in PLACES.items():
            data = bytes(self._first.memory.get(base + i, 0) for i in range(self._config.regions[name].size))
            self.machine.store(base, data)

    def _set_gates(self, config: MachineConfig) -> None:
        for vector, gate in config.gates.items():
            kind = (0x8F if gate.kind == "trap" else 0x8E) | gate.dpl << 5
            self.machine.store(self.lab.image.idt + 16 * vector + 4, bytes([1 if gate.stack else 0, kind]))

    def _let_in(self) -> None:
        """Take whatever a scenario has left pending, unblock NMIs, and put back the page of the interrupted context."""
        quiet = False
        self._pause()
        while not quiet:
            unblock(self.machine, self.lab.image)
            quiet = self._pause(flags(if_=1))
        self.machine.write(self.lab.image.at("eoi"))
        self.machine.step()
        entry = self.lab.image.entries[HOME & -PAGE]
        (word,) = struct.unpack("<Q", self.machine.load(entry, 8))
        self.machine.store(entry, struct.pack("<Q", word | PRESENT))
        self.machine.forget(HOME)

    def _pause(self, rflags: int = NO_FLAGS) -> bool:
        """One step at a NOP of the monitor's. Whether the NOP was executed, and nothing pending has struck."""
        place = self.lab.image.at("nop_")
        self.machine.write(place | {"rsp": IST + 256, "rflags": rflags, "cr2": 0})
        self.machine.step()
        return self.machine.read()["rip"] == place["rip"] + 1
