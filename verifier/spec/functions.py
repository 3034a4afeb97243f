"""The built-in properties: what their arguments mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, cast

from lark import Token, Tree

from verifier.errors import nearest
from verifier.spec.expression import (
    AtRest,
    Binary,
    Count,
    Expression,
    Handled,
    Intact,
    NoMishap,
    Progress,
    RegionRef,
    Restored,
    Resumed,
    Unreachable,
)
from verifier.spec.names import FUNCTIONS, RESTORABLE, RESTORED_GROUPS, RESUMABLE, RESUMED_GROUPS

if TYPE_CHECKING:
    from verifier.spec.operands import Scope

Arguments = list[Tree[Token]]
Value = Callable[[Tree[Token]], Expression]
Groups = dict[str, tuple[str, ...]]
_BY_PLACE = "a context counts as resumed when rip and rsp are what they were: they need no name"

#: Whole properties: they speak of runs, so they cannot be part of a larger expression.
ALONE = (Intact, Handled, NoMishap, Progress, Resumed, Unreachable)
#: What takes no arguments, and needs no parentheses.
SIMPLE: dict[str, Expression] = {"progress": Progress(), "at_rest": AtRest(), "no_mishap": NoMishap()}


def call_function(scope: Scope, call: Tree[Token], arguments: Arguments, value: Value) -> Expression | None:
    """The meaning of ``name(arguments)``, None if no function has that name."""
    name = str(call.children[0])
    if name in SIMPLE:
        _expect(scope, call, arguments, 0, f"{name} takes no arguments")
        return SIMPLE[name]
    if name == "intact":
        return _intact(scope, call, arguments, value)
    if name == "restored":
        what = "a register, a flag, 'memory', 'registers' or 'all'"
        return Restored(_cells(scope, call, arguments, (RESTORABLE, RESTORED_GROUPS), what))
    if name == "resumed":
        what = "a register, a flag, 'registers', 'flags' or 'all'"
        return Resumed(_cells(scope, call, arguments, (RESUMABLE, RESUMED_GROUPS), what))
    if name == "handled":
        _expect(scope, call, arguments, 2, "handled takes an event and a label: handled(nmi, body)")
        return Handled(_event(scope, arguments[0]), _label(scope, arguments[1]))
    if name == "unreachable":
        _expect(scope, call, arguments, 1, "unreachable takes one label")
        return Unreachable(_label(scope, arguments[0]))
    if name == "within":
        return _within(scope, call, arguments, value)
    if name == "count":
        _expect(scope, call, arguments, 1, "count takes one event")
        return Count(_event(scope, arguments[0]))
    return None


def unknown_function(scope: Scope, token: Token) -> Exception:
    hint = nearest(str(token), FUNCTIONS) or f"the functions are {', '.join(FUNCTIONS)}"
    return scope.error(token, f"unknown function '{token}'", hint)


def _expect(scope: Scope, call: Tree[Token], arguments: Arguments, count: int, message: str) -> None:
    if len(arguments) != count:
        raise scope.error(call, message)


def _word(scope: Scope, tree: Tree[Token], what: str) -> str:
    if tree.data not in ("name", "register"):
        raise scope.error(tree, f"{what} is wanted here")
    return str(cast("Token", tree.children[0])).removeprefix("%")


def _event(scope: Scope, tree: Tree[Token]) -> str:
    word = _word(scope, tree, "an event")
    if word not in scope.names.events:
        known = list(scope.names.events)
        raise scope.error(
            tree,
            f"'{word}' is no event of environment.events",
            nearest(word, known) or f"the events are {', '.join(known)}",
        )
    return word


def _label(scope: Scope, tree: Tree[Token]) -> int:
    word = _word(scope, tree, "a label")
    if word not in scope.names.code:
        raise scope.error(tree, f"'{word}' is no label of an instruction", nearest(word, scope.names.code))
    return scope.names.code[word]


def _cells(
    scope: Scope, call: Tree[Token], arguments: Arguments, known: tuple[tuple[str, ...], Groups], what: str
) -> tuple[str, ...]:
    """The cells that a list of single names and groups means."""
    name = str(call.children[0])
    single, groups = known
    if not arguments:
        first = "rip, rsp" if "rip" in single else "flags"
        raise scope.error(call, f"{name} needs names: {name}({first}, registers), or {name}(all)")
    cells: list[str] = []
    for argument in arguments:
        word = _word(scope, argument, what)
        group = groups.get(word) or ((word,) if word in single else None)
        if group is None:
            hint = _BY_PLACE if name == "resumed" and word in ("rip", "rsp") else nearest(word, [*single, *groups])
            raise scope.error(argument, f"unknown register '{word}' in {name}()", hint)
        cells += group
    return tuple(dict.fromkeys(cells))


def _within(scope: Scope, call: Tree[Token], arguments: Arguments, value: Value) -> Expression:
    """Between the lowest address of one of the regions and the one just above it, both included: an empty stack is in
    bounds, and so is a full one."""
    if len(arguments) < 2:
        raise scope.error(call, "within takes a value and regions: within(rsp, nmi_ist)")
    what = value(arguments[0])
    regions = tuple(scope.names.regions)
    inside: list[Expression] = []
    for argument in arguments[1:]:
        word = _word(scope, argument, "a region")
        if word not in regions:
            raise scope.error(argument, f"'{word}' is no region", nearest(word, regions))
        low, high = RegionRef(word, "base"), RegionRef(word, "top")
        inside.append(Binary("and", Binary(">=", what, low), Binary("<=", what, high)))
    return reduce(lambda a, b: Binary("or", a, b), inside)


def _intact(scope: Scope, call: Tree[Token], arguments: Arguments, value: Value) -> Intact:
    usage = "write intact(frame), or intact(frame at ADDRESS)"
    _expect(scope, call, arguments, 1, usage)
    (argument,) = arguments
    frame: Tree[Token] | None = None
    word = argument
    if argument.data == "located":
        token, frame = cast("tuple[Token, Tree[Token]]", argument.children)
        word = Tree("name", [token], argument.meta)
    if _word(scope, word, "'frame'") != "frame":
        raise scope.error(argument, usage)
    return Intact(None if frame is None else value(frame))
