"""IRET and SYSRET in 64-bit mode (rules R2 to R12, I8; SDM vol. 2A, 2B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.ir.ops import Access
from verifier.machine.config import LDT_CODE
from verifier.recheck.expression import (
    Expr,
    and_,
    any_of,
    concat,
    const,
    eq,
    extract,
    ite,
    not_,
    offset,
    ule,
    ult,
    zext,
)
from verifier.recheck.step import Fault, Mishap, Undecided
from verifier.recheck.world import canonical, in_ldt, rule

if TYPE_CHECKING:
    from verifier.machine.config import Segment
    from verifier.recheck.step import Step

_POP = Access(stack=True)
_NP, _SS, _GP = 11, 12, 13
#: What IRET loads at any CPL (R9).
_ALWAYS = ("cf", "pf", "af", "zf", "sf", "tf", "df", "of", "nt", "rf", "ac", "id")


def iret(step: Step, width: int) -> None:
    """``width``: the operand size in bits."""
    step.nmi_blocked = False  # N4: first of all
    if step.decide(step.get("nt")):
        raise Fault(_GP)  # R2
    rsp = step.get("rsp")
    rip, cs, flags, new_rsp, ss = (
        step.load(offset(rsp, i * width // 8), width // 8, _POP) for i in range(5)
    )
    rip, cs, ss = zext(rip, 64), extract(cs, 15, 0), extract(ss, 15, 0)
    code = _code_segment(step, cs)
    _check_stack_segment(step, ss, code)
    rip = _target(step, rip, code)
    if not code.long and code.dpl != 3:
        raise Mishap("wild-jump", f"to 32-bit code at CPL {code.dpl}")
    _load_flags(step, flags)
    outward = code.dpl > step.cpl
    step.put("cs", cs)
    step.put("ss", ss)
    step.put("rsp", zext(new_rsp, 64))
    step.cpl = code.dpl
    if outward:
        _leave_segments(step)
    step.transfer(rip)


def _target(step: Step, rip: Expr, code: Segment) -> Expr:
    """Rule R6."""
    if code.long:
        if step.decide(canonical(rip)):
            return rip
        raise Fault(_GP)
    if step.decide(ult(rip, const(1 << 32, 64))):
        return rip
    if step.decide(rule("rip_is_cut")):
        return zext(extract(rip, 31, 0), 64)
    raise Fault(_GP)


def _bad(selector: Expr) -> Fault:
    """#GP with the selector, without its RPL, as error code (R8); a null selector gives 0."""
    null = eq(extract(selector, 15, 2), const(0, 14))
    return Fault(_GP, ite(null, const(0, 32), zext(and_(selector, const(0xFFFC, 16)), 32)))


def _in_ldt(step: Step, selector: Expr, absent: tuple[int, ...]) -> bool:
    """Whether a selector is one of the LDT and good now; else the fault of it (R13)."""
    if not step.world.machine.has_ldt or not step.decide(in_ldt(selector)):
        return False
    now = step.choose(2)
    if step.decide(eq(now, const(0, 2))):
        return True
    for number, vector in enumerate(absent, 1):
        if step.decide(eq(now, const(number, 2))):
            raise Fault(vector, _bad(selector).error)
    raise _bad(selector)


def _means(selector: Expr, segment: Segment, rpl: int) -> Expr:
    return eq(selector, const(segment.selector & 0xFFFC | rpl, 16))


def _code_segment(step: Step, cs: Expr) -> Segment:
    """Rule R4: a code segment whose DPL is the selector's RPL, which is no lower than the CPL."""
    for segment in step.world.machine.segments.values():
        if segment.kind == "code" and segment.dpl >= step.cpl and step.decide(_means(cs, segment, segment.dpl)):
            return segment
    if _in_ldt(step, cs, (_NP,)):
        return LDT_CODE
    raise _bad(cs)


def _check_stack_segment(step: Step, ss: Expr, code: Segment) -> None:
    """Rule R5."""
    if code.dpl == 3 and _in_ldt(step, ss, (_SS, _NP)):
        return
    segments = step.world.machine.segments.values()
    good = [_means(ss, s, code.dpl) for s in segments if _is_stack(s) and s.dpl == code.dpl]
    if code.long and code.dpl < 3:
        null = eq(extract(ss, 15, 2), const(0, 14))
        good += [eq(ss, const(code.dpl, 16)), and_(null, rule("any_null_ss"))]
    if not step.decide(any_of(good)):
        raise _bad(ss)


