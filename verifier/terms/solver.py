"""Decides what folding does not, with z3 in a process of its own.

Every query is a set of one-bit terms taken together with the *facts* of the model (region layout) about the
variables they mention. Answers are cached by that set. Budgets are z3's resource limit, which does not depend on
the load of the machine.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from verifier.ir.evaluate import evaluate
from verifier.terms import process
from verifier.terms.bits import not_
from verifier.terms.process import SolverFailure
from verifier.terms.smtlib import Query
from verifier.terms.term import FALSE, TRUE, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

T = TypeVar("T")
Answer = Literal["sat", "unsat", "unknown"]

#: z3 resource units per query: a few seconds of work on the machines of 2026.
RLIMIT = 40_000_000
#: Crashes and hangs after which the solver is asked nothing more.
MAX_FAILURES = 3

_REASON = re.compile(r'\(:reason-unknown "(.*)"\)')
_VALUE = re.compile(r"\s#(?:x([0-9a-fA-F]+)|b([01]+))\)")
_WISH = re.compile(r"\|wish ([0-9]+)\|")


@dataclass(frozen=True, slots=True)
class Question:
    """What z3 was asked, as SMT-LIB 2, and its answer; ``reason``: why it is unknown; ``about``: as in `Solver.asking`.
    """

    text: str
    answer: Answer
    reason: str
    about: Mapping[str, object]


class Solver:
    """Satisfiability of sets of literals under the model's facts.

    ``facts``: one-bit terms that hold throughout; a query uses those whose variables it mentions.
    ``queries`` counts the calls that reached z3, ``unknowns`` those that it did not answer; ``reason`` says why, of
    the last answer that was unknown. ``listener`` is told of all that z3 is asked.
    """

    listener: Callable[[Question], None] | None = None

    def __init__(self, facts: Iterable[Term] = (), rlimit: int = RLIMIT) -> None:
        self.facts = tuple(facts)
        self.queries = 0
        self.unknowns = 0
        self.reason = ""
        self._failures = 0
        self._rlimit = rlimit
        self._answers: dict[frozenset[Term], Answer] = {}
        self._reasons: dict[frozenset[Term], str] = {}
        self._about: dict[str, object] = {}

    @contextmanager
    def asking(self, **about: object) -> Iterator[None]:
        """Within this context, questions are about this, and about what the contexts around it say."""
        before = self._about
        self._about = before | about
        try:
            yield
        finally:
            self._about = before

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
        self.reason = self._reasons.get(wanted, self.reason)
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
        """Values of the variables that make the literals and *all* facts true, or None where there are none.

        Each variable has its ``preferred`` value unless the literals stand against it: preferences are given up one
        at a time, those first that the solver finds to be in conflict. Raises SolverFailure without an answer.
        """
        wanted = sorted(variables, key=lambda v: v.id)
        query = Query([*literals, *self.facts], wanted)
        wishes = query.prefer(preferred)
        values = f"(get-value ({' '.join(query.name(v) for v in wanted)}))" if wanted else ""
        while True:
            assuming = f"(check-sat-assuming ({' '.join(wishes)}))"
            answer, more = self._answer(query.text + assuming, f"{values}(get-unsat-assumptions)")
            if answer == "sat":
                return _values(wanted, more)
            if answer == "unsat":
                conflict = _WISH.search(more)
                if conflict is None:
                    return None
                wishes.remove(conflict[0])
            elif wishes:
                wishes = []  # what is wished for may make it hard
            else:
                raise SolverFailure(self.reason)

    def _ask(self, literals: frozenset[Term]) -> Answer:
        self.queries += 1
        variables = frozenset[Term]().union(*[t.support for t in literals])
        facts = [f for f in self.facts if f.support <= variables]
        query = Query([*sorted(literals, key=lambda t: t.id), *facts])
        try:
            answer, _ = self._answer(f"{query.text}(check-sat)", "")
        except SolverFailure:
            answer = "unknown"
        if answer == "unknown":
            self.unknowns += 1
            self._reasons[literals] = self.reason
        return answer

    def _answer(self, check: str, more: str) -> tuple[Answer, str]:
        """What the solver says to a check, and to what is asked after it. Raises SolverFailure.

        For that and for ``unknown``, ``reason`` says why.
        """
        if self._failures == MAX_FAILURES:
            raise SolverFailure(self.reason)
        try:
            lines = process.shared.ask(f"{check}\n(get-info :reason-unknown){more}\n", self._rlimit)
            answer, why = _understood(lines, more)
        except SolverFailure as failure:
            self._failed(failure)
            self._tell(check, "unknown")
            raise
        if answer == "unknown":
            self.reason = f"it gave up after {self._rlimit:,} units of work ({why})"
        self._tell(check, answer)
        return answer, "\n".join(lines[2:])

    def _tell(self, check: str, answer: Answer) -> None:
        if self.listener is not None:
            reason = self.reason if answer == "unknown" else ""
            self.listener(Question(f"{check}\n", answer, reason, self._about))

    def _failed(self, failure: SolverFailure) -> None:
        self._failures += 1
        self.reason = str(failure)
        if self._failures == MAX_FAILURES:
            self.reason += f"; it has failed {MAX_FAILURES} times and is asked no more"


def _understood(lines: list[str], more: str) -> tuple[Answer, str]:
    """The answer, and the reason if it is ``unknown``; anything unexpected is a failure, and never an answer."""
    reason = _REASON.fullmatch(lines[1]) if len(lines) > 1 else None
    if reason is None or lines[0] not in ("sat", "unsat", "unknown") or (len(lines) > 2 and not more):
        raise SolverFailure(f"it said: {' '.join(lines)[:200]}")
    return cast("Answer", lines[0]), reason[1]


def _values(variables: list[Term], text: str) -> dict[Term, int]:
    found = [int(x, 16) if x else int(b, 2) for x, b in _VALUE.findall(text)]
    if len(found) != len(variables):
        raise SolverFailure(f"it gave values for {len(found)} of {len(variables)} variables")
    return dict(zip(variables, found, strict=True))


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
