"""Folding while a block is built, and dropping what nothing uses.

A block must not read a cell that its result does not depend on (``xor %eax, %eax`` reads nothing; ``shl $3``
reads no flag): liveness would keep that cell alive.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.ir.evaluate import evaluate
from verifier.ir.ops import BINARY, COMPARE, EFFECTS, UNARY, Block, Operation, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.ir.ops import Attr

_PURE = BINARY | COMPARE | UNARY | {"ite", "concat", "extract", "zext", "sext"}
#: Operations that give the same value however often they stand in a block.
REPEATABLE = _PURE | {"const", "get"}
#: Kept though nothing uses the result: an access can fault.
_KEPT = EFFECTS | {"load", "rdmsr"}
#: What an operation of a value with itself gives.
_WITH_ITSELF = {"xor": 0, "sub": 0, "ult": 0, "slt": 0, "eq": 1, "ule": 1, "sle": 1}
#: Operations that leave their first argument alone if the second is zero; and the second if the first is.
_ZERO_IS_NEUTRAL = frozenset(("add", "sub", "or", "xor", "shl", "lshr", "ashr"))
_ZERO_FIRST_IS_NEUTRAL = frozenset(("add", "or", "xor"))


def fold(
    opcode: str, args: tuple[Value, ...], width: int, attr: Attr, constants: Mapping[Value, int]
) -> int | Value | None:
    """What a pure operation comes to, a constant or one of its arguments, or None if it must be emitted."""
    if opcode not in _PURE:
        return None
    known = [constants.get(a) for a in args]
    values = tuple(k for k in known if k is not None)
    if len(values) == len(args):
        return evaluate(opcode, values, tuple(a.width for a in args), width, attr)
    if opcode == "ite" and known[0] is not None:
        return args[1] if known[0] else args[2]
    if opcode in BINARY or opcode in COMPARE:
        return _fold_pair(opcode, args, known)
    return None


def _fold_pair(opcode: str, args: tuple[Value, ...], known: list[int | None]) -> int | Value | None:
    first, second = args
    if first == second and opcode in _WITH_ITSELF:
        return _WITH_ITSELF[opcode]
    if opcode == "and" and 0 in known:
        return 0
    if opcode in _ZERO_IS_NEUTRAL and known[1] == 0:
        return first
    if opcode in _ZERO_FIRST_IS_NEUTRAL and known[0] == 0:
        return second
    if opcode == "mul" and known[1] == 1:
        return first
    return None


def prune(block: Block) -> Block:
    """The block without unused values, the rest numbered in order from 0."""
    used = set(block.terminator.args)
    kept: list[Operation] = []
    for operation in reversed(block.operations):
        if operation.opcode in _KEPT or operation.result in used:
            used.update(operation.args)
            kept.append(operation)
    renamed: dict[Value, Value] = {}
    operations = []
    for operation in reversed(kept):
        result = operation.result
        if result is not None:
            renamed[result] = Value(len(renamed), result.width)
            result = renamed[result]
        args = tuple(renamed[a] for a in operation.args)
        operations.append(replace(operation, args=args, result=result))
    terminator = replace(block.terminator, args=tuple(renamed[a] for a in block.terminator.args))
    return Block(block.instruction, tuple(operations), terminator)
