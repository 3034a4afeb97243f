"""RSP through the graph, and which bytes near it are overwritten before they are read.

Sets of bytes are integers: bit ``i`` stands for the byte at RSP + i - `WINDOW`, with RSP as it is before the
instruction in question. Counting from the RSP of the moment makes joins simple: however control came here,
the code that follows reads the same words of it. What lies outside the window is live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from verifier.ir.dataflow import backward
from verifier.ir.effects import may_skip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.ir.cfg import BasicBlock, Cfg
    from verifier.ir.ops import Block, Operation

#: How far from RSP words are told apart, in bytes, upwards and downwards.
WINDOW: Final = 1024
_EVERYTHING: Final = (1 << 2 * WINDOW) - 1


@dataclass(frozen=True, slots=True)
class _Known:
    """RSP + ``offset`` (``scale`` 1) or the constant ``offset`` (``scale`` 0); 64 bits, signed."""

    scale: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Access:
    """``size`` bytes at RSP + ``offset``, or (None) somewhere or perhaps. ``segment`` as in `Access`."""

    is_store: bool
    offset: int | None
    size: int
    segment: str | None


@dataclass(frozen=True, slots=True)
class StackEffect:
    """``shift``: RSP after minus RSP before, in bytes; None: no known constant. Accesses in program order."""

    shift: int | None
    accesses: tuple[_Access, ...]


def stack_effect(block: Block) -> StackEffect:
    """How one instruction moves RSP and what it touches relative to RSP (its value before)."""
    values: list[_Known | None] = []
    accesses = []
    rsp: _Known | None = _Known(1, 0)
    for operation in block:
        if operation.opcode in ("load", "store"):
            accesses.append(_access(operation, values[operation.args[0].index]))
        if operation.opcode == "put" and operation.attr == "rsp":
            rsp = values[operation.args[0].index]
        if operation.result is not None:
            values.append(_evaluate(operation, values))
    shift = rsp.offset if rsp is not None and rsp.scale == 1 else None
    if may_skip(block):
        accesses = [a if not a.is_store else replace(a, offset=None) for a in accesses]
        shift = shift if shift == 0 else None
    return StackEffect(shift, tuple(accesses))


def _access(operation: Operation, address: _Known | None) -> _Access:
    is_store = operation.opcode == "store"
    moved = operation.args[1] if is_store else operation.result
    offset = address.offset if address is not None and address.scale == 1 else None
    segment = getattr(operation.attr, "segment", None)
    return _Access(is_store, offset, moved.width // 8 if moved else 0, segment)


def _evaluate(operation: Operation, values: list[_Known | None]) -> _Known | None:
    if operation.opcode == "get" and operation.attr == "rsp":
        return _Known(1, 0)
    if operation.result is None or operation.result.width != 64:
        return None
    if operation.opcode == "const" and isinstance(operation.attr, int):
        return _Known(0, _signed(operation.attr))
    if operation.opcode in ("add", "sub"):
        a, b = (values[v.index] for v in operation.args)
        if a is None or b is None:
            return None
        sign = 1 if operation.opcode == "add" else -1
        scale = a.scale + sign * b.scale
        return _Known(scale, _signed(a.offset + sign * b.offset)) if scale in (0, 1) else None
    return None


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def dead_bytes(cfg: Cfg, apart: frozenset[str]) -> dict[int, int]:
    """Per instruction the bytes near RSP that are dead before it: the greatest fixpoint; exits read all."""
    known = {block.address: stack_effect(block) for basic in cfg.blocks.values() for block in basic.blocks}

    def before(block: Block, after: int) -> int:
        return _before(known[block.address], after, apart)

    return backward(cfg, _EVERYTHING, _dead_out, before)


def _dead_out(basic: BasicBlock, dead: Mapping[int, int]) -> int:
    if basic.exits:
        return 0
    result = _EVERYTHING
    for successor in basic.successors:
        result &= dead[successor]
    return result


def _before(own: StackEffect, after: int, apart: frozenset[str]) -> int:
    dead = 0 if own.shift is None else _shifted(after, own.shift)
    for access in reversed(own.accesses):
        if access.offset is not None:
            mask = _shifted((1 << access.size) - 1, access.offset + WINDOW)
            dead = dead | mask if access.is_store else dead & ~mask
        elif not access.is_store and access.segment not in apart:
            dead = 0
    return dead


def _shifted(mask: int, by: int) -> int:
    """The mask moved up by some bytes; what leaves the window is dropped, and so counts as live."""
    if abs(by) > 2 * WINDOW:
        return 0
    return mask << by & _EVERYTHING if by >= 0 else mask >> -by


def stack_offsets(cfg: Cfg) -> dict[int, int | None]:
    """Per instruction, RSP before it minus RSP at the root that the run came in by, in bytes.

    None: no constant, or not the same on every path.
    """
    found: dict[int, int | None] = {}
    todo: list[tuple[int, int | None]] = [(root, 0) for root in cfg.roots]
    while todo:
        leader, offset = todo.pop()
        if leader in found:
            if found[leader] in (offset, None):
                continue
            offset = None
        for block in cfg.blocks[leader].blocks:
            found[block.address] = offset
            shift = stack_effect(block).shift
            offset = None if offset is None or shift is None else offset + shift
        todo += [(successor, offset) for successor in cfg.blocks[leader].successors]
    return found
