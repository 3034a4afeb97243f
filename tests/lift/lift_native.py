"""The CPU that the tests run on as an oracle, at CPL 3.

A trampoline loads every register, runs one instruction, and stores every register.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lift_concrete import State, pack, unpack
from lift_decode import ARENA, ARENA_SIZE, CODE, gas

from verifier.asm.program import GENERAL_REGISTERS

if TYPE_CHECKING:
    from verifier.asm.program import Instruction

_ENTER, _LEAVE = CODE - 0x1000, CODE - 0x800
_IN, _OUT, _HOST, _STACK = 0x3000_0000, 0x3000_0400, 0x3000_0800, 0x3000_0F00
_COUNT = len(GENERAL_REGISTERS)
_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
_MAP_FIXED_NOREPLACE = 0x100000
_FEATURES = {
    "movbe": "movbe", "tzcnt": "bmi1", "lzcnt": "abm", "popcnt": "popcnt", "andn": "bmi1", "blsr": "bmi1",
    "blsi": "bmi1", "blsmsk": "bmi1", "shlx": "bmi2", "shrx": "bmi2", "sarx": "bmi2", "rorx": "bmi2",
    "bextr": "bmi1", "bzhi": "bmi2", "mulx": "bmi2",
}  # fmt: skip

available = sys.platform == "linux" and platform.machine() == "x86_64"


@cache
def _cpu_features() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def can_run(instruction: Instruction) -> bool:
    """Whether this CPU has it, and no segment base is needed."""
    feature = _FEATURES.get(instruction.mnemonic)
    segments = "%fs" in instruction.text or "%gs" in instruction.text
    return not segments and (feature is None or feature in _cpu_features())


def _map(address: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    if libc.mmap(address, size, protection, flags, -1, 0) != address:
        raise OSError(ctypes.get_errno(), f"cannot map {address:#x}")


def _jump(at: int, to: int) -> bytes:
    return b"\xe9" + (to - at - 5).to_bytes(4, "little", signed=True)


class Native:
    """Raises OSError where pages cannot be writable and executable."""

    def __init__(self) -> None:
        _map(CODE - 0x1000, 0x2000)
        _map(ARENA - 0x10000, 0x20000)
        _map(_IN, 0x1000)
        enter = gas(
            "\n".join(
                [
                    *(f"push %{name}" for name in _SAVED),
                    f"mov %rsp, {_HOST:#x}",
                    f"mov ${_STACK:#x}, %rsp",
                    f"pushq {_IN + 8 * _COUNT:#x}",
                    "popfq",
                    *(f"mov {_IN + 8 * n:#x}, %{name}" for n, name in enumerate(GENERAL_REGISTERS)),
                    "",
                ]
            )
        )
        leave = gas(
            "\n".join(
                [
                    *(f"mov %{name}, {_OUT + 8 * n:#x}" for n, name in enumerate(GENERAL_REGISTERS)),
                    f"mov ${_STACK:#x}, %rsp",
                    "pushfq",
                    f"popq {_OUT + 8 * _COUNT:#x}",
                    "pushq $0x202",
                    "popfq",
                    f"mov {_HOST:#x}, %rsp",
                    *(f"pop %{name}" for name in reversed(_SAVED)),
                    "ret",
                    "",
                ]
            )
        )
        ctypes.memmove(_ENTER, enter + _jump(_ENTER + len(enter), CODE), len(enter) + 5)
        ctypes.memmove(_LEAVE, leave, len(leave))
        self._call = ctypes.CFUNCTYPE(None)(_ENTER)

    def run(self, instruction: Instruction, before: State) -> State:
        after = before.copy()
        slot = instruction.encoding + _jump(instruction.next_address, _LEAVE)
        ctypes.memmove(CODE, slot, len(slot))
        ctypes.memmove(ARENA, bytes(before.memory), ARENA_SIZE)
        words = [before.cells[name] for name in GENERAL_REGISTERS] + [pack(before.cells)]
        ctypes.memmove(_IN, b"".join(w.to_bytes(8, "little") for w in words), 8 * len(words))
        self._call()
        out = ctypes.string_at(_OUT, 8 * len(words))
        values = [int.from_bytes(out[n : n + 8], "little") for n in range(0, len(out), 8)]
        after.cells |= dict(zip(GENERAL_REGISTERS, values, strict=False))
        after.cells |= unpack(values[-1])
        after.memory = bytearray(ctypes.string_at(ARENA, ARENA_SIZE))
        after.rip = instruction.next_address
        return after
