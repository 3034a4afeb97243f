"""Expressions over symbols, with the operators and the precedence of GNU as (its manual, "Infix Operators").

Values are 64-bit two's complement, kept as signed integers. Comparisons give -1 or 0, ``&&`` and ``||``
give 1 or 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from verifier.asm.budget import EVALUATION_DEPTH, EXPRESSION_DEPTH
from verifier.errors import AsmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.asm.lines import Line
    from verifier.asm.sections import Place
    from verifier.asm.symbols import SymbolEntry
    from verifier.source import Span


@dataclass(frozen=True, slots=True)
class Const:
    value: int


@dataclass(frozen=True, slots=True, eq=False)
class At:
    """A place in a section: ``.`` or a numeric label."""

    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A symbol by name, perhaps not defined yet."""

    symbol: SymbolEntry
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """``right`` is None for a unary operator. ``depth`` and ``size`` bound what evaluation costs."""

    operator: str
    left: Node
    right: Node | None
    span: Span
    depth: int
    size: int


Node = Const | At | Reference | Operation


class Scope(Protocol):
    """What a parser asks for names, and what is known of expressions while the text is still being read."""

    def symbol(self, name: str, span: Span) -> Node: ...

    def numeric_label(self, number: int, forward: bool, span: Span) -> Node: ...

    def here(self) -> Node: ...

    def constant(self, node: Node) -> int | None:
        """The value, if it is an absolute constant by now."""
        ...


_LARGEST = 1 << 64
_MAX_SIZE = 500
#: Larger expressions are folded once, by whoever needs their value, not at every operator.
_FOLDED_SIZE = 16
_TOKEN = re.compile(
    r"\s*(?:(?P<label>\d+[bf](?![\w.$]))|(?P<number>\d[\w]*)|(?P<name>[A-Za-z_.][\w.$]*)(?P<at>@\w+)?"
    r"|(?P<op>[-+*/%<>&|^~!()]))",
    re.ASCII,
)
#: Between operands. GNU as has removed blanks by then; ``!!`` is another spelling of ``^``.
_OPERATOR = re.compile(r"\s*(?P<op><\s*[<>=]|>\s*[>=]|=\s*=|!\s*[=!]|&\s*&|\|\s*\||[-+*/%<>&|^!])")
_BASES = ((re.compile(r"0[xX]([0-9a-fA-F]+)"), 16), (re.compile(r"0[bB]([01]+)"), 2),
          (re.compile(r"0([0-7]*)"), 8), (re.compile(r"([1-9]\d*)"), 10))  # fmt: skip
_PRECEDENCE = {
    **dict.fromkeys(("*", "/", "%", "<<", ">>"), 5),
    **dict.fromkeys(("|", "&", "^", "!!", "!"), 4),
    **dict.fromkeys(("+", "-"), 3),
    **dict.fromkeys(("==", "<>", "!=", "<", ">", ">=", "<="), 2),
    "&&": 1,
    "||": 0,
}


def signed(value: int) -> int:
    """Modulo 2^64, as a signed integer."""
    value &= _LARGEST - 1
    return value - _LARGEST if value >> 63 else value


