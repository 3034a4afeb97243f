"""Which cells, and which words near RSP, the program may still read before it overwrites them.

Classic backward liveness over the `Cfg`, with two points to know:

* *Strong*: reading a cell counts only if what is made of it matters: it reaches memory, an address, a
  branch, a fault's condition, or a cell that is live in turn.
* Every `Exit` reads everything, except the cells that its own terminator overwrites (`OVERWRITTEN`).

Events strike at boundaries, and what they save they hand back; so there are two readings of "live":

``boundaries=False``
    Only the program's own reads count. A handler that saves a dead cell and restores it has not used it; one
    that looks at it has, and goes unseen here. So whoever forgets a dead cell must let it be *arbitrary* from
    then on, never some fixed value: then every real run is still among the runs, and a proof stays a proof.
``boundaries=True``
    At each boundary, delivery itself reads the cells of `SAVED`: it stores ss, rsp, rflags and cs in a frame,
    where handlers and properties see them as words of memory, and cpl, if and inhibit decide whether and
    where the event is taken (SDM vol. 3A, 6.8 and 6.14). All these are live before every instruction. This
    covers faults too: they deliver the state before the instruction. The other cells a handler merely
    inherits; for them the remark above still holds.

Neither reading makes a word below RSP dead: delivery may overwrite it, or not (another stack). It is dead
when the program overwrites it before it reads it, as any word is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELL_NAMES, FLAGS, STATUS_FLAGS
from verifier.ir.dataflow import backward
from verifier.ir.effects import Effects, effects
from verifier.ir.words import WINDOW, dead_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.ir.cfg import BasicBlock, Cfg
    from verifier.ir.ops import Block

ALL: Final = frozenset(CELL_NAMES)
#: What the delivery of an event reads.
SAVED: Final = frozenset((*FLAGS, "cs", "ss", "rsp", "cpl", "inhibit"))
#: What a terminator overwrites in any case when it does not fault, and does not read (SDM vol. 2: IRET,
#: SYSRET, SYSCALL, RET far). IRET loads if, iopl and the flags above bit 15 only under conditions, and reads
#: nt.
OVERWRITTEN: Final[Mapping[str, frozenset[str]]] = {
    "iret": frozenset((*STATUS_FLAGS, "tf", "df", "cs", "ss")),
    "sysret": frozenset((*FLAGS, "cs", "ss")),
    "syscall": frozenset(("rcx", "r11", "cs", "ss")),
    "lret": frozenset(("cs",)),
}


@dataclass(frozen=True, slots=True)
class Liveness:
    """``cells``: per address the cells live before the instruction; ``dead``: the dead bytes near RSP.

    An address that the graph does not know has everything live.
    """

    cells: Mapping[int, frozenset[str]]
    dead: Mapping[int, int]

    def before(self, address: int) -> frozenset[str]:
        """The cells live before the instruction at the address."""
        return self.cells.get(address, ALL)

    def is_dead(self, address: int, offset: int, size: int = 8) -> bool:
        """Whether the ``size`` bytes at RSP + ``offset`` are dead, RSP being that before the instruction."""
        start = offset + WINDOW
        if start < 0 or start + size > 2 * WINDOW:
            return False
        mask = ((1 << size) - 1) << start
        return self.dead.get(address, 0) & mask == mask

    def dead_words(self, address: int) -> tuple[int, ...]:
        """The offsets from RSP, multiples of 8 and ascending, of the dead 8-byte words."""
        return tuple(o for o in range(-WINDOW, WINDOW, 8) if self.is_dead(address, o))


def liveness(cfg: Cfg, boundaries: bool = False, apart: Iterable[str] = ()) -> Liveness:
    """Liveness before every instruction of the graph.

    ``apart``: segments (``gs``) whose data the model keeps apart from every stack; an access through any
    other pointer that is not RSP plus a constant may read every word. Bytes further than `WINDOW` from RSP
    are live.
    """
    saved: frozenset[str] = SAVED if boundaries else frozenset()
    return Liveness(live_cells(cfg, saved), dead_bytes(cfg, frozenset(apart)))


def live_cells(
    cfg: Cfg, always: frozenset[str] = frozenset(), strong: bool = True
) -> dict[int, frozenset[str]]:
    """The cells live before each instruction; those of ``always`` are read at every boundary.

    ``strong`` False: every read counts, whatever becomes of it.
    """
    known = {block.address: effects(block) for basic in cfg.blocks.values() for block in basic.blocks}

    def before(block: Block, after: frozenset[str]) -> frozenset[str]:
        return _before(known[block.address], after, strong) | always

    return backward(cfg, frozenset(), live_out, before)


def live_out(basic: BasicBlock, live: Mapping[int, frozenset[str]]) -> frozenset[str]:
    """The cells live behind a basic block, given those live before every instruction."""
    out = frozenset().union(*(live[s] for s in basic.successors))
    return out | _left_with(basic.blocks[-1]) if basic.exits else out


def _left_with(block: Block) -> frozenset[str]:
    """What the code outside may read of the state that this instruction leaves the graph with."""
    return ALL - OVERWRITTEN.get(block.terminator.opcode, frozenset())


def _before(own: Effects, after: frozenset[str], strong: bool) -> frozenset[str]:
    result = (after - own.sources.keys()) | own.needed
    if not strong:
        result |= own.reads
    return result.union(*(own.sources[cell] for cell in after & own.sources.keys()))
