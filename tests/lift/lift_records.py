"""States as records in a file that a runner maps: what goes in and what comes out, one instruction a record.

A runner is a program for another world (a process, a machine) that runs each record's instruction from its state.
"""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

from lift_concrete import WITH_ERROR_CODE, State, pack, unpack
from lift_decode import ARENA, ARENA_SIZE, CODE

from verifier.asm.program import GENERAL_REGISTERS
from verifier.ir.cells import CELLS

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

    from verifier.asm.program import Instruction

HEADER, RECORD, OUT, MEMORY, CODE_SIZE = 0x1000, 0x1400, 0xA00, 0x200, 0x40
#: The fields of a record behind its code, 8 bytes each.
FIELDS = (
    *GENERAL_REGISTERS, "rip", "rflags", "cs", "ss", "ds", "es", "fs", "gs", "fs_base", "gs_base", "kernel_gs_base",
    "cr0", "cr2", "cr3", "cr4", "cr8", "dr6", "vector", "error",
)  # fmt: skip
_CELLS = frozenset(FIELDS) & frozenset(CELLS)
_QUADWORDS = struct.Struct(f"<{len(FIELDS)}Q")
_BREAKPOINT, _PAGE_FAULT, _TIMER, _FETCH = 3, 14, 0x20, 0x10
_INT3 = b"\xcc"


def symbols() -> dict[str, int]:
    """What the assembly of a runner calls the places in a record."""
    places = {name.upper(): CODE_SIZE + 8 * i for i, name in enumerate(FIELDS)}
    return places | {
        "HEADER": HEADER, "RECORD": RECORD, "OUT": OUT, "MEMORY": MEMORY, "CODE": CODE,
        "ARENA": ARENA, "ARENA_SIZE": ARENA_SIZE,
    }  # fmt: skip


def build(source: Path, program: Path, more: dict[str, int], *link: str) -> None:
    """Assemble and link a runner."""
    defined = [f"--defsym={name}={value}" for name, value in (symbols() | more).items()]
    unlinked = program.with_suffix(".o")
    subprocess.run(["as", "--64", *defined, "-o", unlinked, source], check=True)
    subprocess.run(["ld", *link, "-o", program, unlinked], check=True)


def size_of(count: int) -> int:
    """The length of a file with that many records, in whole pages."""
    return -(-(HEADER + count * RECORD) // 0x1000) * 0x1000


def write(
    file: mmap.mmap | memoryview, number: int, instruction: Instruction, before: State, halts: bool = False
) -> None:
    """``halts``: the instruction waits for an interrupt, which the runner is to send."""
    at = HEADER + number * RECORD
    file[at : at + CODE_SIZE] = instruction.encoding.ljust(CODE_SIZE, _INT3)
    values = before.cells | {"rip": CODE, "rflags": pack(before.cells), "vector": int(halts), "error": 0}
    _QUADWORDS.pack_into(file, at + CODE_SIZE, *(values[name] for name in FIELDS))
    file[at + MEMORY : at + MEMORY + ARENA_SIZE] = bytes(before.memory)


def read(file: mmap.mmap | memoryview, number: int, before: State, unseen: frozenset[str]) -> State:
    """The state after, with the cells that a runner shows and not those ``unseen`` by this one."""
    at = HEADER + number * RECORD + OUT
    values = dict(zip(FIELDS, _QUADWORDS.unpack_from(file, at + CODE_SIZE), strict=True))
    shown = {name: values[name] for name in _CELLS} | unpack(values["rflags"])
    after = State({n: v for n, v in shown.items() if n not in unseen}, before.memory, before.origin)
    after.memory = bytearray(file[at + MEMORY : at + MEMORY + ARENA_SIZE])
    after.rip = _control(values)
    faulted = isinstance(after.rip, str) and values["vector"] in WITH_ERROR_CODE
    after.error = values["error"] if faulted else 0
    return after


def _control(values: dict[str, int]) -> int | str:
    """Where control went: to a breakpoint behind the instruction, or to a place from which nothing can be fetched."""
    vector = values["vector"]
    if vector == _BREAKPOINT:
        return values["rip"] - 1
    if vector == _TIMER:
        return "halt" if values["rip"] == CODE + 1 else "not halted"
    if vector == _PAGE_FAULT and values["error"] & _FETCH and values["cr2"] == values["rip"]:
        return values["rip"]
    return f"fault {vector}"


def begin(file: mmap.mmap | memoryview, *words: int) -> None:
    """The header: the number of records first, then what the runner asks for."""
    struct.pack_into(f"<{len(words)}Q", file, 0, *words)
