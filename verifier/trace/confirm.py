"""Does a concrete run break its property? Judged on numbers, apart from the symbolic judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS, RFLAGS_LAYOUT
from verifier.machine.config import Pointer
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
from verifier.trace.resumed import context_resumed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Trace

MASK = (1 << 64) - 1


def broken_here(trace: Trace) -> bool:
    """Whether the last step of a run breaks the property it is shown for."""
    last = trace.steps[-1]
    if trace.kind == "stuck":
        quiet = trace.steps[trace.quiet_from :]
        stays = last.ended != "home" or _waits(trace)
        return stays and all(s.move.action == "execute" or s.before.nmi_pending for s in quiet)
    if last.ended not in (None, "home"):
        return last.ended == trace.kind
    view = View(trace, last.after, last.ended == "home")
    return not view.truth(trace.property.that)


def _waits(trace: Trace) -> bool:
    """Whether a run ends in HLT: it goes on when an event comes, even if the next address is one to go home to."""
    last = trace.steps[-1]
    instruction = None if last.at is None else trace.model.machine.program.instructions.get(last.at)
    return instruction is not None and last.move.action == "execute" and instruction.mnemonic == "hlt"


def rflags(cells: ConcreteState) -> int:
    """The packed RFLAGS image."""
    image = 2
    for name, (bit, _) in RFLAGS_LAYOUT.items():
        image |= cells.cells[name] << bit
    return image


def saved_words(state: ConcreteState) -> dict[str, int]:
    """The five words that a hardware frame of this context holds."""
    cells = state.cells
    return {"rip": state.rip, "cs": cells["cs"], "rflags": rflags(state), "rsp": cells["rsp"], "ss": cells["ss"]}


class View:
    """A concrete state at the end of a run, and what expressions say of it."""

    def __init__(self, trace: Trace, state: ConcreteState, home: bool) -> None:
        self._trace = trace
        self._state = state
        self._home = home
        self._first = trace.start.state

    def truth(self, e: Expression) -> bool:
        match e:
            case Restored(cells):
                return all(self._restored(c) for c in cells)
            case Resumed(cells):
                before = context_resumed(self._trace)
                return before is None or all(self._state.cells[c] == before[c] for c in cells)
            case Intact(None):
                return all(self._held(name) for name in self._tracked())
            case Intact(frame) if frame is not None:
                return self._frame_at(self.value(frame))
            case Handled(event, body):
                return self._handled(event, body)
            case AtRest():
                return all(self._at_rest())
            case NoMishap():
                return True
            case Unreachable(address):
                return self._home or self._state.rip != address
            case _:
                return self._connective(e)

    def _connective(self, e: Expression) -> bool:
        match e:
            case Unary("not", operand):
                return not self.truth(operand)
            case Binary("and", left, right):
                return self.truth(left) and self.truth(right)
            case Binary("or", left, right):
                return self.truth(left) or self.truth(right)
            case Binary("->", left, right):
                return not self.truth(left) or self.truth(right)
            case Binary(op, left, right) if op in _RELATIONS:
                return _relation(op, self.value(left), self.value(right))
            case _:
                return self.value(e) != 0

    def _restored(self, cell: str) -> bool:
        if cell != "memory":
            return self._now(cell) == self._before(cell)
        return all(
            self._state.read(address, 8) == self._first.read(address, 8)
            for name, region in self._trace.model.machine.regions.items()
            if region.kind == "interrupted"
            for address in self._words(name, self._trace.start.bases[name])
            if address >= self._trace.start.bases[name] + region.size // 2
        )

    def value(self, e: Expression) -> int:
        match e:
            case Number(value):
                return value & MASK
            case CellRef():
                whole = self._before(e.cell) if e.interrupted else self._now(e.cell)
                return whole >> e.low & ((1 << e.width) - 1)
            case MemoryRef():
                return self._memory(e)
            case RegionRef(region, edge):
                size = self._trace.model.machine.regions[region].size
                return self._trace.start.bases[region] + (size if edge == "top" else 0) & MASK
            case Count(event):
                return sum(1 for name, _, _ in self._trace.schedule if name == event)
            case Unary("~", operand):
                return ~self.value(operand) & MASK
            case Unary("-", operand):
                return -self.value(operand) & MASK
            case Binary(op, left, right) if op in ["+", "-", "*", "&", "|", "^", "<<", ">>"]:
                return _arithmetic(op, self.value(left), self.value(right))
            case _:
                return int(self.truth(e))

    def _now(self, name: str) -> int:
        return _cell(self._state, name)

    def _before(self, name: str) -> int:
        return _cell(self._first, name)

    def _memory(self, e: MemoryRef) -> int:
        address = e.disp
        if e.region is not None:
            address += self._trace.start.bases[e.region]
        if e.base is not None:
            address += self._now(e.base)
        if e.index is not None:
            address += self._now(e.index) * e.scale
        if e.segment in ("gs", "fs"):
            address += self._now(f"{e.segment}_base")
        return self._state.read(address & MASK, e.width // 8)

    def _tracked(self) -> Iterator[str]:
        """The saved words that are not fixed by the kind of context."""
        yield "rip"
        yield "rflags"
        yield "rsp"
        yield from self._trace.context.ldt

    def _held(self, name: str) -> bool:
        """Whether some register or some aligned word of memory has the value that the context was saved with."""
        wanted = saved_words(self._first)[name]
        wide = (value for cell, value in self._state.cells.items() if CELLS[cell] == 64)
        if self._home or wanted in wide or wanted == rflags(self._state):
            return True
        return any(
            self._state.read(address, 8) == wanted
            for region, base in self._trace.start.bases.items()
            for address in self._words(region, base)
        )

    def _words(self, region: str, base: int) -> list[int]:
        size = self._trace.model.machine.regions[region].size
        inside = {a - (a - base) % 8 for a in self._state.memory if 0 <= a - base < size}
        return sorted(inside)

    def _frame_at(self, address: int) -> bool:
        words = [self._state.read(address + 8 * i & MASK, 8) for i in range(5)]
        return words == list(saved_words(self._first).values())

    def _handled(self, event: str, body: int) -> bool:
        owed = False
        for step in self._trace.steps:
            owed = owed or (step.move.action == event and not step.move.latch)
            if step.after.rip == body and step.ended is None:
                owed = False
        return not owed

    def _at_rest(self) -> Iterator[bool]:
        machine = self._trace.model.machine
        for region in machine.regions.values():
            for datum in region.data:
                if datum.initially is None:
                    continue
                want = datum.initially
                if isinstance(want, Pointer):
                    want = self._trace.start.bases[want.region] + want.offset & MASK
                here = self._trace.start.bases[region.name] + datum.offset & MASK
                yield self._state.read(here, datum.size) == want


def _cell(state: ConcreteState, name: str) -> int:
    if name == "rip":
        return state.rip
    if name == "rflags":
        return rflags(state)
    if name in ("nmi_blocked", "nmi_pending"):
        return int(getattr(state, name))
    return state.cells[name]


_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=")


def _relation(op: str, a: int, b: int) -> bool:
    if op.startswith("s"):
        a, b, op = a - (a >> 63 << 64), b - (b >> 63 << 64), op[1:]
    return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


def _arithmetic(op: str, a: int, b: int) -> int:
    if op in ("<<", ">>") and b >= 64:
        return 0
    result = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}.get(op)
    if result is None:
        result = a << b if op == "<<" else a >> b
    return result & MASK
