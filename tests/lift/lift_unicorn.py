"""Unicorn as an oracle: it was not written here. Its ring is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import unicorn
from lift_concrete import State, pack, unpack
from lift_decode import ARENA, ARENA_SIZE, CODE
from unicorn import x86_const as x86

from verifier.asm.program import GENERAL_REGISTERS

if TYPE_CHECKING:
    from verifier.asm.program import Instruction

_REGISTERS = (*GENERAL_REGISTERS, "fs_base", "gs_base", "cr2")
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

    def run(self, instruction: Instruction, before: State) -> State:
        uc, after = self._uc, before.copy()
        self._vectors.clear()
        uc.ctl_remove_cache(CODE, CODE + 0x1000)
        uc.mem_write(CODE, instruction.encoding)
        uc.mem_write(ARENA, bytes(before.memory))
        for name, number in zip(_REGISTERS, _NUMBERS, strict=True):
            uc.reg_write(number, before.cells[name])
        uc.reg_write(x86.UC_X86_REG_EFLAGS, pack(before.cells))
        repeated = set(instruction.prefixes) & {"rep", "repne"}
        uc.emu_start(CODE, instruction.next_address if repeated else 1 << 62, count=0 if repeated else 1)
        if self._vectors:
            uc.context_restore(self._fresh)  # else the next fault is a double fault
            after.rip = f"fault {self._vectors[0]}"
            return after
        for name, number in zip(_REGISTERS, _NUMBERS, strict=True):
            after.cells[name] = uc.reg_read(number)
        after.cells |= unpack(uc.reg_read(x86.UC_X86_REG_EFLAGS))
        after.memory = bytearray(uc.mem_read(ARENA, ARENA_SIZE))
        after.rip = uc.reg_read(x86.UC_X86_REG_RIP)
        return after
