"""SSA: operations, builder, control-flow graph, phi nodes, liveness, checker, printer."""

from verifier.ir.builder import Builder
from verifier.ir.cells import CELL_INDEX, CELL_NAMES, CELLS, FLAGS, RFLAGS_LAYOUT, STATUS_FLAGS
from verifier.ir.cfg import BasicBlock, Cfg, Exit, build
from verifier.ir.check import check_block, check_function
from verifier.ir.liveness import Liveness, liveness
from verifier.ir.ops import Access, Block, Operation, Value
from verifier.ir.print import render_block, render_program
from verifier.ir.ssa import Function, Name, Phi, SsaBlock, SsaInstruction, Step, to_ssa
from verifier.ir.words import stack_offsets

__all__ = [
    "CELLS",
    "CELL_INDEX",
    "CELL_NAMES",
    "FLAGS",
    "RFLAGS_LAYOUT",
    "STATUS_FLAGS",
    "Access",
    "BasicBlock",
    "Block",
    "Builder",
    "Cfg",
    "Exit",
    "Function",
    "Liveness",
    "Name",
    "Operation",
    "Phi",
    "SsaBlock",
    "SsaInstruction",
    "Step",
    "Value",
    "build",
    "check_block",
    "check_function",
    "liveness",
    "render_block",
    "render_program",
    "stack_offsets",
    "to_ssa",
]
