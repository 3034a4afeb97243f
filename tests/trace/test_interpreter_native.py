"""IRET against the processor at CPL 3: which frames it takes, what it makes of the flags (R3, R4, R5, R6, R9).

The selectors are those of 64-bit Linux: 0x10 and 0x18 are the kernel's, 0x23, 0x2b and 0x33 the user's.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import platform
import random
import signal
import sys

import pytest
from interpreter_machine import KSTACK, Lab, memory_of, user

from verifier.trace.interpreter.memory import Memory
from verifier.trace.interpreter.returns import Returns
from verifier.trace.interpreter.work import Choices, Fault, Work
from verifier.trace.run import Start

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="needs an x86-64 processor under Linux",
)

#: long f(rip, cs, rflags, ss): IRETQ by that frame with the RSP that `ret` needs; rip 0 is the landing.
CODE = bytes.fromhex(
    "4889e0"  # mov %rsp,%rax
    "51505256"  # push %rcx; push %rax; push %rdx; push %rsi
    "4c8d150a000000"  # lea landing(%rip),%r10
    "4885ff"  # test %rdi,%rdi
    "490f44fa"  # cmove %r10,%rdi
    "57"  # push %rdi
    "48cf"  # iretq
    "9c58"  # landing: pushf; pop %rax
    "6802020000"  # push $0x202
    "9dc3"  # popf; ret
)
#: long f(rsp): IRETL by the frame at rsp, to the next instruction; the RSP after it.
SHORT = bytes.fromhex(
    "4889e0"  # mov %rsp,%rax
    "4889fc"  # mov %rdi,%rsp
    "cf"  # iretl
    "4889e2"  # landing: mov %rsp,%rdx
    "4889c4"  # mov %rax,%rsp
    "4889d0c3"  # mov %rdx,%rax; ret
)
SHORT_LANDING = 7
MAP_32BIT = 0x40
CODE_SEGMENT, STACK_SEGMENT = 0x33, 0x2B
LANDING = 0x40_0000
TF, RF = 1 << 8, 1 << 16


@pytest.fixture(scope="module")
def native():
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CODE)
    buffer = ctypes.c_char.from_buffer(page)
    yield ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 4)(ctypes.addressof(buffer))
    del buffer
    page.close()


def interpreted(rip, cs, rflags, ss):
    """The flags after the return, or None if it faults. Linux runs us with IF=1 and IOPL=0."""
    before = user(rsp=KSTACK, if_=1)
    machine = Lab().machine
    memory = Memory(machine, Start(before, 0, {"kstack": KSTACK}, {}))
    work = Work.of(before, Choices(()))
    work.memory |= memory_of({KSTACK + 8 * i: v for i, v in enumerate((rip or LANDING, cs, rflags, 0, ss))})
    try:
        Returns(machine, memory, {}).iret(work, 64)
    except Fault:
        return None
    return work.rflags()


def test_flags_that_user_code_loads(native):
    """R9: IF, IOPL, VIF, VIP and VM keep their values. PUSHF shows RF as 0."""
    random.seed(1)
    images = [
        0,
        (1 << 64) - 1,
        *(1 << bit for bit in range(32)),
        *(random.getrandbits(32) for _ in range(500)),
    ]
    for image in images:
        wanted = image & ~TF
        ours = interpreted(0, CODE_SEGMENT, wanted, STACK_SEGMENT)
        assert ours is not None
        assert native(0, CODE_SEGMENT, wanted, STACK_SEGMENT) == ours & ~RF, hex(wanted)


def test_a_short_iret_to_the_same_level_pops_five_items():
    """R3: neither QEMU nor Bochs does, so this is who says that a 32-bit IRET loads RSP."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    buffer = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
    base = ctypes.addressof(buffer)
    assert base < 1 << 32
    frame, rsp = base + 1024, base + 2048
    words = (base + SHORT_LANDING, CODE_SEGMENT, 0x202, rsp, STACK_SEGMENT)
    page[: len(SHORT)] = SHORT
    page[1024:1044] = b"".join(word.to_bytes(4, "little") for word in words)
    assert ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(base)(frame) == rsp
    del buffer
    page.close()


def signal_of(native, *frame):
    """The signal that ends a process returning by this frame, 0 if none."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        native(*frame)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


CS = [0x33, 0x30, 0x31, 0x32, 0x37, 0, 1, 3, 0x10, 0x13, 0x18, 0x1B, 0x28, 0x2B, 0x20, 0xFFFB, 0x10033]
SS = [0x2B, 0x28, 0x29, 0x2A, 0x2F, 0, 3, 0x10, 0x13, 0x18, 0x1B, 0x33, 0x23, 0xFFFB, 0x1002B]
RIP = [1 << 47, (1 << 64) - (1 << 47) - 1, 1 << 63]
FRAMES = [
    *((0, cs, 0x202, STACK_SEGMENT) for cs in CS),
    *((0, CODE_SEGMENT, 0x202, ss) for ss in SS),
    *((rip, CODE_SEGMENT, 0x202, STACK_SEGMENT) for rip in RIP),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: "-".join(f"{word:x}" for word in frame))
def test_frames_that_user_code_returns_by(native, frame):
    expected = signal.SIGSEGV if interpreted(*frame) is None else 0
    assert signal_of(native, *frame) == expected
