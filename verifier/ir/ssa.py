"""Function-level SSA: one versioned name per definition of a cell, phi nodes where definitions meet.

Inside an instruction its `Block` is in SSA form already; here the cells between instructions get names too,
like ``rax.3``, and so do memory (``mem.2``, a new version per store) and the model-specific registers. The
names tell what an undisturbed run computes: an event between two instructions, whose handler changes a cell,
is outside them. So is code that the graph does not follow: where it may hand control back, every name is a
new input.

Phi nodes stand at iterated dominance frontiers, pruned by liveness (Cytron et al., 1991; Choi et al., 1991).
At an exit everything is live: the `SsaBlock.out` of its block says under which names the cells leave.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.dominance import dominators, frontiers
from verifier.ir.effects import MEMORY, MSRS, NAMES, defines, may_skip, uses
from verifier.ir.liveness import live_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verifier.ir.cfg import BasicBlock, Cfg
    from verifier.ir.ops import Block, Operation


@dataclass(frozen=True, slots=True)
class Name:
    """One version of a cell, of memory or of the MSRs."""

    base: str
    version: int

    def __str__(self) -> str:
        return f"{self.base}.{self.version}"


@dataclass(frozen=True, slots=True)
class Phi:
    """``args``: per predecessor, in the block's order, the name that comes from there; None: from outside."""

    result: Name
    args: tuple[tuple[int | None, Name], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation and the names it reads and defines.

    A ``put`` that a later one of the same instruction overwrites defines none. Where the instruction may be
    skipped a ``put`` reads its cell's old name: that is what the new one then stands for.
    """

    operation: Operation
    uses: tuple[Name, ...]
    defines: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class SsaInstruction:
    block: Block
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class SsaBlock:
    """``inputs``: what comes in from outside, at a root; ``out``: per base the name at the block's end.

    A base that is dead at the beginning and not written here has none.
    """

    address: int
    inputs: tuple[Name, ...]
    phis: tuple[Phi, ...]
    instructions: tuple[SsaInstruction, ...]
    out: Mapping[str, Name]

    def steps(self) -> tuple[Step, ...]:
        """The steps of all its instructions, in order."""
        return tuple(step for instruction in self.instructions for step in instruction.steps)


@dataclass(frozen=True, slots=True)
class Function:
    """A graph in SSA form. Cells that no instruction of the graph names have no names."""

    cfg: Cfg
    blocks: Mapping[int, SsaBlock]


@dataclass(frozen=True, slots=True)
class _Door:
    """The way into a root from outside: a node of its own, where the root's inputs are defined."""

    root: int


#: A basic block, a door, or (None) the outside world.
_Node = int | _Door | None


def to_ssa(cfg: Cfg) -> Function:
    """Give names to everything that the graph's instructions mention."""
    return _Renamer(cfg).run()


class _Renamer:
    """One conversion: the dominator tree, where phis go, and the versions given so far."""

    def __init__(self, cfg: Cfg) -> None:
        self.cfg = cfg
        self.bases = _mentioned(cfg)
        self.edges = _with_doors(cfg)
        self.idom = dominators(self.edges, None)
        self.live = self._live_bases()
        self.phis = self._phi_bases()
        self.versions: Counter[str] = Counter()

    def run(self) -> Function:
        at_start: dict[int, dict[str, Name]] = {}
        at_end: dict[_Node, dict[str, Name]] = {None: {}}
        bodies: dict[int, tuple[SsaInstruction, ...]] = {}
        for node in self.idom:
            if isinstance(node, _Door):
                at_end[node] = {base: self._new(base) for base in self.live[node.root]}
            elif node is not None:
                phis = {base: self._new(base) for base in self.phis[node]}
                at_start[node] = phis
                above = at_end[self.idom[node]]
                at_end[node] = {b: phis.get(b) or above[b] for b in self.live[node]}
                bodies[node] = tuple(self._rename(b, at_end[node]) for b in self.cfg.blocks[node].blocks)
        return Function(
            self.cfg,
            {
                address: SsaBlock(
                    address,
                    tuple(at_end.get(_Door(address), {}).values()),
                    self._phi_nodes(basic, at_start[address], at_end),
                    bodies[address],
                    at_end[address],
                )
                for address, basic in self.cfg.blocks.items()
            },
        )

    def _new(self, base: str) -> Name:
        name = Name(base, self.versions[base])
        self.versions[base] += 1
        return name

    def _live_bases(self) -> dict[int, tuple[str, ...]]:
        """Per basic block the names that may be used from its beginning on, in the order of `NAMES`."""
        live = live_cells(self.cfg, strong=False)
        return {
            a: tuple(b for b in self.bases if b in live[a] or b in (MEMORY, MSRS)) for a in self.cfg.blocks
        }

    def _phi_bases(self) -> dict[int, tuple[str, ...]]:
        """Per basic block the names that need a phi node there."""
        borders = frontiers(self.edges, self.idom)
        defined = {a: _defined_in(basic) for a, basic in self.cfg.blocks.items()}
        needed: dict[int, set[str]] = {address: set() for address in self.cfg.blocks}
        for base in self.bases:
            todo: list[_Node] = [_Door(root) for root in self.cfg.roots]
            todo += [a for a, bases in defined.items() if base in bases]
            while todo:
                for node in borders[todo.pop()]:
                    if isinstance(node, int) and base not in needed[node]:
                        needed[node].add(base)
                        todo.append(node)
        return {a: tuple(b for b in self.live[a] if b in needed[a]) for a in self.cfg.blocks}

    def _phi_nodes(
        self, basic: BasicBlock, results: Mapping[str, Name], at_end: Mapping[_Node, Mapping[str, Name]]
    ) -> tuple[Phi, ...]:
        ways_in: list[tuple[int | None, _Node]] = [(p, p) for p in basic.predecessors]
        if basic.address in self.cfg.roots:
            ways_in.insert(0, (None, _Door(basic.address)))
        return tuple(
            Phi(result, tuple((way, at_end[node][base]) for way, node in ways_in))
            for base, result in results.items()
        )

    def _rename(self, block: Block, state: dict[str, Name]) -> SsaInstruction:
        """Name one instruction's operations, and move ``state`` to what holds after it."""
        before = dict(state)
        skips = may_skip(block)
        last_put = {op.attr: i for i, op in enumerate(block) if op.opcode == "put"}
        steps = []
        for i, operation in enumerate(block):
            source = before if operation.opcode == "get" else state
            used = tuple(source[base] for base in uses(operation))
            defined: tuple[Name, ...] = ()
            if operation.opcode != "put" or last_put[operation.attr] == i:
                if operation.opcode == "put" and skips:
                    used = tuple(before[base] for base in defines(operation))
                defined = tuple(self._new(base) for base in defines(operation))
            state.update({name.base: name for name in defined})
            steps.append(Step(operation, used, defined))
        return SsaInstruction(block, tuple(steps))


def _mentioned(cfg: Cfg) -> tuple[str, ...]:
    """The names that the graph's operations read or define, in the order of `NAMES`."""
    found: set[str] = set()
    for basic in cfg.blocks.values():
        for block in basic.blocks:
            for operation in block:
                found.update(uses(operation), defines(operation))
    return tuple(base for base in NAMES if base in found)


def _defined_in(basic: BasicBlock) -> set[str]:
    return {base for block in basic.blocks for operation in block for base in defines(operation)}


def _with_doors(cfg: Cfg) -> dict[_Node, Sequence[_Node]]:
    edges: dict[_Node, Sequence[_Node]] = {a: basic.successors for a, basic in cfg.blocks.items()}
    edges.update({_Door(root): (root,) for root in cfg.roots})
    edges[None] = tuple(_Door(root) for root in cfg.roots)
    return edges
