"""Loads of segment registers by MOV and POP (rule I11; SDM vol. 2B, MOV)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.trace.interpreter.memory import GENERAL_PROTECTION
from verifier.trace.interpreter.work import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.machine.config import MachineConfig


class Selectors:
    """The segments of a machine, by what selects them."""

    def __init__(self, machine: MachineConfig) -> None:
        self._segments = {selector >> 3: s for selector, s in machine.segments.items()}

    def check(self, puts: Mapping[str, int], cpl: int) -> None:
        """Raise the fault of a selector that an instruction sets and may not."""
        for name, selector in puts.items():
            if name in ("ds", "es", "fs", "gs", "ss") and not self._good(name, selector, cpl):
                raise Fault(GENERAL_PROTECTION, selector & 0xFFFC)

    def _good(self, name: str, selector: int, cpl: int) -> bool:
        rpl = selector & 3
        if selector < 4:
            return name != "ss" or (cpl < 3 and rpl == cpl)
        segment = None if selector & 4 else self._segments.get(selector >> 3)
        if segment is None:
            return False
        if name == "ss":
            return segment.kind == "data" and segment.dpl == rpl == cpl
        return segment.dpl >= rpl and segment.dpl >= cpl
