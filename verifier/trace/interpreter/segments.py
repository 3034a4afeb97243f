"""Loads of segment registers by MOV and POP (rule I11; SDM vol. 2B, MOV)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.trace.interpreter.memory import GENERAL_PROTECTION
from verifier.trace.interpreter.work import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.machine.config import MachineConfig
    from verifier.trace.interpreter.work import Work

NOT_PRESENT = 11


class Ldt:
    """Descriptors that come and go: what a selector of them means is chosen at each use (R13)."""

    def __init__(self, machine: MachineConfig) -> None:
        self._exists = machine.has_ldt

    def holds(self, work: Work, selector: int, cause: str, absent: tuple[int, ...]) -> bool:
        """Whether a selector is one of the LDT with RPL 3, and good. Raises Fault if it is one and not good."""
        if not self._exists or selector & 7 != 7:
            return False
        now = work.choices.take(cause, 2)
        if now == 0:
            return True
        vector = absent[now - 1] if now <= len(absent) else GENERAL_PROTECTION
        raise Fault(vector, selector & 0xFFFC)


class Selectors:
    """The segments of a machine, by what selects them."""

    def __init__(self, machine: MachineConfig) -> None:
        self._ldt = Ldt(machine)
        self._segments = {selector >> 3: s for selector, s in machine.segments.items()}

    def check(self, puts: Mapping[str, int], work: Work) -> None:
        """Raise the fault of a selector that an instruction sets and may not."""
        for name, selector in puts.items():
            if name not in ("ds", "es", "fs", "gs", "ss"):
                continue
            if name != "ss" and self._ldt.holds(work, selector, "ldt.data", (NOT_PRESENT,)):
                continue
            if not self._good(name, selector, work.cells["cpl"]):
                raise Fault(GENERAL_PROTECTION, selector & 0xFFFC)

    def look(self, query: str, selector: int, cpl: int, otherwise: int) -> int:
        """What LSL, LAR, VERR or VERW finds: ZF in bit 32, 32 bits of result below (I13)."""
        if selector < 4:
            return 0
        segment = None if selector & 4 else self._segments.get(selector >> 3)
        if segment is None:
            return otherwise
        if segment.dpl < max(cpl, selector & 3):
            return 0
        if query == "verw" and (segment.kind == "code" or not segment.writable):
            return 0
        result = otherwise & 0xFFFF_FFFF
        if query == "lsl" and segment.limit is not None:
            result = segment.limit
        return 1 << 32 | result

    def _good(self, name: str, selector: int, cpl: int) -> bool:
        rpl = selector & 3
        if selector < 4:
            return name != "ss" or (cpl < 3 and rpl == cpl)
        segment = None if selector & 4 else self._segments.get(selector >> 3)
        if segment is None:
            return False
        if name == "ss":
            return segment.kind == "data" and segment.writable and segment.dpl == rpl == cpl
        return segment.dpl >= rpl and segment.dpl >= cpl
