"""What an expression means in a symbolic state: a term, and the locations that were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, FLAGS
from verifier.ir.ops import Access
from verifier.machine.config import MSRS
from verifier.machine.execution import Execution, Fault, Unresolved
from verifier.machine.state import HOME
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
    RegionRef,
    Restored,
    Resumed,
    Unary,
    Unreachable,
)
from verifier.terms import (
    FALSE,
    TRUE,
    Term,
    add,
    all_of,
    and_,
    any_of,
    const,
    eq,
    extract,
    mul,
    not_,
    or_,
    sle,
    slt,
    sub,
    ule,
    ult,
    xor,
    zext,
)
from verifier.terms.bits import lshr, shl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from verifier.explore.schedule import Ghost, Script
    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.terms import Solver

#: The words of a hardware frame, from its lowest address.
FRAME = ("rip", "cs", "rflags", "rsp", "ss")


class Meaning:
    """Evaluates expressions in one state. ``looked_at`` collects location numbers.

    Raises Mishap or Unresolved where an expression reads memory that is in no region or not known.
    """

    def __init__(self, layout: Layout, solver: Solver, state: State, ghost: Ghost, script: Script) -> None:
        self._layout = layout
        self._state = state
        self._ghost = ghost
        self._script = script
        self._view = Execution(layout, solver, state)

    @property
    def looked_at(self) -> set[int]:
        return self._view.reads

    def truth(self, e: Expression) -> Term:
        """An expression as a condition: one bit."""
        match e:
            case Restored(cells):
                return all_of([self.restored(c) for c in cells])
            case Resumed(cells):
                return all_of([self.resumed(c) for c in cells])
            case Intact(frame):
                return self._frame_held() if frame is None else self._frame_at(self.value(frame))
            case Handled(event, body):
                return self._handled(event, body)
            case AtRest():
                return all_of([condition for _, condition in self.at_rest()])
            case NoMishap():
                return TRUE
            case Unreachable(address):
                return FALSE if self._state.rip == address else TRUE
            case _:
                return self._connective(e)

    def _connective(self, e: Expression) -> Term:
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
            case _:
                return not_(eq(self.value(e), const(0, 64)))

    def value(self, e: Expression) -> Term:
        """An expression as 64 bits, zero-extended."""
        match e:
            case Number(value):
                return const(value, 64)
            case CellRef():
                return self._cell(e)
            case MemoryRef():
                return self._memory(e)
            case RegionRef(region, edge):
                return self._layout.base(region) if edge == "base" else self._layout.top(region)
            case Count(event):
                return const(self._ghost.counts[self._script.counted.index(event)], 64)
            case Unary("~", operand):
                return not_(self.value(operand))
            case Unary("-", operand):
                return sub(const(0, 64), self.value(operand))
            case Binary(op, left, right) if op in _ARITHMETIC:
                return _ARITHMETIC[op](self.value(left), self.value(right))
            case _:
                return zext(self.truth(e), 64)

    def _cell(self, e: CellRef) -> Term:
        whole = self._state.home.cell(e.cell) if e.interrupted else self.now(e.cell)
        return zext(extract(zext(whole, 64), e.low + e.width - 1, e.low), 64)

    def now(self, name: str) -> Term:
        """A cell's present value, or that of ``rip``, ``rflags`` and the NMI latches."""
        state = self._state
        if name == "rip":
            return state.home.rip if state.rip == HOME else const(state.rip, 64)
        if name == "rflags":
            self.looked_at.update(CELL_INDEX[f] for f in FLAGS)
            return state.rflags
        if name in ("nmi_blocked", "nmi_pending"):
            return const(getattr(state, name), 1)
        return self._view.get(name)

    def _memory(self, e: MemoryRef) -> Term:
        if e.region == MSRS:
            return zext(extract(self._view.word(self._layout.number[MSRS], e.disp // 8), e.width - 1, 0), 64)
        address = const(e.disp, 64)
        if e.region is not None:
            address = add(self._layout.base(e.region), address)
        if e.base is not None:
            address = add(self.now(e.base), address)
        if e.index is not None:
            address = add(address, mul(self.now(e.index), const(e.scale, 64)))
        if e.segment in ("gs", "fs"):
            address = add(self.now(f"{e.segment}_base"), address)
        try:
            return zext(self._view.load(address, e.width, Access(segment=e.segment)), 64)
        except Fault:
            raise Unresolved(f"memory at {self._view.describe(address)}, which is not canonical") from None

    def restored(self, cell: str) -> Term:
        """Whether one cell, or the interrupted context's memory, is as it was when the first event struck."""
        if cell == "memory":
            return all_of([eq(term, self._layout.initial(at)) for at, term in self._home_memory()])
        return eq(self.now(cell), self._state.home.cell(cell))

    def _home_memory(self) -> list[tuple[int, Term]]:
        """What the run wrote to the interrupted context's own memory (part of every key, so not looked up here)."""
        return [(at, term) for at, term in self._state.memory.items() if self._layout.belongs_to_home(at)]

    def resumed(self, cell: str) -> Term:
        """Whether a cell is what the context had that control is back in."""
        struck = self._ghost.struck
        assert struck is not None
        if struck.unsure:
            raise Unresolved("RSP, which may be that of a context that an event struck, or not")
        return eq(self.now(cell), struck.values[1 + self._script.resumed.index(cell)])

    def _frame_held(self) -> Term:
        return all_of([self.word_held(name) for name in self._state.home.tracked.values()])

    def word_held(self, name: str) -> Term:
        """Whether a saved word is the value of some register or word of memory; one that is a constant always is.

        Where the very words lie in memory is part of what a search compares states by; other places are looked at.
        """
        state = self._state
        wanted = zext(state.home.cell(name), 64)
        if state.rip == HOME or wanted.is_const or wanted in state.memory.values():
            return TRUE
        held = [(places, eq(word, wanted)) for places, word in self._words() if word.width == 64]
        sure = [places for places, same in held if same is TRUE][:1]
        for places in sure or [places for places, same in held if same is not FALSE]:
            self.looked_at.update(places)
        return any_of([same for _, same in held])

    def _words(self) -> Iterator[tuple[Iterable[int], Term]]:
        """Every word of the state, with the locations that it stands in."""
        state = self._state
        yield [CELL_INDEX[f] for f in FLAGS], state.rflags
        for at, word in (*enumerate(state.cells), *state.memory.items()):
            yield [at], word

    def _frame_at(self, address: Term) -> Term:
        home = self._state.home
        words = []
        for i, name in enumerate(FRAME):
            word = self._view.load(add(address, const(8 * i, 64)), 64, Access())
            words.append(eq(word, zext(home.cell(name), 64)))
        return all_of(words)

    def _handled(self, event: str, body: int) -> Term:
        for watch, owed in zip(self._script.watches, self._ghost.owed, strict=True):
            if (watch.event, watch.body) == (event, body):
                return FALSE if owed else TRUE
        raise AssertionError("an unwatched handler")

    def at_rest(self) -> Iterator[tuple[str, Term]]:
        """Per datum that has a value at rest: its name, and whether it has that value now."""
        for number, region in enumerate(self._layout.regions):
            for datum in region.data:
                if datum.initially is not None:
                    now = self._view.read_at(number, datum.offset, datum.size * 8)
                    yield datum.name, eq(now, self._layout.initial_value(datum.initially, datum.size))


_COMPARE: Mapping[str, Callable[[Term, Term], Term]] = {
    "==": eq,
    "!=": lambda a, b: not_(eq(a, b)),
    "<": ult,
    "<=": ule,
    ">": lambda a, b: ult(b, a),
    ">=": lambda a, b: ule(b, a),
    "s<": slt,
    "s<=": sle,
    "s>": lambda a, b: slt(b, a),
    "s>=": lambda a, b: sle(b, a),
}
_ARITHMETIC: Mapping[str, Callable[[Term, Term], Term]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "&": and_,
    "|": or_,
    "^": xor,
    "<<": shl,
    ">>": lshr,
}
