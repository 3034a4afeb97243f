"""System instructions. SDM vol. 2; rules I6, I9, I13, I14.

LGDT, LIDT, LLDT and LTR have no semantics here: the specification says what the descriptor tables are, and
code that replaces them would make it untrue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Mem, Reg
from verifier.lift import privilege
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

_CR0_TS = 3
_CR4_TSD = 2
_CR4_PCE = 8
_CR4_UMIP = 11
_CR4_FSGSBASE = 16


def _cr4(b: Lifter, bit: int) -> Value:
    return b.bit(b.get("cr4"), bit)


@instruction("nop", "pause", "lfence", "mfence", "sfence", "endbr64", "endbr32")
@instruction("prefetch", "prefetchw", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2")
def nop(b: Lifter) -> None:
    """No effect that one CPU's run can see (rule A13). A memory operand of these is not accessed."""


@instruction("clflush", "clflushopt", "clwb")
def clflush(b: Lifter) -> None:
    """Faults as a read of a byte does."""
    b.read(b.source)


@instruction("invlpg", "wbinvd", "wbnoinvd")
def maintain(b: Lifter) -> None:
    """Caches and translations are not modelled. INVLPG of a bad address does nothing."""
    privilege.require_cpl0(b)


@instruction("invpcid")
def invpcid(b: Lifter) -> None:
    """Reads a descriptor of 16 bytes; its checks and the type's are those of CR4.PCIDE and the model."""
    privilege.require_cpl0(b)
    mem = b.source
    assert isinstance(mem, Mem)
    privilege.protect(b, b.binary("ult", b.const(3, 64), b.read(b.destination)))
    address = b.address(mem)
    b.load(address, 64, b.access(mem))
    b.load(b.binary("add", address, b.const(8, 64)), 64, b.access(mem))


@instruction("clts")
def clts(b: Lifter) -> None:
    privilege.require_cpl0(b)
    b.put("cr0", b.binary("and", b.get("cr0"), b.const(~(1 << _CR0_TS), 64)))


@instruction("swapgs")
def swapgs(b: Lifter) -> None:
    privilege.require_cpl0(b)
    b.put("gs_base", b.get("kernel_gs_base"))
    b.put("kernel_gs_base", b.get("gs_base"))


@instruction("rdfsbase", "rdgsbase")
def read_base(b: Lifter) -> None:
    """#UD unless CR4.FSGSBASE."""
    _require_fsgsbase(b)
    base = b.get(f"{b.instruction.mnemonic[2:4]}_base")
    b.write(b.destination, b.extract(base, b.width - 1, 0))


@instruction("wrfsbase", "wrgsbase")
def write_base(b: Lifter) -> None:
    """#UD unless CR4.FSGSBASE; #GP(0) for a base that is not canonical (48 bits: no LA57 in this model)."""
    _require_fsgsbase(b)
    value = b.zext(b.read(b.source), 64)
    canonical = b.binary("eq", b.sext(b.extract(value, 47, 0), 64), value)
    privilege.protect(b, b.invert(canonical))
    b.put(f"{b.instruction.mnemonic[2:4]}_base", value)


def _require_fsgsbase(b: Lifter) -> None:
    b.fault_if(b.invert(_cr4(b, _CR4_FSGSBASE)), privilege.INVALID_OPCODE)


@instruction("rdmsr")
def rdmsr(b: Lifter) -> None:
    privilege.require_cpl0(b)
    value = b.rdmsr(b.register("rcx", 32))
    b.set_register("rax", b.extract(value, 31, 0))
    b.set_register("rdx", b.extract(value, 63, 32))


@instruction("wrmsr")
def wrmsr(b: Lifter) -> None:
    privilege.require_cpl0(b)
    b.wrmsr(b.register("rcx", 32), b.concat(b.register("rdx", 32), b.register("rax", 32)))


def _put_unknown(b: Lifter, *registers: str) -> None:
    for register in registers:
        b.set_register(register, b.undef(32))


@instruction("cpuid")
def cpuid(b: Lifter) -> None:
    _put_unknown(b, "rax", "rbx", "rcx", "rdx")


@instruction("rdtsc")
def rdtsc(b: Lifter) -> None:
    _require_timestamp(b)
    _put_unknown(b, "rax", "rdx")


@instruction("rdtscp")
def rdtscp(b: Lifter) -> None:
    _require_timestamp(b)
    _put_unknown(b, "rax", "rdx")
    b.set_register("rcx", b.tsc_aux())


def _require_timestamp(b: Lifter) -> None:
    """#GP(0) outside CPL 0 under CR4.TSD."""
    privilege.protect(b, b.binary("and", _cr4(b, _CR4_TSD), privilege.outside_cpl0(b)))


@instruction("rdpmc")
def rdpmc(b: Lifter) -> None:
    """#GP(0) outside CPL 0 without CR4.PCE."""
    privilege.protect(b, b.binary("and", b.invert(_cr4(b, _CR4_PCE)), privilege.outside_cpl0(b)))
    _put_unknown(b, "rax", "rdx")


@instruction("rdpid")
def rdpid(b: Lifter) -> None:
    b.write(b.destination, b.zext(b.tsc_aux(), 64))


@instruction("rdrand", "rdseed")
def rdrand(b: Lifter) -> None:
    """CF says that there was a value; else the destination is 0."""
    available = b.undef(1)
    b.write(b.destination, b.ite(available, b.undef(b.width), b.const(0, b.width)))
    for flag in ("of", "sf", "zf", "af", "pf"):
        b.put(flag, b.const(0, 1))
    b.put("cf", available)


@instruction("in")
def in_(b: Lifter) -> None:
    """Any value. The I/O permission bitmap of the TSS is not modelled: above IOPL is #GP(0)."""
    privilege.require_iopl(b)
    b.set_register("rax", b.undef(b.width))


@instruction("out")
def out(b: Lifter) -> None:
    """No effect: devices are not modelled. Nor is the I/O permission bitmap: above IOPL is #GP(0)."""
    privilege.require_iopl(b)


def _look(b: Lifter) -> Value:
    """What the machine tells of the descriptor that the source selects: 32 bits, and ZF above them (rule I13)."""
    return b.descriptor(b.instruction.mnemonic, b.extract(b.read(b.source), 15, 0))


@instruction("verr", "verw")
def verify(b: Lifter) -> None:
    """ZF says whether the segment can be read or written."""
    b.put("zf", b.bit(_look(b), 32))


@instruction("lar", "lsl")
def load_from_descriptor(b: Lifter) -> None:
    """ZF says whether there is such a descriptor at this privilege; the destination is written only then."""
    register = b.destination
    assert isinstance(register, Reg)
    found, before = _look(b), b.get(register.name)
    b.put("zf", b.bit(found, 32))
    b.write(register, b.extract(b.zext(b.extract(found, 31, 0), 64), b.width - 1, 0))
    b.put(register.name, b.ite(b.bit(found, 32), b.current(register.name), before))


@instruction("sldt", "str")
def store_selector(b: Lifter) -> None:
    """The selector of LDTR or TR, which are not modelled: any value, zero-extended."""
    _require_no_umip(b)
    b.write(b.destination, b.zext(b.undef(16), b.destination_width))


@instruction("smsw")
def smsw(b: Lifter) -> None:
    _require_no_umip(b)
    b.write(b.destination, b.extract(b.get("cr0"), b.destination_width - 1, 0))


def _require_no_umip(b: Lifter) -> None:
    privilege.protect(b, b.binary("and", _cr4(b, _CR4_UMIP), privilege.outside_cpl0(b)))
