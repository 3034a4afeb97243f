"""Text to `verifier.spec.expression`: the grammar is ``expression.lark``, what its words mean is here.

Where AT&T syntax and arithmetic read the same text differently (``%gs:x+8``, ``(%rax)``) the text is refused,
with both ways to write it: no property means something else than its author meant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from verifier.errors import SpecError, nearest
from verifier.spec.expression import (
    AtRest,
    Binary,
    Expression,
    MemoryRef,
    Number,
    Restored,
    Unary,
)
from verifier.spec.functions import ALONE, SIMPLE, call_function, unknown_function
from verifier.spec.operands import SIZES, Scope

if TYPE_CHECKING:
    from verifier.source import Span
    from verifier.spec.names import Names

MAX_LENGTH = 4096
MAX_DEPTH = 100

_JUNCTIONS = {"implies": "->", "disjoin": "or", "conjoin": "and"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=")
_HINTS = {"=": "a comparison is written ==", "/": "there is no division", "%": "there is no remainder"}


@cache
def _parser() -> Lark:
    grammar = files("verifier.spec").joinpath("expression.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse_expression(text: str, names: Names, span: Span) -> Expression:
    """The expression in ``text``, whose first character stands at ``span``'s column of ``span``'s line.

    SpecError with the place of the offending word: syntax, an unknown name, operands that make no sense, text
    longer than 4096 characters or nested deeper than 100 levels.
    """
    return parse(text, Scope(names, lambda a, b: span.narrow(span.column + a, span.column + max(b, a + 1))))


def parse(text: str, scope: Scope) -> Expression:
    """`parse_expression` for text that stands anywhere: ``scope`` knows its place."""
    if len(text) > MAX_LENGTH:
        raise SpecError(f"an expression longer than {MAX_LENGTH} characters", scope.locate(0, 1))
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as e:
        raise _syntax_error(e, text, scope) from None
    _check_depth(tree, scope)
    return _Meaning(scope).whole(cast("Tree[Token]", tree.children[0]))


def _syntax_error(error: UnexpectedInput, text: str, scope: Scope) -> SpecError:
    at = error.pos_in_stream or 0
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        word = str(error.token)
        keywords = ("and", "or", "not") if error.token.type == "NAME" else ()
        hint = nearest(word.lower(), keywords) or _expected(error)
        return SpecError(f"unexpected '{word}'", scope.locate(at, at + len(word)), hint)
    if isinstance(error, UnexpectedCharacters):
        return SpecError(f"unexpected '{text[at]}'", scope.locate(at, at + 1), _HINTS.get(text[at]))
    end = len(text.rstrip())
    return SpecError("the expression ends too early", scope.locate(end, end + 1), _expected(error))


def _expected(error: UnexpectedInput) -> str:
    accepts: Any = getattr(error, "accepts", None) or getattr(error, "expected", None) or ()
    if "NAME" in accepts:
        return "a name, a number or a memory operand is wanted here"
    return "a ')' is missing" if "RPAR" in accepts else "an operator is wanted here"


def _check_depth(tree: Tree[Token], scope: Scope) -> None:
    """Without recursion: the parser has none either, all later passes may then recurse."""
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        level = [c for t in level for c in t.children if isinstance(c, Tree)]
        if not level:
            return
    start = level[0].meta.start_pos if not level[0].meta.empty else 0
    raise SpecError(f"nested deeper than {MAX_DEPTH} levels", scope.locate(start, start + 1))


def is_truth(expression: Expression) -> bool:
    """Whether it is true or false rather than a 64-bit value."""
    if isinstance(expression, Binary):
        return expression.op in _COMPARISONS or expression.op in ("and", "or", "->")
    return isinstance(expression, (Restored, AtRest, *ALONE)) or (
        isinstance(expression, Unary) and expression.op == "not"
    )


class _Meaning:
    """Turns syntax trees into expressions; one method per kind of node that is no operand."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def whole(self, tree: Tree[Token]) -> Expression:
        return self._of(tree)

    def part(self, tree: Tree[Token]) -> Expression:
        expression = self._of(tree)
        if isinstance(expression, ALONE):
            message = "this speaks of whole runs and must stand alone"
            raise self.scope.error(tree, message, "make it a property of its own")
        return expression

    def value(self, tree: Tree[Token]) -> Expression:
        expression = self.part(tree)
        if is_truth(expression):
            message = "this is true or false, where a value is wanted"
            hint = "'not' binds looser than a comparison, '!' tighter; put parentheses"
            raise self.scope.error(tree, message, hint)
        return expression

    def _of(self, tree: Tree[Token]) -> Expression:
        kind = str(tree.data)
        if kind in _JUNCTIONS:
            left, right = cast("list[Tree[Token]]", tree.children)
            return Binary(cast("Any", _JUNCTIONS[kind]), self.part(left), self.part(right))
        if kind in _OPERANDS:
            return _OPERANDS[kind](self, tree, None)
        return cast("Callable[[Tree[Token]], Expression]", getattr(self, "_" + kind))(tree)

    def _negate(self, tree: Tree[Token]) -> Expression:
        return Unary("not", self.part(cast("Tree[Token]", tree.children[-1])))

    _negate_tight = _negate

    def _binary(self, tree: Tree[Token]) -> Expression:
        left, operator, right = cast("tuple[Tree[Token], Token, Tree[Token]]", tree.children)
        first = self.value(left)
        self._refuse_two_readings(left, operator, right, first)
        return Binary(cast("Any", str(operator)), first, self.value(right))

    def _refuse_two_readings(
        self, left: Tree[Token], operator: Token, right: Tree[Token], first: Expression
    ) -> None:
        """``%gs:x+8`` and ``x-8(%rsp)`` without spaces: an operand for an assembler, else a sum."""
        adjacent = left.meta.end_pos == operator.start_pos and operator.end_pos == right.meta.start_pos
        operand = right.data == "displaced" or (right.data == "number" and isinstance(first, MemoryRef))
        if adjacent and operator in ("+", "-") and operand and left.data in ("name", "segmented"):
            hint = "put spaces around the sign to calculate, or parentheses as in %gs:(name+8) for an address"
            raise self.scope.error(operator, "this can be read as one memory operand or as a sum", hint)

    def _unary(self, tree: Tree[Token]) -> Expression:
        operator, operand = cast("tuple[Token, Tree[Token]]", tree.children)
        if operator == "-" and operand.data == "displaced":
            return self.scope.displaced(Tree("displaced", [operator, *operand.children], tree.meta), None)
        return Unary("-" if operator == "-" else "~", self.value(operand))

    def _number(self, tree: Tree[Token]) -> Expression:
        return Number(self.scope.number(cast("Token", tree.children[0])))

    def _address_of(self, tree: Tree[Token]) -> Expression:
        return Number(self.scope.address(cast("Token", tree.children[1])) & ((1 << 64) - 1))

    def _register(self, tree: Tree[Token]) -> Expression:
        return self.scope.register(cast("Token", tree.children[0]))

    def _group(self, tree: Tree[Token]) -> Expression:
        inner = cast("Tree[Token]", tree.children[0])
        if inner.data == "register":
            name = str(inner.children[0])
            hint = f"write 0({name}) for memory, {name} for the register"
            raise self.scope.error(tree, f"({name}) can be read as memory or as the register", hint)
        return self._of(inner)

    def _located(self, tree: Tree[Token]) -> Expression:
        raise self.scope.error(tree, "'at' belongs into intact(frame at …)")

    def _sized(self, tree: Tree[Token]) -> Expression:
        size, operand = cast("tuple[Token, Tree[Token]]", tree.children)
        result = _OPERANDS[str(operand.data)](self, operand, SIZES[str(size)])
        if not isinstance(result, MemoryRef):
            raise self.scope.error(operand, f"'{size}' wants a memory operand after it")
        return result

    # Operands that a size may stand before.

    def _name(self, tree: Tree[Token], width: int | None) -> Expression:
        token = cast("Token", tree.children[0])
        if width is not None:
            return self.scope.datum(token, None, width)
        return SIMPLE.get(str(token)) or self.scope.name(token)

    def _call(self, tree: Tree[Token], width: int | None) -> Expression:
        token, arguments = cast("tuple[Token, Tree[Token] | None]", tree.children)
        given = cast("list[Tree[Token]]", arguments.children) if arguments else []
        function = call_function(self.scope, tree, given, self.value)
        if function is not None:
            return function
        known = str(token) in self.scope.names.symbols or str(token) in self.scope.names.data
        if arguments is None or not known:
            raise unknown_function(self.scope, token)
        return self.scope.indexed(token, arguments, width)

    def _displaced(self, tree: Tree[Token], width: int | None) -> Expression:
        return self.scope.displaced(tree, width)

    def _segmented(self, tree: Tree[Token], width: int | None) -> Expression:
        return self.scope.segmented(tree, width)

    def _indirect(self, tree: Tree[Token], width: int | None) -> Expression:
        return self.scope.memory(None, 0, cast("Tree[Token]", tree.children[0]), width or 64)


_OPERANDS: dict[str, Callable[[_Meaning, Tree[Token], int | None], Expression]] = {
    "name": _Meaning._name,
    "call": _Meaning._call,
    "displaced": _Meaning._displaced,
    "segmented": _Meaning._segmented,
    "indirect": _Meaning._indirect,
}
