"""Random and edge states in which an instruction form can run."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from lift_concrete import State
from lift_decode import ARENA, ARENA_SIZE

from verifier.asm.program import GENERAL_REGISTERS, Mem, Reg
from verifier.ir.cells import CELLS, FLAGS

if TYPE_CHECKING:
    from verifier.asm.program import Instruction

COUNT = int(os.environ.get("VERIFIER_STATES", "20"))
MIDDLE = ARENA + ARENA_SIZE // 2
_EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_WIDE = (1 << 63, (1 << 63) - 1, (1 << 64) - 1, 0x8080_8080_8080_8080, 0xFFFF_FFFF_0000_0000)
_RANDOM_FLAGS = ("cf", "pf", "af", "zf", "sf", "of")


def states(instruction: Instruction, ring: int = 0, count: int = COUNT) -> list[State]:
    source = random.Random(instruction.text)
    return [_state(instruction, source, ring) for _ in range(count)]


def _number(source: random.Random) -> int:
    match source.randrange(4):
        case 0:
            return source.choice(_EDGES)
        case 1:
            return source.choice(_WIDE)
        case 2:
            return source.getrandbits(source.choice((8, 16, 32)))
        case _:
            return source.getrandbits(64)


def _state(instruction: Instruction, source: random.Random, ring: int) -> State:
    cells = dict.fromkeys(CELLS, 0)
    memory = bytearray(source.randbytes(ARENA_SIZE))
    for flag in FLAGS:
        cells[flag] = 0
    for flag in _RANDOM_FLAGS:
        cells[flag] = source.getrandbits(1)
    cells["if"] = 1
    cells["cpl"] = ring
    if ring == 0:
        for flag in ("if", "id", "nt", "ac"):
            cells[flag] = source.getrandbits(1)
        cells["iopl"] = source.getrandbits(2)
        cells["fs_base"] = source.randrange(-0x80, 0x80) & (2**64 - 1)
        cells["gs_base"] = source.randrange(0x80)
        cells["kernel_gs_base"] = source.getrandbits(40)
        cells["cr2"] = source.getrandbits(64)
        cells["cr0"] = 0x8000_0011 | source.getrandbits(1) << 3
    for name in GENERAL_REGISTERS:
        cells[name] = _number(source)
    if source.random() < 0.3:
        cells["rdx"] = 0 if cells["rax"] >> 63 == 0 else 2**64 - 1  # quotients that fit
    if source.random() < 0.3:
        cells["rax"] &= 0x7FFF
    if source.random() < 0.3:
        cells["r9"] = cells["rax"]
    cells["rsp"] = MIDDLE + source.randrange(-0x80, 0x80)
    cells["rbp"] = MIDDLE + source.randrange(-0x80, 0x80)
    cells["rsi"] = MIDDLE + 16 * source.randrange(-8, 8)
    cells["rdi"] = MIDDLE + source.randrange(-0x80, 0x80)
    _aim(instruction, cells, source)
    _settle(instruction, cells, memory, source)
    return State(cells, memory, ARENA, instruction.address)


def _aim(instruction: Instruction, cells: dict[str, int], source: random.Random) -> None:
    """Let memory operands hit the arena, and small counts repeat."""
    for operand in instruction.operands:
        if isinstance(operand, Mem) and instruction.mnemonic not in ("lea", "nop"):
            high = source.getrandbits(32) << 32 if operand.address_width == 32 else 0
            if operand.base in ("rbx", "rax"):
                cells[operand.base] = MIDDLE + source.randrange(-0x80, 0x80) + high
            if operand.index is not None:
                cells[operand.index] = source.randrange(-0x10, 0x10) & (2**64 - 1)
            if operand.base in ("rsi", "rdi") and high:
                cells[operand.base] |= high
    if instruction.mnemonic == "xlat":
        cells["rbx"] = MIDDLE
    if instruction.mnemonic in ("bt", "bts", "btr", "btc") and isinstance(instruction.operands[0], Reg):
        low = (1 << instruction.width) - 1
        cells["rdx"] = (cells["rdx"] & ~low) | (source.randrange(-0x800, 0x800) & low)


def _settle(
    instruction: Instruction, cells: dict[str, int], memory: bytearray, source: random.Random
) -> None:
    """Special cases: equal elements, small counts, targets that can be fetched."""
    mnemonic = instruction.mnemonic
    if instruction.prefixes and "lock" not in instruction.prefixes:
        high = source.getrandbits(32) << 32 if "esi" in instruction.text else 0
        cells["rcx"] = source.randrange(6) | high
        cells["df"] = source.getrandbits(1)
    if mnemonic in ("cmps", "scas", "movs", "stos", "lods"):
        cells["df"] = source.getrandbits(1)
        if source.random() < 0.5:
            memory[:] = bytes((cells["rax"] & 0xFF,)) * len(memory)
    if mnemonic in ("jrcxz", "loop", "loope", "loopne") and source.random() < 0.5:
        cells["rcx"] = source.choice((0, 1, 1 << 32, (1 << 32) + 1))
    if instruction.indirect and instruction.text.endswith("*%rax"):
        cells["rax"] = ARENA + source.randrange(ARENA_SIZE)
    if mnemonic == "ret" or (instruction.indirect and isinstance(instruction.operands[0], Mem)):
        target = ARENA + source.randrange(0x100)
        memory[:] = target.to_bytes(8, "little") * (len(memory) // 8)
        cells["rsp"] &= ~7
        cells["rbx"] &= ~7
    if mnemonic == "popf":
        # No TF and no AC: a native run would trap.
        memory[:] = (source.getrandbits(64) & ~0x40100).to_bytes(8, "little") * (len(memory) // 8)
        cells["rsp"] &= ~7
    if mnemonic in ("cmpxchg", "cmpxchg8b", "cmpxchg16b") and source.random() < 0.4:
        _make_equal(instruction, cells, memory)


def _make_equal(instruction: Instruction, cells: dict[str, int], memory: bytearray) -> None:
    memory[:] = (cells["rax"] & 0xFFFF_FFFF).to_bytes(4, "little") * (len(memory) // 4)
    cells["rax"] = cells["rdx"] = int.from_bytes(memory[:8], "little")
    if instruction.mnemonic == "cmpxchg16b":
        return
    if isinstance(instruction.operands[-1], Mem) and instruction.mnemonic == "cmpxchg":
        cells["rbx"] = MIDDLE
        cells["r12"] &= ~3
        return
    if instruction.mnemonic == "cmpxchg8b":
        cells["rbp"] = MIDDLE
        cells["rax"] |= 0x5 << 32  # only the low halves are compared
