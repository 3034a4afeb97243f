"""Control transfer. SDM vol. 2: JMP, Jcc, CALL, RET, LOOP, IRET, INT n, SYSCALL, UD2, HLT; rules A3, A10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Imm, Target
from verifier.lift import privilege, status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


def _require_64_bit(b: Lifter) -> None:
    """AMD truncates the target of a 16-bit near branch, Intel ignores the prefix."""
    if b.width == 16:
        b.unsupported("a near branch with a 16-bit operand", "drop the suffix 'w'")


def _target(b: Lifter) -> int:
    assert isinstance(b.source, Target)
    return b.source.address


def _go(b: Lifter) -> None:
    if b.instruction.indirect:
        b.end("jump_indirect", b.read(b.source))
    else:
        b.end("jump", attr=_target(b))


@instruction("jmp")
def jmp(b: Lifter) -> None:
    _require_64_bit(b)
    _go(b)


@instruction("jcc")
def jcc(b: Lifter) -> None:
    _require_64_bit(b)
    b.end("branch", status.condition(b), attr=_target(b))


@instruction("call")
def call(b: Lifter) -> None:
    """The target is read before the return address is pushed (rule A10)."""
    _require_64_bit(b)
    _go(b)
    b.push(b.const(b.instruction.next_address, 64))


@instruction("ret")
def ret(b: Lifter) -> None:
    _require_64_bit(b)
    target = b.pop(64)
    if b.instruction.operands:
        assert isinstance(b.source, Imm)
        b.put("rsp", b.binary("add", b.current("rsp"), b.const(b.source.value & 0xFFFF, 64)))
    b.end("jump_indirect", target)


def _count_width(b: Lifter) -> int:
    """JRCXZ and LOOP take their counter's width from the address size: ECX under prefix 67."""
    prefixes = b.instruction.encoding[:-2]
    return 32 if 0x67 in prefixes else 64


@instruction("jrcxz", "jecxz")
def jrcxz(b: Lifter) -> None:
    b.end("branch", b.is_zero(b.register("rcx", _count_width(b))), attr=_target(b))


def _count_down(b: Lifter) -> Value:
    """RCX := RCX - 1; whether it is not zero."""
    width = _count_width(b)
    count = b.binary("sub", b.register("rcx", width), b.const(1, width))
    b.set_register("rcx", count)
    return b.invert(b.is_zero(count))


@instruction("loop")
def loop(b: Lifter) -> None:
    b.end("branch", _count_down(b), attr=_target(b))


@instruction("loope")
def loope(b: Lifter) -> None:
    b.end("branch", b.binary("and", _count_down(b), b.get("zf")), attr=_target(b))


@instruction("loopne")
def loopne(b: Lifter) -> None:
    b.end("branch", b.binary("and", _count_down(b), b.invert(b.get("zf"))), attr=_target(b))


@instruction("iret", "sysret")
def far_return(b: Lifter) -> None:
    """The machine performs these: their checks need the descriptors (rules R1 to R13, I8)."""
    b.end(b.instruction.mnemonic, attr=b.width)


@instruction("lret")
def lret(b: Lifter) -> None:
    if b.instruction.operands:
        b.unsupported("lret with an operand")
    b.end("lret", attr=b.width)


@instruction("syscall")
def syscall(b: Lifter) -> None:
    b.end("syscall")


@instruction("int")
def int_n(b: Lifter) -> None:
    assert isinstance(b.source, Imm)
    b.end("interrupt", attr=b.source.value)


@instruction("int3")
def int3(b: Lifter) -> None:
    b.end("interrupt", attr=3)


@instruction("ud1", "ud2")
def ud2(b: Lifter) -> None:
    b.end("exception", attr=privilege.INVALID_OPCODE)


@instruction("hlt")
def hlt(b: Lifter) -> None:
    privilege.require_cpl0(b)
    b.end("halt")


@instruction("hole_enter", "hole_body")
def hole(b: Lifter) -> None:
    """Code that is not shown: its contract says what it may do."""
    b.end(b.instruction.mnemonic)
