"""SSA: operations, builder, control-flow graph, phi nodes, liveness, checker, printer."""

from verifier.ir.builder import Builder
from verifier.ir.cells import CELL_INDEX, CELL_NAMES, CELLS, FLAGS, RFLAGS_LAYOUT, STATUS_FLAGS
from verifier.ir.ops import Access, Block, Operation, Value

__all__ = [
    "CELLS",
    "CELL_INDEX",
    "CELL_NAMES",
    "FLAGS",
    "RFLAGS_LAYOUT",
    "STATUS_FLAGS",
    "Access",
    "Block",
    "Builder",
    "Operation",
    "Value",
]
