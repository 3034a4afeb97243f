"""Comparing states up to the names of havoc variables: their values, and the path literals that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.execution import atom
from verifier.terms import connected

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from verifier.explore.graph import Node
    from verifier.machine.state import State
    from verifier.terms import Term

#: The numbers by which havoc variables are compared: in the order in which they come up in a state.
Names = dict["Term", int]


def named(term: Term, names: Names) -> Hashable:
    """A term but for the names of its havoc variables; those that are new get the next numbers."""
    return term.shape, tuple([names.setdefault(h, len(names)) for h in term.havocs])


def havoc_literals(path: frozenset[Term], names: Names) -> frozenset[Hashable]:
    """The literals that say anything of the live havoc variables, directly or through others."""
    if not names:
        return frozenset()
    pending = sorted((t for t in path if t.havocs), key=lambda t: t.shape)
    chosen: set[Hashable] = set()
    grown = True
    while grown and pending:
        grown = False
        for literal in list(pending):
            if any(h in names for h in literal.havocs):
                chosen.add(named(literal, names))
                pending.remove(literal)
                grown = True
    return frozenset(chosen)


def chosen(node: Node, judge: Node) -> list[Term]:
    """The literals of a node's path that decisions known at another node depend on, in the order of their shapes."""
    path = node.state.path
    found = {t for t in path if atom(t) in judge.atoms}
    if judge.variables:
        found.update(connected(path, frozenset(judge.variables)))
    return sorted(found, key=lambda t: t.shape)


def relevant(node: Node, judge: Node, names: Names) -> frozenset[Hashable]:
    """The same literals but for the names of havoc variables, which are numbered so far."""
    names = dict(names)
    return frozenset([named(t, names) for t in chosen(node, judge)])


def tied(path: frozenset[Term], variables: Iterable[Term]) -> set[Term]:
    """Variables, and if there are havoc variables among them, all that the path ties to them."""
    reach = set(variables)
    if any(v.havocs for v in reach):
        reach.update(*[literal.support for literal in connected(path, frozenset(reach))])
    return reach


def whereabouts(state: State) -> tuple[tuple[int, str], ...]:
    """Which cells and memory locations hold words of the interrupted context; -1 stands for RFLAGS as a whole."""
    wanted = state.home.tracked
    found = [(at, wanted[t]) for at, t in enumerate(state.cells) if t in wanted]
    found += sorted((at, wanted[t]) for at, t in state.memory.items() if t in wanted)
    if state.rflags in wanted:
        found.append((-1, "rflags"))
    return tuple(found)
