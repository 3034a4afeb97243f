"""IRET, far RET and SYSRET in 64-bit mode (rules R1 to R12, I8; SDM vol. 2A, 2B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import LiftError
from verifier.machine.config import LDT_CODE
from verifier.trace.interpreter.memory import GENERAL_PROTECTION, STACK_FAULT, canonical
from verifier.trace.interpreter.segments import NOT_PRESENT, Ldt
from verifier.trace.interpreter.work import MASK64, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.asm.program import Instruction
    from verifier.machine.config import MachineConfig, Segment
    from verifier.trace.interpreter.memory import Memory
    from verifier.trace.interpreter.work import Work

#: What IRET loads at any CPL (R9): those in the low word, and those that a 16-bit IRET leaves alone.
LOW_FLAGS: tuple[str, ...] = ("cf", "pf", "af", "zf", "sf", "tf", "df", "of", "nt")
HIGH_FLAGS: tuple[str, ...] = ("rf", "ac", "id")
#: What SYSRET loads from R11 (I8): all but RF and VM, which it clears.
SYSRET_FLAGS = (*LOW_FLAGS, "if", "iopl", "ac", "vif", "vip", "id")


def protect(condition: bool, selector: int = 0) -> None:
    """#GP with the selector's index and table bit as error code (R8) if the condition holds."""
    if condition:
        raise Fault(GENERAL_PROTECTION, selector & 0xFFFC)


class Returns:
    """The instructions that load CS from elsewhere than a gate."""

    def __init__(self, machine: MachineConfig, memory: Memory, rules: Mapping[str, int]) -> None:
        self._memory = memory
        self._rules = rules
        self._ldt = Ldt(machine)
        self._segments = {selector & 0xFFFC: s for selector, s in machine.segments.items()}

    def iret(self, work: Work, size: int) -> None:
        """``size``: the operand size in bits. Nothing of ``work`` changes if it raises."""
        cells = work.cells
        protect(cells["nt"] == 1)
        rip, cs, rflags, rsp, ss = self._pop(work, 5, size)
        cs, ss = cs & 0xFFFF, ss & 0xFFFF
        code = self._check_code(work, cs)
        self._check_stack(work, ss, cs & 3, code)
        rip = self._check_target(rip, code)
        old, new = cells["cpl"], cs & 3
        self._load_flags(work, rflags, size, old)
        cells.update(cs=cs, ss=ss, rsp=rsp, cpl=new)
        if new > old:
            self._null_data_segments(work, new)
        work.rip = rip

    def lret(self, work: Work, size: int, instruction: Instruction) -> None:
        """To the same privilege level only."""
        cells = work.cells
        rip, cs = self._pop(work, 2, size)
        cs &= 0xFFFF
        code = self._check_code(work, cs)
        if instruction.operands or cs & 3 != cells["cpl"]:
            raise LiftError("a far return is supported only to the same privilege level", instruction.span)
        rip = self._check_target(rip, code)
        cells["cs"] = cs
        cells["rsp"] = (cells["rsp"] + 2 * size // 8) & MASK64
        work.rip = rip

    def sysret(self, work: Work, size: int, instruction: Instruction) -> None:
        """I8: a bad target faults before anything changes, or else at CPL 3, where control is lost."""
        cells = work.cells
        base = self._sysret_base(instruction)
        protect(cells["cpl"] != 0)
        late = self._rules.get("late_sysret_fault", 0)
        protect(size == 64 and not canonical(cells["rcx"]) and not late)
        work.rip = cells["rcx"] if size == 64 else cells["rcx"] & 0xFFFF_FFFF
        work.load_flags(cells["r11"], SYSRET_FLAGS)
        cells.update(rf=0, vm=0, cpl=3, cs=base + (16 if size == 64 else 0) | 3, ss=base + 8 | 3)

    def _sysret_base(self, instruction: Instruction) -> int:
        """STAR[63:48], which the specification gives only through the layout of its user segments."""
        bases = [
            s - 16
            for s, segment in self._segments.items()
            if segment.kind == "code" and segment.long and segment.dpl == 3 and self._is_user_data(s - 8)
        ]
        if len(bases) != 1:
            raise LiftError(
                "the segments do not say what sysret loads",
                instruction.span,
                "give one 64-bit user code segment, right after the user data segment",
            )
        return bases[0]

    def _is_user_data(self, selector: int) -> bool:
        segment = self._segments.get(selector)
        return segment is not None and segment.kind == "data" and segment.dpl == 3

    def _pop(self, work: Work, count: int, size: int) -> list[int]:
        """That many items of ``size`` bits off the stack, zero-extended, RSP unchanged."""
        rsp = work.cells["rsp"]
        return [self._memory.pop(work, (rsp + i * size // 8) & MASK64, size // 8) for i in range(count)]

    def _check_code(self, work: Work, cs: int) -> Segment:
        """The checks of the return CS, in the order of rule R4."""
        cpl = work.cells["cpl"]
        protect(cs & 0xFFFC == 0)
        if self._ldt.holds(work, cs, "ldt.cs", (NOT_PRESENT,)):
            return LDT_CODE
        segment = self._segments.get(cs & 0xFFFC)
        if segment is None or segment.kind != "code":
            raise Fault(GENERAL_PROTECTION, cs & 0xFFFC)
        protect(cs & 3 < cpl, cs)
        protect(segment.dpl != cs & 3, cs)
        return segment

    def _check_stack(self, work: Work, ss: int, cpl: int, code: Segment) -> None:
        """The checks of the return SS for the new privilege level (R5)."""
        if cpl == 3 and self._ldt.holds(work, ss, "ldt.ss", (STACK_FAULT, NOT_PRESENT)):
            return
        if ss & 0xFFFC == 0:
            any_rpl = self._rules.get("any_null_ss", 0)
            protect(cpl == 3 or not code.long or (ss & 3 != cpl and not any_rpl))
            return
        segment = self._segments.get(ss & 0xFFFC)
        good = segment is not None and segment.kind == "data" and segment.writable and segment.dpl == ss & 3 == cpl
        protect(not good, ss)

    def _check_target(self, rip: int, code: Segment) -> int:
        """The return rip (R6); outside 64-bit code it must lie below the segment's limit of 4 GiB, or is cut to it."""
        if not code.long and self._rules.get("rip_is_cut", 0):
            return rip & 0xFFFF_FFFF
        protect(not canonical(rip) if code.long else rip >= 1 << 32)
        return rip

    @staticmethod
    def _load_flags(work: Work, rflags: int, size: int, cpl: int) -> None:
        flags = LOW_FLAGS if size == 16 else LOW_FLAGS + HIGH_FLAGS
        if cpl <= work.cells["iopl"]:
            flags += ("if",)
        if cpl == 0:
            flags += ("iopl",) if size == 16 else ("iopl", "vif", "vip")
        work.load_flags(rflags, flags)

    def _null_data_segments(self, work: Work, cpl: int) -> None:
        """R10: selectors that the new level may not hold become null, and null ones perhaps 0."""
        for name in ("ds", "es", "fs", "gs"):
            selector = work.cells[name]
            segment = self._segments.get(selector & 0xFFFC)
            if segment is not None and segment.dpl < cpl:
                work.cells[name] = 0
                if name in ("fs", "gs") and self._rules.get("outer_return_clears_base", 0):
                    work.cells[f"{name}_base"] = 0
            elif selector < 4 and self._rules.get("outer_return_clears_null", 0):
                work.cells[name] = 0
