"""The engine that takes every path ends loops that come back to the same state, and only those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explore_models import by_enumeration, by_fixpoint, write_model

if TYPE_CHECKING:
    from pathlib import Path

LOOPS = {
    # the second time round, rax is another unknown than the one in memory
    "two unknowns that were one": (
        "nmi:\nfirst: ...\n movq %rax,%gs:word\n1: cmpq %rax,%gs:word\n jne bad\nagain: ...\n jmp 1b\nbad: jmp bad\n",
        "unreachable(bad)",
        "refuted",
    ),
    # each time round the unknowns are others, but they stand in the same places
    "unknowns in the same places": (
        "nmi:\nfirst: ...\nagain: ...\n jmp again\nbad: nop\n",
        "unreachable(bad)",
        "proved",
    ),
    # what was said of the unknown of one round is not said of the next
    "a literal about an unknown": (
        "nmi:\nfirst: ...\n cmpq $1,%rax\n je 1f\n jmp first\n1:\n"
        "again: ...\n cmpq $2,%rax\n je bad\n iretq\nbad: iretq\n",
        "unreachable(bad)",
        "refuted",
    ),
    "a counter": ("nmi:\nfirst: ...\nagain: incb %gs:flag\n jne again\nbad: iretq\n", "unreachable(bad)", "refuted"),
    "a loop with nothing in it": ("nmi:\nfirst: jmp first\nagain:\nbad: nop\n", "progress", "refuted"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name: str, tmp_path: Path) -> None:
    program, that, verdict = LOOPS[name]
    holes = {hole: "keeps: [rcx]" for hole in ("first", "again") if f"{hole}: ..." in program}
    model = write_model(tmp_path, program, {"p": f"that: {that}"}, holes=holes)
    for results in (by_enumeration(model, {"nmi": 1}), by_fixpoint(model, {"nmi": 1})):
        assert results["p"].verdict == verdict, results["p"].reason
