"""What a contract says in the expression language, as formulas that every machine can work out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.ir.formula import Formula
from verifier.ir.ops import Access, Attr, Operation
from verifier.ir.ops import Value as Ssa
from verifier.spec.expression import Binary, CellRef, Expression, MemoryRef, Number, RegionRef, Unary
from verifier.spec.grammar import parse
from verifier.spec.operands import MASK, Scope
from verifier.spec.positions import locator

if TYPE_CHECKING:
    from verifier.errors import SpecError
    from verifier.spec.document import Value
    from verifier.spec.names import Names

_ARITHMETIC: Final = {
    "+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl", ">>": "lshr",
}  # fmt: skip
_JUNCTIONS: Final = {"and": "and", "or": "or", "->": "or"}
#: Comparison -> operation, whether its arguments change places.
_COMPARE: Final = {
    "==": ("eq", False), "!=": ("eq", False),
    "<": ("ult", False), "<=": ("ule", False), ">": ("ult", True), ">=": ("ule", True),
    "s<": ("slt", False), "s<=": ("sle", False), "s>": ("slt", True), "s>=": ("sle", True),
}  # fmt: skip


def read_truth(value: Value, names: Names) -> Formula:
    """A condition on the state where control enters hidden code. SpecError for one that is about anything else."""
    return _Lowering(value, names).truth_formula()


def read_value(value: Value, names: Names) -> Formula:
    """A number of that state, or a truth as 1 or 0."""
    return _Lowering(value, names).value_formula()


def read_operand(value: Value, names: Names) -> tuple[Formula, int]:
    """The address in that state, and the bytes, of a memory operand."""
    return _Lowering(value, names).operand()


def cell_is(cell: str, wanted: int) -> Formula:
    """The condition that a cell, or ``nmi_blocked``, has a value."""
    width = CELLS.get(cell, 1)
    cell_value, number = Ssa(0, width), Ssa(1, width)
    operations = (
        Operation("get", (), cell, cell_value),
        Operation("const", (), wanted, number),
        Operation("eq", (cell_value, number), None, Ssa(2, 1)),
    )
    return Formula(f"{cell} == {wanted}", operations)


class _Lowering:
    """One expression on its way."""

    def __init__(self, value: Value, names: Names) -> None:
        text = value.text("an expression")
        self._place = value
        self._text = " ".join(text.split())
        self._expression = parse(text, Scope(names, locator(value)))
        self._operations: list[Operation] = []

    def truth_formula(self) -> Formula:
        self._truth(self._expression)
        return Formula(self._text, tuple(self._operations))

    def value_formula(self) -> Formula:
        self._value(self._expression)
        return Formula(self._text, tuple(self._operations))

    def operand(self) -> tuple[Formula, int]:
        if not isinstance(self._expression, MemoryRef):
            raise self._place.error(f"'{self._text}' is no memory operand", "an operand such as 8(%rdi)")
        self._address(self._expression)
        return Formula(self._text, tuple(self._operations)), self._expression.width // 8

    def _emit(self, opcode: str, args: tuple[Ssa, ...], width: int, attr: Attr = None) -> Ssa:
        result = Ssa(len(self._operations), width)
        self._operations.append(Operation(opcode, args, attr, result))
        return result

    def _const(self, value: int, width: int = 64) -> Ssa:
        return self._emit("const", (), width, value)

    def _widened(self, a: Ssa) -> Ssa:
        return a if a.width == 64 else self._emit("zext", (a,), 64)

    def _truth(self, e: Expression) -> Ssa:
        match e:
            case Unary("not", operand):
                return self._emit("not", (self._truth(operand),), 1)
            case Binary(op, left, right) if op in _JUNCTIONS:
                first = self._truth(left)
                if op == "->":
                    first = self._emit("not", (first,), 1)
                return self._emit(_JUNCTIONS[op], (first, self._truth(right)), 1)
            case Binary(op, left, right) if op in _COMPARE:
                opcode, turned = _COMPARE[op]
                args = self._value(left), self._value(right)
                result = self._emit(opcode, args[::-1] if turned else args, 1)
                return self._emit("not", (result,), 1) if op == "!=" else result
        is_zero = self._emit("eq", (self._value(e), self._const(0)), 1)
        return self._emit("not", (is_zero,), 1)

    def _value(self, e: Expression) -> Ssa:
        match e:
            case Number(value):
                return self._const(value & MASK)
            case CellRef():
                return self._cell(e)
            case MemoryRef():
                access = Access(segment=e.segment)
                return self._widened(self._emit("load", (self._address(e),), e.width, access))
            case RegionRef(region, edge):
                return self._emit(edge, (), 64, region)
            case Unary("~" | "-" as op, operand):
                return self._emit("not" if op == "~" else "neg", (self._value(operand),), 64)
            case Binary(op, left, right) if op in _ARITHMETIC:
                return self._emit(_ARITHMETIC[op], (self._value(left), self._value(right)), 64)
            case Unary() | Binary():
                return self._widened(self._truth(e))
        raise self._about_more()

    def _about_more(self) -> SpecError:
        message = f"'{self._text}' is about more than the state in which control enters the hidden code"
        return self._place.error(message, "a contract speaks of registers, flags, memory, names and regions")

    def _cell(self, e: CellRef) -> Ssa:
        if e.interrupted or e.cell in ("rip", "nmi_pending"):
            raise self._about_more()
        if e.cell == "rflags":
            return self._flags()
        whole = self._emit("get", (), CELLS.get(e.cell, 1), e.cell)
        if e.width < whole.width:
            whole = self._emit("extract", (whole,), e.width, (e.low + e.width - 1, e.low))
        return self._widened(whole)

    def _flags(self) -> Ssa:
        """The image: bit 1 is set, the other reserved bits are clear (SDM vol. 1, 3.4.3)."""
        image = self._const(2)
        for name, (bit, width) in RFLAGS_LAYOUT.items():
            flag = self._widened(self._emit("get", (), width, name))
            image = self._emit("or", (image, self._emit("shl", (flag, self._const(bit)), 64)), 64)
        return image

    def _address(self, e: MemoryRef) -> Ssa:
        address = self._const(e.disp & MASK)
        if e.region is not None:
            address = self._emit("add", (self._emit("base", (), 64, e.region), address), 64)
        if e.index is not None:
            scaled = self._emit("mul", (self._emit("get", (), 64, e.index), self._const(e.scale)), 64)
            address = self._emit("add", (scaled, address), 64)
        for cell in (e.base, f"{e.segment}_base" if e.segment in ("fs", "gs") else None):
            if cell is not None:
                address = self._emit("add", (self._emit("get", (), 64, cell), address), 64)
        return address
