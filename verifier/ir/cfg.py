"""The control-flow graph of the instructions that are reachable from given addresses.

What the graph cannot follow is never guessed at: each way out is a named `Exit`. Code that runs out there may
hand control back: after ``call``, an INT n, a ``syscall``, a halt or a hole. The address where it does is a
*root* like an entry: nothing is known there of what went before. Faults are no edges and no exits: any
instruction may raise one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import InternalError
from verifier.ir.dominance import dominators, reverse_postorder
from verifier.ir.effects import may_skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from verifier.ir.ops import Block

#: Terminators after which the graph ends, and the name of that end.
_EXITS: dict[str, str] = {
    "jump_indirect": "indirect",
    "iret": "iret",
    "sysret": "sysret",
    "lret": "lret",
    "syscall": "syscall",
    "interrupt": "interrupt",
    "exception": "exception",
    "halt": "halt",
    "hole_enter": "hole",
    "hole_body": "hole",
}
#: Exits that may come back to the next instruction.
_RETURNING = frozenset(("syscall", "interrupt", "halt", "hole_enter", "hole_body"))
#: The kind of an exit to an address that is no instruction of the program.
LEAVES = "leaves"


@dataclass(frozen=True, slots=True)
class Exit:
    """A way out of the graph, by the instruction at ``address``.

    ``kind`` is ``ret``, ``indirect``, ``iret``, ``sysret``, ``lret``, ``syscall``, ``interrupt``,
    ``exception``, ``halt``, ``hole``, or ``leaves``: control goes to ``target``, which is no instruction of
    the program.
    """

    address: int
    kind: str
    target: int | None = None


@dataclass(frozen=True, slots=True)
class BasicBlock:
    """A maximal straight run of instructions: entered only at its first, left only at its last.

    ``successors`` (the next instruction first) and ``predecessors`` are addresses of basic blocks.
    ``resumes``: where control may come back to after the last instruction, from code that the graph does not
    follow.
    """

    address: int
    blocks: tuple[Block, ...]
    successors: tuple[int, ...]
    predecessors: tuple[int, ...]
    exits: tuple[Exit, ...] = ()
    resumes: int | None = None


@dataclass(frozen=True, slots=True)
class Cfg:
    """``blocks``: basic blocks by address, ascending. ``roots``: entries and ``resumes``, ascending."""

    entries: tuple[int, ...]
    roots: tuple[int, ...]
    blocks: Mapping[int, BasicBlock]

    @property
    def exits(self) -> tuple[Exit, ...]:
        return tuple(e for block in self.blocks.values() for e in block.exits)

    def successors(self) -> dict[int | None, Sequence[int]]:
        """The edges, with None for the outside world, from which every root can be reached."""
        edges: dict[int | None, Sequence[int]] = {a: block.successors for a, block in self.blocks.items()}
        edges[None] = self.roots
        return edges

    def order(self) -> list[int]:
        """The basic blocks in reverse postorder."""
        return [a for a in reverse_postorder(self.successors(), None) if a is not None]

    def immediate_dominators(self) -> dict[int, int | None]:
        """Per basic block the nearest one on every path to it from outside; None: there is none."""
        idom = dominators(self.successors(), None)
        return {a: idom[a] for a in idom if a is not None}


@dataclass(frozen=True, slots=True)
class _Flow:
    """Where control goes after one instruction."""

    successors: tuple[int, ...]
    exits: tuple[Exit, ...]
    resumes: int | None
    straight: bool


def build(blocks: Mapping[int, Block], entries: Iterable[int]) -> Cfg:
    """The graph of what is reachable from ``entries``. Raises InternalError if an entry is no instruction."""
    starts = tuple(sorted(set(entries)))
    for entry in starts:
        if entry not in blocks:
            raise InternalError(f"control-flow graph: the entry {entry:#x} is no instruction")
    flows = _reach(blocks, starts)
    resumes = {flow.resumes for flow in flows.values() if flow.resumes is not None}
    roots = tuple(sorted(resumes.union(starts)))
    leaders = _leaders(flows, roots)
    runs = {leader: _run(leader, leaders, flows) for leader in sorted(leaders)}
    before: dict[int, list[int]] = {leader: [] for leader in runs}
    for leader, run in runs.items():
        for successor in flows[run[-1]].successors:
            before[successor].append(leader)
    basic = {
        leader: BasicBlock(
            leader,
            tuple(blocks[a] for a in run),
            flows[run[-1]].successors,
            tuple(before[leader]),
            flows[run[-1]].exits,
            flows[run[-1]].resumes,
        )
        for leader, run in runs.items()
    }
    return Cfg(starts, roots, basic)


def _reach(blocks: Mapping[int, Block], starts: Iterable[int]) -> dict[int, _Flow]:
    flows: dict[int, _Flow] = {}
    todo = list(starts)
    while todo:
        address = todo.pop()
        if address in flows:
            continue
        flow = flows[address] = _flow(blocks[address], blocks)
        todo += flow.successors
        if flow.resumes is not None:
            todo.append(flow.resumes)
    return flows


def _flow(block: Block, blocks: Mapping[int, Block]) -> _Flow:
    address, after = block.address, block.instruction.next_address
    opcode, attr = block.terminator.opcode, block.terminator.attr
    targets: list[int] = []
    if opcode in ("next", "branch") or may_skip(block):
        targets.append(after)
    if opcode in ("jump", "branch") and isinstance(attr, int):
        targets.append(attr)
    exits = []
    if opcode in _EXITS:
        is_ret = opcode == "jump_indirect" and block.instruction.mnemonic == "ret"
        exits.append(Exit(address, "ret" if is_ret else _EXITS[opcode]))
    resumes = after if opcode in _RETURNING or block.instruction.mnemonic == "call" else None
    outside = [t for t in (*targets, resumes) if t is not None and t not in blocks]
    exits += [Exit(address, LEAVES, t) for t in dict.fromkeys(outside)]
    return _Flow(
        tuple(t for t in dict.fromkeys(targets) if t in blocks),
        tuple(exits),
        resumes if resumes in blocks else None,
        opcode == "next",
    )


def _leaders(flows: Mapping[int, _Flow], roots: Iterable[int]) -> set[int]:
    """The first instruction of each run: a root, a join, or what follows a jump or a fork."""
    leaders = set(roots)
    ways_in = dict.fromkeys(flows, 0)
    for flow in flows.values():
        for successor in flow.successors:
            ways_in[successor] += 1
            if not flow.straight:
                leaders.add(successor)
    return leaders | {a for a, count in ways_in.items() if count > 1}


def _run(leader: int, leaders: set[int], flows: Mapping[int, _Flow]) -> list[int]:
    run = [leader]
    while flows[run[-1]].straight:
        following = flows[run[-1]].successors
        if not following or following[0] in leaders:
            break
        run.append(following[0])
    return run
