"""The obligations of a proof, state by state: covered, closed, and with what is claimed true in each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verifier.machine.events import BROKEN_CONTRACT, NO_RETURN
from verifier.recheck.cover import Cover
from verifier.recheck.errors import Refused
from verifier.recheck.execute import EXECUTE, Machine
from verifier.recheck.expression import Expr, all_of, any_of
from verifier.recheck.ghost import HOME, LEAVING
from verifier.recheck.meaning import Meaning
from verifier.recheck.routines import Routines
from verifier.recheck.solver import GaveUp
from verifier.recheck.step import Fault, Mishap, State, Step, Undecided
from verifier.recheck.watch import Watcher
from verifier.spec.expression import Progress, Resumed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from verifier.recheck.execute import Outcome
    from verifier.recheck.ghost import Ghost, Monitors
    from verifier.recheck.reader import Listed, Proof
    from verifier.recheck.solver import Solver
    from verifier.recheck.world import World
    from verifier.spec.model import Property


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
        self._cover = Cover(world, solver, proof)
        self._routines = Routines(proof, self._cover)
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
            outside = [s for s in listed if s is not None and s.routine is None]
            candidates = [self._cover.candidate(s, (), step, state.ghost) for s in outside]
            what = f"the context '{name}' before the first event"
            self._cover.covered(step, [c for c in candidates if c is not None], what)

    # one state

    def state(self, listed: Listed) -> None:
        """Every step from a listed state leads to listed states, or home; the properties hold in it."""
        if listed.at == LEAVING:
            return  # where it leads is seen for each context that begins its routine
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
            self._comes_home(listed, state, ways, where)

    def _state_of(self, listed: Listed) -> State:
        home = self._world.homes[listed.context]
        return State(
            home,
            listed.at,
            listed.nmi_blocked,
            listed.ghost,
            listed.cells,
            listed.memory,
            (*listed.when, *self._routines.assumed(listed.routine)),
            pristine=self._proof.home_memory,
            nested=listed.routine is not None,
        )

    def _where(self, listed: Listed) -> str:
        return f"state {listed.number} ({listed.context}, {self._place(listed.at)})"

    def _place(self, at: int) -> str:
        if at == LEAVING:
            return "out of the routine"
        return "home" if at == HOME else self._world.machine.program.describe(at)

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
        ghost = self._monitors.arrive(ghost, step.at)
        if self._proof.routines and step.delivered and listed.at != HOME:
            return [Way(step, self._nested(listed, action, step, ghost, f"{where}: {what}"))]
        found: list[Listed] = []
        for forms in self._watcher.after(listed.ghost, listed.at, action, step):
            ghosts = [replace(ghost, watched=watched) for watched in forms]
            found += self._leads(listed, action, step, ghosts, f"{where}: {what}")
        return [Way(step, _highest(0 if t.at == LEAVING else t.rank for t in found))]

    def _leads(
        self, listed: Listed, action: str, step: Step, ghosts: Iterable[Ghost], what: str, left: int | None = None
    ) -> list[Listed]:
        """The states of the same routine that cover what a step led to, or a nested run that is over in a state."""
        candidates = []
        for hint in listed.hints:
            target = self._proof.states.get(hint.target)
            if target is None or hint.begins or (hint.action, hint.left) != (action, left):
                continue
            if target.routine == listed.routine:
                candidates += [self._cover.candidate(target, hint.stands, step, g) for g in ghosts]
        what = f"{what}, which leads to {self._place(step.at)},"
        return self._cover.covered(step, [c for c in candidates if c is not None], what)

    # routines

    def _nested(self, listed: Listed, action: str, step: Step, ghost: Ghost, what: str) -> int | None:
        """A run nested in the program begins a routine; wherever control leaves it, the context goes on to listed
        states, or home. The highest rank on the way."""
        candidates = []
        for hint in listed.hints:
            first = self._proof.states.get(hint.target)
            if first is not None and hint.action == action and hint.begins and first.routine == first.number:
                candidates.append(self._cover.candidate(first, hint.stands, step, ghost, begins=True))
        firsts = self._cover.covered(
            step, [c for c in candidates if c is not None], f"{what}, which leads to {self._place(step.at)},"
        )
        ranks = [first.rank for first in firsts]
        for first in firsts:
            for left in self._routines.exits(first.number):
                ranks += self._left(listed, action, step, left, what)
        return _highest(ranks)

    def _left(self, listed: Listed, action: str, call: Step, left: Listed, what: str) -> list[int | None]:
        """A nested run is over in a state: the ranks of where it leads in the context that it struck."""
        what = f"{what}, and the run that is over in state {left.number}"
        resumed = self._routines.resumed(listed, call, left)
        if resumed is None:
            return []
        state, target = resumed
        try:
            return [
                rank
                for outcome in self._machine.resume(state, target)
                for rank in self._back(listed, action, call, left, outcome, what)
            ]
        except Refused:
            if self._solver.consistent(state.when):
                raise
            return []  # no such run is over in this state

    def _back(
        self, listed: Listed, action: str, call: Step, left: Listed, outcome: Outcome, what: str
    ) -> list[int | None]:
        step = outcome.step
        step.choices = call.choices
        ghost = self._monitors.arrive(left.ghost, step.at)
        if outcome.ended is not None:
            if self._monitors.complete(ghost):
                raise Refused(f"{what}: it ends ({outcome.ended}: {outcome.detail})")
            self._cannot_come_home(f"{what}: it ends ({outcome.ended})")
            return [None]
        if step.at == HOME:
            self._judge_return(step, ghost, what)
            return [0]
        found = self._leads(listed, action, step, [ghost], what, left.number)
        return [0 if t.at == LEAVING else t.rank for t in found]

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

    def _comes_home(self, listed: Listed, state: State, ways: Sequence[Way], where: str) -> None:
        """Every concrete state has a way on without events to states of lower rank.

        A way is sure if its decisions are only about what the step itself leaves open; else it is one for the states
        that decide so.
        """
        rank = listed.rank
        if rank is None:
            self._cannot_come_home(f"{where} has no rank")
            return
        for name in self._homing:
            self.judged[name] += 1
        down = [w for w in ways if w.rank is not None and w.rank < rank]
        if down and len(down) == len(ways):
            return
        literals = {*state.when, *state.home.axioms}
        if not self._solver.implied(literals, any_of(c for w in down for c in self._condition_of(w))):
            raise Refused(f"{where}: nothing leads from it to a state of a rank below {rank}")

    def _cannot_come_home(self, why: str) -> None:
        self.left = dict.fromkeys(self._homing, f"{why}, so that it comes home cannot be rechecked")

    def _condition_of(self, way: Way) -> Iterator[Expr]:
        """The condition on a state under which a way can be taken, if it has the form that can be used here."""
        choices = frozenset(way.step.choices)
        own = [d for d in way.step.decided if d.free <= choices]
        rest = [d for d in way.step.decided if d.free.isdisjoint(choices)]
        if len(own) + len(rest) == len(way.step.decided) and self._solver.consistent(own):
            yield all_of(rest)


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


def _highest(ranks: Iterable[int | None]) -> int | None:
    """None if any has none."""
    found = list(ranks)
    return None if None in found else max(r for r in found if r is not None)
