"""The obligations of a proof, state by state: covered, closed, and with what is claimed true in each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verifier.machine.events import BROKEN_CONTRACT, NO_RETURN
from verifier.recheck.errors import Refused
from verifier.recheck.execute import EXECUTE, Machine
from verifier.recheck.expression import TRUE, Expr, all_of, any_of, eq, substitute, var
from verifier.recheck.ghost import HOME
from verifier.recheck.meaning import Meaning
from verifier.recheck.solver import GaveUp
from verifier.recheck.step import Fault, Mishap, State, Step, Undecided
from verifier.recheck.watch import Watcher
from verifier.spec.expression import Progress, Resumed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from verifier.recheck.execute import Outcome
    from verifier.recheck.ghost import Ghost, Monitors
    from verifier.recheck.reader import Listed, Proof, Stands
    from verifier.recheck.solver import Solver
    from verifier.recheck.world import World
    from verifier.spec.model import Property


@dataclass(frozen=True, slots=True)
class Demand:
    """What must be true of a step for a state to cover it; ``what`` names the cell, word or condition."""

    what: str
    condition: Expr


class Closure:
    """Checks one proof. Every method returns if all is well, and raises Refused if not.

    ``judged``: per property, in how many states and returns it was judged; ``left``: why one cannot be rechecked.
    """

    def __init__(
        self, world: World, solver: Solver, proof: Proof, monitors: Monitors, properties: Sequence[Property]
    ) -> None:
        self._world = world
        self._solver = solver
        self._proof = proof
        self._monitors = monitors
        self._machine = Machine(world, solver)
        self._watcher = Watcher(monitors, self._machine, solver)
        self._properties = [p for p in properties if not isinstance(p.that, Progress)]
        self._unknowns: dict[int, tuple[tuple[int, Expr], ...]] = {}
        self._homing = [p.name for p in properties if isinstance(p.that, Progress)]
        self.judged = {p.name: 0 for p in properties}
        self.left: dict[str, str] = {}

    # the start

    def starts(self) -> None:
        """Every context of the specification, before the first event, is a listed state."""
        for home in self._world.homes.values():
            name = home.context.name
            if not self._solver.consistent(home.axioms):
                raise Refused(f"no context '{name}' can be interrupted: what is said of it contradicts itself")
            state = State(home, HOME, False, self._monitors.start(), home.cells, {}, (), fresh=True)
            step = Step(self._world, self._solver, state)
            listed = [self._proof.states.get(n) for n in self._proof.starts]
            candidates = [
                Candidate(s, _standing(self._unknowns_of(s), (), step), state.ghost)
                for s in listed
                if s is not None and self._fits(s, step, state.ghost)
            ]
            self._covered(step, candidates, f"the context '{name}' before the first event")

    # one state

    def state(self, listed: Listed) -> None:
        """Every step from a listed state leads to listed states, or home; the properties hold in it."""
        where = self._where(listed)
        state = self._state_of(listed)
        ways: list[Way] = []
        try:
            if listed.at != HOME:
                self._judge_here(state, where)
                for outcome in self._machine.instruction(state):
                    found = self._follow(listed, EXECUTE, outcome, listed.ghost, where)
                    waits = self._machine.block(listed.at).terminator.opcode == "halt" and not outcome.step.delivered
                    ways += [Way(way.step, None if waits else way.rank) for way in found]  # N10
            for event in self._monitors.events:
                ghost = self._monitors.strike(listed.ghost, event, listed.at)
                if ghost is not None:
                    for outcome in self._machine.event(state, event):
                        self._follow(listed, event, outcome, ghost, where)
        except Undecided as reason:
            raise Refused(f"{where}: {reason}") from None
        except GaveUp:
            raise GaveUp(where) from None
        if self._homing and listed.at != HOME:
            self._comes_home(listed, ways, where)

    def _state_of(self, listed: Listed) -> State:
        home = self._world.homes[listed.context]
        return State(
            home,
            listed.at,
            listed.nmi_blocked,
            listed.ghost,
            listed.cells,
            listed.memory,
            listed.when,
            pristine=self._proof.home_memory,
        )

    def _where(self, listed: Listed) -> str:
        at = "home" if listed.at == HOME else self._world.machine.program.describe(listed.at)
        return f"state {listed.number} ({listed.context}, {at})"

    def _follow(
        self, listed: Listed, action: str, outcome: Outcome, ghost: Ghost, where: str
    ) -> Iterable[Way]:
        step, what = outcome.step, "its instruction" if action == EXECUTE else f"the event {action}"
        if outcome.ended == NO_RETURN:
            return [Way(step, 0)]  # the contract lets a run end there
        if outcome.ended is not None:
            if self._monitors.complete(ghost) or outcome.ended == BROKEN_CONTRACT:
                raise Refused(f"{where}: {what} ends the run ({outcome.ended}: {outcome.detail})")
            return [Way(step, None)]
        if step.at == HOME:
            self._judge_return(step, ghost, f"{where}: after {what}")
            return [Way(step, 0)]
        at = self._world.machine.program.describe(step.at)
        ghost, what = self._monitors.arrive(ghost, step.at), f"{where}: {what}, which leads to {at},"
        found: list[Listed] = []
        for forms in self._watcher.after(listed.ghost, listed.at, action, step):
            ghosts = [replace(ghost, watched=watched) for watched in forms]
            found += self._covered(step, self._candidates(listed, action, step, ghosts), what)
        ranks = [t.rank for t in found]
        return [Way(step, None if None in ranks else max(r for r in ranks if r is not None))]

    def _candidates(self, listed: Listed, action: str, step: Step, ghosts: Iterable[Ghost]) -> list[Candidate]:
        found = []
        for hint in listed.hints:
            target = self._proof.states.get(hint.target)
            if hint.action == action and target is not None:
                standing = _standing(self._unknowns_of(target), hint.stands, step)
                found += [Candidate(target, standing, g) for g in ghosts if self._fits(target, step, g)]
        return found

    # covering

    def _fits(self, target: Listed, step: Step, ghost: Ghost) -> bool:
        """Whether a target has the control, the NMI block and the event history of what a step led to."""
        same = target.context == step.before.home.context.name and target.at == step.at
        return same and target.nmi_blocked == step.nmi_blocked and target.ghost == ghost

    def _unknowns_of(self, target: Listed) -> tuple[tuple[int, Expr], ...]:
        found = self._unknowns.get(target.number)
        if found is None:
            watched = target.ghost.watched.values if target.ghost.watched is not None else ()
            terms = (*target.cells.values(), *target.memory.values(), *target.when, *watched)
            free = frozenset[Expr]().union(*[t.free for t in terms])
            named = [(x.attr, x) for x in free if isinstance(x.attr, tuple) and x.attr[0] == "unknown"]
            found = tuple([(number, x) for (_, number), x in named if isinstance(number, int)])
            self._unknowns[target.number] = found
        return found

    def _covered(
        self, step: Step, candidates: Sequence[Candidate], what: str
    ) -> list[Listed]:
        """The listed states that cover what a step led to: one of the candidates, or several together."""
        alternatives: list[Expr] = []
        first: Demand | None = None
        for candidate in candidates:
            demands = self._demands(step, candidate)
            missed = next((d for d in demands if not self._solver.implied(step.literals, d.condition)), None)
            if missed is None:
                return [candidate.target]
            first = first or missed
            alternatives.append(all_of(d.condition for d in demands))
        if len(alternatives) > 1 and self._solver.implied(step.literals, any_of(alternatives)):
            return [c.target for c in candidates]
        if first is None:
            raise Refused(f"{what} is not said to lead to any listed state")
        numbers = ", ".join(str(c.target.number) for c in candidates)
        raise Refused(f"{what} is not covered by state {numbers}: {first.what} differs")

    def _demands(self, step: Step, candidate: Candidate) -> list[Demand]:
        target, standing, found = candidate.target, candidate.standing, []
        for name, term in target.cells.items():
            found.append(Demand(f"the cell {name}", eq(step.get(name), substitute(term, standing))))
        for word, term in target.memory.items():
            wanted = substitute(term, standing)
            found.append(Demand(f"the word {word[0]}+{word[1]:#x}", eq(step.word(word), wanted)))
        for i, condition in enumerate(target.when):
            met = substitute(condition, standing)
            found.append(Demand(f"condition {i + 1}", TRUE if met in step.literals else met))
        if candidate.ghost.watched is not None and target.ghost.watched is not None:
            pairs = zip(candidate.ghost.watched.values, target.ghost.watched.values, strict=True)
            found += [Demand("what a struck context had", eq(a, substitute(b, standing))) for a, b in pairs]
        if self._proof.home_memory:
            found += self._own_memory(step, target)
        return [d for d in found if d.condition is not TRUE]

    def _own_memory(self, step: Step, target: Listed) -> Iterator[Demand]:
        """What a target does not list of the interrupted context's memory is as it was at first."""
        for word in step.memory:
            if self._world.belongs_to_home(word) and word not in target.memory:
                untouched = eq(step.word(word), self._world.initial(word))
                yield Demand(f"the interrupted context's word {word[0]}+{word[1]:#x}", untouched)

    # properties

    def _judge_here(self, state: State, where: str) -> None:
        if not self._monitors.complete(state.ghost):
            return
        for p in self._properties:
            if _judged_at(p, state):
                self._judge(p, Step(self._world, self._solver, state), state.ghost, where)

    def _judge_return(self, step: Step, ghost: Ghost, where: str) -> None:
        if not self._monitors.complete(ghost):
            return
        for p in self._properties:
            if p.at == "outermost-return":
                self._judge(p, step, ghost, where)

    def _judge(self, p: Property, step: Step, ghost: Ghost, where: str) -> None:
        decided = len(step.decided)
        try:
            condition = Meaning(step, ghost, self._monitors).truth(p.that)
        except (Mishap, Fault):
            raise Refused(f"{where}: {p.name} reads memory that is not there") from None
        if len(step.decided) != decided:
            raise Refused(f"{where}: {p.name} reads memory whose place is not known")
        self.judged[p.name] += 1
        if not self._solver.implied(step.literals, condition):
            raise Refused(f"{where}: {p.name} does not hold")

    # progress

    def _comes_home(self, listed: Listed, ways: Sequence[Way], where: str) -> None:
        """Every concrete state has a way on without events to states of lower rank.

        A way is sure if its decisions are only about what the step itself leaves open; else it is one for the states
        that decide so.
        """
        rank = listed.rank
        if rank is None:
            self.left = dict.fromkeys(self._homing, f"{where} has no rank, so that it comes home cannot be rechecked")
            return
        for name in self._homing:
            self.judged[name] += 1
        down = [w for w in ways if w.rank is not None and w.rank < rank]
        if down and len(down) == len(ways):
            return
        literals = {*listed.when, *self._world.homes[listed.context].axioms}
        if not self._solver.implied(literals, any_of(c for w in down for c in self._condition_of(w))):
            raise Refused(f"{where}: nothing leads from it to a state of a rank below {rank}")

    def _condition_of(self, way: Way) -> Iterator[Expr]:
        """The condition on a state under which a way can be taken, if it has the form that can be used here."""
        choices = frozenset(way.step.choices)
        own = [d for d in way.step.decided if d.free <= choices]
        rest = [d for d in way.step.decided if d.free.isdisjoint(choices)]
        if len(own) + len(rest) == len(way.step.decided) and self._solver.consistent(own):
            yield all_of(rest)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state that is said to cover what a step led to, what its unknowns stand for, and the ghost to be covered."""

    target: Listed
    standing: Mapping[Expr, Expr]
    ghost: Ghost


@dataclass(frozen=True, slots=True)
class Way:
    """A step without an event: ``rank`` is that of where it leads, 0 for home and for code that may stay away, None if
    that has none."""

    step: Step
    rank: int | None


def _judged_at(p: Property, state: State) -> bool:
    if isinstance(p.that, Resumed):
        return state.ghost.watched is not None and state.ghost.watched.back
    return p.at == "always" or (isinstance(p.at, frozenset) and state.at in p.at)


def _standing(
    unknowns: Iterable[tuple[int, Expr]], stands: Sequence[Stands], step: Step
) -> dict[Expr, Expr]:
    """What the unknowns of a target stand for after a step, as the hint has it."""
    found = {}
    for number, unknown in unknowns:
        stand = stands[number] if number < len(stands) else None
        value = var(unknown.width, "any", number)
        if isinstance(stand, tuple) and stand[0] < len(step.choices):
            value = step.choices[stand[0]]
        elif isinstance(stand, int):
            value = var(unknown.width, "unknown", stand)
        if value.width == unknown.width:
            found[unknown] = value
        else:
            found[unknown] = var(unknown.width, "any", number)
    return found