def expect_loadable(step: Step, name: str, selector: Expr) -> None:
    """Rule I11: what MOV and POP load into a data segment register or SS."""
    if name != "ss" and _in_ldt(step, selector, (_NP,)):
        return
    good = [] if name == "ss" and step.cpl == 3 else [eq(extract(selector, 15, 2), const(0, 14))]
    for segment in step.world.machine.segments.values():
        if name != "ss":
            good += [_means(selector, segment, rpl) for rpl in range(4) if segment.dpl >= max(rpl, step.cpl)]
        elif _is_stack(segment) and segment.dpl == step.cpl:
            good.append(_means(selector, segment, step.cpl))
    if not step.decide(any_of(good)):
        raise _bad(selector)


def _is_stack(segment: Segment) -> bool:
    return segment.kind == "data" and segment.writable


def seen_by(step: Step, query: str, selector: Expr, otherwise: Expr) -> Expr:
    """Rule I13: ZF in bit 32, the result of LSL, LAR, VERR or VERW below it."""
    index, zf, value = extract(selector, 15, 2), extract(otherwise, 32, 32), extract(otherwise, 31, 0)
    for segment in step.world.machine.segments.values():
        here = eq(index, const(segment.selector >> 2, 14))
        allowed = segment.dpl >= step.cpl and (query != "verw" or _is_stack(segment))
        privileged = ult(const(segment.dpl, 2), extract(selector, 1, 0))
        zf = ite(here, not_(privileged) if allowed else const(0, 1), zf)
        if query == "lsl" and segment.limit is not None:
            value = ite(here, const(segment.limit, 32), value)
    return concat(ite(eq(index, const(0, 14)), const(0, 1), zf), value)


def _field(flags: Expr, name: str) -> Expr:
    bit, width = RFLAGS_LAYOUT[name]
    return extract(flags, bit + width - 1, bit)


def _load_flags(step: Step, flags: Expr) -> None:
    """Rule R9; an image of 16 bits leaves the flags above."""
    allowed = ule(const(step.cpl, 2), step.get("iopl"))
    step.put("if", ite(allowed, _field(flags, "if"), step.get("if")))
    for name in _ALWAYS + (("iopl", "vif", "vip") if step.cpl == 0 else ()):
        if RFLAGS_LAYOUT[name][0] < flags.width:
            step.put(name, _field(flags, name))


def _leave_segments(step: Step) -> None:
    """Rule R10: data segment registers on the way to an outer CPL."""
    for name in ("es", "ds", "fs", "gs"):
        selector = step.get(name)
        if step.decide(step.world.too_privileged(selector, step.cpl)):
            step.number(name, 0)
            if name in ("fs", "gs"):
                base = f"{name}_base"
                step.put(base, ite(rule("outer_return_clears_base"), const(0, 64), step.get(base)))
        else:
            null = eq(extract(selector, 15, 2), const(0, 14))
            clears = and_(rule("outer_return_clears_null"), null)
            step.put(name, ite(clears, const(0, 16), selector))


def sysret(step: Step, width: int) -> None:
    """Rule I8."""
    if step.cpl != 0:
        raise Fault(_GP)
    rip = zext(extract(step.get("rcx"), width - 1, 0), 64)
    if not step.decide(canonical(rip)) and not step.decide(rule("late_sysret_fault")):
        raise Fault(_GP)
    flags = step.get("r11")
    for name in RFLAGS_LAYOUT:
        step.put(name, _field(flags, name))
    step.number("rf", 0)
    step.number("vm", 0)
    base = _star(step)
    step.number("cs", base + (16 if width == 64 else 0) | 3)
    step.number("ss", base + 8 | 3)
    step.cpl = 3
    step.transfer(rip)


def _star(step: Step) -> int:
    """STAR[63:48]: user data 8 above it, 64-bit user code right after that."""
    user = {s.selector & 0xFFFC: s for s in step.world.machine.segments.values() if s.dpl == 3}
    found = []
    for selector, segment in user.items():
        data = user.get(selector - 8)
        if segment.kind == "code" and segment.long and data is not None and data.kind == "data":
            found.append(selector - 16)
    if len(found) != 1:
        raise Undecided("the segments do not say what sysret loads")
    return found[0]
