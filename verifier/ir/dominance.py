"""Dominators and dominance frontiers of any directed graph.

Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

N = TypeVar("N", bound="Hashable")


def reverse_postorder(successors: Mapping[N, Sequence[N]], root: N) -> list[N]:
    """The nodes reachable from the root, each before its successors except along back edges.

    Of two successors the first comes first, where there is a choice.
    """
    order: list[N] = []
    seen = {root}
    stack = [(root, reversed(successors[root]))]
    while stack:
        node, rest = stack[-1]
        for following in rest:
            if following not in seen:
                seen.add(following)
                stack.append((following, reversed(successors[following])))
                break
        else:
            order.append(node)
            stack.pop()
    return order[::-1]


def predecessors(successors: Mapping[N, Sequence[N]], nodes: Sequence[N]) -> dict[N, list[N]]:
    """The edges backwards, among the given nodes only."""
    result: dict[N, list[N]] = {node: [] for node in nodes}
    for node in nodes:
        for following in successors[node]:
            result[following].append(node)
    return result


def dominators(successors: Mapping[N, Sequence[N]], root: N) -> dict[N, N]:
    """The immediate dominator of every node reachable from the root; the root's is itself.

    Keys come in reverse postorder, so that every node comes after its dominator.
    """
    order = reverse_postorder(successors, root)
    rank = {node: i for i, node in enumerate(order)}
    before = predecessors(successors, order)
    idom = {root: root}

    def meet(a: N, b: N) -> N:
        while a != b:
            while rank[a] > rank[b]:
                a = idom[a]
            while rank[b] > rank[a]:
                b = idom[b]
        return a

    changed = True
    while changed:
        changed = False
        for node in order[1:]:
            known = [p for p in before[node] if p in idom]
            best = known[0]
            for other in known[1:]:
                best = meet(best, other)
            if node not in idom or idom[node] != best:
                idom[node] = best
                changed = True
    return {node: idom[node] for node in order}


def dominates(idom: Mapping[N, N], a: N, b: N) -> bool:
    """Whether every path from the root to ``b`` goes through ``a`` (a node dominates itself)."""
    while b != a and idom[b] != b:
        b = idom[b]
    return a == b


def frontiers(successors: Mapping[N, Sequence[N]], idom: Mapping[N, N]) -> dict[N, set[N]]:
    """Per node, the nodes where its dominance just ends: where its definitions meet others.

    The root must have no predecessors.
    """
    result: dict[N, set[N]] = {node: set() for node in idom}
    for node, before in predecessors(successors, list(idom)).items():
        for last in before:
            runner = last
            while runner != idom[node]:
                result[runner].add(node)
                runner = idom[runner]
    return result
