"""A machine follows a run: each step is done on it, and everything is compared before the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS
from verifier.ir.cells import RFLAGS_LAYOUT, SELECTORS
from verifier.machine.config import MSRS
from verifier.machine.events import BROKEN_CONTRACT, EVENTS, NO_RETURN
from verifier.replay.changing import Changing
from verifier.replay.deviations import known
from verifier.replay.hidden import is_hidden, ran_on, unblocks
from verifier.replay.lent import Lent
from verifier.replay.machine import MORE, Shutdown, Unsupported
from verifier.replay.msrs import ModelSpecific
from verifier.replay.pages import in_memory
from verifier.replay.probe import unblock
from verifier.replay.raising import Raising, Step
from verifier.trace.confirm import rflags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.asm.program import Instruction
    from verifier.replay.course import Course, Leg
    from verifier.replay.deviations import Deviation, Item
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine
    from verifier.trace.run import ConcreteState

_BASES = ("fs_base", "gs_base", "kernel_gs_base")
_DOUBLE_FAULT, _PAGE_FAULT = 8, 14
_WILD = ("wild-read", "wild-write")
#: Ends that only the specification knows of.
_NOT_OF_THE_MACHINE = (BROKEN_CONTRACT, NO_RETURN)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same after a step: where, in the run, and on the machine."""

    where: str
    run: str
    machine: str


@dataclass(frozen=True, slots=True)
class Met:
    """A known deviation that a step has shown."""

    step: int
    deviation: Deviation


@dataclass(frozen=True, slots=True)
class Report:
    """How far a machine agrees with a run. ``steps``: how many were compared and agree, those with a known deviation
    included; ``differs``: what is wrong after the next one, if anything is; ``notes``: what could not be compared."""

    machine: str
    steps: int
    met: tuple[Met, ...] = ()
    differs: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agreed(self) -> bool:
        return not self.differs


def registers(state: ConcreteState) -> dict[str, int]:
    """A state's registers, as a machine has them."""
    cells = state.cells
    whole = (*GENERAL_REGISTERS, *SELECTORS, *_BASES, "cr2", *MORE)
    return {"rip": state.rip, "rflags": rflags(state), **{name: cells[name] for name in whole}}


