"""Hash-consed bit-vector terms that fold as they are built; the only folder that knows a solver."""

from verifier.terms.arithmetic import apply, eq, mul, neg, sle, slt, sub, ule, ult
from verifier.terms.bits import all_of, and_, any_of, concat, extract, ite, not_, or_, sext, xor, zext
from verifier.terms.process import SolverFailure
from verifier.terms.solver import Answer, Question, Solver, Valuation, connected
from verifier.terms.substitute import rewrite, substitute
from verifier.terms.sums import add
from verifier.terms.term import FALSE, TRUE, Term, const, havoc, param, show, var

__all__ = [
    "FALSE",
    "TRUE",
    "Answer",
    "Question",
    "Solver",
    "SolverFailure",
    "Term",
    "Valuation",
    "add",
    "all_of",
    "and_",
    "any_of",
    "apply",
    "concat",
    "connected",
    "const",
    "eq",
    "extract",
    "havoc",
    "ite",
    "mul",
    "neg",
    "not_",
    "or_",
    "param",
    "rewrite",
    "sext",
    "show",
    "sle",
    "slt",
    "sub",
    "substitute",
    "ule",
    "ult",
    "var",
    "xor",
    "zext",
]
