"""What a formula of the specification is worth in a state: symbolic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.ops import Access
from verifier.machine.execution import Fault, Mishap, Unresolved
from verifier.terms import Term, apply, const, extract, zext

if TYPE_CHECKING:
    from verifier.ir.formula import Formula
    from verifier.ir.ops import Operation
    from verifier.machine.execution import Execution


def value_of(x: Execution, formula: Formula, whose: str) -> Term:
    """Raises Unresolved where it reads memory that cannot be read; ``whose``: who asks for it."""
    values: list[Term] = []
    try:
        for operation in formula.operations:
            values.append(_value(x, operation, [values[a.index] for a in operation.args]))
    except (Fault, Mishap):
        raise Unresolved(f"the contract of {whose} reads memory that is not there: {formula.text}") from None
    return values[-1]


def _value(x: Execution, operation: Operation, args: list[Term]) -> Term:
    assert operation.result is not None
    width = operation.result.width
    match operation.opcode, operation.attr:
        case "const", int(value):
            return const(value, width)
        case "get", "nmi_blocked":
            return const(int(x.nmi_blocked), 1)
        case "get", str(cell):
            return x.get(cell)
        case "base", str(region):
            return x.layout.base(region)
        case "top", str(region):
            return x.layout.top(region)
        case "load", Access() as access:
            return x.load(args[0], width, access)
        case "extract", (int(high), int(low)):
            return extract(args[0], high, low)
        case "zext", _:
            return zext(args[0], width)
        case opcode, _:
            return apply(opcode, tuple(args))
