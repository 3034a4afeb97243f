"""Where instructions are run to be compared: this CPU at CPL 3, and QEMU at every CPL. Which forms are run where."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import lift_native
from lift_cases import World, number, poke
from lift_unicorn import UNMAPPED

from verifier.asm.program import GENERAL_REGISTERS, Imm, Reg
from verifier.ir.cells import STATUS_FLAGS
from verifier.machine.config import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from lift_cases import Settle
    from lift_concrete import State
    from lift_shapes import Form

    from verifier.asm.program import Instruction

_FSGSBASE = 1 << 16
PG, CD, NW, AM, WP, NE, ET, TS, EM, MP, PE = (1 << n for n in (31, 30, 29, 18, 16, 5, 4, 3, 2, 1, 0))
_CR0, _CR3 = PG | ET | PE, 0x10_1000
PAE, LA57 = 1 << 5, 1 << 12
#: TSD, DE, PGE, MCE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE: what the machine has and no other state depends on.
_CR4_FREE = tuple(1 << n for n in (2, 3, 7, 6, 8, 9, 10, 11, 16))
_DR6 = 0xFFFF_0FF0
#: QEMU's guest, by CPL: CS and SS. Linux at CPL 3.
_RINGS = {0: (0x10, 0x18), 1: (0x21, 0x29), 2: (0x32, 0x3A), 3: (0x43, 0x4B)}
_USER_DATA = 0x2B
_FLAT = (1 << 32) - 1
_HALF = 1 << 47
#: Where a result may be: what is not compared if an oracle gets it wrong.
_RESULT = frozenset((*GENERAL_REGISTERS, "zf", "sf", "cf"))


def _some(source: random.Random, bits: tuple[int, ...]) -> int:
    return sum(bit for bit in bits if source.getrandbits(1))


# this CPU


def _process(source: random.Random) -> dict[str, int]:
    """What a process of Linux finds; segment bases only as the kernel grants them."""
    free = lift_native.has_fsgsbase()
    base = _base(source) if free else source.randrange(0x80)
    return {
        "cpl": 3, "cs": 0x33, "ss": _USER_DATA, "if": 1, "cr4": _FSGSBASE if free else 0,
        "fs_base": source.choice((0, source.randrange(0x80), base)),
        "gs_base": source.choice((0, source.randrange(0x80), base)),
        "ds": source.choice((0, _USER_DATA)), "es": source.choice((0, _USER_DATA)),
    }  # fmt: skip


def _base(source: random.Random) -> int:
    base = source.randrange(_HALF)
    return base if source.getrandbits(1) else base | 0xFFFF_8000_0000_0000


def _fits_process(instruction: Instruction) -> bool:
    return lift_native.has(instruction.mnemonic)


def _selector(choices: Callable[[State, str, random.Random], int]) -> Settle:
    """Loads of segment registers: the selectors that the world has descriptors for."""

    def settle(
        instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random
    ) -> None:
        destination = instruction.operands[-1]
        if not isinstance(destination, Reg) or destination.name not in ("es", "ss", "ds", "fs", "gs"):
            return _control(instruction, loads, state, source)
        selector = choices(state, destination.name, source) | source.getrandbits(48) << 16
        first = instruction.operands[0]
        if isinstance(first, Reg) and first is not destination:
            state.cells[first.name] = selector
        poke(state, loads, selector)
        return None

    return settle


def _process_selector(state: State, name: str, source: random.Random) -> int:
    if name == "ss":
        return source.choice((_USER_DATA, _USER_DATA, 0, 0x28, 0x29, 0x2A, 0x10))
    return source.choice((0, _USER_DATA))


def _machine_selector(state: State, name: str, source: random.Random) -> int:
    """SS: the right one, or one whose RPL is wrong; no other faults are modelled. QEMU takes a null one of any RPL."""
    cpl = state.cells["cpl"]
    if name == "ss":
        wrong = [_RINGS[ring][1] for ring in _RINGS if ring != cpl]
        return source.choice((_RINGS[cpl][1], _RINGS[cpl][1], *wrong, *([0] if cpl == 0 else [])))
    return source.choice((0, 1, 3, 0x48, 0x4B, 0x49, *([0x18] if cpl == 0 else [])))


def _control(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """Moves to control and debug registers: values that leave the guest alive, some of them bad.

    QEMU accepts what the manual faults: CR0.NW without CD, CR0.PG without PE, CR0[63:32], CR4 without PAE,
    CR8[63:4]; and it keeps DR6[12].
    """
    destination, first = instruction.operands[-1], instruction.operands[0]
    if not isinstance(destination, Reg) or not isinstance(first, Reg) or destination.name not in _CONTROL:
        return
    state.cells[first.name] = _CONTROL[destination.name](source)


_CONTROL: dict[str, Callable[[random.Random], int]] = {
    "cr0": lambda source: PG
    | PE
    | _some(source, (AM, WP, NE, ET, TS, EM, MP))
    | source.choice((0, CD, CD | NW)),
    "cr2": number,
    "cr3": lambda source: _CR3 | _some(source, (8, 16)),
    "cr4": lambda source: PAE | _some(source, _CR4_FREE) | source.choice((0, 0, 0, LA57)),
    "cr8": lambda source: source.randrange(16),
    "dr6": lambda source: source.getrandbits(32) & ~(1 << 12) | source.choice((0, 0, 0, 1 << 32, 1 << 63)),
}


# QEMU


def _machine(source: random.Random) -> dict[str, int]:
    cpl = source.choice((0, 0, 0, 1, 2, 3))
    cs, ss = _RINGS[cpl]
    selectors = (0, 0x48, 0x4B) if cpl else (0, 0x18, 0x48, 0x4B)
    return {
        "cpl": cpl, "cs": cs, "ss": ss, "iopl": source.getrandbits(2),
        **{flag: source.getrandbits(1) for flag in ("if", "nt", "ac", "id")},
        **{name: source.choice(selectors) for name in ("ds", "es", "fs", "gs")},
        **{name: _base(source) for name in ("fs_base", "gs_base", "kernel_gs_base")},
        "cr0": _CR0 | _some(source, (AM, WP, NE, TS, EM, MP)), "cr2": number(source), "cr3": _CR3,
        "cr4": PAE | _some(source, _CR4_FREE), "cr8": source.randrange(16), "dr6": _DR6 | source.getrandbits(4),
    }  # fmt: skip


#: A port behind which nothing is.
_PORT = 0x80


def _fits_machine(instruction: Instruction) -> bool:
    ports = [o.value for o in instruction.operands if isinstance(o, Imm)]
    return instruction.mnemonic not in ("in", "out") or not ports or ports == [_PORT]


def _port(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    state.cells["rdx"] = state.cells["rdx"] & ~0xFFFF | _PORT


def _canonical_only(
    instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random
) -> None:
    """QEMU 7.2 accepts bases that are not canonical."""
    value = _base(source)
    state.cells["rax"], state.cells["rdx"] = (
        source.getrandbits(32) << 32 | value >> low & 0xFFFF_FFFF for low in (0, 32)
    )
    operand = instruction.operands[0] if instruction.operands else None
    if isinstance(operand, Reg):
        state.cells[operand.name] = value


def _unreadable(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """QEMU has no performance counters, and raises #UD where one may be read."""
    state.cells |= {"cpl": 3, "cs": _RINGS[3][0], "ss": _RINGS[3][1], "cr4": state.cells["cr4"] & ~(1 << 8)}
    state.cells |= {name: 0 for name in ("ds", "es", "fs", "gs")}


