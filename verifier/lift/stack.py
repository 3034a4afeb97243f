"""The stack. SDM vol. 2: PUSH, POP, PUSHF, POPF, ENTER, LEAVE; rules A8, A9, I1, I2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Imm, Mem, Reg
from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.lift import privilege, segments
from verifier.lift.lifter import STACK
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

#: Never loaded by POPF (rule I1): RF becomes 0, the others stay.
_NOT_POPPED = ("vm", "vif", "vip", "rf")


@instruction("push")
def push(b: Lifter) -> None:
    """A segment register is pushed zero-extended."""
    b.push(b.zext(b.read(b.source), b.width))


@instruction("pop")
def pop(b: Lifter) -> None:
    destination = b.destination
    value = b.pop(b.width)
    if isinstance(destination, Mem):
        # Rule A8: the address is computed with the RSP after the increment.
        effective = b.effective(destination, b.current("rsp"))
        b.store(b.linear(destination, effective), value, b.access(destination))
    elif isinstance(destination, Reg) and segments.is_special(destination):
        segments.load_selector(b, destination.name, b.extract(value, 15, 0))
    else:
        b.write(destination, value)


@instruction("pushf")
def pushf(b: Lifter) -> None:
    b.push(_rflags_image(b))


def _rflags_image(b: Lifter) -> Value:
    """RFLAGS as PUSHF stores it, operand-sized: VM and RF read as 0 (rule I2)."""
    image, position = b.get("cf"), 1
    for name, (low, width) in RFLAGS_LAYOUT.items():
        if low >= b.width:
            break
        if low > position:
            image = b.concat(b.const(int(position == 1), low - position), image)
        if low > 0:
            value = b.const(0, 1) if name in ("vm", "rf") else b.get(name)
            image = b.concat(value, image)
        position = low + width
    return b.zext(image, b.width)


@instruction("popf")
def popf(b: Lifter) -> None:
    """IF needs CPL <= IOPL and IOPL needs CPL 0, else they silently stay (rule I1)."""
    image = b.pop(b.width)
    for name, (low, width) in RFLAGS_LAYOUT.items():
        if name in _NOT_POPPED or low >= image.width:
            continue
        value = b.extract(image, low + width - 1, low)
        if name == "if":
            value = b.ite(privilege.above_iopl(b), b.get("if"), value)
        elif name == "iopl":
            value = b.ite(privilege.outside_cpl0(b), b.get("iopl"), value)
        b.put(name, value)
    b.put("rf", b.const(0, 1))


@instruction("leave")
def leave(b: Lifter) -> None:
    width = b.width or 64
    b.set_register("rbp", b.pop(width, b.get("rbp")))


@instruction("enter")
def enter(b: Lifter) -> None:
    size, level = b.instruction.operands
    assert isinstance(size, Imm)
    assert isinstance(level, Imm)
    if level.value & 0x1F:
        b.unsupported("enter with a nesting level")
    width = b.width or 64
    b.push(b.register("rbp", width))
    frame = b.current("rsp")
    b.set_register("rbp", b.extract(frame, width - 1, 0))
    rsp = b.binary("sub", frame, b.const(size.value & 0xFFFF, 64))
    b.store(rsp, b.load(rsp, width, STACK), STACK)  # faults if a write to the new top of the stack would
    b.put("rsp", rsp)
