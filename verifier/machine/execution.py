"""One step under way: a mutable copy of a state, the decisions taken in it, and what it read and wrote.

A step is a function that runs on an `Execution` and asks it to `decide` conditions. `branches` runs the function
once per feasible way to answer, so that the step itself is written as if everything were known.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from verifier.ir.cells import CELL_INDEX
from verifier.machine.state import HOME, LEAVING, State, canonical, rule
from verifier.terms import Solver, Term, add, concat, connected, const, eq, extract, havoc, not_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from verifier.ir.ops import Access
    from verifier.machine.frame import Frame
    from verifier.machine.layout import Layout, Place
    from verifier.terms import Answer

T = TypeVar("T")

_serials = count()


class Fault(Exception):
    """The instruction raises a vector: a value of the modelled machine, caught by the step that runs it."""

    def __init__(self, vector: int, error_code: Term | None = None) -> None:
        super().__init__(vector)
        self.vector = vector
        self.error_code = const(0, 32) if error_code is None else error_code


class Mishap(Exception):
    """The run ends here, and not at home: ``kind`` is one of `verifier.machine.events.MISHAPS`, or `NO_RETURN`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class Unresolved(Exception):
    """The engine cannot go on soundly from here (a symbolic address without a bound, an undecided query)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fresh(width: int) -> Term:
    """A new havoc variable."""
    return havoc(next(_serials), width)


class Execution:
    """A step in progress. ``choices`` lists what was left open, by kind (see `verifier.trace.run`)."""

    def __init__(self, layout: Layout, solver: Solver, state: State, answers: tuple[bool, ...] = ()) -> None:
        self.layout = layout
        self.solver = solver
        self.before = state
        self.cells = list(state.cells)
        self.memory = dict(state.memory)
        self.rip = state.rip
        self.target: Term | None = None
        self.nmi_blocked = state.nmi_blocked
        self.nmi_pending = state.nmi_pending
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.atoms: set[Term] = set()
        self.variables: set[Term] = set()
        self.choices: list[tuple[str, Term]] = []
        self.delivered: list[str] = []
        self.waits = False
        self.struck: tuple[Term, ...] | None = None
        self._path = set(state.path)
        self._answers = answers
        self.taken: list[bool] = []
        self.open: list[tuple[bool, ...]] = []

    def roll_back(self) -> None:
        """Undo what the instruction did to registers and memory (a fault restores the state before it)."""
        self.cells = list(self.before.cells)
        self.memory = dict(self.before.memory)
        self.writes = set()
        self.rip = self.before.rip

    def result(self) -> State:
        path = frozenset(self._path) if len(self._path) != len(self.before.path) else self.before.path
        return replace(
            self.before,
            rip=self.rip,
            cells=tuple(self.cells),
            memory=self.memory if self.memory != self.before.memory else self.before.memory,
            path=path,
            nmi_blocked=self.nmi_blocked,
            nmi_pending=self.nmi_pending,
            target=self.target if self.rip == LEAVING else None,
        )

    # decisions

    def decide(self, condition: Term) -> bool:
        """The truth of a one-bit term on this branch; where both are possible, the other branch is kept for later."""
        condition = self.layout.ordered(condition)
        if condition.is_const:
            return bool(condition.value)
        negated = not_(condition)
        if condition in self._path or negated in self._path:
            self.atoms.add(atom(condition))
            return condition in self._path
        self.variables |= condition.support
        if len(self.taken) < len(self._answers):
            answer = self._answers[len(self.taken)]
        else:
            answer = self._fresh_answer(condition, negated)
        self.taken.append(answer)
        self._path.add(condition if answer else negated)
        return answer

    def _fresh_answer(self, condition: Term, negated: Term) -> bool:
        can = possible(self.solver, self.before.frame, self._path, condition)
        cannot = possible(self.solver, self.before.frame, self._path, negated)
        if "unknown" in (can, cannot):
            raise Unresolved(f"the solver gave no answer on a branch condition: {self.solver.reason}")
        if can == cannot == "unsat":
            raise Unresolved("the conditions on this path contradict each other")
        if can == "sat" and cannot == "sat":
            self.open.append((*self.taken, False))
        return can == "sat"

    def either(self, kind: str) -> bool:
        """A choice of one bit, of which both values are another way on."""
        value, answer = self.choose(kind, 1), True
        if len(self.taken) < len(self._answers):
            answer = self._answers[len(self.taken)]
        else:
            self.open.append((*self.taken, False))
        self.taken.append(answer)
        self._path.add(value if answer else not_(value))
        return answer

    def choose(self, kind: str, width: int) -> Term:
        """An arbitrary value, recorded for the concrete re-execution."""
        value = fresh(width)
        self.choices.append((kind, value))
        return value

    def look(self, location: int) -> None:
        """Note that the step depends on what a location held before it."""
        if location not in self.writes:
            self.reads.add(location)

    # cells

    def get(self, name: str) -> Term:
        index = CELL_INDEX[name]
        self.look(index)
        return self.cells[index]

    def put(self, name: str, value: Term) -> None:
        index = CELL_INDEX[name]
        self.cells[index] = value
        self.writes.add(index)

    @property
    def cpl(self) -> int:
        return self.cells[CELL_INDEX["cpl"]].value

    # memory

    def place(self, address: Term, size: int, access: Access, write: bool) -> Place | None:
        """Where an access goes; None for a read through a user-chosen segment base that meets no region.

        Raises Fault for a non-canonical address (#SS(0) or #GP(0), rule A2), Mishap outside every region.
        """
        found = self.layout.locate(address, size)
        if found is None:
            found = self._search(address, size, access)
        if found is None:
            if not write and self._user_base(access):
                return None
            kind = "wild-write" if write else "wild-read"
            raise Mishap(kind, f"{size} bytes at {self.describe(address)}, which is in no region")
        if self.layout.regions[found.region].kind == "msr":
            raise self._bad_address(access)
        if write and not self.layout.regions[found.region].writable:
            raise Mishap("wild-write", f"to read-only {self.layout.regions[found.region].name}")
        return found

    def _canonical(self, address: Term, size: int) -> bool:
        return self.decide(canonical(address)) and self.decide(canonical(add(address, const(size - 1, 64))))

    def _search(self, address: Term, size: int, access: Access) -> Place | None:
        """A symbolic address: one branch per region it can fall in, one for outside, one for a fault.

        An address at a constant distance from a region that it is not in is outside, or not canonical.
        """
        if not self._canonical(address, size):
            raise self._bad_address(access)
        if self.layout.is_region_address(address):
            return None
        for number, region in enumerate(self.layout.regions):
            if region.kind != "msr" and self.decide(self.layout.inside(number, address, size)):
                raise Unresolved(
                    f"{self.describe(address)} can be anywhere in {region.name}: its offset is not known"
                )
        return None

    def _bad_address(self, access: Access) -> Fault:
        """Rule A2: #SS(0) or #GP(0), by the register that the operand is based on or by the prefix."""
        stack = access.stack
        if access.segment in ("cs", "ds", "es", "ss") and stack is not (access.segment == "ss"):
            stack ^= self.decide(rule("prefix_names_segment"))
        return Fault(12 if stack else 13)

    def _user_base(self, access: Access) -> bool:
        """Whether an address comes from a segment base that the interrupted user context chose."""
        if access.segment not in ("gs", "fs") or self.before.home.context.gs != "user":
            return False
        base = f"{access.segment}_base"
        return self.decide(eq(self.cells[CELL_INDEX[base]], self.before.home.cell(base)))

    def load(self, address: Term, width: int, access: Access) -> Term:
        place = self.place(address, width // 8, access, write=False)
        if place is None:
            return self.choose("load", width)
        return self.read_at(place.region, place.offset, width)

    def read_at(self, region: int, offset: int, width: int) -> Term:
        """Whole bytes at an offset of a region."""
        parts: list[Term] = []
        end = offset + width // 8
        while offset < end:
            word, low = divmod(offset, 8)
            take = min(8 - low, end - offset)
            parts.append(extract(self.word(region, word), (low + take) * 8 - 1, low * 8))
            offset += take
        return concat(*reversed(parts))

    def store(self, address: Term, value: Term, access: Access) -> None:
        place = self.place(address, value.width // 8, access, write=True)
        assert place is not None
        self.write_at(place.region, place.offset, value)

    def write_at(self, region: int, offset: int, value: Term) -> None:
        """Put a value of whole bytes at an offset of a region."""
        done, size = 0, value.width // 8
        while done < size:
            word, low = divmod(offset + done, 8)
            take = min(8 - low, size - done)
            piece = extract(value, (done + take) * 8 - 1, done * 8)
            location = self.layout.location(region, word)
            if take < 8:
                old = self.word(region, word)
                high = [extract(old, 63, (low + take) * 8)] if low + take < 8 else []
                bottom = [extract(old, low * 8 - 1, 0)] if low else []
                piece = concat(*high, piece, *bottom)
            self.memory[location] = piece
            self.writes.add(location)
            done += take

    def msr(self, number: int) -> int | None:
        """The word of the region `MSRS` that holds a model-specific register; None if none does."""
        offset = self.layout.machine.msr(number)
        return None if offset is None else offset // 8

    def word(self, region: int, word: int) -> Term:
        location = self.layout.location(region, word)
        self.look(location)
        found = self.memory.get(location)
        if found is not None:
            return found
        return self.layout.initial(location) if self.before.frame is None else self.layout.param(location)

    # control

    @property
    def next(self) -> Term:
        """The linear address where control is after the step so far.

        Raises Unresolved where it leaves a nested run: it may go nowhere, and then that comes first.
        """
        if self.rip == LEAVING:
            raise Unresolved("a trap strikes where a nested run is left")
        return self.before.home.rip if self.rip == HOME else const(self.rip, 64)

    def transfer(self, target: Term) -> None:
        """Control goes to a linear address at the present CPL: on in the program, home, or a wild jump."""
        machine = self.layout.machine
        if self.cpl == 0 and target.is_const and target.value in machine.program.instructions:
            self.rip = target.value
            return
        if self.before.frame is not None:
            self.rip, self.target = LEAVING, target
            return
        if self.cpl == 0:
            self._not_into_text(target)
        home = self.before.home
        if self.cpl == home.context.cpl and self.decide(eq(target, home.rip)):
            self.rip = HOME
            return
        raise Mishap("wild-jump", f"to {self.describe(target)} at CPL {self.cpl}")

    def _not_into_text(self, target: Term) -> None:
        from verifier.machine.state import text_conditions

        for inside in text_conditions(self.layout, target):
            if self.decide(inside):
                if target.is_const:
                    raise Mishap("wild-jump", f"into the middle of an instruction, {self.describe(target)}")
                raise Unresolved(f"a jump to {self.describe(target)}, which can be anywhere in the program")

    def describe(self, address: Term) -> str:
        """An address for messages: a label, a place in a region, or that it is not known."""
        if address.is_const:
            return self.layout.machine.program.describe(address.value)
        return self.layout.describe(address) or "an address that depends on data"


def possible(solver: Solver, frame: Frame | None, path: Iterable[Term], condition: Term) -> Answer:
    """Whether a condition can hold on a path, which in a nested run is about a context that only its frame knows."""
    if frame is None or not (condition.params or any(t.params for t in connected(path, condition.support))):
        return solver.feasible(path, condition)
    return frame.possible(path, condition)


def atom(literal: Term) -> Term:
    """A literal without its sign."""
    return literal.args[0] if literal.op == "not" else literal


def branches(
    layout: Layout, solver: Solver, state: State, run: Callable[[Execution], T]
) -> Iterator[tuple[Execution, T]]:
    """Run a step on a state once per feasible combination of decisions."""
    pending: list[tuple[bool, ...]] = [()]
    while pending:
        execution = Execution(layout, solver, state, pending.pop())
        value = run(execution)
        pending += execution.open
        yield execution, value
