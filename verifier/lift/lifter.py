"""The builder that knows its instruction's operands: addresses, partial registers, the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS, Imm, Mem, Operand, Reg, Target
from verifier.errors import LiftError
from verifier.ir.builder import Builder
from verifier.ir.cells import CELLS
from verifier.ir.ops import Access
from verifier.lift.fold import REPEATABLE, fold, prune

if TYPE_CHECKING:
    from typing import NoReturn

    from verifier.asm.program import Instruction
    from verifier.ir.ops import Attr, Block, Value

#: An implicit stack access: push, pop, call, ret (rule A2).
STACK = Access(stack=True)
AH = Reg("rax", 8, high=True)


class Lifter(Builder):
    """Builds the block of one instruction.

    Equal values are one value, constants are folded and unused operations dropped, so that a block reads no
    cell that its result does not depend on. ``get`` and ``read`` give what was before the instruction, also
    after a ``put``; only loads see the stores before them.
    """

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(instruction)
        self._written: dict[str, Value] = {}
        self._numbered: dict[tuple[str, tuple[Value, ...], int, Attr], Value] = {}
        self._constants: dict[Value, int] = {}

    def build(self) -> Block:
        for cell, value in self._written.items():
            super().put(cell, value)
        return prune(super().build())

    def _emit(self, opcode: str, args: tuple[Value, ...], width: int, attr: Attr = None) -> Value:
        if opcode not in REPEATABLE:
            return super()._emit(opcode, args, width, attr)
        folded = fold(opcode, args, width, attr, self._constants)
        if isinstance(folded, int):
            return self.const(folded, width)
        if folded is not None:
            return folded
        key = (opcode, args, width, attr)
        if key not in self._numbered:
            self._numbered[key] = super()._emit(opcode, args, width, attr)
        return self._numbered[key]

    def const(self, value: int, width: int) -> Value:
        result = super().const(value, width)
        self._constants[result] = value & ((1 << width) - 1)
        return result

    def put(self, cell: str, value: Value) -> None:
        self._written[cell] = value

    def keep(self, cell: str) -> None:
        """Take back what was put: the cell keeps its value."""
        self._written.pop(cell, None)

    def current(self, cell: str) -> Value:
        """What was put into the cell so far, else its value before the instruction."""
        return self._written.get(cell) or self.get(cell)

    def unsupported(self, what: str, hint: str | None = None) -> NoReturn:
        raise LiftError(f"{what} is not supported", self.instruction.span, hint)

    # operands

    @property
    def width(self) -> int:
        """Operand size in bits."""
        return self.instruction.width

    @property
    def source(self) -> Operand:
        return self.instruction.operands[0]

    @property
    def destination(self) -> Operand:
        return self.instruction.operands[-1]

    @property
    def destination_width(self) -> int:
        """Bits of the register or memory written, where they need not be the operand size."""
        destination = self.destination
        assert isinstance(destination, Reg | Mem)
        return destination.width

    def read(self, operand: Operand) -> Value:
        """The operand's value, as wide as the operand."""
        match operand:
            case Imm():
                return self.const(operand.value, operand.width)
            case Target():
                return self.const(operand.address, 64)
            case Mem():
                return self.load(self.address(operand), operand.width, self.access(operand))
            case Reg():
                return self._part(self._cell(operand), operand)

    def write(self, operand: Operand, value: Value) -> None:
        """Rule A6: 32-bit results zero-extend, narrower ones leave the rest of the register."""
        match operand:
            case Mem():
                self.store(self.address(operand), value, self.access(operand))
            case Reg() if operand.name in GENERAL_REGISTERS:
                self.put(operand.name, self._merge(operand, value))
            case Reg():
                self.put(self._cell_name(operand), value)
            case _:
                raise AssertionError(operand)

    def read_as(self, operand: Operand, width: int) -> Value:
        """The operand; an immediate brought to ``width`` bits."""
        if isinstance(operand, Imm):
            return self.const(operand.value, width)
        return self.read(operand)

    def register(self, name: str, width: int = 0) -> Value:
        """The low bits of a general register, operand-sized if no width is given."""
        return self.read(Reg(name, width or self.width))

    def set_register(self, name: str, value: Value) -> None:
        self.write(Reg(name, value.width), value)

    def _cell_name(self, operand: Reg) -> str:
        if operand.name not in CELLS:
            self.unsupported(f"register %{operand.name}")
        return operand.name

    def _cell(self, operand: Reg) -> Value:
        return self.get(self._cell_name(operand))

    def _part(self, cell: Value, operand: Reg) -> Value:
        low = 8 if operand.high else 0
        return self.extract(cell, min(low + operand.width, cell.width) - 1, low)

    def _merge(self, operand: Reg, value: Value) -> Value:
        if operand.width >= 32:
            return self.zext(value, 64)
        old = self.current(operand.name)
        if operand.high:
            return self.concat(self.concat(self.extract(old, 63, 16), value), self.extract(old, 7, 0))
        return self.concat(self.extract(old, 63, operand.width), value)

    # addresses

    def address(self, mem: Mem) -> Value:
        """The linear address: segment base + effective address (SDM vol. 1, 3.7.5)."""
        return self.linear(mem, self.effective(mem))

    def effective(self, mem: Mem, rsp: Value | None = None) -> Value:
        """base + index*scale + disp, ``mem.address_width`` bits; ``rsp`` stands in for the register."""
        width = mem.address_width
        total = self.const(mem.disp, width)
        if mem.index is not None:
            scaled = self.binary("mul", self.register(mem.index, width), self.const(mem.scale, width))
            total = self.binary("add", scaled, total)
        if mem.base is not None:
            base = self.register(mem.base, width)
            if mem.base == "rsp" and rsp is not None:
                base = self.extract(rsp, width - 1, 0)
            total = self.binary("add", base, total)
        return total

    def linear(self, mem: Mem, effective: Value) -> Value:
        offset = self.zext(effective, 64)
        if mem.segment in ("fs", "gs"):
            return self.binary("add", self.get(f"{mem.segment}_base"), offset)
        return offset

    @staticmethod
    def access(mem: Mem) -> Access:
        """Rule A2: the register that the operand is based on decides between #SS(0) and #GP(0)."""
        return Access(stack=mem.segment not in ("fs", "gs") and mem.base in ("rsp", "rbp"), segment=mem.segment)

    # the stack

    def push(self, value: Value) -> None:
        rsp = self.binary("sub", self.get("rsp"), self.const(value.width // 8, 64))
        self.store(rsp, value, STACK)
        self.put("rsp", rsp)

    def pop(self, width: int, top: Value | None = None) -> Value:
        """The value at RSP, or at ``top`` (LEAVE); RSP then stands above it."""
        top = top or self.get("rsp")
        value = self.load(top, width, STACK)
        self.put("rsp", self.binary("add", top, self.const(width // 8, 64)))
        return value

    # values

    def known(self, value: Value) -> int | None:
        """The value if it is a constant."""
        return self._constants.get(value)

    def is_zero(self, value: Value) -> Value:
        return self.binary("eq", value, self.const(0, value.width))

    def sign(self, value: Value) -> Value:
        return self.bit(value, value.width - 1)

    def bit(self, value: Value, position: int) -> Value:
        return self.extract(value, position, position)

    def invert(self, condition: Value) -> Value:
        return self.unary("not", condition)
