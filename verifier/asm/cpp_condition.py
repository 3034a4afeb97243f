"""The integer expressions of ``#if``: C's operators and precedence, 64-bit signed and unsigned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MASK = (1 << 64) - 1
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d\w*)|(?P<name>[A-Za-z_]\w*)|(?P<char>'[^'\\]')"
    r"|(?P<op>\|\||&&|==|!=|<=|>=|<<|>>|[-+*/%<>&|^~!()?:]))",
    re.ASCII,
)
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)((?:[uU](?:ll?|LL?)?|(?:ll?|LL?)[uU]?)?)")
#: Every parenthesis takes a dozen calls.
_DEPTH = 25
_MESSAGE = "not an expression that #if can evaluate"


class BadCondition(Exception):
    """The expression is wrong; the caller knows the place."""


@dataclass(frozen=True, slots=True)
class Number:
    """A 64-bit value, kept as the mathematical integer it stands for."""

    value: int
    unsigned: bool = False

    @staticmethod
    def of(value: int, unsigned: bool) -> Number:
        value &= _MASK
        return Number(value if unsigned or not value >> 63 else value - (1 << 64), unsigned)


def _divide(a: int, b: int) -> int:
    if not b:
        raise BadCondition("division by zero in #if")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _shift(a: int, b: int) -> int:
    if not -64 < b < 64:
        raise BadCondition("shift by more than 63 bits in #if")
    return a << b if b >= 0 else a >> -b


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "<<": _shift,
    ">>": lambda a, b: _shift(a, -b),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
}
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("<<", ">>"),
    ("+", "-"), ("*", "/", "%"),
)  # fmt: skip


class _Parser:
    """Evaluates while it parses; ``live`` is False in the branch that C would not evaluate."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokenize(text)
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def expect(self, text: str) -> None:
        if self.take() != text:
            raise BadCondition(_MESSAGE)

    def ternary(self, live: bool) -> Number:
        self.depth += 1
        if self.depth > _DEPTH:
            raise BadCondition(f"#if expression nested more than {_DEPTH} deep")
        test = self.binary(0, live)
        if self.peek() == "?":
            self.take()
            then = self.ternary(live and test.value != 0)
            self.expect(":")
            otherwise = self.ternary(live and test.value == 0)
            chosen = then if test.value else otherwise
            test = Number.of(chosen.value, then.unsigned or otherwise.unsigned)
        self.depth -= 1
        return test

    def binary(self, level: int, live: bool) -> Number:
        if level == len(_LEVELS):
            return self.unary(live)
        left = self.binary(level + 1, live)
        while self.peek() in _LEVELS[level]:
            operator = self.take()
            if operator in ("&&", "||"):
                decided = (left.value != 0) == (operator == "||")
                right = self.binary(level + 1, live and not decided)
                left = Number(int((left if decided else right).value != 0))
            else:
                left = _apply(operator, left, self.binary(level + 1, live), live)
        return left

    def unary(self, live: bool) -> Number:
        token = self.take()
        if token == "(":
            inner = self.ternary(live)
            self.expect(")")
            return inner
        if token in ("-", "+", "~", "!"):
            self.depth += 1
            if self.depth > _DEPTH:
                raise BadCondition(f"#if expression nested more than {_DEPTH} deep")
            value = self.unary(live)
            self.depth -= 1
            signed = {"-": -value.value, "+": value.value, "~": ~value.value, "!": int(not value.value)}
            return Number.of(signed[token], value.unsigned and token != "!")
        return _number(token)


def _apply(operator: str, left: Number, right: Number, live: bool) -> Number:
    unsigned = left.unsigned or (right.unsigned and operator not in ("<<", ">>"))
    a, b = Number.of(left.value, unsigned).value, right.value
    if operator not in ("<<", ">>"):
        b = Number.of(b, unsigned).value
    if operator in _COMPARISONS:
        return Number(int(_COMPARISONS[operator](a, b)))
    if not live and not b:
        return Number(0, unsigned)
    return Number.of(_ARITHMETIC[operator](a, b), unsigned)


def _tokenize(text: str) -> Sequence[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadCondition(_MESSAGE)
        found.append(match.group().strip())
        at = match.end()
    return found


def _number(token: str) -> Number:
    if token.startswith("'"):
        return Number(ord(token[-2]))
    if token and (token[0].isalpha() or token[0] == "_"):
        return Number(0)  # C11 6.10.1p4: identifiers that are left over count as 0
    match = _NUMBER.fullmatch(token) if len(token) < 80 else None
    if match is None:
        raise BadCondition(_MESSAGE)
    digits = match.group(1)
    octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0"
    try:
        value = int(digits, 8 if octal else 0)
    except ValueError:
        raise BadCondition(_MESSAGE) from None
    if value > _MASK:
        raise BadCondition(f"{digits} does not fit in 64 bits")
    return Number(value, value >> 63 == 1 or "u" in match.group(2).lower())


def evaluate(text: str) -> bool:
    """Whether the expression (macros already expanded) is non-zero; `BadCondition` if it is none."""
    parser = _Parser(text)
    value = parser.ternary(live=True)
    if parser.peek():
        raise BadCondition(_MESSAGE)
    return value.value != 0
