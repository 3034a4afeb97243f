"""One instruction on the symbolic machine and on the concrete interpreter, beside its block on numbers.

The symbolic machine executes it once, on a state whose cells are variables (but for those that addresses depend on)
and whose memory is; the terms that come out then get the values of any number of states.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lift_concrete import State as Numbers
from lift_concrete import run
from lift_decode import ARENA, ARENA_SIZE, CODE

from verifier.asm import assemble_text
from verifier.asm.program import Program, Reg, Section
from verifier.ir.cells import CELL_NAMES, CELLS
from verifier.ir.ops import QUERIES
from verifier.machine.config import Context, Gate, MachineConfig, Region, Segment
from verifier.machine.events import BY_VECTOR
from verifier.machine.layout import Layout
from verifier.machine.rflags import pack
from verifier.machine.rules import RULES
from verifier.machine.state import HOME, Home, State, canonical
from verifier.machine.step import Edge, Stepper
from verifier.terms import TRUE, Solver, Term, Valuation, const, var
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Move, Start

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.asm.program import Instruction
    from verifier.ir.ops import Block

_VECTORS = (0, 6, 12, 13)
_ENTRY = 0xFFFF_FFFF_8100_0000
_IST, _IST_SIZE = 0xFFFF_8880_0000_0000, 0x100
#: Those that the worlds load: the machine has all of them, so that what the block lets through is a good load.
_SELECTORS = (0x10, 0x18, 0x28, 0x38, 0x48)
_KERNEL = Context("kernel", 0, 0x10, 0x18, "kernel", None)
_HANDLER = next(iter(assemble_text("nop\n")))
#: What the machine runs at: its own code is at CPL 0, and a trap flag would add a #DB.
FIXED = {"cpl": 0, "cs": 0x10, "ss": 0x18, "tf": 0, "inhibit": 0, "rf": 0}


class _Anything(Solver):
    """Holds every branch possible: the states choose."""

    def feasible(self, path: Iterable[Term], condition: Term) -> str:
        return "sat"


class _Values(dict):
    """The value of each variable of a run that starts in a state of numbers."""

    def __init__(self, before: Numbers, home: int) -> None:
        super().__init__()
        self._before, self._home = before, home

    def __missing__(self, term: Term) -> int:
        name = str(term.attr)
        if name.startswith("arena+"):
            at = int(name.removeprefix("arena+"), 16)
            return int.from_bytes(self._before.memory[at : at + 8], "little")
        if name == "home":
            return self._home
        return 0 if name.startswith(("ist+", "rule:")) else self._before.cells[name]


class Both:
    """The two machines for one instruction.

    ``pins``: the cells whose values the symbolic one is to know; ``known``: the descriptors of instructions that ask.
    """

    def __init__(
        self, instruction: Instruction, block: Block, pins: dict[str, int], known: tuple[Segment, ...]
    ) -> None:
        self._block = block
        nops = {instruction.next_address, *(_ENTRY + 16 * vector for vector in _VECTORS)}
        program = Program(
            {CODE: instruction, **dict.fromkeys(nops, _HANDLER)},
            {},
            (Section(".text", CODE, instruction.encoding, True, False),),
        )
        gates = {v: Gate(v, BY_VECTOR[v].name, _ENTRY + 16 * v, "interrupt", "ist") for v in _VECTORS}
        regions = (
            Region("arena", "data", ARENA_SIZE, ARENA),
            Region("ist", "stack", _IST_SIZE, _IST),
        )
        dpl = 0 if any(isinstance(o, Reg) and o.name == "ss" for o in instruction.operands[-1:]) else 3
        loaded = tuple(Segment(selector, "data", dpl) for selector in _SELECTORS)
        segments = {s.selector: s for s in (known if instruction.mnemonic in QUERIES else loaded)}
        self._machine = MachineConfig(program, {r.name: r for r in regions}, gates, segments, {}, (_KERNEL,))
        self._layout = Layout(self._machine)
        fixed = pins | FIXED
        cells = tuple(const(fixed[n], w) if n in fixed else var(n, w) for n, w in CELLS.items())
        home = Home(_KERNEL, var("home", 64), cells, pack(cells), {})
        self._start = State(home, CODE, cells, {}, frozenset({canonical(home.rip)} - {TRUE}))
        stepper = Stepper(self._layout, _Anything(), lambda _address: block)
        self._edges = tuple(stepper.execute(self._start))

    def differences(self, before: Numbers, source: random.Random) -> dict[str, tuple[object, object]]:
        """Where one of the machines leaves the block's meaning for a state of CPL 0."""
        undefined = [source.getrandbits(128) for _ in range(8)]
        filling = iter(undefined)
        ours = run(self._block, before, lambda width: next(filling) & ((1 << width) - 1))
        expected = self._expected(ours, before)
        taken = [ours.rip] if isinstance(ours.rip, int) and ours.rip not in self._machine.program.instructions else []
        home = taken[0] if taken else _ENTRY - 0x1000
        edges = [(e, v) for e in self._edges if (v := self._valuation(e, before, home, undefined))]
        if len(edges) != 1:
            return {"edges": (1, len(edges))}
        edge, value = edges[0]
        found = _apart("symbolic", expected, self._symbolic(edge, value, before))
        return found | _apart("interpreter", expected, self._interpreted(edge, value, before, ours, home))

    def _valuation(self, edge: Edge, before: Numbers, home: int, undefined: list[int]) -> Valuation | None:
        """The values that the state gives the edge's variables, if it is the state's edge."""
        values = _Values(before, home)
        for (_, term), number in zip(edge.choices, undefined, strict=False):
            values[term] = number & ((1 << term.width) - 1)
        value = Valuation(values)
        return value if all(value(literal) for literal in edge.path) else None

    def _expected(self, ours: Numbers, before: Numbers) -> dict[str, object]:
        if isinstance(ours.rip, str) and ours.rip.startswith("fault"):
            vector = int(ours.rip.removeprefix("fault "))
            kept = {name: before.cells[name] for name in CELL_NAMES if name not in _DELIVERED}
            return kept | {
                "delivered": (BY_VECTOR[vector].name,),
                "rip": _ENTRY + 16 * vector,
                "error": ours.error,
                "memory": bytes(before.memory),
            }
        rip = self._block.instruction.next_address if ours.rip == "halt" else ours.rip
        return {"delivered": (), "rip": rip, "memory": bytes(ours.memory)} | ours.cells

    def _symbolic(self, edge: Edge, value: Valuation, before: Numbers) -> dict[str, object]:
        state = edge.state
        if state is None:
            return {"ended": (edge.ended, edge.detail)}
        memory, ist = bytearray(before.memory), bytearray(_IST_SIZE)
        for location, term in state.memory.items():
            place = self._layout.place_of(location)
            region = (memory, ist)[place.region]
            region[place.offset : place.offset + 8] = value(term).to_bytes(8, "little")
        given = zip(CELL_NAMES, state.cells, self._start.cells, strict=True)
        cells = {n: before.cells[n] if term is start else value(term) for n, term, start in given}
        rip = value(state.home.rip) if state.rip == HOME else state.rip
        return cells | {"delivered": edge.delivered, "rip": rip, "memory": bytes(memory), "error": _error(ist, cells)}

    def _interpreted(
        self, edge: Edge, value: Valuation, before: Numbers, ours: Numbers, home: int
    ) -> dict[str, object]:
        """Its memory has what is around the accesses, as a byte that it does not know reads as 0."""
        near = {a for at, size in (*ours.loads, *ours.stores) for a in range(at - 16, at + size + 16)}
        memory = {a: before.memory[a - ARENA] for a in near if 0 <= a - ARENA < ARENA_SIZE}
        start = ConcreteState(CODE, before.cells, memory)
        bases = {"arena": ARENA, "ist": _IST}
        begin = Start(start, home, bases, dict.fromkeys(RULES, 0))
        interpreter = Interpreter(self._machine, begin, lambda _instruction: self._block)
        choices = tuple((kind, value(term)) for kind, term in edge.choices)
        outcome = interpreter.step(start, Move("execute", choices))
        after = outcome.state
        if outcome.ended not in (None, "home"):
            return {"ended": (outcome.ended, outcome.detail)}
        written, ist = bytearray(before.memory), bytearray(_IST_SIZE)
        for address, byte in after.memory.items():
            region, base = (written, ARENA) if address < _IST else (ist, _IST)
            region[address - base] = byte
        return dict(after.cells) | {
            "delivered": outcome.delivered,
            "rip": after.rip,
            "memory": bytes(written),
            "error": _error(ist, after.cells),
        }


#: Cells that delivery through an interrupt gate changes.
_DELIVERED = frozenset(("rsp", "cs", "ss", "cpl", "if", "tf", "nt", "rf", "vm", "inhibit"))


def _error(ist: bytes, cells: dict[str, int]) -> int:
    """The error code in the frame that a fault pushed, or 0 if it pushed none."""
    at = cells["rsp"] - _IST
    return int.from_bytes(ist[at : at + 8], "little") if at == _IST_SIZE - 48 else 0


def _apart(who: str, expected: dict[str, object], found: dict[str, object]) -> dict[str, tuple[object, object]]:
    return {f"{who} {n}": (e, found.get(n)) for n, e in expected.items() if e != found.get(n)}
