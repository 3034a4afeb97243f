"""The concrete interpreter and a machine under a debugger, step by step from random states.

A `Bench` has one lab (`machine_lab`) and its image on a machine. Each case sets a whole random state on the machine,
makes one move on both sides, and compares all registers, all of memory and the NMI latches.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import machine_lab as labs

from verifier.errors import LiftError
from verifier.ir.cells import CELLS, RFLAGS_LAYOUT, SELECTORS
from verifier.lift import lift
from verifier.replay.image import Image, build, plan_of
from verifier.replay.machine import REGISTERS, Machine, Shutdown
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Disagreement, Move, Outcome, Start

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verifier.asm.program import Instruction

#: Vectors of the events that this program has one of each for.
IRQ = labs.VECTORS["irq"]
#: Data segments, and null ones.
LOADABLE = (0, 1, 3, 0x18, 0x2B, 0x48)
#: The registers that a case sets and compares.
COMPARED = tuple(name for name in REGISTERS if name != "rip")
NO_FAULT = frozenset({"nmi", "irq", "machine_check", "execute"})


class Skipped(Exception):
    """This case says nothing: the program leaves its regions, or the manual leaves a result open."""


def image_of(lab: labs.Lab) -> tuple[Start, Image]:
    cells = dict.fromkeys(CELLS, 0) | {"cpl": 3, "cs": 0x33, "ss": 0x2B}
    start = Start(ConcreteState(labs.USER_HOME, cells, {}), labs.USER_HOME, lab.bases, {})
    return start, build(plan_of(lab.machine, start))


class Bench:
    """``shadow``: puts the machine into the shadow of STI (1) or MOV SS (2), or out of both (0)."""

    def __init__(
        self, lab: labs.Lab, start: Start, image: Image, machine: Machine, shadow: Callable[[Machine, int], None]
    ) -> None:
        self.lab, self.image, self.machine, self.shadow = lab, image, machine, shadow
        self.interpreter = Interpreter(
            lab.machine, Start(start.state, start.home, start.bases, dict(machine.rules))
        )
        self.seen: Counter[str] = Counter()

    def case(self, source: random.Random) -> None:
        """Raises AssertionError where the two differ."""
        state = self.state(source)
        action = self.action(source, state)
        self.set(state)
        before = self.memory()
        try:
            self.step(action)
        except Shutdown:
            assert self.outcome(state, action, before).ended == "shutdown"
            self.seen["shutdown"] += 1
            raise
        outcome = self.outcome(state, action, before)
        self.compare(state, action, outcome)

    # a state

    def state(self, source: random.Random) -> ConcreteState:
        lab = self.lab
        user = source.random() < 0.1
        cells = labs.user_cells(source, lab, labs.USER) if user else labs.cells(source, lab)
        for name in ("ds", "es", "fs", "gs"):
            cells[name] = source.choice(LOADABLE)
        for name in ("fs_base", "gs_base", "kernel_gs_base", "rip"):
            if name in cells and not canonical(cells[name]):
                cells[name] = 0x1000
        rip = labs.USER_HOME if user else source.choice(lab.addresses)
        memory = {}
        for (name, offset), word in labs.words(source, lab, cells["rsp"]).items():
            for i in range(8):
                memory[lab.bases[name] + offset + i] = word >> 8 * i & 0xFF
        blocked = source.random() < 0.3
        return ConcreteState(rip, cells, memory, blocked, blocked and source.random() < 0.3)

    def action(self, source: random.Random, state: ConcreteState) -> str:
        instruction = self.lab.machine.program.instructions.get(state.rip)
        if instruction is not None and instruction.mnemonic.startswith("hole"):
            return source.choice(("nmi", "irq", "machine_check"))
        if instruction is None or source.random() < 0.25:
            return source.choice(("nmi", "irq", "machine_check"))
        return "execute"

    def set(self, state: ConcreteState) -> None:
        machine = self.machine
        for name, region in self.lab.machine.regions.items():
            if region.writable:
                base = self.lab.bases[name]
                machine.store(base, bytes(state.memory[base + i] for i in range(region.size)))
        values = {name: state.cells[name] for name in COMPARED if name != "rflags"}
        machine.write(values | {"rip": state.rip, "rflags": packed(state)})
        machine._debugger.restore(  # type: ignore[attr-defined]
            {"event_mask": machine._state["event_mask"] & ~1 | state.nmi_blocked, "pending_event": 0}  # type: ignore[attr-defined]
        )
        machine._refresh()  # type: ignore[attr-defined]
        if state.nmi_pending:
            machine.pend("nmi")
        self.shadow(machine, state.cells["inhibit"])

    def memory(self) -> dict[int, int]:
        found = {}
        for name, region in self.lab.machine.regions.items():
            base = self.lab.bases[name]
            found |= dict(enumerate(self.machine.load(base, region.size), base))
        return found

    # a move

    def step(self, action: str) -> None:
        if action != "execute":
            self.machine.pend(action, IRQ if action == "irq" else 0)
        self.machine.step()

    def outcome(self, state: ConcreteState, action: str, before: dict[int, int]) -> Outcome:
        """What the interpreter says, with the machine's values for what the manual leaves open."""
        if action == "execute":
            block = lift(self.lab.machine.program.instructions[state.rip])
            if any(op.opcode == "undef" for op in block):
                raise Skipped("undefined results")
        choices: list[tuple[str, int]] = []
        while True:
            try:
                return self.interpreter.step(state, Move(action, tuple(choices)))
            except LiftError as problem:
                raise Skipped(problem.message) from None
            except Disagreement as problem:
                choices.append(self.choice(str(problem)))

    def choice(self, problem: str) -> tuple[str, int]:
        rsp = self.machine.read()["rsp"]
        for kind, offset in (("double_fault.cs", 16), ("double_fault.rip", 8)):
            if kind in problem and "is missing" in problem:
                return kind, int.from_bytes(self.machine.load(rsp + offset, 8), "little")
        raise Skipped(problem.split(" at 0x")[0].split(" where")[0][:40])

    def compare(self, state: ConcreteState, action: str, outcome: Outcome) -> None:
        if outcome.ended in ("wild-read", "wild-write"):
            raise Skipped(outcome.ended)
        if action == "nmi" and state.cells["inhibit"]:
            raise Skipped("S2, S3: an NMI in a shadow")
        where = self.lab.machine.program.describe(state.rip)
        instruction = self.lab.machine.program.instructions.get(state.rip)
        if action == "execute" and instruction is not None and loads_badly(instruction, outcome.state):
            raise Skipped("that loads of data segment registers do not fault is an assumption")
        story = (
            f"{action} at {where} ({instruction.text if instruction else 'home'}), "
            f"delivered {outcome.delivered}, {outcome.ended} {outcome.detail}"
        )
        found = self.machine.read()
        if outcome.ended in ("no-gate", "double-fault"):
            pads = self.image.symbols["pads"]
            assert pads <= found["rip"] < pads + 4096, f"{story}: {found['rip']:#x}"
        else:
            self.compare_registers(outcome.state, found, story)
            memory = self.memory()
            for address, byte in memory.items():
                want = outcome.state.memory.get(address, byte)
                assert want == byte, f"{story}: byte at {address:#x} is {byte:#x}, not {want:#x}"
            assert self.machine.nmi_blocked() == outcome.state.nmi_blocked, f"{story}: nmi_blocked"
        self.seen[outcome.ended or "goes on"] += 1
        for name in outcome.delivered:
            self.seen[f"delivered {name}"] += 1
        if instruction is not None and action == "execute":
            self.seen[f"executed {instruction.mnemonic}"] += 1

    def compare_registers(self, state: ConcreteState, found: dict[str, int], story: str) -> None:
        want = {name: state.cells[name] for name in COMPARED if name != "rflags"}
        want |= {"rip": state.rip, "rflags": packed(state)}
        different = {n: (hex(v), hex(found[n])) for n, v in want.items() if v != found[n]}
        assert not different, f"{story}: (interpreter, machine) {different}"


def packed(state: ConcreteState) -> int:
    return 2 | sum(state.cells[flag] << bit for flag, (bit, _) in RFLAGS_LAYOUT.items())


def loads_badly(instruction: Instruction, after: ConcreteState) -> bool:
    """Whether MOV or POP to a segment register has loaded what no processor would load at CPL 0."""
    good = {name: LOADABLE for name in ("ds", "es", "fs", "gs")} | {"ss": (0, 0x18, 0x48)}
    loaded = [op.attr for op in lift(instruction) if op.opcode == "put" and op.attr in good]
    return any(after.cells[name] not in good[name] for name in loaded)


def canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


assert set(SELECTORS) <= set(COMPARED)
