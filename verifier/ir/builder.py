"""Builds one `Block`: the vocabulary that the functions in ``lift/`` are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.ir.ops import COMPARE, Access, Attr, Block, Operation, Value

if TYPE_CHECKING:
    from verifier.asm.program import Instruction


class Builder:
    """Emits operations in order; every method returns the `Value` it defined (effects return None)."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self._operations: list[Operation] = []
        self._terminator = Operation("next", ())
        self._count = 0

    def build(self) -> Block:
        return Block(self.instruction, tuple(self._operations), self._terminator)

    def _emit(self, opcode: str, args: tuple[Value, ...], width: int, attr: Attr = None) -> Value:
        value = Value(self._count, width)
        self._count += 1
        self._operations.append(Operation(opcode, args, attr, value))
        return value

    def _effect(self, opcode: str, args: tuple[Value, ...], attr: Attr) -> None:
        self._operations.append(Operation(opcode, args, attr))

    # values

    def const(self, value: int, width: int) -> Value:
        return self._emit("const", (), width, value & ((1 << width) - 1))

    def undef(self, width: int) -> Value:
        return self._emit("undef", (), width)

    def get(self, cell: str) -> Value:
        return self._emit("get", (), CELLS[cell], cell)

    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        """A two-argument operation of `BINARY` or `COMPARE`; both arguments have one width."""
        assert a.width == b.width, (opcode, a.width, b.width, self.instruction.text)
        return self._emit(opcode, (a, b), 1 if opcode in COMPARE else a.width)

    def unary(self, opcode: str, a: Value) -> Value:
        return self._emit(opcode, (a,), a.width)

    def ite(self, condition: Value, then: Value, other: Value) -> Value:
        assert condition.width == 1
        assert then.width == other.width
        return self._emit("ite", (condition, then, other), then.width)

    def concat(self, high: Value, low: Value) -> Value:
        return self._emit("concat", (high, low), high.width + low.width)

    def extract(self, a: Value, high: int, low: int) -> Value:
        assert a.width > high >= low >= 0
        if high - low + 1 == a.width:
            return a
        return self._emit("extract", (a,), high - low + 1, (high, low))

    def zext(self, a: Value, width: int) -> Value:
        return a if a.width == width else self._emit("zext", (a,), width)

    def sext(self, a: Value, width: int) -> Value:
        return a if a.width == width else self._emit("sext", (a,), width)

    def load(self, address: Value, width: int, access: Access) -> Value:
        return self._emit("load", (address,), width, access)

    def rdmsr(self, index: Value) -> Value:
        return self._emit("rdmsr", (index,), 64)

    def tsc_aux(self) -> Value:
        return self._emit("tsc_aux", (self.undef(32),), 32)

    def descriptor(self, query: str, selector: Value) -> Value:
        return self._emit("descriptor", (selector, self.undef(33)), 33, query)

    # effects

    def store(self, address: Value, value: Value, access: Access) -> None:
        self._effect("store", (address, value), access)

    def put(self, cell: str, value: Value) -> None:
        assert value.width == CELLS[cell], (cell, value.width)
        self._effect("put", (value,), cell)

    def fault_if(self, condition: Value, vector: int, error: Value | None = None) -> None:
        assert condition.width == 1
        self._effect("fault_if", (condition, self.const(0, 32) if error is None else error), vector)

    def skip_if(self, condition: Value) -> None:
        assert condition.width == 1
        self._effect("skip_if", (condition,), None)

    def wrmsr(self, index: Value, value: Value) -> None:
        self._effect("wrmsr", (index, value), None)

    # terminators

    def end(self, opcode: str, *args: Value, attr: Attr = None) -> None:
        """Set the terminator; the default is ``next``."""
        self._terminator = Operation(opcode, args, attr)
