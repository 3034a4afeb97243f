"""One step under way: registers, memory and decisions. What an instruction or an event does with it stands in
`verifier.recheck.execute`, `deliver` and `returns`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.machine.config import MSRS
from verifier.recheck.expression import Expr, concat, const, eq, extract, not_, offset, var
from verifier.recheck.ghost import HOME, LEAVING
from verifier.recheck.world import canonical, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.ir.ops import Access
    from verifier.recheck.ghost import Ghost
    from verifier.recheck.solver import Solver
    from verifier.recheck.world import Home, Word, World


class Fault(Exception):
    """The modelled processor raises a vector, with an error code of 32 bits if that vector has one."""

    def __init__(self, vector: int, error: Expr | None = None) -> None:
        super().__init__(vector)
        self.vector = vector
        self.error = const(0, 32) if error is None else error


class Mishap(Exception):
    """The run ends here and not at home: ``kind`` is one of `verifier.machine.events.MISHAPS`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class Impossible(Exception):
    """No concrete run takes these decisions."""


class Undecided(Exception):
    """The step depends on something that the listed state does not tell."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A set of machine states at one boundary: all those in which, for some values of the unknowns, the conditions in
    ``when`` are true and each listed cell and word has the value of its expression.

    ``at``: address of the next instruction, or `HOME`. ``pristine``: words that are not listed and belong to
    the interrupted context still hold what they held at first; ``fresh``: so do all words.

    ``nested``: in a routine, which control leaves where it goes to no known instruction; ``cpl``: but at `HOME`, where
    the context says it; ``unlisted``: what the variables are called that stand for what is not listed.
    """

    home: Home
    at: int
    nmi_blocked: bool
    ghost: Ghost
    cells: Mapping[str, Expr]
    memory: Mapping[Word, Expr]
    when: tuple[Expr, ...]
    pristine: bool = False
    fresh: bool = False
    nested: bool = False
    cpl: int = 0
    unlisted: str = "unlisted"


