"""Terms as SMT-LIB 2.6 text (logic QF_BV): what solvers are asked, and what can be written down for others.

A query stands for itself: it declares its variables with their bounds, names each inner term once, and asserts its
literals. Equal queries have equal text, whatever was asked before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.terms.term import Term

LOGIC = "QF_BV"


class Query:
    """The text of one query, growing. Every part of a term is declared or defined before it is used."""

    def __init__(self, literals: Iterable[Term], variables: Iterable[Term] = ()) -> None:
        """The one-bit ``literals`` hold; ``variables`` are declared although no literal may mention them."""
        self._lines: list[str] = []
        self._names: dict[Term, str] = {}
        for v in variables:
            self.name(v)
        for literal in literals:
            name = self.name(literal)
            self._lines.append(f"(assert (= {name} #b1))")

    @property
    def text(self) -> str:
        """Declarations, definitions and assertions, a line each."""
        return "".join(f"{line}\n" for line in self._lines)

    def name(self, term: Term) -> str:
        """What stands for a term in this query; no recursion, terms are deep."""
        stack = [term]
        while stack:
            t = stack[-1]
            missing = [] if t in self._names else [a for a in t.args if a not in self._names]
            stack += missing
            if not missing:
                stack.pop()
                if t not in self._names:
                    self._names[t] = self._introduce(t)
        return self._names[term]

    def prefer(self, values: Mapping[Term, int]) -> list[str]:
        """A Boolean per variable that means that the variable has the given value."""
        wishes: list[str] = []
        for v, value in values.items():
            name = self.name(v)
            wish = f"|wish {len(wishes)}|"
            self._lines.append(f"(declare-const {wish} Bool)")
            self._lines.append(f"(assert (=> {wish} (= {name} {_constant(value, v.width)})))")
            wishes.append(wish)
        return wishes

    def _introduce(self, t: Term) -> str:
        if t.op == "const":
            return _constant(t.value, t.width)
        if t.op in ("var", "havoc", "param"):
            return self._declare(t)
        name = f"t{len(self._names)}"
        self._lines.append(f"(define-fun {name} () (_ BitVec {t.width}) {self._expression(t)})")
        return name

    def _declare(self, v: Term) -> str:
        name = f"|{_MARKS.get(v.op, '')}{v.attr}:{v.width}|"
        self._lines.append(f"(declare-const {name} (_ BitVec {v.width}))")
        if v.lo > 0:
            self._lines.append(f"(assert (bvuge {name} {_constant(v.lo, v.width)}))")
        if v.hi < (1 << v.width) - 1:
            self._lines.append(f"(assert (bvule {name} {_constant(v.hi, v.width)}))")
        if v.known:
            low = f"((_ extract {v.known - 1} 0) {name})"
            self._lines.append(f"(assert (= {low} {_constant(v.residue, v.known)}))")
        return name

    def _expression(self, t: Term) -> str:
        args = [self._names[a] for a in t.args]
        if t.op in _COMPARE:
            return f"(ite ({_COMPARE[t.op]} {args[0]} {args[1]}) #b1 #b0)"
        if t.op == "ite":
            return f"(ite (= {args[0]} #b1) {args[1]} {args[2]})"
        if t.op == "extract":
            assert isinstance(t.attr, tuple)
            return f"((_ extract {t.attr[0]} {t.attr[1]}) {args[0]})"
        if t.op == "concat":
            *high, low = args
            return "".join(f"(concat {a} " for a in high) + low + ")" * len(high)
        if t.op == "sext":
            return f"((_ sign_extend {t.width - t.args[0].width}) {args[0]})"
        return f"({_OPERATORS[t.op]} {' '.join(args)})"


_MARKS: Mapping[str, str] = {"havoc": "?", "param": "@"}
_COMPARE: Mapping[str, str] = {"eq": "=", "ult": "bvult", "slt": "bvslt"}
_OPERATORS: Mapping[str, str] = {
    "add": "bvadd",
    "sub": "bvsub",
    "mul": "bvmul",
    "and": "bvand",
    "or": "bvor",
    "xor": "bvxor",
    "not": "bvnot",
    "shl": "bvshl",
    "lshr": "bvlshr",
    "ashr": "bvashr",
    "udiv": "bvudiv",
    "urem": "bvurem",
    "sdiv": "bvsdiv",
    "srem": "bvsrem",
}


def _constant(value: int, width: int) -> str:
    return f"#x{value:0{width // 4}x}" if width % 4 == 0 else f"#b{value:0{width}b}"
