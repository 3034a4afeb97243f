"""Machines, programs and random states for running the symbolic machine beside the concrete interpreter."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from machine_contracts import contract

from verifier.asm import assemble_text
from verifier.ir.cells import CELL_NAMES, CELLS
from verifier.machine.config import MSR_ADDRESS, MSRS, Context, Datum, Gate, MachineConfig, Region, Segment
from verifier.machine.events import EVENTS

if TYPE_CHECKING:
    from verifier.asm import Program

#: The lowest address of the upper canonical half: a region here can hold a part of a frame (F15).
EDGE = 0xFFFF_8000_0000_0000
NMI_IST, RSP0, KSTACK, PERCPU, TABLE, OTHER = (0xFFFF_8880_0000_0000 + 0x1000 * i for i in range(1, 7))
BASES = {
    MSRS: MSR_ADDRESS,
    "nmi_ist": NMI_IST,
    "rsp0": RSP0,
    "kstack": KSTACK,
    "percpu": PERCPU,
    "table": TABLE,
    "other": OTHER,
}
SIZE = 0x100
USER_HOME, KERNEL_HOME = 0x40_1234, 0xFFFF_FFFF_9000_0000

#: One line per instruction; every line can be executed from any state.
LINES = """
    nop
    push %rax
    push %rsp
    pushq $-5
    pushw %ax
    pushq 8(%rsp)
    pushq (%rbx)
    pop %rcx
    pop %rsp
    popw %dx
    popq (%rbx)
    popq 8(%rsp)
    push %fs
    pop %fs
    pushfq
    pushfw
    popfq
    popfw
    call callee
    call *%rax
    call *(%rbx)
    jmp callee
    jmp *%rax
    jmp *(%rsp)
    jz callee
    ja callee
    jl callee
callee:
    ret
    ret $16
    iretq
    iretl
    iretw
    sysretq
    sysretl
    cli
    sti
    sti
    mov %ax, %ss
    mov %ecx, %ss
    mov %ax, %ds
    mov %ax, %es
    mov %ecx, %gs
    pop %gs
    mov %ss, %eax
    swapgs
    int3
    int $2
    int $0x20
    int $0x80
    ud2
    hlt
    rdmsr
    wrmsr
    mov %cr2, %rax
    mov %rax, %cr2
    mov (%rbx), %rax
    mov (%rbx), %al
    mov %ds:8(%rbp), %rax
    mov %rcx, %es:(%rbp)
    mov %ss:(%rbx), %rax
    pushq %ss:(%rbx)
    mov %rax, (%rbx)
    mov %eax, 1(%rbx)
    mov %cx, 7(%rbx)
    mov 8(%rbp), %rax
    mov %rax, -8(%rsp)
    mov %rax, (%rbp)
    mov %gs:0x20, %rax
    mov %gs:0x21, %eax
    mov %rax, %gs:0x40
    mov %gs:0xf000, %rax
    mov %fs:0x10, %rax
    mov %gs:(%rbx), %rax
    addq $1, %gs:0x48
    cmpb $0, %gs:0x20
    movb $1, %gs:0x20
    add %rcx, %rax
    sub %rcx, %rax
    imul %rcx, %rax
    div %rcx
    and $-16, %rsp
    sub $24, %rsp
    lea -24(%rsp), %rsp
    mov %rbx, %rsp
    xchg %rax, (%rbx)
    cmpxchg %rcx, (%rbx)
    shl $3, %rax
    shl %cl, %rax
    bt $5, %rax
    bsf %rcx, %rax
    cmovz %rcx, %rax
    setc %al
    stosq
    rep stosq
    rep movsb
    repe cmpsb
    repne scasb
    lodsq
    leave
    pushq table
    mov table+8, %rax
    mov %rax, table
    cld
    std
    stac
    clac
    ...
    nop
