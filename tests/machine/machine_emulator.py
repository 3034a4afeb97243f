"""The concrete interpreter and a machine under a debugger, step by step from random states.

A `Bench` has one lab (`machine_lab`) and its image on a machine. Each case sets a whole random state on the machine,
makes one move on both sides, and compares all registers, all of memory and the NMI latches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import machine_lab as labs

from verifier.errors import LiftError
from verifier.ir.cells import CELLS, RFLAGS_LAYOUT, SELECTORS
from verifier.lift import lift
from verifier.replay.course import Leg
from verifier.replay.deviations import Item, known
from verifier.replay.follow import registers
from verifier.replay.image import Image, build, plan_of
from verifier.replay.machine import REGISTERS, Machine, Shutdown
from verifier.replay.probe import NMI, unblock
from verifier.replay.tables import OWN_IST, Entry, idt
from verifier.trace.interpreter import Interpreter
from verifier.trace.interpreter.core import SHADOWS
from verifier.trace.run import ConcreteState, Disagreement, Move, Outcome, Start

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verifier.asm.program import Instruction

#: Vectors of the events that this program has one of each for.
IRQ = labs.VECTORS["irq"]
#: Data segments, and null ones.
LOADABLE = (0, 1, 3, 0x18, 0x2B, 0x48)
#: The manual has no order in which IRET reads its words.
ANOTHER_PART = "of a frame that begins below the canonical half, another part is read first"
#: The registers that a case sets and compares.
COMPARED = tuple(name for name in REGISTERS if name != "rip")
FAMILIES = ("iret", "iret", "iret", "sysret", "int", "int3", "popf", "sti", "mov", "call", "ret", None, None, None)


class Skipped(Exception):
    """This case says nothing: the program leaves its regions, or the manual leaves a result open."""


def image_of(lab: labs.Lab) -> tuple[Start, Image]:
    cells = dict.fromkeys(CELLS, 0) | {"cpl": 3, "cs": 0x33, "ss": 0x2B}
    start = Start(ConcreteState(labs.USER_HOME, cells, {}), labs.USER_HOME, lab.bases, {})
    return start, build(plan_of(lab.machine, start))


class Bench:
    """``shadow``: puts a machine into the shadow of STI (1) or MOV SS (2), or out of both (0). ``hidden``: what is no
    register: ``inhibit`` (the shadow) and ``nmi_pending``."""

    def __init__(
        self,
        lab: labs.Lab,
        start_machine: Callable[[Image], Machine],
        shadow: Callable[[Machine, int], None],
        hidden: Callable[[Machine], dict[str, int]],
    ) -> None:
        start, self.image = image_of(lab)
        self.lab, self.start_machine, self.shadow, self.hidden = lab, start_machine, shadow, hidden
        self.machine = start_machine(self.image)
        self.interpreter = Interpreter(lab.machine, replace(start, rules=dict(self.machine.rules)))
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    def case(self, source: random.Random) -> None:
        """Raises AssertionError where the two differ."""
        state = self.state(source)
        action = self.action(source, state)
        try:
            self.set(state)
            self.step(action)
            self.compare(state, action, self.outcome(state, action))
        except Skipped as why:
            self.seen[f"skipped: {why}"] += 1
        except Shutdown:
            page_fault = self.machine.read()["cr2"] != state.cells["cr2"]
            self.machine.close()
            self.machine = self.start_machine(self.image)
            self.shut_down(state, action, page_fault)

    def shut_down(self, state: ConcreteState, action: str, page_fault: bool) -> None:
        """The machine also shuts down where page faults come of a wild access."""
        try:
            outcome = self.outcome(state, action)
        except Skipped:
            return
        if not canonical(state.cells["rsp"]) and page_fault:
            self.seen[f"skipped: {ANOTHER_PART}"] += 1
            return
        ended, instruction = outcome.ended, self.lab.machine.program.instructions.get(state.rip)
        if action == "execute" and instruction is not None and loads_badly(instruction, outcome.state):
            return
        assert ended in ("shutdown", "wild-read", "wild-write"), f"{self.story(state, action)}: shutdown, not {ended}"
        self.seen[f"shutdown, {ended}"] += 1

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
        rip = labs.USER_HOME if user else self.place(source)
        memory = {}
        for (name, offset), word in labs.words(source, lab, cells["rsp"]).items():
            for i in range(8):
                memory[lab.bases[name] + offset + i] = word >> 8 * i & 0xFF
        blocked = source.random() < 0.3
        return ConcreteState(rip, cells, memory, blocked, blocked and source.random() < 0.3)

    def place(self, source: random.Random) -> int:
        """An instruction, often one that goes through a gate or comes back from one."""
        program, wanted = self.lab.machine.program, source.choice(FAMILIES)
        found = [a for a in self.lab.addresses if wanted in (None, program.instructions[a].mnemonic)]
        return source.choice(found)

    def action(self, source: random.Random, state: ConcreteState) -> str:
        """An instruction that can be executed, or an event that can come. Machines differ about NMIs in shadows."""
        instruction = self.lab.machine.program.instructions.get(state.rip)
        events = ["machine_check"]
        if not in_shadow(state):
            events += ["irq"] * state.cells["if"] + ["nmi"] * (not state.nmi_blocked)
        hidden = instruction is None or instruction.mnemonic in ("hole_enter", "hole_body", "hlt")
        return source.choice(events) if hidden or source.random() < 0.25 else "execute"

    def set(self, state: ConcreteState) -> None:
        machine = self.machine
        self.shadow(machine, 0)
        place = self.image.idt + 16 * NMI
        gate = machine.load(place, 16)
        own = Entry(NMI, self.image.pad(NMI), OWN_IST, False, 0)
        machine.store(place, idt([own], self.image.kernel_cs)[16 * NMI :][:16])
        self.block()  # a pending one may be held back or not
        unblock(machine, self.image)
        self.block()
        if not state.nmi_blocked:
            unblock(machine, self.image)
        machine.store(place, gate)
        for name, region in self.lab.machine.regions.items():
            if region.writable:
                base = self.lab.bases[name]
                machine.store(base, bytes(state.memory[base + i] for i in range(region.size)))
        values = {name: state.cells[name] for name in COMPARED if name != "rflags"}
        machine.write(values | {"rip": state.rip, "rflags": packed(state)})
        self.shadow(machine, state.cells["inhibit"] if in_shadow(state) else 0)
        if state.nmi_pending:
            machine.pend("nmi")

    def block(self) -> None:
        """Let an NMI come, by a gate that leads to the monitor: then none is pending."""
        self.machine.write(self.image.at("nop_"))
        self.machine.pend("nmi")
        self.machine.step()

    def memory(self) -> dict[int, int]:
        places = [(self.lab.bases[name], region.size) for name, region in self.lab.machine.regions.items()]
        first, last = labs.NMI_IST, labs.PERCPU  # on pages that follow one another
        together = self.machine.load(first, last + labs.SIZE - first)
        found = {}
        for base, size in places:
            data = together[base - first :][:size] if first <= base <= last else self.machine.load(base, size)
            found |= dict(enumerate(data, base))
        return found

    # a move

    def step(self, action: str) -> None:
        if action != "execute":
            self.machine.pend(action, IRQ if action == "irq" else 0)
        self.machine.step()

    def outcome(self, state: ConcreteState, action: str) -> Outcome:
        """What the interpreter says, with the machine's values for what the manual leaves open."""
        if action == "execute":
            block = lift(self.lab.machine.program.instructions[state.rip])
            if any(op.opcode == "undef" for op in block):
                raise Skipped("undefined results")
        choices: list[tuple[str, int]] = []
        while True:
            try:
                found = self.interpreter.step(state, Move(action, tuple(choices)))
                if "RSP0" in found.detail:
                    raise Skipped("no RSP0")
                return found
            except LiftError as problem:
                raise Skipped(problem.message) from None
            except Disagreement as problem:
                choices.append(self.choice(str(problem)))

    def choice(self, problem: str) -> tuple[str, int]:
        rsp = self.machine.read()["rsp"]
        for kind, offset in (("double_fault.cs", 16), ("double_fault.rip", 8)):
            if kind in problem and "is missing" in problem:
                return kind, int.from_bytes(self.machine.load(rsp + offset, 8), "little")
        raise Skipped(problem.partition(" at 0x")[0][:40])

    def compare(self, state: ConcreteState, action: str, outcome: Outcome) -> None:
        if outcome.ended in ("wild-read", "wild-write") or (outcome.ended == "wild-jump" and state.cells["tf"]):
            raise Skipped(outcome.ended)
        instruction = self.lab.machine.program.instructions.get(state.rip)
        if action == "execute" and instruction is not None and loads_badly(instruction, outcome.state):
            raise Skipped("that loads of data segment registers do not fault is an assumption")
        story = f"{self.story(state, action)}, delivered {outcome.delivered}, {outcome.ended} {outcome.detail}"
        short = instruction is not None and instruction.text in ("iretl", "iretw")
        if short and (state.cells["tf"] or outcome.ended == "no-gate"):
            raise Skipped("a short IRET that Bochs may have gone on from")
        page_fault = self.machine.read()["cr2"] != state.cells["cr2"] and "page_fault" not in outcome.delivered
        if not canonical(state.cells["rsp"]) and page_fault:
            raise Skipped(ANOTHER_PART)
        if outcome.ended in ("no-gate", "double-fault"):
            pads, rip = self.image.symbols["pads"], self.machine.read()["rip"]
            assert pads <= rip < pads + 4096, f"{story}: {rip:#x}"
        else:
            self.compare_all(Leg(Move(action), state, outcome, {}), story)
        self.seen[outcome.ended or "goes on"] += 1
        for name in outcome.delivered:
            self.seen[f"delivered {name}"] += 1
        if instruction is not None and action == "execute":
            self.seen[f"executed {instruction.mnemonic}"] += 1

    def story(self, state: ConcreteState, action: str) -> str:
        program = self.lab.machine.program
        instruction = program.instructions.get(state.rip)
        return f"{action} at {program.describe(state.rip)} ({instruction.text if instruction else 'home'})"

    def compare_all(self, leg: Leg, story: str) -> None:
        after, found, memory = leg.outcome.state, self.machine.read(), self.memory()
        right: dict[Item, int] = {n: v for n, v in registers(after).items() if n in REGISTERS}
        right |= {(address, size): after.read(address, size) for address, size in leg.outcome.writes}
        instruction = self.lab.machine.program.instructions.get(leg.before.rip)
        if leg.move.action == "execute" and instruction is not None and instruction.mnemonic == "call":
            below = leg.before.cells["rsp"] - 8
            if below % 8 and leg.outcome.delivered:
                raise Skipped("a CALL that faults, with RSP between words")
            right |= {(below, 8): after.read(below, 8)} if below in memory and below + 7 in memory else {}
        got = {i: found[i] if isinstance(i, str) else self.bytes(memory, *i) for i in right}
        shadow = after.cells["inhibit"] if in_shadow(after) else 0
        right |= {"nmi_blocked": after.nmi_blocked, "nmi_pending": after.nmi_pending, "inhibit": shadow}
        got |= {"nmi_blocked": self.machine.nmi_blocked(), **self.hidden(self.machine)}
        written = {place[0] + i for place in right if not isinstance(place, str) for i in range(place[1])}
        for address, byte in memory.items():
            want = byte if address in written else after.memory.get(address, byte)
            assert want == byte, f"{story}: byte at {address:#x} is {byte:#x}, not {want:#x}"
        if right == got:
            return
        met = [d.name for d, _ in known(self.machine.name, self.lab.machine, leg, right, got)]
        different = {i: (hex(v), hex(got[i])) for i, v in right.items() if v != got[i]}
        assert met, f"{story}: (interpreter, machine) {different}"
        self.seen.update(f"deviation {name}" for name in met)

    @staticmethod
    def bytes(memory: dict[int, int], address: int, size: int) -> int:
        return sum(memory.get(address + i, 0) << 8 * i for i in range(size))


def in_shadow(state: ConcreteState) -> bool:
    return state.cells["inhibit"] in SHADOWS


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
