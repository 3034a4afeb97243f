"""Puts terms in the place of the leaves of a term, folding anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.terms.arithmetic import apply
from verifier.terms.bits import extract, sext

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.terms.term import Term


def substitute(term: Term, leaf: Callable[[Term], Term], done: dict[Term, Term]) -> Term:
    """A term with ``leaf`` of each of its params and havoc variables in their place; no recursion, terms are deep.

    ``done`` holds what was made of terms before, for one ``leaf``.
    """
    stack = [term]
    while stack:
        t = stack[-1]
        if t in done:
            stack.pop()
        elif t.op in ("param", "havoc"):
            done[stack.pop()] = leaf(t)
        elif not t.params and not t.havocs:
            done[stack.pop()] = t
        else:
            missing = [a for a in t.args if a not in done]
            stack += missing
            if not missing:
                done[stack.pop()] = _rebuilt(t, tuple([done[a] for a in t.args]))
    return done[term]


def _rebuilt(t: Term, args: tuple[Term, ...]) -> Term:
    if t.op == "extract":
        assert isinstance(t.attr, tuple)
        return extract(args[0], *t.attr)
    if t.op == "sext":
        return sext(args[0], t.width)
    return apply(t.op, args)


def rewrite(term: Term, rule: Callable[[str, tuple[Term, ...]], Term | None]) -> Term:
    """A term with what ``rule`` makes of each operation in it, where it makes anything; folded anew."""
    done: dict[Term, Term] = {}
    stack = [term]
    while stack:
        t = stack[-1]
        missing = [a for a in t.args if a not in done]
        if t in done or missing:
            stack += missing
            if t in done:
                stack.pop()
            continue
        args = tuple([done[a] for a in t.args])
        stack.pop()
        changed = rule(t.op, args)
        if changed is None:
            changed = _rebuilt(t, args) if args and args != t.args else t
        done[t] = changed
    return done[term]
