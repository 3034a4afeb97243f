"""Exchange and compare. SDM vol. 2: XADD, CMPXCHG, CMPXCHG8B/16B. LOCK has no effect that one CPU can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Mem, Reg
from verifier.lift import privilege, status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


@instruction("xadd")
def xadd(b: Lifter) -> None:
    """The destination is written last: it wins if both are one register."""
    old = b.read(b.destination)
    total = status.add(b, old, b.read(b.source))
    b.write(b.source, old)
    b.write(b.destination, total)


@instruction("cmpxchg")
def cmpxchg(b: Lifter) -> None:
    """The destination is written in either case."""
    old, accumulator = b.read(b.destination), b.register("rax")
    status.subtract(b, accumulator, old)
    equal = b.binary("eq", accumulator, old)
    _write_if(b, b.invert(equal), Reg("rax", b.width), old)
    if isinstance(b.destination, Reg) and b.width == 32:
        # Unequal: the manual writes the old value back, zero-extended; a CPU was seen to leave the register.
        _write_if(b, b.binary("or", equal, b.undef(1)), b.destination, b.ite(equal, b.read(b.source), old))
    else:
        b.write(b.destination, b.ite(equal, b.read(b.source), old))


def _write_if(b: Lifter, condition: Value, register: Reg, value: Value) -> None:
    before = b.current(register.name)
    b.write(register, value)
    b.put(register.name, b.ite(condition, b.current(register.name), before))


def _compare_exchange_pair(b: Lifter, old: tuple[Value, Value]) -> tuple[Value, Value]:
    """ZF := rDX:rAX equals (low, high); if not, they are loaded with it. What is to be written back."""
    low, high = old
    width = low.width
    equal = b.binary(
        "and",
        b.binary("eq", b.register("rax", width), low),
        b.binary("eq", b.register("rdx", width), high),
    )
    b.put("zf", equal)
    _write_if(b, b.invert(equal), Reg("rax", width), low)
    _write_if(b, b.invert(equal), Reg("rdx", width), high)
    return b.ite(equal, b.register("rbx", width), low), b.ite(equal, b.register("rcx", width), high)


@instruction("cmpxchg8b")
def cmpxchg8b(b: Lifter) -> None:
    old = b.read(b.destination)
    low, high = _compare_exchange_pair(b, (b.extract(old, 31, 0), b.extract(old, 63, 32)))
    b.write(b.destination, b.concat(high, low))


@instruction("cmpxchg16b")
def cmpxchg16b(b: Lifter) -> None:
    """#GP(0) unless the address is aligned to 16 bytes."""
    mem = b.destination
    assert isinstance(mem, Mem)
    address, access = b.address(mem), b.access(mem)
    privilege.protect(b, b.invert(b.is_zero(b.extract(address, 3, 0))))
    above = b.binary("add", address, b.const(8, 64))
    old = b.load(address, 64, access), b.load(above, 64, access)
    low, high = _compare_exchange_pair(b, old)
    b.store(address, low, access)
    b.store(above, high, access)
