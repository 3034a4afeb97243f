"""What it takes for a listed state to cover what a step led to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.recheck.errors import Refused
from verifier.recheck.expression import TRUE, Expr, all_of, any_of, eq, substitute, var
from verifier.recheck.ghost import LEAVING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verifier.recheck.ghost import Ghost
    from verifier.recheck.reader import Listed, Proof, Stands
    from verifier.recheck.solver import Solver
    from verifier.recheck.step import Step
    from verifier.recheck.world import World


@dataclass(frozen=True, slots=True)
class Demand:
    """What must be true of a step for a state to cover it; ``what`` names the cell, word or condition."""

    what: str
    condition: Expr


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state that is said to cover what a step led to, what its variables stand for, and the ghost to be covered."""

    target: Listed
    standing: Mapping[Expr, Expr]
    ghost: Ghost


class Cover:
    """Compares steps with the states of one proof."""

    def __init__(self, world: World, solver: Solver, proof: Proof) -> None:
        self._world = world
        self._solver = solver
        self._proof = proof
        self._variables: dict[tuple[int, str], tuple[Expr, ...]] = {}

    def candidate(
        self, target: Listed, stands: Sequence[Stands], step: Step, ghost: Ghost, begins: bool = False
    ) -> Candidate | None:
        """A state with the control, the NMI block and the event history of what a step led to.

        ``begins``: a routine begins there, and its params stand for what the step led to.
        """
        same = target.context == step.before.home.context.name and target.at == step.at
        if target.leaves is not None and target.leaves.cpl != step.cpl:
            return None
        if not same or target.nmi_blocked != step.nmi_blocked or target.ghost != ghost:
            return None
        standing = _standing(self.variables(target, "unknown"), stands, step)
        if begins:
            standing |= {p: held(step, p) for p in self.variables(target, "param")}
        return Candidate(target, standing, ghost)

    def variables(self, target: Listed, kind: str) -> tuple[Expr, ...]:
        """The variables of a kind that a listed state mentions."""
        found = self._variables.get((target.number, kind))
        if found is None:
            free = frozenset[Expr]().union(*[t.free for t in target.terms()])
            found = tuple([x for x in free if isinstance(x.attr, tuple) and x.attr[0] == kind])
            self._variables[target.number, kind] = found
        return found

    def covered(self, step: Step, candidates: Sequence[Candidate], what: str) -> list[Listed]:
        """The listed states that cover what a step led to: one of the candidates, or several together.

        Raises Refused.
        """
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
        if step.at == LEAVING and step.target is not None and target.leaves is not None:
            found.append(Demand("where it goes", eq(step.target, substitute(target.leaves.target, standing))))
        if self._proof.home_memory:
            found += self._own_memory(step, target)
        return [d for d in found if d.condition is not TRUE]

    def _own_memory(self, step: Step, target: Listed) -> Iterator[Demand]:
        """What a target does not list of the interrupted context's memory is as it was at first."""
        for word in step.memory:
            if self._world.belongs_to_home(word) and word not in target.memory:
                untouched = eq(step.word(word), self._world.initial(word))
                yield Demand(f"the interrupted context's word {word[0]}+{word[1]:#x}", untouched)


def held(step: Step, param: Expr) -> Expr:
    """What the location of a param holds after a step."""
    match param.attr:
        case (_, str(cell)):
            return step.get(cell)
        case (_, str(region), int(offset)):
            return step.word((region, offset))
    raise AssertionError(param.attr)


def param(*place: int | str) -> Expr:
    """What a cell, or the word at an offset of a region, held where the routine begins that a state is in."""
    return var(64 if len(place) > 1 else CELLS[str(place[0])], "param", *place)


def number_of(unknown: Expr) -> int:
    """The number of an unknown of a listed state."""
    assert isinstance(unknown.attr, tuple)
    return int(unknown.attr[1])


def _standing(unknowns: Sequence[Expr], stands: Sequence[Stands], step: Step) -> dict[Expr, Expr]:
    """What the unknowns of a target stand for after a step, as the hint has it."""
    found = {}
    for unknown in unknowns:
        number = number_of(unknown)
        stand = stands[number] if number < len(stands) else None
        value = var(unknown.width, "any", number)
        if isinstance(stand, int):
            value = var(unknown.width, "unknown", stand)
        elif stand is not None and stand[0] == "exit":
            value = var(unknown.width, *stand)
        elif stand is not None and stand[1] < len(step.choices):
            value = step.choices[stand[1]]
        found[unknown] = value if value.width == unknown.width else var(unknown.width, "any", number)
    return found
