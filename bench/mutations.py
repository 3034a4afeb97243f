"""Small changes to Python source: each is one node of a module's syntax tree put in another's place."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import FLAGS, SELECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
#: Names of operations and cells that stand in strings. Other strings are messages, and tested elsewhere.
_NAMES = {
    "add": "sub", "sub": "add", "and": "or", "or": "and", "xor": "or", "shl": "lshr", "lshr": "ashr", "ashr": "lshr",
    "ult": "ule", "ule": "ult", "slt": "sle", "sle": "slt", "udiv": "sdiv", "sdiv": "udiv", "zext": "sext",
    "rsp": "rbp", "rax": "rdx", "rdx": "rax", "rcx": "rdx", "gs_base": "fs_base", "fs_base": "gs_base",
    **{a: b for names in (FLAGS, SELECTORS) for a, b in zip(names, (*names[1:], names[0]), strict=True)},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """``index``: which node of the walk over a module is changed, and ``way``: which of the ways to change it.

    ``outside``: what is changed runs when the module is loaded, being part of no function.
    """

    path: Path
    line: int
    before: str
    after: str
    index: int
    way: int
    outside: bool

    @property
    def name(self) -> str:
        return f"{self.path.as_posix()}:{self.line}: {self.before} -> {self.after}"

    def tree(self) -> ast.Module:
        """The module with the change; lines are where they were."""
        tree = ast.parse(self.path.read_text("utf-8"))
        for index, (parent, field, at, node, outside) in enumerate(_places(tree)):
            if index == self.index:
                _put(parent, field, at, list(_changed(parent, node, outside))[self.way])
        return ast.fix_missing_locations(tree)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its text."""
    tree = ast.parse(path.read_text("utf-8"))
    for index, (parent, _, _, node, outside) in enumerate(_places(tree)):
        for way, changed in enumerate(_changed(parent, node, outside)):
            before, after = (_text(_rows(node)[way]), "nothing") if _rows(node) else (_text(node), _text(changed))
            yield Mutant(path, getattr(node, "lineno", 0), before, after, index, way, outside)


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:90]


Where = tuple[ast.AST, str, int | None, ast.AST, bool]


def _places(tree: ast.AST, outside: bool = True) -> Iterator[Where]:
    """Every node that may be changed, with where it stands in its parent, and whether that is outside all functions:
    not types, texts, assertions or raises."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for at, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            without = outside and not (isinstance(tree, ast.FunctionDef) and field == "body")
            yield tree, field, at, node, without
            yield from _places(node, without)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Raise):
        return "Error" in ast.unparse(node) or "Unresolved" in ast.unparse(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__slots__"):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _put(parent: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[at] = node


def _changed(parent: ast.AST, node: ast.AST, outside: bool) -> Iterator[ast.AST]:
    """What may stand in a node's place. Of tables outside functions, any row may be missing; no part of a row."""
    found = _OPERATORS.get(type(node))
    if outside and _rows(node) and not isinstance(parent, (ast.Tuple, ast.List, ast.Set)):
        found = _shorter
    for changed in found(node) if found is not None else ():
        yield ast.copy_location(changed, node)


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    yield ast.Compare(node.left, [_COMPARE[type(node.ops[0])](), *node.ops[1:]], node.comparators)


def _junction(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for i in range(len(node.values)):
        rest = node.values[:i] + node.values[i + 1 :]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        yield node.operand


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in _ARITHMETIC and not isinstance(node.right, ast.Tuple):
        yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in _ARITHMETIC:
        yield ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, str) and node.value in _NAMES:
        yield ast.Constant(_NAMES[node.value])


def _negated(node: ast.If | ast.IfExp | ast.While) -> Iterator[ast.AST]:
    if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
        other = copy.copy(node)
        other.test = ast.UnaryOp(ast.Not(), node.test)
        yield other


def _statement(node: ast.Expr | ast.Raise) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise) or not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
        yield ast.Pass()


def _call(node: ast.Call) -> Iterator[ast.AST]:
    if len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        first, second, *rest = node.args
        yield ast.Call(node.func, [second, first, *rest], node.keywords)


def _rows(node: ast.AST) -> list[ast.expr]:
    """The rows of a table, empty for anything else."""
    if isinstance(node, ast.Dict):
        return [key for key in node.keys if key is not None] if None not in node.keys else []
    if isinstance(node, ast.Set) or (isinstance(node, (ast.Tuple, ast.List)) and isinstance(node.ctx, ast.Load)):
        return node.elts
    return []


def _shorter(node: ast.Dict | ast.Tuple | ast.List | ast.Set) -> Iterator[ast.AST]:
    for i in range(len(_rows(node))):
        other = copy.copy(node)
        for field in ("keys", "values") if isinstance(node, ast.Dict) else ("elts",):
            rows = getattr(node, field)
            setattr(other, field, rows[:i] + rows[i + 1 :])
        yield other


_OPERATORS = {
    ast.Compare: _compare,
    ast.BoolOp: _junction,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.Constant: _constant,
    ast.If: _negated,
    ast.IfExp: _negated,
    ast.While: _negated,
    ast.Expr: _statement,
    ast.Raise: _statement,
    ast.Call: _call,
}