class _Parser:
    """Precedence climbing over the tokens of one line; constants are folded as they are met."""

    def __init__(self, line: Line, scope: Scope, branch: bool) -> None:
        self.line = line
        self.branch = branch
        self.scope = scope
        self.at = 0
        self.depth = 0

    def parse(self) -> Node:
        node = self.binary(0)
        rest = self.line[self.at :].strip()
        if rest:
            raise rest.error(f"'{rest.text[:40]}' does not belong to an expression", _hint(rest.text))
        return node

    def peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self.line.text, self.at)

    def span(self, match: re.Match[str]) -> Span:
        start = match.end() - len(match.group().lstrip())
        return self.line.span(start, match.end())

    def binary(self, lowest: int) -> Node:
        left = self.primary()
        while (match := _OPERATOR.match(self.line.text, self.at)) and (
            level := _PRECEDENCE[_joined(match.group("op"))]
        ) >= lowest:
            self.at = match.end()
            right = self.binary(level + 1)
            left = self.operation(match, left, right)
        return left

    def primary(self) -> Node:
        match = self.peek()
        if match is None:
            rest = self.line[self.at :].strip()
            shown = f"'{rest.text[:40]}'" if rest else "nothing"
            raise (rest or self.line).error(f"an expression is needed, not {shown}", _hint(rest.text))
        self.at = match.end()
        if operator := match.group("op"):
            return self.prefixed(operator, match)
        if match.group("name"):
            return self.name(match)
        if label := match.group("label"):
            return self.scope.numeric_label(
                label_number(label[:-1], self.span(match)), label[-1] == "f", self.span(match)
            )
        return Const(number(match.group("number"), self.span(match)))

    def prefixed(self, operator: str, match: re.Match[str]) -> Node:
        self.depth += 1
        if self.depth > EXPRESSION_DEPTH:
            raise AsmError(f"an expression is nested more than {EXPRESSION_DEPTH} deep", self.span(match))
        if operator == "(":
            node = self.binary(0)
            closing = self.peek()
            if closing is None or closing.group("op") != ")":
                raise AsmError("this parenthesis is never closed", self.span(match))
            self.at = closing.end()
        elif operator in ("-", "+", "~", "!"):
            node = self.operation(match, self.primary(), None)
        else:
            raise AsmError(f"an expression cannot begin with '{operator}'", self.span(match))
        self.depth -= 1
        return node

    def name(self, match: re.Match[str]) -> Node:
        span = self.span(match)
        if (suffix := match.group("at")) and not (suffix == "@PLT" and self.branch):
            hint = "only @PLT in the target of a branch, which changes nothing here"
            raise AsmError(f"'{suffix}' is not supported", span, hint)
        name = match.group("name")
        return self.scope.here() if name == "." else self.scope.symbol(name, span)

    def operation(self, match: re.Match[str], left: Node, right: Node | None) -> Node:
        operator, span = _joined(match.group("op")), self.span(match)
        parts = (left,) if right is None else (left, right)
        depth = 1 + max((n.depth for n in parts if isinstance(n, Operation)), default=0)
        size = 1 + sum(n.size if isinstance(n, Operation) else 1 for n in parts)
        if depth > EXPRESSION_DEPTH:
            raise AsmError(f"an expression is nested more than {EXPRESSION_DEPTH} deep", span)
        if size > _MAX_SIZE:
            raise AsmError(f"an expression has more than {_MAX_SIZE} terms", span)
        node = Operation(operator, left, right, span, depth, size)
        value = self.scope.constant(node) if size <= _FOLDED_SIZE else None
        return node if value is None else Const(value)


def parse(line: Line, scope: Scope, branch: bool = False) -> Node:
    """The expression that is the whole of ``line``, the target of a ``branch`` perhaps; `AsmError` if it is none."""
    return _Parser(line, scope, branch).parse()


def number(text: str, span: Span) -> int:
    """A literal as GNU as reads it: ``0x``, ``0b``, leading 0 for octal, else decimal."""
    for pattern, base in _BASES:
        if match := pattern.fullmatch(text):
            value = int(match.group(1) or "0", base) if len(text) <= 80 else _LARGEST
            if value >= _LARGEST:
                raise AsmError("the number does not fit in 64 bits", span)
            return signed(value)
    raise AsmError(f"'{text[:40]}' is not a number", span)


def _joined(operator: str) -> str:
    return "".join(operator.split())


def label_number(text: str, span: Span) -> int:
    """The number of a numeric label, which is a C ``int`` in GNU as."""
    if len(text) > 10 or int(text) >= 1 << 31:
        raise AsmError("the number of a numeric label is too large", span)
    return int(text)


def _hint(text: str) -> str | None:
    if text.startswith("$"):
        return "'$' marks a whole operand as an immediate; it does not stand within an expression"
    if text.startswith('"') or not text[:1].isascii():
        return "names in quotes, and letters beyond ASCII in names, are not supported"
    if text.startswith("%"):
        return "a register cannot be part of an expression"
    return None


# --- values ---


class Unknown(Exception):
    """The value cannot be told yet."""


