"""Questions to an SMT solver: satisfiable or not. The two back ends translate and ask, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from verifier.errors import UsageError
from verifier.recheck.expression import FALSE, TRUE, Expr, not_

if TYPE_CHECKING:
    from collections.abc import Iterable

Answer = Literal["sat", "unsat", "unknown"]
Name = Literal["z3", "bitwuzla"]


class Backend(Protocol):
    """A solver. ``literals`` are one-bit expressions, all to be true."""

    def satisfiable(self, literals: Iterable[Expr]) -> Answer: ...

    def value(self, literals: Iterable[Expr], wanted: Expr) -> int | None:
        """What ``wanted`` is in some assignment that makes the literals true; None without one."""


def backend(name: Name) -> Backend:
    """Raises UsageError where the solver is not installed."""
    if name == "z3":
        from verifier.recheck.with_z3 import Z3

        return Z3()
    try:
        from verifier.recheck.with_bitwuzla import BitwuzlaSolver
    except ImportError:
        raise UsageError("bitwuzla is not installed", None, "pip install 'verifier[bitwuzla]'") from None
    return BitwuzlaSolver()


class GaveUp(Exception):
    """The solver answered neither way."""


class Solver:
    """Asks a back end under the facts of a model, and remembers the answers.

    ``facts``: conditions that hold throughout. A question takes those all of whose variables it mentions, and of the
    literals those that share variables with what is asked, directly or through others: leaving one out can only make
    more satisfiable, and so a check fail.
    """

    def __init__(self, solver: Backend, facts: Iterable[Expr]) -> None:
        self._backend = solver
        self._facts = tuple(facts)
        self._answers: dict[frozenset[Expr], Answer] = {}
        self._values: dict[tuple[frozenset[Expr], Expr], int | None] = {}
        self.queries = 0

    def possible(self, literals: Iterable[Expr], condition: Expr) -> bool:
        """Whether the condition can hold where the literals do. Raises GaveUp."""
        if condition.is_const:
            return bool(condition.value)
        wanted = frozenset((*_connected(literals, condition.free), condition))
        if any(not_(t) in wanted for t in wanted):
            return False
        return self._ask(wanted) == "sat"

    def implied(self, literals: Iterable[Expr], condition: Expr) -> bool:
        """Whether the condition holds wherever the literals do. Raises GaveUp."""
        return condition is TRUE or not self.possible(literals, not_(condition))

    def consistent(self, literals: Iterable[Expr]) -> bool:
        """Whether the literals can hold together. Raises GaveUp."""
        wanted = frozenset(t for t in literals if t is not TRUE)
        return FALSE not in wanted and (not wanted or self._ask(wanted) == "sat")

    def example(self, literals: Iterable[Expr], wanted: Expr) -> int | None:
        """A value that ``wanted`` can have where the literals hold."""
        chosen = frozenset(_connected(literals, wanted.free))
        key = chosen, wanted
        if key not in self._values:
            self.queries += 1
            facts = self._facts_about(wanted.free.union(*[t.free for t in chosen]))
            self._values[key] = self._backend.value([*chosen, *facts], wanted)
        return self._values[key]

    def _ask(self, wanted: frozenset[Expr]) -> Answer:
        answer = self._answers.get(wanted)
        if answer is None:
            self.queries += 1
            facts = self._facts_about(frozenset().union(*[t.free for t in wanted]))
            answer = self._answers[wanted] = self._backend.satisfiable([*wanted, *facts])
        if answer == "unknown":
            raise GaveUp
        return answer

    def _facts_about(self, variables: frozenset[Expr]) -> list[Expr]:
        return [f for f in self._facts if f.free <= variables]


def _connected(literals: Iterable[Expr], variables: frozenset[Expr]) -> list[Expr]:
    """The literals that share variables with these, directly or through others; FALSE is always one."""
    rest, found, reach = list(literals), [], set(variables)
    grown = True
    while grown:
        grown = False
        apart = []
        for literal in rest:
            if literal is not FALSE and literal.free.isdisjoint(reach):
                apart.append(literal)
            else:
                found.append(literal)
                reach |= literal.free
                grown = True
        rest = apart
    return found


class Translation:
    """Expressions to those of a solver, each once."""

    def __init__(self) -> None:
        self._done: dict[Expr, object] = {}

    def __call__(self, e: Expr) -> object:
        stack = [e]
        while stack:
            x = stack[-1]
            missing = [a for a in x.args if a not in self._done]
            if missing:
                stack += missing
            elif x in self._done:
                stack.pop()
            else:
                self._done[stack.pop()] = self._build(x, [self._done[a] for a in x.args])
        return self._done[e]

    def _build(self, x: Expr, args: list[object]) -> object:
        raise NotImplementedError


def name_of(x: Expr) -> str:
    """A variable's name for a solver."""
    assert isinstance(x.attr, tuple)
    return "!".join(str(part) for part in (*x.attr, x.width))


