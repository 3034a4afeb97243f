"""Backward dataflow over a `Cfg`: the fixpoint iteration that liveness of cells and of words share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verifier.ir.cfg import BasicBlock, Cfg
    from verifier.ir.ops import Block

T = TypeVar("T")


def backward(
    cfg: Cfg,
    start: T,
    at_end: Callable[[BasicBlock, Mapping[int, T]], T],
    before: Callable[[Block, T], T],
) -> dict[int, T]:
    """The fact that holds before every instruction: the fixpoint nearest to ``start`` everywhere.

    ``at_end`` joins what holds before the successors of a basic block; ``before`` takes a fact from behind an
    instruction to before it. Both must be monotone, and chains of facts finite.
    """
    facts = {block.address: start for basic in cfg.blocks.values() for block in basic.blocks}
    todo = dict.fromkeys(cfg.order())
    while todo:
        leader, _ = todo.popitem()
        basic = cfg.blocks[leader]
        fact, old = at_end(basic, facts), facts[leader]
        for block in reversed(basic.blocks):
            fact = facts[block.address] = before(block, fact)
        if fact != old:
            todo.update(dict.fromkeys(basic.predecessors))
    return facts