"""

HANDLERS = ("nmi", "irq", "debug", "breakpoint", "double_fault", "stack_fault", "general_protection", "page_fault",
            "invalid_opcode", "divide_error", "machine_check", "system")  # fmt: skip
VECTORS = {name: EVENTS[name].vector for name in HANDLERS[2:-1]} | {"nmi": 2, "irq": 0x20, "system": 0x80}

SEGMENTS = (
    Segment(0x10, "code", 0, long=True),
    Segment(0x18, "data", 0),
    Segment(0x23, "code", 3),
    Segment(0x2B, "data", 3),
    Segment(0x33, "code", 3, long=True),
    Segment(0x40, "code", 0),
    Segment(0x48, "data", 0),
)
#: What may strike at some of the text's instructions, and the interrupted context.
RAISED = ("page_fault", "general_protection", "invalid_opcode", "debug", "breakpoint")
RAISED_OUTSIDE = ("page_fault", "debug", "divide_error")
USER = Context("user", 3, 0x33, 0x2B, "user", None)
KERNEL = Context("kernel", 0, 0x10, 0x18, "kernel", "kstack")


def program() -> Program:
    handlers = "".join(f"{name}:\n    nop\n    iretq\n" for name in HANDLERS)
    return assemble_text(f".text\nstart:\n{LINES}{handlers}", "lab.s", externals={"table": TABLE_SYMBOL})


#: What the program calls ``table``: an address that fits in 32 bits, sign-extended.
TABLE_SYMBOL = 0xFFFF_FFFF_A000_0000


@dataclass(frozen=True, slots=True)
class Lab:
    """A machine, the address of each of its regions in the concrete run, and those of its instructions."""

    machine: MachineConfig
    bases: dict[str, int]
    addresses: tuple[int, ...]


def lab(source: random.Random, built: Program, *, fixed: bool, played: bool = False) -> Lab:
    """A machine with random gates.

    ``fixed``: its regions have addresses; else they are anywhere. ``played``: without IST slots in memory
    and other model-specific registers, which a machine does not have.
    """
    bases = {name: base for name, base in BASES.items() if not (played and name == MSRS)} | {"table": TABLE_SYMBOL}
    if fixed and source.random() < 0.3:
        bases["other"] = EDGE
    stacks = ("nmi_ist", "other", None)
    gates = {}
    for name in HANDLERS:
        vector = VECTORS[name]
        if source.random() < 0.12 and name != "nmi":
            continue  # no gate: the run ends
        stack = "nmi_ist" if name == "nmi" and source.random() < 0.7 else source.choice(stacks)
        kind = source.choice(("interrupt", "trap"))
        entry = built.symbols[name].value
        slot = "slot" if not played and stack is None and source.random() < 0.2 else None
        gates[vector] = Gate(vector, name, entry, kind, stack, source.choice((0, 3)), slot)
    anywhere = not fixed

    def at(name: str) -> int | None:
        return None if anywhere and name != "table" else bases[name]

    data = (Datum("flag", 0x20, 1), Datum("slot", 0x28, 8))
    msrs = (Datum("msr_0x48", 0, 8), Datum("msr_0x17a", 8, 8))
    regions = (
        Region("nmi_ist", "stack", SIZE, at("nmi_ist")),
        Region("rsp0", "stack", SIZE, at("rsp0")),
        Region("kstack", "interrupted", SIZE, at("kstack"), alignment=source.choice((8, 16))),
        Region("percpu", "percpu", SIZE, at("percpu"), data=data, alignment=64),
        Region("table", "data", 32, at("table"), writable=False, contents=bytes(range(0x30, 0x50))),
        Region("other", "stack", SIZE, at("other"), alignment=8),
        *(() if played else (Region(MSRS, "msr", 16, MSR_ADDRESS, 8, msrs),)),
    )
    hidden = contract(source)
    machine = MachineConfig(
        built,
        {r.name: r for r in regions},
        gates,
        {s.selector: s for s in SEGMENTS},
        {"hidden": hidden} | {i.hole: hidden for i in built if i.hole},
        (replace(USER, ldt=("ss",)) if source.random() < 0.3 else USER, KERNEL),
        rsp0="rsp0" if source.random() < 0.9 else None,
        percpu="percpu",
        raised={name: _some(source, built) for name in RAISED},
        raised_outside=frozenset(RAISED_OUTSIDE),
    )
    return Lab(machine, bases, tuple(i.address for i in built))


def address(source: random.Random, lab: Lab) -> int:
    """Where control is: often in hidden code and at returns, which are few instructions of many."""
    hidden = [i.address for i in lab.machine.program if i.hole]
    returns = [i.address for i in lab.machine.program if i.mnemonic == "iret"]
    return source.choice(source.choices((lab.addresses, hidden, returns), (7, 2, 1))[0])


def _some(source: random.Random, built: Program) -> frozenset[int]:
    """Two of three instructions that are shown, and every IRET."""
    shown = [i for i in built if not i.mnemonic.startswith("hole_")]
    return frozenset(i.address for i in shown if i.mnemonic.startswith("iret") or source.random() < 0.67)


def strikes(machine: MachineConfig, at: int | None) -> list[str]:
    """What may strike at an address (None: in the interrupted context) though the text does not mean it."""
    if at is None:
        return sorted(machine.raised_outside)
    return [name for name, addresses in machine.raised.items() if at in addresses]


# states


def number(source: random.Random, lab: Lab) -> int:
    """A 64-bit value that means something somewhere: pointer, selector, flags, edge."""
    return source.choice(
        (
            lambda: pointer(source, lab),
            lambda: pointer(source, lab),
            lambda: source.choice(lab.addresses),
            lambda: source.choice((0x10, 0x18, 0x33, 0x2B, 0x23, 0, 1, 3, 7, 0x4F, 0x13, 0x40, 0x48, 0x1000, 0x1B)),
            lambda: source.choice((0, 1, (1 << 64) - 1, 1 << 63, 0x7FFF_FFFF_FFFF, 0x8000_0000_0000)),
            lambda: source.choice((0xFFFF_7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, 0x7FFF_FFFF_FFFC)),
            lambda: source.getrandbits(22) | 2,
            lambda: source.choice((USER_HOME, KERNEL_HOME)),
            lambda: source.choice((0xC000_0101, 0xC000_0102, 0xC000_0100, 0x7FFF_FFFF_E000, 0x48)),
            lambda: source.getrandbits(64),
        )
    )()


def pointer(source: random.Random, lab: Lab) -> int:
    """In a region, or near one of its ends; often aligned to 8."""
    name = source.choice(tuple(lab.bases))
    size = lab.machine.regions[name].size
    near = source.choice((0, size, source.randrange(size), size // 2))
    offset = near + source.randrange(-48, 49)
    if source.random() < 0.8:
        offset &= ~7
    return (lab.bases[name] + offset) & ((1 << 64) - 1)


def stack_pointer(source: random.Random, lab: Lab) -> int:
    """Mostly in the middle of a stack, sometimes where a frame does not fit, sometimes anywhere."""
    name = source.choice(("kstack", "kstack", "nmi_ist", "rsp0", "other"))
    kind = source.random()
    if kind < 0.7:
        return lab.bases[name] + source.randrange(0x38, SIZE - 0x38) & (~7 if kind < 0.6 else ~0)
    return number(source, lab) if kind < 0.85 else pointer(source, lab)


def frame(source: random.Random, lab: Lab) -> list[int]:
    """Five words for IRET: often good, often with one bad."""
    user = source.random() < 0.5
    rip = USER_HOME if user else source.choice((KERNEL_HOME, source.choice(lab.addresses)))
    words = [
        rip,
        0x33 if user else 0x10,
        source.getrandbits(22) & ~(1 << 17) | 2,
        0x7FFF_FFFF_E008 if user else stack_pointer(source, lab),
        source.choice((0x2B, 0x2B, 0xF)) if user else source.choice((0x18, 0)),
    ]
    if source.random() < 0.5:
        words[source.randrange(5)] = number(source, lab)
    return words


def cells(source: random.Random, lab: Lab) -> dict[str, int]:
    """Every cell of a CPL 0 state."""
    found = {name: number(source, lab) & ((1 << width) - 1) for name, width in CELLS.items()}
    for name, width in CELLS.items():
        if width <= 2:
            found[name] = source.getrandbits(width)
    found |= {
        "cpl": 0,
        "cs": 0x10,
        "ss": source.choice((0, 0x18)),
        "vm": 0,
        "nt": int(source.random() < 0.1),
        "tf": int(source.random() < 0.15),
        "inhibit": source.choice((0, 0, 0, 0, 1, 2, 3)),
        "rsp": stack_pointer(source, lab),
        "gs_base": source.choice((lab.bases["percpu"], lab.bases["percpu"], 0x7F00_0000_1000, number(source, lab))),
        "cr4": source.getrandbits(32),
        "rcx": source.choice((0, 1, 3, 0x48, USER_HOME, 0xC000_0101, 0xC000_0102, number(source, lab))),
    }
    if source.random() < 0.5:
        found["rbp"] = pointer(source, lab)
    if source.random() < 0.6:
        found["rbx"] = pointer(source, lab)
    for name in ("rsi", "rdi"):
        if source.random() < 0.7:
            found[name] = pointer(source, lab)
    return {name: found[name] for name in CELL_NAMES}


def user_cells(source: random.Random, lab: Lab, context: Context) -> dict[str, int]:
    return cells(source, lab) | {
        "cpl": context.cpl,
        "cs": context.cs,
        "ss": context.ss,
        "inhibit": 0,
    }


def words(source: random.Random, lab: Lab, rsp: int) -> dict[tuple[str, int], int]:
    """Every word of every writable region, with an IRET frame at RSP where it fits."""
    found = {
        (name, offset): number(source, lab)
        for name, region in lab.machine.regions.items()
        if region.writable
        for offset in range(0, region.size, 8)
    }
    for name, base in lab.bases.items():
        start = rsp - base
        if lab.machine.regions[name].writable and start % 8 == 0:
            found |= {
                (name, start + 8 * i): w
                for i, w in enumerate(frame(source, lab))
                if 0 <= start + 8 * i < lab.machine.regions[name].size
            }
    return found
