"""Unicorn as a second oracle for what CPL 3 can run, at CPL 0; the only one for what this CPU has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import unicorn
from lift_concrete import State, pack, unpack
from lift_decode import ARENA, ARENA_SIZE, CODE
from unicorn import x86_const as x86

from verifier.asm.program import GENERAL_REGISTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifier.asm.program import Instruction

_REGISTERS = (*GENERAL_REGISTERS, "fs_base", "gs_base", "cr2")
UNMAPPED = "unmapped"
_NUMBERS = [getattr(x86, f"UC_X86_REG_{name.upper()}") for name in _REGISTERS]


class Unicorn:
    """One emulator for all runs."""

    def __init__(self) -> None:
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._uc.mem_map(CODE - 0x1000, 0x4000)
        self._uc.mem_map(ARENA - 0x10000, 0x20000)
        self._vectors: list[int] = []
        self._uc.hook_add(unicorn.UC_HOOK_INTR, lambda uc, vector, _: self._vectors.append(vector))
        self._fresh = self._uc.context_save()

    def run(self, batch: Sequence[tuple[Instruction, State]]) -> list[State]:
        return [self._run(instruction, before) for instruction, before in batch]

    def _run(self, instruction: Instruction, before: State) -> State:
        """``rip`` is `UNMAPPED` after an access to what is not mapped: it knows no address that is not canonical."""
        uc, after = self._uc, before.copy()
        self._vectors.clear()
        uc.ctl_remove_cache(CODE, CODE + 0x1000)
        uc.mem_write(CODE, instruction.encoding)
        uc.mem_write(ARENA, bytes(before.memory))
        for name, number in zip(_REGISTERS, _NUMBERS, strict=True):
            uc.reg_write(number, before.cells[name])
        uc.reg_write(x86.UC_X86_REG_EFLAGS, pack(before.cells))
        repeated = set(instruction.prefixes) & {"rep", "repne"}
        try:
            uc.emu_start(CODE, instruction.next_address if repeated else 1 << 62, count=0 if repeated else 1)
        except unicorn.UcError:
            after.rip = UNMAPPED
            return after
        if self._vectors:
            uc.context_restore(self._fresh)  # else the next fault is a double fault
            after.rip = f"fault {self._vectors[0]}"
            return after
        after.cells = {name: uc.reg_read(number) for name, number in zip(_REGISTERS, _NUMBERS, strict=True)}
        after.cells |= unpack(uc.reg_read(x86.UC_X86_REG_EFLAGS))
        del after.cells["rf"]
        after.memory = bytearray(uc.mem_read(ARENA, ARENA_SIZE))
        after.rip = uc.reg_read(x86.UC_X86_REG_RIP)
        return after
