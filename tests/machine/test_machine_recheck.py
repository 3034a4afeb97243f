"""The machine of the recheck and the interpreter agree on random programs and states: both from numbers, but that the
recheck has variables for what a step leaves open and for rules in which processors differ."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import machine_lab as labs
import pytest

from verifier.ir.cells import CELLS
from verifier.machine.rules import RULES
from verifier.recheck.execute import EXECUTE, Machine, Outcome
from verifier.recheck.expression import Expr, const, substitute
from verifier.recheck.ghost import HOME, Ghost
from verifier.recheck.solver import Solver, backend
from verifier.recheck.step import State, Undecided
from verifier.recheck.world import Home, World, image, rule
from verifier.trace import run
from verifier.trace.interpreter import Interpreter
from verifier.trace.interpreter.work import Choices
from verifier.trace.run import ConcreteState, Disagreement, Move, Start

if TYPE_CHECKING:
    from verifier.machine.config import Context

FULL = os.environ.get("VERIFIER_FULL") == "1"
ROUNDS = 10_000 if FULL else 400
CHOICES = 64


@pytest.fixture(scope="module")
def built():
    return labs.program()


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver(backend("bitwuzla"), ())


@pytest.fixture(autouse=True)
def _any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices go by their order: the recheck has no names for them."""

    def take(self: Choices, _kind: str, width: int) -> int:
        _, value = self._choices[self._taken]
        self._taken += 1
        return value & ((1 << width) - 1)

    monkeypatch.setattr(Choices, "take", take)
    monkeypatch.setattr(Choices, "finish", lambda _self: None)


class Case:
    """One step from one state of numbers, by both."""

    def __init__(self, source: random.Random, lab: labs.Lab, context: Context, solver: Solver) -> None:
        self.lab = lab
        self.rules = {name: source.getrandbits(1) for name in RULES}
        self.numbers = [labs.number(source, lab) for _ in range(CHOICES)]
        home = labs.user_cells(source, lab, context)
        at_home = source.random() < 0.2
        cells = home if at_home else labs.cells(source, lab)
        if source.random() < 0.5:
            cells["gs_base"] = home["gs_base"]
        words = labs.words(source, lab, cells["rsp"])
        rip = labs.USER_HOME if context.cpl == 3 else labs.KERNEL_HOME
        at = HOME if at_home else labs.address(source, lab)
        blocked = source.random() < 0.3
        first = ConcreteState(rip, home, {})
        self.interpreter = Interpreter(lab.machine, Start(first, rip, lab.bases, self.rules))
        memory = {lab.bases[n] + o + i: w >> 8 * i & 0xFF for (n, o), w in words.items() for i in range(8)}
        self.concrete = ConcreteState(rip if at_home else at, cells, memory, blocked)
        homely = constants(home)
        self.state = State(
            Home(context, homely, const(rip, 64), image(homely), ()),
            at,
            blocked,
            Ghost((), (), frozenset()),
            constants(cells),
            {word: const(value, 64) for word, value in words.items()},
            (),
        )
        self.machine = Machine(World(lab.machine), solver)
        self.words = words

    def action(self, source: random.Random) -> str:
        instruction = self.lab.machine.program.instructions.get(self.state.at)
        if instruction is not None and instruction.mnemonic == "hole_body" and source.random() < 0.4:
            return source.choice(self.lab.machine.contracts["hidden"].may_raise)
        if self.state.at == HOME or source.random() < 0.3:
            at = None if self.state.at == HOME else self.state.at
            return source.choice(("nmi", "irq", "machine_check", *labs.strikes(self.lab.machine, at)))
        return EXECUTE

    def outcomes(self, action: str) -> list[Outcome]:
        """Those of the recheck that these numbers lead to."""
        every = self.machine.instruction(self.state) if action == EXECUTE else self.machine.event(self.state, action)
        return [o for o in every if all(self.value(o, d) for d in o.step.decided)]

    def value(self, outcome: Outcome, e: Expr) -> int:
        known = {rule(name): const(bit, 1) for name, bit in self.rules.items()}
        known |= {c: const(self.numbers[i], c.width) for i, c in enumerate(outcome.step.choices)}
        return substitute(e, known).value

    def compare(self, action: str) -> str:
        """What both say of the step; AssertionError if they differ."""
        found = self.outcomes(action)
        move = Move(action, tuple(("", n) for n in self.numbers))
        expected = self.interpreted(move)
        if expected is None:
            assert not found, "the interpreter says that this is not possible"
            return "held"
        assert len(found) == 1, f"{len(found)} outcomes at once"
        (outcome,) = found
        ended = "home" if outcome.ended is None and outcome.step.at == HOME and action == EXECUTE else outcome.ended
        assert ended == expected.ended, f"{outcome.ended} {outcome.detail}, {expected.ended} {expected.detail}"
        if outcome.ended is None:
            self.same_state(outcome, expected.state)
            assert tuple(outcome.step.delivered) == expected.delivered
        return ended or "goes on"

    def interpreted(self, move: Move) -> run.Outcome | None:
        """What the interpreter says; None if the move is not possible."""
        try:
            return self.interpreter.step(self.concrete, move)
        except Disagreement:
            return None

    def same_state(self, outcome: Outcome, expected: ConcreteState) -> None:
        step = outcome.step
        got = {name: self.value(outcome, step.get(name)) for name in CELLS}
        assert got == dict(expected.cells)
        assert step.nmi_blocked == expected.nmi_blocked
        assert step.at in (expected.rip, HOME)
        for name, offset in self.words:
            word = self.value(outcome, step.word((name, offset)))
            assert word == expected.read(self.lab.bases[name] + offset, 8), f"word {name}+{offset:#x}"


def constants(cells: dict[str, int]) -> dict[str, Expr]:
    return {name: const(value, CELLS[name]) for name, value in cells.items()}


@pytest.mark.parametrize("context", [labs.USER, labs.KERNEL], ids=lambda c: c.name)
def test_the_recheck_steps_as_the_interpreter_does(built, solver: Solver, context: Context) -> None:
    seen: Counter[str] = Counter()
    for seed in range(ROUNDS):
        source = random.Random(f"{seed} of {context.name}")
        case = Case(source, labs.lab(source, built, fixed=True), context, solver)
        action = case.action(source)
        try:
            seen[case.compare(action)] += 1
        except Undecided:
            seen["undecided"] += 1
        except AssertionError as problem:
            where = case.lab.machine.program.instructions.get(case.state.at)
            raise AssertionError(f"seed {seed}: {action} at {where and where.text}: {problem}") from problem
    assert seen["goes on"] > ROUNDS // 4
    assert seen["undecided"] < ROUNDS // 20
    ends = {"home", "held", "wild-jump", "wild-write", "no-gate", "broken-contract", "no-return"}
    assert ends <= seen.keys()
