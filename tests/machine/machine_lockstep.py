"""The symbolic machine and the concrete interpreter, move by move from one state.

A `Walk` holds a symbolic state and an *assignment*: a value for each of its variables. The assignment makes a
concrete state of the symbolic one, so every move can be made on both sides:

- complete: among the edges of a move there is one whose path the assignment makes true;
- sound: on that edge, and on any other under a model of its path, the interpreter ends in the very same state.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import machine_lab as labs

from verifier.ir.cells import CELL_NAMES, CELLS
from verifier.lift import lift
from verifier.machine.layout import Layout
from verifier.machine.rflags import pack
from verifier.machine.rules import RULES
from verifier.machine.state import HOME, LOWEST_CANONICAL_HIGH, Home, State, canonical, rule, text_conditions
from verifier.machine.step import EXECUTE, HELD, Edge, Stepper
from verifier.terms import TRUE, Solver, Term, Valuation, add, const, not_, show, var
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Start

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from verifier.machine.config import Context

ASYNCHRONOUS = ("nmi", "nmi", "irq", "machine_check")


class Walk:
    """One run of both machines. ``abstract``: how likely a cell or word is a variable rather than a constant."""

    def __init__(self, source: random.Random, lab: labs.Lab, context: Context, abstract: float) -> None:
        self.source, self.lab, self.abstract = source, lab, abstract
        self.layout = Layout(lab.machine)
        self.solver = Solver(self.layout.facts)
        self.stepper = Stepper(self.layout, self.solver, lambda a: lift(lab.machine.program.instructions[a]))
        self.assignment: dict[Term, int] = {}
        self.seen: Counter[str] = Counter()
        for base, region in zip(self.layout.bases, self.layout.regions, strict=True):
            self.assign(base, lab.bases[region.name])
        for name in RULES:
            self.assign(rule(name), source.getrandbits(1))
        self.state = self.start(context)

    # the start

    def assign(self, term: Term, value: int) -> Term:
        if not term.is_const:
            self.assignment[term] = value
        return term

    def term(self, name: str, value: int, width: int, likely: float) -> Term:
        """A term of this value: a variable, an address in a region, or the constant."""
        for base, region in zip(self.layout.bases, self.layout.regions, strict=True):
            offset = value - self.lab.bases[region.name]
            if width == 64 and -0x800 <= offset < 0x800:
                if self.source.random() >= likely / 4:
                    return add(base, const(offset, 64))
                likely = 1.0
        if self.source.random() < likely:
            return self.assign(var(f"lab.{name}", width), value)
        return const(value, width)

    def start(self, context: Context) -> State:
        source, lab = self.source, self.lab
        at_home = source.random() < 0.2
        home_values = labs.user_cells(source, lab, context)
        if context.cpl == 0 and source.random() < 0.9:
            home_values["rsp"] = lab.bases["kstack"] + labs.SIZE // 2
        home_cells = self.cells("home", home_values)
        home = self.home(context, home_cells)
        values = home_values if at_home else labs.cells(source, lab)
        cells = home_cells if at_home else self.cells("now", values)
        memory: dict[int, Term] = {}
        for (name, offset), word in labs.words(source, lab, values["rsp"]).items():
            number = self.layout.number[name]
            location = self.layout.location(number, offset // 8)
            self.assign(self.layout.initial(location), word)
            if source.random() < 0.85:
                memory[location] = self.term(f"{name}.{offset}", word, 64, self.abstract)
        if not at_home and source.random() < 0.5:
            base = CELL_NAMES.index("gs_base")
            cells = (*cells[:base], home_cells[base], *cells[base + 1 :])
        blocked = source.random() < 0.3
        rip = HOME if at_home else labs.address(source, lab)
        path = frozenset({canonical(home.rip)} - {TRUE})
        if context.cpl == 0:
            path |= {t for t in (not_(c) for c in text_conditions(self.layout, home.rip)) if t is not TRUE}
        return State(home, rip, cells, memory, path, blocked)

    def cells(self, prefix: str, values: Mapping[str, int]) -> tuple[Term, ...]:
        found = []
        for name, width in CELLS.items():
            likely = 0 if name in ("cpl", "inhibit", "rsp") else self.abstract
            if name == "rsp" and self.source.random() < 0.2:
                likely = self.abstract
            found.append(self.term(f"{prefix}.{name}", values[name], width, likely))
        return tuple(found)

    def home(self, context: Context, cells: tuple[Term, ...]) -> Home:
        value = labs.USER_HOME if context.cpl == 3 else labs.KERNEL_HOME
        rip = const(value, 64)
        if self.source.random() < 0.7:
            lowest = 0 if context.cpl == 3 else LOWEST_CANONICAL_HIGH
            rip = self.assign(var("lab.home", 64, lowest), value)
        return Home(context, rip, cells, pack(cells), {})

    # the concrete side

    def interpreter(self, value: Valuation) -> Interpreter:
        bases = {r.name: value(b) for r, b in zip(self.layout.regions, self.layout.bases, strict=True)}
        home = self.state.home
        cells = {name: value(t) for name, t in zip(CELL_NAMES, home.cells, strict=True)}
        rules = {name: value(rule(name)) for name in RULES}
        first = ConcreteState(value(home.rip), cells, {})
        return Interpreter(self.lab.machine, Start(first, first.rip, bases, rules))

    def words(self, state: State, value: Valuation) -> dict[int, int]:
        """address -> word, of every writable region."""
        found = {}
        for number, region in enumerate(self.layout.regions):
            for offset in range(0, region.size if region.writable else 0, 8):
                location = self.layout.location(number, offset // 8)
                term = state.memory.get(location, self.layout.initial(location))
                found[value(self.layout.bases[number]) + offset] = value(term)
        return found

    def concrete(self, state: State, value: Valuation) -> ConcreteState:
        rip = value(state.home.rip) if state.rip == HOME else state.rip
        cells = {name: value(t) for name, t in zip(CELL_NAMES, state.cells, strict=True)}
        memory = {a + i: w >> 8 * i & 0xFF for a, w in self.words(state, value).items() for i in range(8)}
        return ConcreteState(rip, cells, memory, state.nmi_blocked, state.nmi_pending)

    # moves

    def action(self) -> str:
        contract = self.stepper.hole_at(self.state)
        if self.state.nmi_pending and not self.state.nmi_blocked:
            return "nmi"
        if contract is not None and self.source.random() < 0.4:
            return self.source.choice(contract.may_raise)
        if self.state.rip == HOME or self.source.random() < 0.3:
            at = None if self.state.rip == HOME else self.state.rip
            return self.source.choice((*ASYNCHRONOUS, *labs.strikes(self.lab.machine, at)))
        return EXECUTE

    def move(self) -> bool:
        """One move on both sides; False if the run is over."""
        action = self.action()
        if action == "nmi" and self.state.nmi_blocked and self.source.random() < 0.5:
            edges = [self.stepper.latch(self.state)]
        elif action == EXECUTE:
            edges = list(self.stepper.execute(self.state))
        else:
            possible = self.stepper.can_arise(self.state, action)
            edges = list(self.stepper.strike(self.state, action)) if possible else []
        fitting = [e for e in edges if self.fits(e)]
        where = f"{action} at {self.lab.machine.program.describe(self.state.rip)} ({self.instruction()})"
        assert len(fitting) <= 1, f"{where}: two edges are true at once"
        for edge in self.source.sample(edges, min(len(edges), 3)):
            if edge not in fitting:
                self.try_model(edge, where)
        if not fitting:
            self.expect_impossible(action, where)
            return False
        (edge,) = fitting
        if edge.ended == HELD:
            self.expect_held(edge, where)
            return False
        value = self.compare(edge, self.assignment, where)
        if edge.state is None or (edge.state.rip == HOME and action == EXECUTE):
            return False
        self.assignment |= {t: value(t) for _, t in edge.choices}
        self.state = edge.state
        return True

    def instruction(self) -> str:
        return "home" if self.state.rip == HOME else self.lab.machine.program.instructions[self.state.rip].text

    def chosen(self, edge: Edge) -> dict[Term, int]:
        """Values of an edge's choices: the same on all edges of this move."""
        numbers = [labs.number(self.seeded(i), self.lab) for i in range(len(edge.choices))]
        return {t: n & ((1 << t.width) - 1) for (_, t), n in zip(edge.choices, numbers, strict=True)}

    def seeded(self, index: int) -> random.Random:
        return type(self.source)(f"{index} {self.state.rip} {len(self.state.path)}")

    def fits(self, edge: Edge) -> bool:
        value = Valuation(self.assignment | self.chosen(edge))
        return all(value(t) for t in edge.path)

    def try_model(self, edge: Edge, where: str) -> None:
        """Another edge than the assignment's: some values lead there, and the interpreter with them."""
        support = {v for t in edge.path for v in t.support} | {v for f in self.layout.facts for v in f.support}
        known = self.assignment | self.chosen(edge)
        wanted = {v: known[v] for v in support}
        model = self.solver.model(edge.path, support, wanted)
        if model is None:
            self.seen["no model"] += 1
            return
        if edge.ended != "unresolved":
            self.seen["other edges"] += 1
        if edge.ended != HELD:
            self.compare(edge, known | model, f"{where} under a model")

    def compare(self, edge: Edge, assignment: dict[Term, int], where: str) -> Valuation:
        value = Valuation(self.chosen(edge) | assignment)
        self.seen[edge.ended or "goes on"] += 1
        if edge.ended == "unresolved":
            return value
        for name in edge.delivered:
            self.seen[f"delivered {name}"] += 1
        before = self.concrete(self.state, value)
        move = Move(edge.action, tuple((kind, value(t)) for kind, t in edge.choices), edge.latch)
        story = f"{where}: delivered {edge.delivered}, {edge.ended} {edge.detail}, path {[show(t) for t in edge.path]}"
        try:
            outcome = self.interpreter(value).step(before, move)
        except Disagreement as problem:
            raise AssertionError(f"{story}: the interpreter says: {problem}") from problem
        at_home = edge.state is not None and edge.state.rip == HOME and not edge.latch
        expected = edge.ended or ("home" if at_home else None)
        assert expected == outcome.ended, f"{story}: {outcome.ended} {outcome.detail} {outcome.delivered}"
        if edge.state is None:
            return value
        assert edge.delivered == outcome.delivered, story
        want = self.concrete(edge.state, value)
        got = outcome.state.cells
        different = {n: (hex(c), hex(got[n])) for n, c in want.cells.items() if c != got[n]}
        assert not different, f"{story}: (symbolic, concrete) {different}"
        assert want.rip == outcome.state.rip, story
        assert (want.nmi_blocked, want.nmi_pending) == (outcome.state.nmi_blocked, outcome.state.nmi_pending), story
        for address, word in self.words(edge.state, value).items():
            assert word == outcome.state.read(address, 8), f"{story}: word {address:#x}"
        return value

    def expect_impossible(self, action: str, where: str) -> None:
        """No edge is true: that is so only for an NMI while NMIs are blocked, and where a contract says never."""
        contract = self.stepper.hole_at(self.state)
        kept_out = contract is not None and action in contract.never
        assert kept_out or (action, self.state.nmi_blocked) == ("nmi", True), f"{where}: no edge is true"
        self.expect_refused(Move(action), Valuation(self.assignment), where)

    def expect_held(self, edge: Edge, where: str) -> None:
        value = Valuation(self.assignment | self.chosen(edge))
        self.expect_refused(Move(edge.action, tuple((kind, value(t)) for kind, t in edge.choices)), value, where)

    def expect_refused(self, move: Move, value: Valuation, where: str) -> None:
        """The interpreter must find the move impossible too."""
        self.seen["held"] += 1
        try:
            outcome = self.interpreter(value).step(self.concrete(self.state, value), move)
        except Disagreement:
            return
        raise AssertionError(f"{where}: held back, but the interpreter goes on: {outcome.delivered} {outcome.ended}")
