"""Is it well formed? What the later stages rely on, checked for one `Block` and for a whole `Function`.

A failure is a mistake of ours, never of the program that is read: always `InternalError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from verifier.errors import InternalError
from verifier.ir.cells import CELLS
from verifier.ir.ops import BINARY, COMPARE, QUERIES, UNARY, Access, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from verifier.ir.ops import Attr, Block, Operation
    from verifier.ir.ssa import Function, Name, SsaBlock

#: A width in bits, or a letter that stands for the same width wherever it occurs in one operation.
Width = int | str
AttrKind = Literal["none", "value", "cell", "range", "access", "vector", "address", "size", "query"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The arguments' widths, the result's (None: no result), and what ``attr`` is."""

    args: tuple[Width, ...] = ()
    result: Width | None = None
    attr: AttrKind = "none"


#: One row per opcode of `verifier.ir.ops`.
SHAPES: Final[dict[str, Shape]] = {
    **dict.fromkeys(BINARY, Shape(("a", "a"), "a")),
    **dict.fromkeys(COMPARE, Shape(("a", "a"), 1)),
    **dict.fromkeys(UNARY, Shape(("a",), "a")),
    "const": Shape((), "a", "value"),
    "undef": Shape((), "a"),
    "get": Shape((), "cell", "cell"),
    "ite": Shape((1, "a", "a"), "a"),
    "concat": Shape(("a", "b"), "a+b"),
    "extract": Shape(("a",), "range", "range"),
    "zext": Shape(("a",), "wider"),
    "sext": Shape(("a",), "wider"),
    "load": Shape((64,), "bytes", "access"),
    "rdmsr": Shape((32,), 64),
    "tsc_aux": Shape((32,), 32),
    "descriptor": Shape((16, 33), 33, "query"),
    "store": Shape((64, "bytes"), None, "access"),
    "put": Shape(("cell",), None, "cell"),
    "fault_if": Shape((1, 32), None, "vector"),
    "skip_if": Shape((1,), None),
    "wrmsr": Shape((32, 64), None),
}

#: One row per terminator.
TERMINATOR_SHAPES: Final[dict[str, Shape]] = {
    "next": Shape(),
    "jump": Shape(attr="address"),
    "branch": Shape((1,), attr="address"),
    "jump_indirect": Shape((64,)),
    "iret": Shape(attr="size"),
    "sysret": Shape(attr="size"),
    "lret": Shape(attr="size"),
    "syscall": Shape(),
    "interrupt": Shape(attr="vector"),
    "exception": Shape(attr="vector"),
    "halt": Shape(),
    "hole_enter": Shape(),
    "hole_body": Shape(),
}


class _Bad(Exception):
    """What is wrong with one operation."""


def check_block(block: Block) -> None:
    """Raise InternalError, naming instruction and operation, unless the block keeps every rule of `ops`."""
    if not isinstance(block.operations, tuple):
        raise _error(block, block.terminator, "the operations are no tuple")
    defined: list[Value] = []
    for operation in block.operations:
        try:
            _check(operation, SHAPES.get(operation.opcode), defined)
            if operation.result is not None:
                if operation.result.index != len(defined):
                    raise _Bad(f"defines {operation.result} where %{len(defined)} is due")
                defined.append(operation.result)
        except _Bad as problem:
            raise _error(block, operation, str(problem)) from None
    try:
        _check(block.terminator, TERMINATOR_SHAPES.get(block.terminator.opcode), defined)
    except _Bad as problem:
        raise _error(block, block.terminator, str(problem)) from None


def _error(block: Block, operation: Operation, problem: str) -> InternalError:
    args = " ".join(str(a) for a in operation.args)
    shown = " ".join(filter(None, (operation.opcode, args, str(operation.attr or ""))))
    where = f"{block.address:#x} '{block.instruction.text}'"
    return InternalError(f"malformed block of {where}: operation '{shown}': {problem}")


def _check(operation: Operation, shape: Shape | None, defined: Sequence[Value]) -> None:
    if shape is None:
        raise _Bad("unknown opcode")
    if not isinstance(operation.args, tuple):
        raise _Bad("the arguments are no tuple")
    for arg in operation.args:
        if not 0 <= arg.index < len(defined):
            raise _Bad(f"uses {arg} before its definition")
        if defined[arg.index] != arg:
            raise _Bad(f"uses {arg} as {arg.width} bits, defined as {defined[arg.index].width}")
    if len(operation.args) != len(shape.args):
        raise _Bad(f"{len(operation.args)} arguments, not {len(shape.args)}")
    if (operation.result is None) != (shape.result is None):
        raise _Bad("has no result" if operation.result is None else "cannot have a result")
    _check_attr(operation.attr, shape.attr)
    _check_widths(operation, shape)


