"""Bad addresses and segment prefixes on the processor: which of #SS (SIGBUS) and #GP (SIGSEGV) they end in (A2)."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import platform
import signal
import sys

import pytest
from interpreter_machine import kernel

from verifier.asm import assemble_text
from verifier.lift import lift
from verifier.machine.config import Gate, MachineConfig, Region
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import Move, Start

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="needs an x86-64 processor under Linux",
)

BAD, STACK = 1 << 47, 0xFFFF_8880_0000_0000
OPERANDS = (
    "(%rax)", "(%rbp)", "%ds:(%rbp)", "%cs:(%rbp)", "%es:(%rbp)", "%ss:(%rax)", "%ds:(%rax)", "%ss:(%rbp)",
)  # fmt: skip
SIGNALS = {"stack_fault": signal.SIGBUS, "general_protection": signal.SIGSEGV}


def signal_of(operand: str) -> int:
    """What ends a process that reads there."""
    text = assemble_text(f"mov $0x800000000000, %rax\n mov %rax, %rbp\n mov {operand}, %rcx\n", "native.s")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(b"".join(i.encoding for i in text))
        child = os.fork()
        if child == 0:
            faulthandler.disable()
            ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def interpreted(operand: str, prefix_names_segment: int) -> int:
    program = assemble_text(f"start: mov {operand}, %rcx\n\ngp: nop\nss: nop\n", "ours.s")
    gates = {
        vector: Gate(vector, name, program.symbols[label].value, "interrupt")
        for vector, name, label in ((13, "general_protection", "gp"), (12, "stack_fault", "ss"))
    }
    machine = MachineConfig(program, {"stack": Region("stack", "stack", 0x100, STACK)}, gates, {}, {}, ())
    state = kernel(rax=BAD, rbp=BAD, rsp=STACK + 0x80, rip=program.symbols["start"].value)
    start = Start(state, 0, {"stack": STACK}, {"prefix_names_segment": prefix_names_segment})
    (delivered,) = Interpreter(machine, start, lift).step(state, Move("execute")).delivered
    return SIGNALS[delivered]


def test_the_processor_goes_one_of_the_two_ways():
    measured = [signal_of(operand) for operand in OPERANDS]
    assert measured in [[interpreted(operand, way) for operand in OPERANDS] for way in (0, 1)]


def test_the_two_ways_differ_where_a_prefix_and_the_base_do():
    differ = [operand for operand in OPERANDS if interpreted(operand, 0) != interpreted(operand, 1)]
    assert differ == ["%ds:(%rbp)", "%cs:(%rbp)", "%es:(%rbp)", "%ss:(%rax)"]
