"""One instruction and the CPU around it: small enough to work its outcome out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from verifier.asm import assemble_text
from verifier.ir.cells import CELL_NAMES, CELLS, RFLAGS_LAYOUT
from verifier.lift import lift
from verifier.machine.config import Context, Contract, Datum, Gate, MachineConfig, Region, Segment
from verifier.machine.layout import Layout
from verifier.machine.rflags import pack
from verifier.machine.rules import RULES
from verifier.machine.state import HOME, Home, State, rule
from verifier.machine.step import HELD, Edge, Stepper
from verifier.terms import Solver, Term, Valuation, const
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Move, Outcome, Start

if TYPE_CHECKING:
    from collections.abc import Mapping

IST, STACK, RSP0 = 0xFFFF_8880_0000_1000, 0xFFFF_8880_0000_2000, 0xFFFF_8880_0000_3000
SIZE = 0x200
MIDDLE = STACK + SIZE // 2
HOME_RIP = 0x40_1000
BAD = 0x8000_0000_0000
#: The lowest canonical address of the upper half: a frame that ends below is in two halves (F15).
EDGE = 0xFFFF_8000_0000_0000
PLACES = {"ist": IST, "stack": STACK, "rsp0": RSP0, "edge": EDGE}
HANDLERS = {"nmi": 2, "debug": 1, "breakpoint": 3, "double_fault": 8, "stack_fault": 12, "general_protection": 13,
            "irq": 0x20, "machine_check": 18, "system": 0x80}  # fmt: skip
SEGMENTS = (
    Segment(0x10, "code", 0, long=True),
    Segment(0x18, "data", 0),
    Segment(0x23, "code", 3),
    Segment(0x2B, "data", 3),
    Segment(0x33, "code", 3, long=True),
)
HIDDEN = Contract("hidden", ("rax",))
USER = Context("user", 3, 0x33, 0x2B, "user", None)


def flags(**given: int) -> int:
    return 2 | sum(n << RFLAGS_LAYOUT[name.rstrip("_")][0] for name, n in given.items())


@dataclass
class Case:
    """One instruction (or ``at``: a label) and the CPU around it. ``ist``: events whose gate has the IST stack."""

    text: str
    ist: tuple[str, ...] = ()
    trap: tuple[str, ...] = ()
    dpl: int = 0
    without: tuple[str, ...] = ()
    blocked: bool = False
    at_home: bool = False
    words: tuple[int, ...] = ()
    rsp: int = MIDDLE
    label: str = "start"
    segments: tuple[Segment, ...] = SEGMENTS
    anywhere: bool = False
    #: What hidden code at the case's ``...`` may do, and the data on the stack that it may write.
    contract: Contract = HIDDEN
    data: tuple[Datum, ...] = ()
    #: The bits of rules in which processors differ; what is not here is 0.
    rules: Mapping[str, int] = field(default_factory=dict)

    def stepper(self) -> Stepper:
        handlers = "".join(f"{name}: nop\n" for name in HANDLERS)
        self.program = assemble_text(f".text\nstart:\n{self.text}\n    nop\n{handlers}", "case.s")
        gates = {
            vector: Gate(
                vector,
                name,
                self.program.symbols[name].value,
                "trap" if name in self.trap else "interrupt",
                "ist" if name in self.ist else None,
                self.dpl,
            )
            for name, vector in HANDLERS.items()
            if name not in self.without
        }
        regions = {name: Region(name, "stack", SIZE, None if self.anywhere else at) for name, at in PLACES.items()}
        regions["stack"] = replace(regions["stack"], data=self.data)
        contracts = {i.hole: replace(self.contract, name=i.hole) for i in self.program if i.hole}
        machine = MachineConfig(
            self.program, regions, gates, {s.selector: s for s in self.segments}, contracts, (USER,), rsp0="rsp0"
        )
        layout = Layout(machine)
        return Stepper(layout, Solver(layout.facts), lambda a: lift(self.program.instructions[a]))

    def state(self, stepper: Stepper, **cells: int) -> State:
        given = {"cs": 0x10, "ss": 0x18, "rsp": self.rsp} | {n.rstrip("_"): v for n, v in cells.items()}
        user = {"cs": 0x33, "ss": 0x2B, "cpl": 3, "rsp": 0x7FFF_0000}
        found = tuple(const(given.get(name, 0), width) for name, width in CELLS.items())
        at_home = tuple(const((given | user).get(name, 0), width) for name, width in CELLS.items())
        home = Home(USER, const(HOME_RIP, 64), at_home, pack(at_home), {})
        memory = {}
        for i, word in enumerate(self.words):
            location = stepper.layout.location(stepper.layout.number["stack"], (self.rsp - STACK) // 8 + i)
            memory[location] = const(word, 64)
        rip = HOME if self.at_home else self.program.symbols[self.label].value
        return State(home, rip, at_home if self.at_home else found, memory, frozenset(), self.blocked)

    def go(self, action: str = "execute", **cells: int) -> list[After]:
        stepper = self.stepper()
        state = self.state(stepper, **cells)
        edges = stepper.execute(state) if action == "execute" else stepper.strike(state, action)
        afters = [After(self, stepper.layout, state, e) for e in edges]
        afters = [a for a in afters if all(a.value(t) for t in a.edge.path)]
        for after in afters:
            after.confirm()
        return afters

    def one(self, action: str = "execute", **cells: int) -> After:
        (only,) = self.go(action, **cells)
        return only


@dataclass
class After:
    """An edge, and what its state holds under the rules given."""

    case: Case
    layout: Layout
    before: State
    edge: Edge

    def __getattr__(self, name: str) -> int:
        return self.cells()[name.rstrip("_")]

    @property
    def value(self) -> Valuation:
        """The numbers of terms: rules as the case has them; what is chosen is as the path has it, else 0."""
        chosen = {t: int(t in self.edge.path) for _, t in self.edge.choices}
        return Valuation(chosen | {rule(name): self.case.rules.get(name, 0) for name in RULES})

    def confirm(self) -> None:
        """The interpreter goes the same way."""
        if self.edge.ended in (HELD, "unresolved"):
            return
        outcome = self.outcome()
        at_home = self.edge.state is not None and self.edge.state.rip == HOME
        assert outcome.ended == (self.edge.ended or ("home" if at_home else None)), outcome.detail
        if self.edge.state is not None:
            assert [c.width for c in self.edge.state.cells] == list(CELLS.values())
            assert outcome.delivered == self.edge.delivered
            assert outcome.state == self.concrete(self.edge.state)

    def outcome(self) -> Outcome:
        """What the interpreter makes of the move."""
        start = self.concrete(replace(self.before, rip=HOME, cells=self.before.home.cells))
        bases = {r.name: self.value(b) for r, b in zip(self.layout.regions, self.layout.bases, strict=True)}
        interpreter = Interpreter(self.layout.machine, Start(start, start.rip, bases, self.case.rules))
        choices = tuple((kind, self.value(t)) for kind, t in self.edge.choices)
        return interpreter.step(self.concrete(self.before), Move(self.edge.action, choices))

    def concrete(self, state: State) -> ConcreteState:
        """A state in numbers; a word that nothing was written to is 0."""
        rip = self.value(state.home.rip) if state.rip == HOME else state.rip
        cells = {n: self.value(t) for n, t in zip(CELL_NAMES, state.cells, strict=True)}
        memory: dict[int, int] = {}
        for location, word in state.memory.items():
            place = self.layout.place_of(location)
            address = self.value(self.layout.bases[place.region]) + place.offset
            memory.update({address + i: self.value(word) >> 8 * i & 0xFF for i in range(8)})
        return ConcreteState(rip, cells, memory, state.nmi_blocked, state.nmi_pending)

    def cells(self) -> dict[str, int]:
        assert self.edge.state is not None, (self.edge.ended, self.edge.detail)
        return {n: self.value(t) for n, t in zip(CELL_NAMES, self.edge.state.cells, strict=True)}

    @property
    def where(self) -> str:
        return self.case.program.describe(self.edge.state.rip)

    def frame(self, count: int = 5) -> list[int]:
        """The words from RSP upwards."""
        return [self.word(self.cells()["rsp"] + 8 * i) for i in range(count)]

    def word(self, address: int) -> int:
        return self.value(self.term(address))

    def term(self, address: int) -> Term:
        name, base = next((n, b) for n, b in PLACES.items() if b <= address < b + SIZE)
        location = self.layout.location(self.layout.number[name], (address - base) // 8)
        return self.edge.state.memory[location]

    def address(self, label: str) -> int:
        return self.case.program.symbols[label].value