def _check_attr(attr: Attr, kind: AttrKind) -> None:
    ok = {
        "none": lambda: attr is None,
        "value": lambda: _is_int(attr),
        "cell": lambda: isinstance(attr, str) and attr in CELLS,
        "range": lambda: isinstance(attr, tuple) and len(attr) == 2 and all(map(_is_int, attr)),
        "access": lambda: isinstance(attr, Access),
        "vector": lambda: _is_int(attr) and attr in range(256),
        "address": lambda: _is_int(attr) and attr in range(1 << 64),
        "size": lambda: attr in (16, 32, 64),
        "query": lambda: attr in QUERIES,
    }
    if not ok[kind]():
        raise _Bad(f"its attribute {attr!r} is no {kind}")


def _is_int(attr: object) -> bool:
    return isinstance(attr, int) and not isinstance(attr, bool)


def _check_widths(operation: Operation, shape: Shape) -> None:
    bound: dict[str, int] = {}
    for arg, width in zip(operation.args, shape.args, strict=True):
        _bind(operation, bound, width, arg.width)
    if operation.result is not None and shape.result is not None:
        _bind(operation, bound, shape.result, operation.result.width)
        if operation.opcode == "const" and operation.attr not in range(1 << operation.result.width):
            raise _Bad(f"the constant does not fit {operation.result.width} bits")


def _bind(operation: Operation, bound: dict[str, int], width: Width, actual: int) -> None:
    """Compare one actual width with the shape's, which may be a letter or a rule of its own."""
    if actual < 1:
        raise _Bad(f"a width of {actual} bits")
    if width == "wider":
        if actual <= bound["a"]:
            raise _Bad(f"a result of {actual} bits is not wider than {bound['a']}")
        return
    if width == "bytes":
        if actual % 8:
            raise _Bad(f"{actual} bits are no whole bytes")
        return
    expected = _expected(operation, bound, width, actual)
    if actual != expected:
        raise _Bad(f"a width of {actual} bits where {expected} are due")


def _expected(operation: Operation, bound: dict[str, int], width: Width, actual: int) -> int:
    if isinstance(width, int):
        return width
    if width == "cell":
        return CELLS[str(operation.attr)]
    if width == "a+b":
        return bound["a"] + bound["b"]
    if width == "range" and isinstance(operation.attr, tuple):
        high, low = operation.attr
        if not 0 <= low <= high < bound["a"]:
            raise _Bad(f"bits {high}..{low} do not lie in {bound['a']} bits")
        return high - low + 1
    return bound.setdefault(width, actual)


def check_function(function: Function) -> None:
    """Raise InternalError unless every name is defined once, on every path before each of its uses.

    Also: one phi argument per way into the block, and no name that is not defined at all.
    """
    places = _places(function)
    idom = function.cfg.immediate_dominators()

    def reaches(name: Name, block: int, at: int) -> bool:
        if name not in places:
            raise InternalError(f"SSA at {block:#x}: {name} is used and never defined")
        home, index = places[name]
        return index < at if home == block else _dominates(idom, home, block)

    for address, block in function.blocks.items():
        _check_phis(function, block, places, reaches)
        for at, name in _uses(block):
            if not reaches(name, address, at):
                raise InternalError(f"SSA at {address:#x}: the definition of {name} does not dominate a use")


def _places(function: Function) -> dict[Name, tuple[int, int]]:
    """Where each name is defined: basic block, and rank there (-2 inputs, -1 phis, then operations)."""
    places: dict[Name, tuple[int, int]] = {}
    for address, block in function.blocks.items():
        here = [(-2, name) for name in block.inputs]
        here += [(-1, phi.result) for phi in block.phis]
        here += [(at, name) for at, step in enumerate(block.steps()) for name in step.defines]
        for rank, name in here:
            if name in places:
                raise InternalError(f"SSA at {address:#x}: {name} is defined twice")
            places[name] = (address, rank)
    return places


def _uses(block: SsaBlock) -> Iterable[tuple[int, Name]]:
    steps = block.steps()
    yield from ((at, name) for at, step in enumerate(steps) for name in step.uses)
    yield from ((len(steps), name) for name in block.out.values())


def _check_phis(
    function: Function,
    block: SsaBlock,
    places: Mapping[Name, tuple[int, int]],
    reaches: Callable[[Name, int, int], bool],
) -> None:
    ways_in: list[int | None] = [*function.cfg.blocks[block.address].predecessors]
    if block.address in function.cfg.roots:
        ways_in.insert(0, None)
    for phi in block.phis:
        if [way for way, _ in phi.args] != ways_in:
            raise InternalError(f"SSA at {block.address:#x}: {phi.result} needs one argument per way in")
        for way, name in phi.args:
            if way is None:
                fits = places.get(name) == (block.address, -2)
            else:
                fits = reaches(name, way, len(function.blocks[way].steps()))
            if not fits:
                raise InternalError(f"SSA at {block.address:#x}: {name} does not reach {phi.result}")


def _dominates(idom: Mapping[int, int | None], a: int, b: int) -> bool:
    at: int | None = b
    while at is not None and at != a:
        at = idom[at]
    return at == a