@dataclass(frozen=True, slots=True)
class Value:
    """``base``: what the number is relative to (a section, or a fixed stretch of one), or None."""

    number: int
    base: object = None


@dataclass(frozen=True, slots=True)
class Evaluator:
    """How values are found: of places, of symbols; and what happens where operands do not fit together.

    ``lookup`` gives a symbol's value or the expression it is defined by. ``mismatch`` is called for an
    operation over relative values that has no meaning; it returns the exception. ``pc_base``: the base that
    a difference may subtract although the other operand has another one (PC-relative). Not to be kept: it
    remembers symbols.
    """

    locate: Callable[[Place], Value]
    lookup: Callable[[SymbolEntry, Span], Value | Node]
    mismatch: Callable[[Operation, Value, Value], Exception]
    pc_base: object = None
    _seen: dict[int, Value] = field(default_factory=dict)

    def value(self, node: Node, depth: int = 0) -> Value:
        match node:
            case Const(value):
                return Value(value)
            case At(place):
                return self.locate(place)
            case Reference():
                return self._symbol(node, depth + 1)
            case Operation():
                left = self.value(node.left, depth + 1)
                right = Value(0) if node.right is None else self.value(node.right, depth + 1)
                return self._apply(node, left, right)

    def _symbol(self, node: Reference, depth: int) -> Value:
        key = id(node.symbol)
        if key not in self._seen:
            found = self.lookup(node.symbol, node.span)
            if depth > EVALUATION_DEPTH:
                raise AsmError(
                    f"'{node.symbol.name}' is defined by itself, or by too long a chain of symbols", node.span
                )
            self._seen[key] = found if isinstance(found, Value) else self.value(found, depth + 1)
        return self._seen[key]

    def _apply(self, node: Operation, left: Value, right: Value) -> Value:
        if node.right is None:
            if left.base is not None and node.operator != "+":
                raise self.mismatch(node, left, right)
            return Value(signed(_UNARY[node.operator](left.number)), left.base)
        operator, base = node.operator, None
        if left.base is not None or right.base is not None:
            base = self._common_base(node, left, right)
        if operator in ("/", "%") and not right.number:
            raise AsmError("division by zero", node.span)
        return Value(signed(_BINARY[operator](left.number, right.number)), base)

    def _common_base(self, node: Operation, left: Value, right: Value) -> object:
        """What the result is relative to: sums and differences, and comparisons within one base."""
        operator = node.operator
        if operator == "+" and (left.base is None or right.base is None):
            return left.base if right.base is None else right.base
        if operator == "-" and right.base is None:
            return left.base
        if left.base == right.base and (operator == "-" or _PRECEDENCE[operator] == _PRECEDENCE["<"]):
            return None
        if operator == "-" and left.base is not None and right.base == self.pc_base:
            return None
        raise self.mismatch(node, left, right)


def _divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _shift_left(a: int, b: int) -> int:
    return a << b if 0 <= b < 64 else 0


def _shift_right(a: int, b: int) -> int:
    return (a & (_LARGEST - 1)) >> b if 0 <= b < 64 else 0


_UNARY: dict[str, Callable[[int], int]] = {
    "-": lambda a: -a,
    "+": lambda a: a,
    "~": lambda a: ~a,
    "!": lambda a: int(not a),
}
_BINARY: dict[str, Callable[[int, int], int]] = {
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
    "<<": _shift_left,
    ">>": _shift_right,
    "|": lambda a, b: a | b,
    "&": lambda a, b: a & b,
    "^": lambda a, b: a ^ b,
    "!!": lambda a, b: a ^ b,
    "!": lambda a, b: a | ~b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "==": lambda a, b: -(a == b),
    "<>": lambda a, b: -(a != b),
    "!=": lambda a, b: -(a != b),
    "<": lambda a, b: -(a < b),
    ">": lambda a, b: -(a > b),
    "<=": lambda a, b: -(a <= b),
    ">=": lambda a, b: -(a >= b),
    "&&": lambda a, b: int(bool(a and b)),
    "||": lambda a, b: int(bool(a or b)),
}