class Step:
    """A state under change.

    ``choices``: the values left open, in the order of docs/certificates.md; ``decided``: what was decided one way of
    two; ``struck``: the cells of the context that an event strikes, just before.
    """

    def __init__(self, world: World, solver: Solver, state: State, answers: tuple[bool, ...] = ()) -> None:
        self.world = world
        self.before = state
        self.at = state.at
        self.target: Expr | None = None
        self.cpl = state.home.context.cpl if state.at == HOME else state.cpl
        self.nmi_blocked = state.nmi_blocked
        self.cells = dict(state.cells)
        self.memory = dict(state.memory)
        self.literals = {*state.when, *state.home.axioms}
        self.decided: list[Expr] = []
        self.choices: list[Expr] = []
        self.delivered: list[str] = []
        self.struck: dict[str, Expr] = {}
        self.open: list[tuple[bool, ...]] = []
        self._solver = solver
        self._answers = answers
        self._taken: list[bool] = []

    def undo(self) -> None:
        """A fault restores what was before the instruction (SDM vol. 3A, 6.5)."""
        self.at = self.before.at
        self.cpl = 0
        self.cells = dict(self.before.cells)
        self.memory = dict(self.before.memory)

    def decide(self, condition: Expr) -> bool:
        """The truth of a condition; where it can be true and false, one way now and the other in another run."""
        if condition.is_const:
            return bool(condition.value)
        opposite = not_(condition)
        if condition in self.literals or opposite in self.literals:
            return condition in self.literals
        can = self._solver.possible(self.literals, condition)
        if not can or not self._solver.possible(self.literals, opposite):
            if not can and not self._solver.possible(self.literals, opposite):
                raise Impossible
            return can
        if len(self._taken) < len(self._answers):
            answer = self._answers[len(self._taken)]
        else:
            answer = True
            self.open.append((*self._taken, False))
        self._taken.append(answer)
        literal = condition if answer else opposite
        self.decided.append(literal)
        self.literals.add(literal)
        return answer

    def choose(self, width: int) -> Expr:
        """Any value."""
        value = var(width, "choice", len(self.choices))
        self.choices.append(value)
        return value

    # cells

    def get(self, name: str) -> Expr:
        if name == "cpl":
            return const(self.cpl, 2)
        found = self.cells.get(name)
        if found is None:
            found = self.cells[name] = var(CELLS[name], self.before.unlisted, name)
        return found

    def put(self, name: str, value: Expr) -> None:
        self.cells[name] = value

    def number(self, name: str, value: int) -> None:
        """Put a constant."""
        self.cells[name] = const(value, CELLS[name])

    # memory

    def load(self, address: Expr, size: int, access: Access) -> Expr:
        """``size`` bytes, little endian."""
        place = self.reach(address, size, access, write=False)
        if place is None:
            return self.choose(8 * size)
        return self.read(place, size)

    def read(self, place: Word, size: int) -> Expr:
        region, start = place
        parts = []
        for word in range(start // 8 * 8, start + size, 8):
            low, high = max(start, word) - word, min(start + size, word + 8) - word
            parts.append(extract(self.word((region, word)), 8 * high - 1, 8 * low))
        return concat(*reversed(parts))

    def word(self, word: Word) -> Expr:
        """The eight bytes at a place that is a multiple of 8."""
        fixed = self.world.contents(word)
        if fixed is not None:
            return fixed
        found = self.memory.get(word)
        if found is None:
            found = self.memory[word] = self._unlisted(word)
        return found

    def _unlisted(self, word: Word) -> Expr:
        state = self.before
        if state.fresh or (state.pristine and self.world.belongs_to_home(word)):
            return self.world.initial(word)
        return var(64, state.unlisted, *word)

    def store(self, address: Expr, value: Expr, access: Access) -> None:
        place = self.reach(address, value.width // 8, access, write=True)
        assert place is not None
        self.write(place, value)

    def write(self, place: Word, value: Expr) -> None:
        """Put a value of whole bytes at a place."""
        region, start = place
        end = start + value.width // 8
        for word in range(start // 8 * 8, end, 8):
            low, high = max(start, word), min(end, word + 8)
            piece = extract(value, 8 * (high - start) - 1, 8 * (low - start))
            if high - low < 8:
                old = self.word((region, word))
                above = [extract(old, 63, 8 * (high - word))] if high < word + 8 else []
                below = [extract(old, 8 * (low - word) - 1, 0)] if low > word else []
                piece = concat(*above, piece, *below)
            self.memory[region, word] = piece

    def reach(self, address: Expr, size: int, access: Access, *, write: bool) -> Word | None:
        """Where an access goes; None for a read of what a user context's own segment base leads to.

        Raises Fault for an address that is not canonical (A2), Mishap where nothing is.
        """
        found = self.world.find(address, size)
        if found is None:
            self._outside(address, size, access)
            if write or not self._is_users(access):
                raise Mishap("wild-write" if write else "wild-read", f"{size} bytes outside every region")
        elif found[0] == MSRS:
            raise Fault(12 if self._is_stack_access(access) else 13)  # A2: its address is not canonical
        elif write and not self.world.machine.regions[found[0]].writable:
            raise Mishap("wild-write", f"to read-only {found[0]}")
        return found

    def _outside(self, address: Expr, size: int, access: Access) -> None:
        """Make sure that an address without a known place is in no region."""
        if not self.decide(canonical(address)) or not self.decide(canonical(offset(address, size - 1))):
            raise Fault(12 if self._is_stack_access(access) else 13)
        if self.world.is_anchored(address):
            return
        for region in self.world.machine.regions.values():
            if region.kind != "msr" and self.decide(self.world.inside(region, address, size)):
                raise Undecided(f"an access of {size} bytes can be anywhere in {region.name}")

    def _is_stack_access(self, access: Access) -> bool:
        """Rule A2: which of #SS and #GP a bad address is."""
        named = access.segment == "ss"
        if access.segment in ("cs", "ds", "es", "ss") and named != access.stack:
            return named if self.decide(rule("prefix_names_segment")) else access.stack
        return access.stack

    def _is_users(self, access: Access) -> bool:
        if access.segment not in ("fs", "gs") or self.before.home.context.gs != "user":
            return False
        base = f"{access.segment}_base"
        return self.get(base) is self.before.home.cells[base]

    # control

    @property
    def next(self) -> Expr:
        """The address where control is. Raises Undecided where it leaves a routine, for who knows where."""
        if self.at == LEAVING:
            raise Undecided("a trap strikes where a routine is left")
        return self.before.home.rip if self.at == HOME else const(self.at, 64)

    def go(self, target: Expr) -> None:
        """A jump: to an address that is not canonical it faults, with nothing of it done (A3)."""
        if not self.decide(canonical(target)):
            raise Fault(13)
        self.transfer(target)

    def transfer(self, target: Expr) -> None:
        """Control is at an address, at the present CPL."""
        machine, home = self.world.machine, self.before.home
        if self.cpl == 0 and target.is_const and target.value in machine.program.instructions:
            self.at = target.value
            return
        if self.before.nested:
            self.at, self.target = LEAVING, target
            return
        if self.cpl == 0:
            self._not_into_text(target)
        if self.cpl == home.context.cpl and self.decide(eq(target, home.rip)):
            self.at = HOME
            return
        raise Mishap("wild-jump", f"at CPL {self.cpl}")

    def _not_into_text(self, target: Expr) -> None:
        for inside in self.world.in_text(target):
            if self.decide(inside):
                if target.is_const:
                    raise Mishap("wild-jump", "into the middle of an instruction")
                raise Undecided("a jump can go anywhere in the program")
