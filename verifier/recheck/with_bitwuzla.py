"""Bitwuzla as a back end of the recheck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitwuzla import Bitwuzla, Kind, Option, Options, Result, TermManager

from verifier.recheck.solver import Answer, Translation, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.recheck.expression import Expr

_MILLISECONDS = 20_000


class BitwuzlaSolver(Translation):
    """A new solver for each question, over one store of terms."""

    def __init__(self) -> None:
        super().__init__()
        self._terms = TermManager()
        self._one = self._terms.mk_bv_value(self._terms.mk_bv_sort(1), 1)
        self._zero = self._terms.mk_bv_value(self._terms.mk_bv_sort(1), 0)

    def satisfiable(self, literals: Iterable[Expr]) -> Answer:
        answer = self._solver(literals).check_sat()
        return "sat" if answer == Result.SAT else "unsat" if answer == Result.UNSAT else "unknown"

    def value(self, literals: Iterable[Expr], wanted: Expr) -> int | None:
        solver = self._solver(literals)
        if solver.check_sat() != Result.SAT:
            return None
        return int(solver.get_value(self(wanted)).value(2), 2)

    def _solver(self, literals: Iterable[Expr]) -> Any:
        options = Options()
        options.set(Option.PRODUCE_MODELS, True)
        options.set(Option.TIME_LIMIT_PER, _MILLISECONDS)
        solver = Bitwuzla(self._terms, options)
        for literal in literals:
            solver.assert_formula(self._terms.mk_term(Kind.EQUAL, [self(literal), self._one]))
        return solver

    def _build(self, x: Expr, args: list[Any]) -> Any:
        terms = self._terms
        match x.op:
            case "const":
                return terms.mk_bv_value(terms.mk_bv_sort(x.width), x.value)
            case "var":
                return terms.mk_const(terms.mk_bv_sort(x.width), name_of(x))
            case "ite":
                condition = terms.mk_term(Kind.EQUAL, [args[0], self._one])
                return terms.mk_term(Kind.ITE, [condition, args[1], args[2]])
            case "extract":
                assert isinstance(x.attr, tuple)
                return terms.mk_term(Kind.BV_EXTRACT, args, list(x.attr))
            case "sext":
                return terms.mk_term(Kind.BV_SIGN_EXTEND, args, [x.width - x.args[0].width])
            case op if op in _COMPARE:
                return terms.mk_term(Kind.ITE, [terms.mk_term(_COMPARE[op], args), self._one, self._zero])
            case op:
                return terms.mk_term(_OPERATORS[op], args)


_COMPARE = {
    "eq": Kind.EQUAL,
    "ult": Kind.BV_ULT,
    "ule": Kind.BV_ULE,
    "slt": Kind.BV_SLT,
    "sle": Kind.BV_SLE,
}
_OPERATORS = {
    "add": Kind.BV_ADD,
    "sub": Kind.BV_SUB,
    "mul": Kind.BV_MUL,
    "and": Kind.BV_AND,
    "or": Kind.BV_OR,
    "xor": Kind.BV_XOR,
    "not": Kind.BV_NOT,
    "neg": Kind.BV_NEG,
    "shl": Kind.BV_SHL,
    "lshr": Kind.BV_SHR,
    "ashr": Kind.BV_ASHR,
    "udiv": Kind.BV_UDIV,
    "urem": Kind.BV_UREM,
    "sdiv": Kind.BV_SDIV,
    "srem": Kind.BV_SREM,
    "concat": Kind.BV_CONCAT,
}
