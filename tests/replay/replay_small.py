"""A small program for the tests of the drivers, and its image."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from verifier.asm.assembler import assemble_text
from verifier.machine.config import Gate, Segment
from verifier.replay.image import Image, Plan, build

if TYPE_CHECKING:
    from verifier.replay.machine import Machine

SEGMENTS = [
    Segment(0x10, "code", 0, long=True),
    Segment(0x18, "data", 0),
    Segment(0x23, "code", 3),
    Segment(0x2B, "data", 3),
    Segment(0x33, "code", 3, long=True),
]
TEXT = """
body:	nop
	nop
load:	movabsq	0xffff888000007000, %rax
loaded:	nop
trap:	int3
	hlt
halted:	nop
shadow:	sti
	nop
	nop
string:	rep movsb
	nop
nmi:	pushq	%rax
	popq	%rax
	iretq
irq:	pushq	%rbx
	popq	%rbx
	iretq
fault:	pushq	%rcx
	popq	%rcx
	addq	$8, %rsp
	iretq
debug:	iretq
check:	iretq
"""
PROGRAM = assemble_text(TEXT)
AT = {name: symbol.value for name, symbol in PROGRAM.symbols.items()}
STACKS = 0xFFFF_8880_0000_1000
NMI_TOP, CHECK_TOP, RSP0, KERNEL_RSP = (STACKS + 0x1000 * i for i in (1, 2, 3, 4))
PAGE = 0xFFFF_8880_0000_7000
USER_STACK = 0x7FFF_FFFF_0000
USER = {"cs": 0x33, "ss": 0x2B, "rsp": USER_STACK + 0x800}
NARROW = {"cs": 0x23, "ss": 0x2B, "rsp": 0x7FFF_0800, "rip": 0x1234}
KERNEL = {"cs": 0x10, "ss": 0x18, "rsp": KERNEL_RSP}
GATES = [
    Gate(1, "debug", AT["debug"], "interrupt"),
    Gate(2, "nmi", AT["nmi"], "interrupt", "nmi_ist"),
    Gate(3, "breakpoint", AT["debug"], "trap", dpl=3),
    Gate(13, "general_protection", AT["fault"], "interrupt"),
    Gate(14, "page_fault", AT["fault"], "interrupt"),
    Gate(18, "machine_check", AT["check"], "trap", "check_ist"),
    Gate(0x20, "irq", AT["irq"], "trap"),
    Gate(0xFF, "irq", AT["irq"], "interrupt"),
]


def small_image() -> Image:
    (text,) = PROGRAM.sections
    return build(
        Plan(
            {text.address: text.data, PAGE: b"\x5a" * 8},
            SEGMENTS,
            GATES,
            {"nmi_ist": NMI_TOP, "check_ist": CHECK_TOP},
            rsp0=RSP0,
            read_only=frozenset([text.address]),
            mapped=((STACKS, 0x5000), (USER_STACK, 0x1000)),
        )
    )


def at(machine: Machine, label: str, **values: int) -> None:
    machine.write({"rflags": 2, "rip": AT[label], **values})


def frame(machine: Machine, words: int = 5) -> list[int]:
    return list(struct.unpack(f"<{words}Q", machine.load(machine.read()["rsp"], 8 * words)))


def where(machine: Machine) -> int:
    return machine.read()["rip"]
