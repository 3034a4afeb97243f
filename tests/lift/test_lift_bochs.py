"""What QEMU lets through where the manual faults, and what it drops: single instructions on Bochs, at CPL 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lift_concrete import State, differences, pack, run_undefined, unpack

from verifier.asm import assemble_text
from verifier.ir.cells import CELLS
from verifier.lift import lift
from verifier.machine.config import Gate, Segment
from verifier.replay.bochs import Bochs
from verifier.replay.image import Plan, build

if TYPE_CHECKING:
    from collections.abc import Iterator

_PG, _CD, _NW, _PE, _ET = 1 << 31, 1 << 30, 1 << 29, 1, 1 << 4
_PAE, _LA57 = 1 << 5, 1 << 12
_EDGE, _TOP = 1 << 47, (1 << 64) - (1 << 47)
_BASES = (0xC000_0100, 0xC000_0101, 0xC000_0102)
_BAD = (_EDGE, _TOP - 1, 1 << 63, 0x1234_5678_9ABC_DEF0)
_GOOD = (0, _EDGE - 1, _TOP, (1 << 64) - 1)
_STACK, _STACK_SIZE = 0xFFFF_8880_0000_1000, 0x1000
_IST = 0xFFFF_8880_0000_3000
_MIDDLE = _STACK + _STACK_SIZE // 2


def _split(index: int, value: int) -> dict[str, int]:
    return {"rcx": index, "rax": value & 0xFFFF_FFFF, "rdx": value >> 32}


#: instruction, registers.
CASES: list[tuple[str, dict[str, int]]] = [
    *(("mov %rax, %cr0", {"rax": value}) for value in (
        _PG | _PE, _PG | _PE | 0x1FFA_FFC0, _PG | _PE | _CD | _NW, _PG | _PE | _NW, _PG, _PE, _PE | _CD, 0,
        _PG | _PE | _ET | 1 << 32, _PG | _PE | _ET | 1 << 63,
    )),
    *(("mov %rax, %cr4", {"rax": value}) for value in (0, _PAE, _PAE | _LA57, _LA57)),
    *(("mov %rax, %cr8", {"rax": value}) for value in (0, 15, 16, 1 << 63)),
    *(("mov %rax, %db6", {"rax": value}) for value in (0, 0xF, 0xFFFF_FFFF, 1 << 12, 0xE00F, 1 << 32)),
    *(("wrmsr", _split(index, value)) for index in _BASES for value in (*_BAD, *_GOOD)),
    *((text, {"rsp": rsp, "rax": 5}) for text in ("push %rax", "pushfq", "call *%rax")
      for rsp in (_EDGE + 8, _EDGE + 4, _TOP, _TOP + 4, 1 << 63)),
    *((text, {"rsp": rsp, "rax": 5}) for text in ("pop %rax", "popfq", "push (%rsp)", "ret")
      for rsp in (_EDGE, _EDGE - 4, _TOP - 1, _TOP - 8, 1 << 63)),
    *((text, {"rax": address, "rbp": address, "rsp": _MIDDLE})
      for text in ("mov (%rax), %rcx", "mov %rcx, (%rbp)", "mov (%rbp), %cl", "mov %gs:(%rbp), %rcx",
                   "xchg %rcx, (%rax)")
      for address in (_EDGE, _EDGE - 4, _TOP - 1, _TOP - 2) if address != _EDGE - 4 or "%cl" not in text),
    *((text, {"rax": target, "rsp": _MIDDLE}) for text in ("jmp *%rax", "call *%rax") for target in (_EDGE, _TOP - 1)),
]  # fmt: skip
#: vector -> its handler.
FAULTS = {6: "invalid_opcode", 12: "stack_fault", 13: "general_protection"}
_SEEN = frozenset((*list(CELLS)[:16], "cr0", "cr2", "cr3", "cr4", "dr6", "fs_base", "gs_base", "kernel_gs_base", "es",
                   "cs", "ss", "ds", "fs", "gs"))  # fmt: skip

_LINES = list(dict.fromkeys(text for text, _ in CASES))
_PROGRAM = assemble_text(
    "".join(f"i{n}: {text}\n.balign 16\n" for n, text in enumerate(_LINES))
    + "".join(f"{name}: nop\n" for name in FAULTS.values())
)


def _at(name: str) -> int:
    return _PROGRAM.symbols[name].value


@pytest.fixture(scope="module")
def machine() -> Iterator[Bochs]:
    segments = [Segment(0x10, "code", 0, long=True), Segment(0x18, "data", 0)]
    gates = [Gate(vector, name, _at(name), "interrupt", "ist") for vector, name in FAULTS.items()]
    text = _PROGRAM.sections[0]
    plan = Plan(
        {text.address: text.data}, segments, gates, {"ist": _IST + 0x1000}, rsp0=_IST + 0x1000,
        mapped=((_STACK, _STACK_SIZE), (_IST, 0x1000)),
    )  # fmt: skip
    with Bochs(build(plan)) as bochs:
        yield bochs


def _observed(machine: Bochs, after: dict[str, int], before: State) -> State:
    found = State({n: v for n, v in after.items() if n in _SEEN}, before.memory, before.origin, after["rip"])
    for vector, name in FAULTS.items():
        if after["rip"] == _at(name):
            found.cells, found.rip = {}, f"fault {vector}"
            found.error = int.from_bytes(machine.load(after["rsp"], 8), "little") if vector != 6 else 0
            return found
    found.cells |= {name: value for name, value in unpack(after["rflags"]).items() if name != "rf"}
    found.memory = bytearray(machine.load(_STACK, _STACK_SIZE))
    return found


@pytest.mark.parametrize(("text", "registers"), CASES)
def test_bochs_agrees(text: str, registers: dict[str, int], machine: Bochs) -> None:
    instruction = _PROGRAM.instructions[_at(f"i{_LINES.index(text)}")]
    machine.store(_STACK, bytes(_STACK_SIZE))
    first = {"rflags": 2, "cs": 0x10, "ss": 0x18, "cr0": _PG | _ET | _PE, "cr4": _PAE}
    machine.write(first | {"rip": instruction.address} | registers)
    shown = machine.read()
    cells = dict.fromkeys(CELLS, 0) | {name: value for name, value in shown.items() if name in CELLS}
    before = State(cells | unpack(shown["rflags"]), bytearray(_STACK_SIZE), _STACK, instruction.address)
    assert pack(before.cells) == shown["rflags"]
    machine.step()
    ours = run_undefined(lift(instruction), before)
    observed = _observed(machine, machine.read(), before)
    assert not differences(ours, observed), registers
