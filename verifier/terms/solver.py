"""Z3 behind the terms: decides what folding does not. The only module that imports z3.

Every query is a set of one-bit terms taken together with the *facts* of the model (region layout) about the
variables they mention. Answers are cached by that set. Budgets are z3's resource limit, which does not depend on
the load of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import z3

from verifier.ir.evaluate import evaluate
from verifier.terms.bits import not_
from verifier.terms.term import FALSE, TRUE, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
Answer = Literal["sat", "unsat", "unknown"]

#: z3 resource units per query: a few seconds of work on the machines of 2026.
RLIMIT = 40_000_000


class Solver:
    """Satisfiability of sets of literals under the model's facts.

    ``facts``: one-bit terms that hold throughout; a query uses those whose variables it mentions.
    ``queries`` counts the calls that reached z3.
    """

    def __init__(self, facts: Iterable[Term] = (), rlimit: int = RLIMIT) -> None:
        self.facts = tuple(facts)
        self.queries = 0
        self.unknowns = 0
        self._rlimit = rlimit
        self._answers: dict[frozenset[Term], Answer] = {}
        self._translated: dict[Term, Any] = {}

    def satisfiable(self, literals: Iterable[Term]) -> Answer:
        """Whether some assignment makes all literals (and the facts) true."""
        wanted = frozenset(t for t in literals if t is not TRUE)
        if FALSE in wanted or any(not_(t) in wanted for t in wanted):
            return "unsat"
        if not wanted:
            return "sat"
        answer = self._answers.get(wanted)
        if answer is None:
            answer = self._answers[wanted] = self._ask(wanted)
        return answer

    def feasible(self, path: Iterable[Term], condition: Term) -> Answer:
        """Whether a condition can hold on a satisfiable path: only the literals connected to it are asked about."""
        return self.satisfiable([*connected(path, condition.support), condition])

    def valid(self, path: Iterable[Term], condition: Term) -> bool:
        """Whether the condition holds in every assignment that the path allows; an unknown answer is False."""
        if condition is TRUE:
            return True
        return self.feasible(path, not_(condition)) == "unsat"

    def model(
        self, literals: Iterable[Term], variables: Iterable[Term], preferred: Mapping[Term, int]
    ) -> dict[Term, int] | None:
        """Values of the variables that make the literals and *all* facts true, or None.

        Each variable has its ``preferred`` value unless the literals stand against it: preferences are given up one
        at a time, those first that the solver finds to be in conflict.
        """
        solver = self._solver([*literals, *self.facts], variables)
        wishes = {}
        for i, (v, value) in enumerate(preferred.items()):
            wish = z3.Bool(f"wish!{i}")
            wishes[wish.get_id()] = wish
            solver.add(z3.Implies(wish, self.translate(v) == value))
        while True:
            answer = solver.check(*wishes.values())
            if answer == z3.sat:
                break
            conflict = [w.get_id() for w in solver.unsat_core()] if answer == z3.unsat else list(wishes)
            if not wishes:
                return None
            del wishes[conflict[0] if conflict else next(iter(wishes))]
        found = solver.model()
        return {v: found.eval(self.translate(v), model_completion=True).as_long() for v in variables}

    def _ask(self, literals: frozenset[Term]) -> Answer:
        self.queries += 1
        variables = frozenset[Term]().union(*[t.support for t in literals])
        facts = [f for f in self.facts if f.support <= variables]
        solver = self._solver([*sorted(literals, key=lambda t: t.id), *facts], ())
        result = solver.check()
        if result == z3.sat:
            return "sat"
        if result == z3.unsat:
            return "unsat"
        self.unknowns += 1
        return "unknown"

    def _solver(self, literals: list[Term], variables: Iterable[Term]) -> Any:
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", self._rlimit)
        solver.set("ctrl_c", False)  # an interrupt is Python's to handle, not an unknown answer
        mentioned = {v for t in literals for v in t.support} | set(variables)
        for v in sorted(mentioned, key=lambda v: v.id):
            solver.add(*self._bounds(v))
        for literal in literals:
            solver.add(self.truth(literal))
        return solver

    def _bounds(self, v: Term) -> list[Any]:
        x, bounds = self.translate(v), []
        if v.lo > 0:
            bounds.append(z3.UGE(x, v.lo))
        if v.hi < (1 << v.width) - 1:
            bounds.append(z3.ULE(x, v.hi))
        if v.known:
            bounds.append(z3.Extract(v.known - 1, 0, x) == v.residue)
        return bounds

    def truth(self, term: Term) -> Any:
        """A one-bit term as a z3 Boolean."""
        if term.op in _COMPARE:
            a, b = (self.translate(x) for x in term.args)
            return _COMPARE[term.op](a, b)
        if term.op == "not":
            return z3.Not(self.truth(term.args[0]))
        if term.op in ("and", "or", "xor"):
            a, b = (self.truth(x) for x in term.args)
            return {"and": z3.And, "or": z3.Or, "xor": z3.Xor}[term.op](a, b)
        return self.translate(term) == 1

    def translate(self, term: Term) -> Any:
        """A term as a z3 bit-vector."""
        return _fold_up(term, self._translated, self._build)

    def _build(self, t: Term) -> Any:
        args = [self._translated[a] for a in t.args]
        if t.op == "const":
            return z3.BitVecVal(t.value, t.width)
        if t.op in ("var", "havoc"):
            return z3.BitVec(f"{t.op}!{t.attr}!{t.width}", t.width)
        if t.op in _COMPARE:
            return z3.If(_COMPARE[t.op](*args), z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))
        if t.op == "ite":
            return z3.If(args[0] == 1, args[1], args[2])
        if t.op == "extract":
            assert isinstance(t.attr, tuple)
            return z3.Extract(*t.attr, args[0])
        if t.op == "concat":
            return z3.Concat(*args)
        if t.op == "sext":
            return z3.SignExt(t.width - t.args[0].width, args[0])
        return _OPERATORS[t.op](*args)


_COMPARE: Mapping[str, Any] = {
    "eq": lambda a, b: a == b,
    "ult": z3.ULT,
    "slt": lambda a, b: a < b,
}
_OPERATORS: Mapping[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "shl": lambda a, b: a << b,
    "lshr": z3.LShR,
    "ashr": lambda a, b: a >> b,
    "udiv": z3.UDiv,
    "urem": z3.URem,
    "sdiv": lambda a, b: a / b,
    "srem": z3.SRem,
}


def connected(path: Iterable[Term], support: frozenset[Term]) -> list[Term]:
    """The literals of a path that share variables with ``support``, directly or through others."""
    rest, found, reach = list(path), [], set(support)
    grown = True
    while grown:
        grown = False
        remaining = []
        for literal in rest:
            if literal.support.isdisjoint(reach):
                remaining.append(literal)
            else:
                found.append(literal)
                reach |= literal.support
                grown = True
        rest = remaining
    return found


def _fold_up(term: Term, done: dict[Term, T], build: Callable[[Term], T]) -> T:
    """What ``build`` makes of a term, once it has been done for all that is in it; no recursion, terms are deep."""
    stack = [term]
    while stack:
        t = stack[-1]
        if t in done:
            stack.pop()
            continue
        missing = [a for a in t.args if a not in done]
        if missing:
            stack += missing
            continue
        done[stack.pop()] = build(t)
    return done[term]


class Valuation:
    """Values for variables, and so for every term over them; z3 plays no part in it."""

    def __init__(self, values: Mapping[Term, int]) -> None:
        self._values = values
        self._done: dict[Term, int] = {}

    def __call__(self, term: Term) -> int:
        """The term's value, unsigned."""
        done = self._done
        return _fold_up(term, done, lambda t: _value(t, [done[a] for a in t.args], self._values))


def _value(t: Term, args: list[int], values: Mapping[Term, int]) -> int:
    if t.op == "const":
        return t.value
    if t.op in ("var", "havoc"):
        return values[t]
    if t.op == "concat":
        result = 0
        for part, value in zip(t.args, args, strict=True):
            result = result << part.width | value
        return result
    return evaluate(t.op, tuple(args), tuple(a.width for a in t.args), t.width, t.attr)
