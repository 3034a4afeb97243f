"""Z3 as a back end of the recheck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import z3

from verifier.recheck.solver import Answer, Translation, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.recheck.expression import Expr

#: z3 resource units per question: a few seconds of work on the machines of 2026.
_RLIMIT = 40_000_000


class Z3(Translation):
    """A new solver for each question: they are small, and none depends on those before."""

    def satisfiable(self, literals: Iterable[Expr]) -> Answer:
        solver = self._solver(literals)
        answer = solver.check()
        return "sat" if answer == z3.sat else "unsat" if answer == z3.unsat else "unknown"

    def value(self, literals: Iterable[Expr], wanted: Expr) -> int | None:
        solver = self._solver(literals)
        if solver.check() != z3.sat:
            return None
        found: int = solver.model().eval(self(wanted), model_completion=True).as_long()
        return found

    def _solver(self, literals: Iterable[Expr]) -> Any:
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", _RLIMIT)
        solver.set("ctrl_c", False)  # an interrupt is Python's to handle, not an unknown answer
        solver.add(*[self(t) == z3.BitVecVal(1, 1) for t in literals])
        return solver

    def _build(self, x: Expr, args: list[Any]) -> Any:
        match x.op:
            case "const":
                return z3.BitVecVal(x.value, x.width)
            case "var":
                return z3.BitVec(name_of(x), x.width)
            case "ite":
                return z3.If(args[0] == 1, args[1], args[2])
            case "extract":
                assert isinstance(x.attr, tuple)
                return z3.Extract(*x.attr, args[0])
            case "concat":
                return z3.Concat(*args)
            case "sext":
                return z3.SignExt(x.width - x.args[0].width, args[0])
            case op if op in _COMPARE:
                return z3.If(_COMPARE[op](*args), z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))
            case op:
                return _OPERATORS[op](*args)


_COMPARE: dict[str, Any] = {
    "eq": lambda a, b: a == b,
    "ult": z3.ULT,
    "ule": z3.ULE,
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
}
_OPERATORS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "neg": lambda a: -a,
    "shl": lambda a, b: a << b,
    "lshr": z3.LShR,
    "ashr": lambda a, b: a >> b,
    "udiv": z3.UDiv,
    "urem": z3.URem,
    "sdiv": lambda a, b: a / b,
    "srem": z3.SRem,
}