def _may_halt(instruction: Instruction, loads: list[tuple[int, int]], state: State, source: random.Random) -> None:
    """A HLT with IF=0 would last for ever."""
    state.cells["if"] = 1


CPU = World(
    "this CPU",
    _process,
    _fits_process,
    dict.fromkeys(("mov", "pop"), _selector(_process_selector)),
    segments=(
        Segment(0x10, "code", 0, long=True, limit=_FLAT),
        Segment(0x18, "data", 0, limit=_FLAT),
        Segment(0x23, "code", 3, limit=_FLAT),
        Segment(0x2B, "data", 3, limit=_FLAT),
        Segment(0x33, "code", 3, long=True, limit=_FLAT),
    ),
)
QEMU = World(
    "QEMU",
    _machine,
    _fits_machine,
    {
        **dict.fromkeys(("mov", "pop"), _selector(_machine_selector)),
        **dict.fromkeys(("in", "out"), _port),
        **dict.fromkeys(("wrmsr", "wrfsbase", "wrgsbase"), _canonical_only),
        "rdpmc": _unreadable,
        "hlt": _may_halt,
    },
    {
        ("fault 12", "fault 13"): "no #SS for an address that is not canonical",
        **{(f"fault {n}", "fault 14"): "sees the first half of an access across the edge" for n in (12, 13)},
    },
    segments=(
        *(Segment(cs, "code", cpl, long=True, limit=_FLAT) for cpl, (cs, _) in _RINGS.items()),
        *(Segment(ss, "data", cpl, limit=_FLAT) for cpl, (_, ss) in _RINGS.items()),
        Segment(0x63, "data", 3, limit=0x3007, writable=False),
        Segment(0x69, "data", 1, limit=0x7_3FFF),
    ),
)  # fmt: skip