class Follower:
    """Puts a machine into the start of a course, and takes it along."""

    def __init__(self, machine: Machine, image: Image, course: Course) -> None:
        self._machine = machine
        self._image = image
        self._course = course
        self._raising = Raising(machine, image)
        self._lent = Lent(machine, image, course)
        self._changing = Changing(machine, image, course)
        self._msrs = ModelSpecific(machine, image, course)
        self._tells = frozenset(machine.read())
        self._met: list[Met] = []
        self._notes: list[str] = []

    def follow(self) -> Report:
        """Raises Unsupported where a step cannot be done on this machine, MachineError where the machine fails."""
        self._changing.before_start()
        cells = self._course.start.state.cells
        self._machine.write(self._writable(registers(self._course.start.state)) | {"cr3": cells["cr3"]})
        self._changing.after_start()
        self._msrs.at_start(self._course.start.state)
        for number, leg in enumerate(self._course.legs, 1):
            differences = self._step(number, leg)
            if differences:
                return self._report(number - 1, differences)
        return self._report(len(self._course.legs), self._memory_differences())

    def _report(self, steps: int, differences: list[Difference]) -> Report:
        return Report(self._machine.name, steps, tuple(self._met), tuple(differences), tuple(self._notes))

    @staticmethod
    def _writable(values: Mapping[str, int]) -> dict[str, int]:
        return {name: value for name, value in values.items() if name not in MORE}

    # one step

    def _step(self, number: int, leg: Leg) -> list[Difference]:
        outcome = leg.outcome
        right: dict[Item, int] = {n: v for n, v in registers(outcome.state).items() if n in self._tells}
        writes = [place for place in outcome.writes if in_memory(place[0])]
        right |= {(address, size): outcome.state.read(address, size) for address, size in writes}
        step = Step(number, leg, right)
        self._changing.before(leg)
        try:
            self._act(step)
        except Shutdown:
            return self._shut_down(leg)
        if outcome.ended not in (None, "home", "wild-jump"):
            return self._mishap(leg)
        return self._compare(step) or self._msr_differences(leg)

    def _act(self, step: Step) -> None:
        move = step.leg.move
        if move.latch:
            self._machine.pend("nmi")
        elif move.action == "execute":
            self._execute(step)
        else:
            self._strike(step)

    def _instruction(self, leg: Leg) -> Instruction | None:
        """The program's instruction at rip: control is there, unless it is in the interrupted context."""
        return self._course.machine.program.instructions.get(leg.before.rip) if leg.before.cells["cpl"] == 0 else None

    def _execute(self, step: Step) -> None:
        instruction = self._instruction(step.leg)
        if is_hidden(instruction) or (instruction is not None and instruction.mnemonic == "hlt"):
            self._play(step.leg)
            return
        played = self._msrs.played(step.leg, instruction.mnemonic) if instruction is not None else None
        if played is not None:
            self._note(f"no emulator has model-specific register {played:#x}: what reads and writes it is played")
            self._play(step.leg)
            return
        values = [value for kind, value in step.leg.move.choices if kind == "load"]
        with self._lent.pages_for(step.leg.outcome.chosen, values):
            self._machine.step()

    def _play(self, leg: Leg) -> None:
        """Set everything that code which is not shown changes; a shadow ends with a real instruction."""
        if leg.before.cells["inhibit"]:
            self._machine.write(self._image.at("nop_"))
            self._machine.step()
        after = leg.outcome.state
        if unblocks(leg.move):
            unblock(self._machine, self._image)
        self._machine.write(self._writable(registers(after)) | _control(leg.before.cells, after.cells))
        for address, size in leg.outcome.writes:
            if in_memory(address):
                self._machine.store(address, after.read(address, size).to_bytes(size, "little"))
        self._msrs.set(leg.before, after)

    # events

    def _strike(self, step: Step) -> None:
        move, before = step.leg.move, step.leg.before
        instruction = self._instruction(step.leg)
        if instruction is not None and instruction.mnemonic == "hole_body":
            self._run_on(step)
        elif unblocks(move):
            unblock(self._machine, self._image)
        event = EVENTS[move.action]
        if not event.asynchronous:
            self._raising.let(step)
            return
        if event.name == "machine_check" and self._msrs.check_in_progress(before):
            raise Unsupported("no machine check shuts an emulator down where MCG_STATUS.MCIP is set (rule E7)")
        if not (event.name == "nmi" and before.nmi_pending):
            gate = self._course.machine.gate_of(event.name)
            self._machine.pend(event.name, gate.vector if gate else event.vector or 0)
        self._machine.step()
        if event.name == "nmi" and before.cells["inhibit"] and self._machine.read()["rip"] == _following(instruction):
            raise Unsupported("its processor holds back NMIs in the shadow of STI or MOV SS (rules S2 and S3)")

    def _run_on(self, step: Step) -> None:
        before = step.leg.before
        cells, memory = ran_on(self._course.machine, self._course.start, before, step.leg.move)
        if unblocks(step.leg.move):
            unblock(self._machine, self._image)
        now = registers(before) | {name: value for name, value in cells.items() if name not in RFLAGS_LAYOUT}
        for name, (bit, width) in RFLAGS_LAYOUT.items():
            if name in cells:
                now["rflags"] = now["rflags"] & ~((1 << width) - 1 << bit) | cells[name] << bit
        self._machine.write(self._writable(now) | _control(before.cells, {**before.cells, **cells}))
        for address, data in memory.items():
            if in_memory(address):
                self._machine.store(address, data)
        self._msrs.set(before, step.leg.outcome.state)

    # comparing

    def _compare(self, step: Step) -> list[Difference]:
        got: dict[Item, int] = {name: value for name, value in self._machine.read().items()}
        for item in step.right:
            if not isinstance(item, str):
                got[item] = int.from_bytes(self._machine.load(*item), "little")
        masks = _undefined_bits(step.leg)
        right = {i: v & ~masks.get(i, 0) | got[i] & masks.get(i, 0) for i, v in step.right.items()}
        state = step.leg.outcome.state
        if not state.cells["inhibit"] and not state.nmi_pending:
            right["nmi_blocked"], got["nmi_blocked"] = int(state.nmi_blocked), int(self._machine.nmi_blocked())
        if right != {item: got[item] for item in right}:
            found = known(self._machine.name, self._course.machine, step.leg, right, got)
            if not found:
                return [self._difference(i, v, got[i]) for i, v in right.items() if got[i] != v]
            self._met += [Met(step.number, deviation) for deviation, _ in found]
            changed = [i for _, wrong in found for i in wrong if not isinstance(i, str) and i not in right]
            step.set |= {place: state.read(*place) for place in changed}
        self._correct(step.right | {"nmi_blocked": right.get("nmi_blocked", 0)} | step.set, got)
        return []

    def _msr_differences(self, leg: Leg) -> list[Difference]:
        """After WRMSR."""
        instruction = self._instruction(leg)
        if leg.move.action != "execute" or instruction is None or instruction.mnemonic != "wrmsr":
            return []
        found = self._msrs.differences(leg.outcome.state)
        return [Difference(name, f"{right:#x}", f"{got:#x}") for name, right, got in found]

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _correct(self, wanted: Mapping[Item, int], got: Mapping[Item, int]) -> None:
        """What the manual leaves open, and what the machine has got wrong in a known way, becomes what the run has."""
        if got.get("nmi_blocked", 0) and not wanted["nmi_blocked"]:
            unblock(self._machine, self._image)
        wrong = {item: value for item, value in wanted.items() if got.get(item) != value}
        registers_wrong = {i: v for i, v in wrong.items() if isinstance(i, str) and i != "nmi_blocked"}
        if registers_wrong:
            self._machine.write(registers_wrong)
        for item, value in wrong.items():
            if not isinstance(item, str):
                self._machine.store(item[0], value.to_bytes(item[1], "little"))

    def _difference(self, item: Item, run: int, machine: int) -> Difference:
        where = item if isinstance(item, str) else f"the {item[1]} bytes at {self._place(item[0])}"
        return Difference(where, f"{run:#x}", f"{machine:#x}")

    def _place(self, address: int) -> str:
        for name, region in self._course.machine.regions.items():
            offset = address - self._course.start.bases[name]
            if 0 <= offset < region.size:
                return f"{name}+{offset:#x}"
        return f"{address:#x}"

    def _memory_differences(self) -> list[Difference]:
        """All of writable memory, at the end of a run."""
        legs = self._course.legs
        if not legs or legs[-1].outcome.ended not in (None, "home", "wild-jump"):
            return []
        found = []
        for name, region in self._course.machine.regions.items():
            if region.writable and name != MSRS:
                base = self._course.start.bases[name]
                data = self._machine.load(base, region.size)
                memory = legs[-1].outcome.state.memory
                wrong = [i for i, byte in enumerate(data) if memory.get(base + i, 0) != byte]
                found += [self._difference((base + i, 1), memory.get(base + i, 0), data[i]) for i in wrong[:4]]
        return found

    # runs that end badly

    def _shut_down(self, leg: Leg) -> list[Difference]:
        if leg.outcome.ended in ("shutdown", *_WILD):
            return []
        return [Difference("the processor", leg.outcome.ended or "goes on", "shuts down")]

    def _mishap(self, leg: Leg) -> list[Difference]:
        """A run that leaves what the specification says: the machine has to leave it at the same place."""
        kind, now = leg.outcome.ended, self._machine.read()
        if kind in _NOT_OF_THE_MACHINE:
            self._notes.append(f"{kind}: {leg.outcome.detail}; that is no matter of the machine")
            return []
        gates, targets = self._course.machine.gates, self._image.targets
        free = {target for vector, target in targets.items() if vector not in gates}
        if kind == "no-gate":
            right = now["rip"] in free
        elif kind == "double-fault":
            right = now["rip"] in free and now["rip"] == targets[_DOUBLE_FAULT]
        elif kind in _WILD:
            right = True
            if not self._faulted(now):
                self._notes.append(f"the {kind} is on a page with other memory, so the machine does not fault there")
        else:
            right = False
        if right:
            return []
        return [Difference("the end of the run", f"{kind}: {leg.outcome.detail}", f"rip {now['rip']:#x}")]

    def _faulted(self, now: Mapping[str, int]) -> bool:
        """Whether a page fault, outside every region, has come through or has become a double fault."""
        targets, outside = self._image.targets, self._place(now["cr2"]).startswith("0x")
        return outside and now["rip"] in (targets[_PAGE_FAULT], targets[_DOUBLE_FAULT])


def _control(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """The control registers that hidden code has changed."""
    return {name: after[name] for name in ("cr0", "cr3", "cr4") if before[name] != after[name]}


def _following(instruction: Instruction | None) -> int | None:
    return None if instruction is None else instruction.next_address


def _undefined_bits(leg: Leg) -> dict[Item, int]:
    """Masks of what the manual leaves open, by register."""
    masks: dict[Item, int] = {}
    for name, mask in leg.undefined.items():
        if name in RFLAGS_LAYOUT:
            masks["rflags"] = masks.get("rflags", 0) | mask << RFLAGS_LAYOUT[name][0]
        else:
            masks[name] = mask
    return masks
