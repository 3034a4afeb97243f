"""What a property's expression means in a listed state: a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from verifier.ir.cells import FLAGS
from verifier.ir.ops import Access
from verifier.machine.config import MSRS
from verifier.recheck.expression import (
    FALSE,
    TRUE,
    Expr,
    all_of,
    and_,
    any_of,
    const,
    eq,
    extract,
    not_,
    offset,
    operation,
    or_,
    zext,
)
from verifier.recheck.ghost import HOME
from verifier.recheck.step import Undecided
from verifier.recheck.world import image
from verifier.spec.expression import (
    AtRest,
    Binary,
    CellRef,
    Count,
    Expression,
    Handled,
    Intact,
    MemoryRef,
    NoMishap,
    Number,
    Progress,
    RegionRef,
    Restored,
    Resumed,
    Unary,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verifier.recheck.ghost import Ghost, Monitors
    from verifier.recheck.step import Step

_PLAIN = (Number, CellRef, MemoryRef, RegionRef, Count, Unary, Binary)
#: What a property can be for it to be rechecked.
KINDS = (Restored, Resumed, Intact, Handled, AtRest, NoMishap, Unreachable, Progress, *_PLAIN)

#: A hardware frame from its lowest address.
_FRAME: Final = ("rip", "cs", "rflags", "rsp", "ss")
_COMPARE: Final[dict[str, Callable[[Expr, Expr], Expr]]] = {
    "==": eq,
    "!=": lambda a, b: not_(eq(a, b)),
    "<": lambda a, b: operation("ult", (a, b), 1),
    "<=": lambda a, b: operation("ule", (a, b), 1),
    ">": lambda a, b: operation("ult", (b, a), 1),
    ">=": lambda a, b: operation("ule", (b, a), 1),
    "s<": lambda a, b: operation("slt", (a, b), 1),
    "s<=": lambda a, b: operation("sle", (a, b), 1),
    "s>": lambda a, b: operation("slt", (b, a), 1),
    "s>=": lambda a, b: operation("sle", (b, a), 1),
}
_ARITHMETIC: Final = {
    "+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl", ">>": "lshr",
}  # fmt: skip


class Meaning:
    """Conditions over one state, which ``step`` holds and reads. Raises Mishap, Fault or Undecided where an expression
    reads memory that is not known."""

    def __init__(self, step: Step, ghost: Ghost, monitors: Monitors) -> None:
        self._step = step
        self._ghost = ghost
        self._monitors = monitors
        self._home = step.before.home

    def truth(self, e: Expression) -> Expr:
        """One bit."""
        match e:
            case Restored(cells):
                return all_of(self._restored(c) for c in cells)
            case Resumed(cells):
                return all_of(self._resumed(c) for c in cells)
            case Intact(None):
                return all_of(self._held(name) for name in _FRAME)
            case Intact(frame) if frame is not None:
                return self._frame_at(self.value(frame))
            case Handled(event, body):
                return self._handled(event, body)
            case AtRest():
                return all_of(self._at_rest())
            case NoMishap():
                return TRUE
            case Unreachable(address):
                return FALSE if self._step.at == address else TRUE
            case _:
                assert isinstance(e, _PLAIN)
                return self._connective(e)

    def _connective(self, e: Expression) -> Expr:
        match e:
            case Unary("not", operand):
                return not_(self.truth(operand))
            case Binary("and", left, right):
                return and_(self.truth(left), self.truth(right))
            case Binary("or", left, right):
                return or_(self.truth(left), self.truth(right))
            case Binary("->", left, right):
                return or_(not_(self.truth(left)), self.truth(right))
            case Binary(op, left, right) if op in _COMPARE:
                return _COMPARE[op](self.value(left), self.value(right))
        return not_(eq(self.value(e), const(0, 64)))

    def value(self, e: Expression) -> Expr:
        """64 bits, zero-extended."""
        match e:
            case Number(value):
                return const(value, 64)
            case CellRef():
                whole = zext(self._home.was(e.cell) if e.interrupted else self._now(e.cell), 64)
                return zext(extract(whole, e.low + e.width - 1, e.low), 64)
            case MemoryRef():
                return self._memory(e)
            case RegionRef(region, edge):
                world = self._step.world
                return world.bases[region] if edge == "base" else world.top(region)
            case Count(event):
                return self._count(event)
            case Unary("~", operand):
                return not_(self.value(operand))
            case Unary("-", operand):
                return operation("neg", (self.value(operand),), 64)
            case Binary(op, left, right) if op in _ARITHMETIC:
                return operation(_ARITHMETIC[op], (self.value(left), self.value(right)), 64)
        return zext(self.truth(e), 64)

    def _count(self, event: str) -> Expr:
        if event not in self._monitors.counted:
            raise Undecided(f"the certificate does not count {event}")
        return const(self._ghost.counts[self._monitors.counted.index(event)], 64)

    def _now(self, name: str) -> Expr:
        step = self._step
        match name:
            case "rip":
                return self._home.rip if step.at == HOME else const(step.at, 64)
            case "rflags":
                return self._flags()
            case "nmi_blocked":
                return const(int(step.nmi_blocked), 1)
            case "nmi_pending":
                return FALSE
        return step.get(name)

    def _flags(self) -> Expr:
        return image({name: self._step.get(name) for name in FLAGS})

    def _memory(self, e: MemoryRef) -> Expr:
        if e.region == MSRS:
            return zext(extract(self._step.word((MSRS, e.disp)), e.width - 1, 0), 64)
        address = const(e.disp, 64)
        if e.region is not None:
            address = operation("add", (self._step.world.bases[e.region], address), 64)
        if e.index is not None:
            scaled = operation("mul", (self._now(e.index), const(e.scale, 64)), 64)
            address = operation("add", (scaled, address), 64)
        if e.base is not None:
            address = operation("add", (self._now(e.base), address), 64)
        if e.segment in ("fs", "gs"):
            address = operation("add", (self._now(f"{e.segment}_base"), address), 64)
        return zext(self._step.load(address, e.width // 8, Access(segment=e.segment)), 64)

    def _restored(self, cell: str) -> Expr:
        step = self._step
        if cell != "memory":
            return eq(self._now(cell), self._home.was(cell))
        if not (step.before.pristine or step.before.fresh):
            raise Undecided("the certificate does not follow the interrupted context's memory")
        words = [w for w in step.memory if step.world.belongs_to_home(w)]
        return all_of(eq(step.word(w), step.world.initial(w)) for w in words)

    def _resumed(self, cell: str) -> Expr:
        watched = self._ghost.watched
        if watched is None or cell not in self._monitors.resumed:
            raise Undecided(f"the certificate does not watch {cell} of the contexts that are struck")
        return eq(self._now(cell), watched.values[1 + self._monitors.resumed.index(cell)])

    def _held(self, name: str) -> Expr:
        """Whether a saved word is the value of a register or of a word of memory that the state lists."""
        wanted = zext(self._home.was(name), 64)
        if wanted.is_const or self._step.at == HOME:
            return TRUE
        words = [self._flags(), *self._step.cells.values(), *self._step.memory.values()]
        if any(word is wanted for word in words):
            return TRUE
        return any_of(eq(word, wanted) for word in words if word.width == wanted.width and not _is_unlisted(word))

    def _frame_at(self, address: Expr) -> Expr:
        found = []
        for i, name in enumerate(_FRAME):
            word = self._step.load(offset(address, 8 * i), 8, Access())
            found.append(eq(word, zext(self._home.was(name), 64)))
        return all_of(found)

    def _handled(self, event: str, body: int) -> Expr:
        if (event, body) not in self._monitors.watches:
            raise Undecided(f"the certificate does not watch what follows {event}")
        return FALSE if self._ghost.owed[self._monitors.watches.index((event, body))] else TRUE

    def _at_rest(self) -> Iterator[Expr]:
        for region in self._step.world.machine.regions.values():
            for datum in region.data:
                if datum.initially is not None:
                    now = self._step.read((region.name, datum.offset), datum.size)
                    yield eq(now, self._step.world.at_rest(datum.initially, datum.size))


def _is_unlisted(word: Expr) -> bool:
    return word.op == "var" and isinstance(word.attr, tuple) and word.attr[0] == "unlisted"