# Unicorn


def _emulated(source: random.Random) -> dict[str, int]:
    return {
        "iopl": source.getrandbits(2), **{flag: source.getrandbits(1) for flag in ("if", "nt", "ac", "id")},
        **{name: source.choice((source.randrange(0x80), _base(source))) for name in ("fs_base", "gs_base")},
        "cr2": number(source),
    }  # fmt: skip


def _fits_unicorn(instruction: Instruction) -> bool:
    """It forgets an immediate behind a RIP-relative operand in some: the address is one too low."""
    return instruction.mnemonic not in ("shld", "shrd", "rorx") or "%rip" not in instruction.text


UNICORN = World(
    "Unicorn",
    _emulated,
    _fits_unicorn,
    {},
    {(f"fault {vector}", UNMAPPED): "knows no canonical addresses" for vector in (12, 13)},
    {
        "blsi": frozenset(("cf",)),  # inverted
        "bextr": _RESULT,  # takes a length above 31 (63) for that
        "bzhi": _RESULT,  # takes an index above 31 (63) for that
        "neg": frozenset(STATUS_FLAGS),  # with LOCK: of the result
        "cmpxchg": frozenset(("rax",)),  # zero-extends EAX although it is not written when equal
    },
)

# which forms are run where

#: Left to the tests of delivery and returns: their meaning is the machine's, and its tables decide.
TRANSFERS = frozenset(("iret", "lret", "sysret", "syscall", "int", "int3"))
#: What the assembler takes and the lifter refuses, whatever the values of the operands.
REFUSED = frozenset(
    (
        *(("lret", width, ("i",)) for width in (16, 32, 64)),
        *(("mov", 64, sorts) for n in (0, 1, 2, 3, 4, 5, 7) for sorts in ((f"dr{n}", "r"), ("r", f"dr{n}"))),
    )
)
#: Linux answers these for a process, or counts with it.
_ANSWERED_BY_LINUX = frozenset(("smsw", "sldt", "str", "rdpmc"))
#: What depends on the privilege level or on what only CPL 0 can set.
_SYSTEM = """cli sti swapgs clac stac rdmsr wrmsr clts hlt invlpg wbinvd wbnoinvd in out smsw sldt str rdpmc popf pushf
lar lsl verr verw rdfsbase rdgsbase wrfsbase wrgsbase rdtsc rdtscp cpuid"""
#: What Unicorn has not, runs in a way of its own, or (branches) fetches the target of.
_NOT_IN_UNICORN = """rdrand rdseed rdpid rdtsc rdtscp cpuid invpcid lar lsl verr verw wrfsbase wrgsbase rdfsbase
rdgsbase popf clflush clflushopt clwb ud1 ud2 jmp jcc call ret jrcxz jecxz loop loope loopne"""
_SPECIAL = frozenset(("es", "cs", "ss", "ds", "fs", "gs", "cr0", "cr2", "cr3", "cr4", "cr8", "dr6"))


def worlds(form: Form) -> tuple[World, ...]:
    """Where a form is run."""
    if form.mnemonic in TRANSFERS or is_refused(form):
        return ()
    found = () if form.mnemonic in _ANSWERED_BY_LINUX else (CPU,)
    return (*found, QEMU) if _is_system(form) else found


def is_refused(form: Form) -> bool:
    return (form.mnemonic, form.width, form.sorts) in REFUSED


def _is_system(form: Form) -> bool:
    return form.mnemonic in _SYSTEM.split() or bool(_SPECIAL & set(form.sorts))


def in_unicorn(form: Form) -> bool:
    """Whether Unicorn is a second oracle for a form."""
    return CPU in worlds(form) and not _is_system(form) and form.mnemonic not in _NOT_IN_UNICORN.split()
