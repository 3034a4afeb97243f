"""The instructions that an event may strike at: told when control is there, since code may be found late."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm import outside
from verifier.errors import LiftError
from verifier.ir.ops import Access
from verifier.lift import lift
from verifier.machine.events import EVENTS

if TYPE_CHECKING:
    from verifier.asm.program import Instruction, Program

#: What ends an instruction that reads or writes the stack, though none of its operations does.
_STACK_TERMINATORS = ("iret", "lret", "interrupt")


@dataclass(frozen=True, slots=True)
class Boundaries(Container[int]):
    """Addresses of shown instructions that ``event`` may strike at; hidden code raises its own faults.

    ``memory``: only those that access memory; ``places``: only those in one of these.
    """

    program: Program
    event: str
    memory: bool = False
    places: tuple[Container[int], ...] | None = None
    _found: dict[int, bool] = field(default_factory=dict, repr=False, compare=False)

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, int):
            return False
        known = self._found.get(address)
        if known is None:
            known = self._found[address] = self._holds(address)
        return known

    def _holds(self, address: int) -> bool:
        if self.places is not None and not any(address in place for place in self.places):
            return False
        instruction = self.program.instructions.get(address)
        if instruction is None or not self._is_shown(instruction):
            return False
        return not self.memory or _uses_memory(instruction)

    def _is_shown(self, instruction: Instruction) -> bool:
        """Hidden code raises what it may from its first instruction on."""
        hidden = ("hole_enter", "hole_body") if EVENTS[self.event].saved_rf else ("hole_body",)
        section = next((s for s in self.program.sections if s.address <= instruction.address < s.end), None)
        return instruction.mnemonic not in hidden and (section is None or section.name != outside.SECTION)


def _uses_memory(instruction: Instruction) -> bool:
    """Whether an instruction loads or stores, be it through the stack. What is not supported ends a run anyway."""
    try:
        block = lift(instruction)
    except LiftError:
        return False
    touches = any(isinstance(o.attr, Access) for o in block)
    return touches or block.terminator.opcode in _STACK_TERMINATORS
