"""Returns: IRET with its checks in order, SYSRET (SDM vol. 2A IRET; vol. 2B SYSRET; rules R and I8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.ir.ops import Access
from verifier.machine.config import LDT_CODE
from verifier.machine.execution import Fault, Mishap, Unresolved
from verifier.machine.rflags import unpack
from verifier.machine.segments import (
    GENERAL_PROTECTION,
    NOT_PRESENT,
    STACK_FAULT,
    bad_selector,
    in_changing_ldt,
    is_null,
    means,
)
from verifier.machine.state import DATA_SEGMENT_REGISTERS, canonical, rule, too_privileged
from verifier.terms import Term, add, and_, any_of, const, eq, extract, ite, ule, ult, zext

if TYPE_CHECKING:
    from verifier.machine.config import Segment
    from verifier.machine.execution import Execution

_POP = Access(stack=True)
_LOADED = ("cf", "pf", "af", "zf", "sf", "tf", "df", "of", "nt", "rf", "ac", "id")


def iret(x: Execution, width: int) -> None:
    """IRET of 16, 32 or 64-bit operands. Unblocks NMIs first, whatever comes of it (rules N4 and N6)."""
    x.nmi_blocked = False
    if x.decide(x.get("nt")):
        raise Fault(GENERAL_PROTECTION)  # R2
    rsp = x.get("rsp")
    step = width // 8
    words = [x.load(add(rsp, const(i * step, 64)), width, _POP) for i in range(5)]
    rip, image, new_rsp = zext(words[0], 64), words[2], zext(words[3], 64)
    cs, ss = extract(words[1], 15, 0), extract(words[4], 15, 0)
    old_cpl = x.cpl
    segment = _check_cs(x, cs, old_cpl)
    new_cpl = segment.dpl
    _check_ss(x, ss, segment)
    rip = _target(x, rip, segment)
    follow_compatibility(segment)
    _load_flags(x, image, old_cpl)
    x.put("cs", cs)
    x.put("ss", ss)
    x.put("rsp", new_rsp)
    x.put("cpl", const(new_cpl, 2))
    if new_cpl > old_cpl:
        null_data_segments(x, new_cpl)
    x.transfer(rip)


def _check_cs(x: Execution, cs: Term, old_cpl: int) -> Segment:
    """The new code segment, whose DPL is the new CPL; or the fault of a bad selector (rules R4 and R8)."""
    for segment in x.layout.machine.segments.values():
        if segment.kind == "code" and segment.dpl >= old_cpl and x.decide(means(cs, segment, segment.dpl)):
            return segment
    if in_changing_ldt(x, cs, "ldt.cs", (NOT_PRESENT,)):
        return LDT_CODE
    raise bad_selector(cs)


def _target(x: Execution, rip: Term, segment: Segment) -> Term:
    """Rule R6: canonical for 64-bit code; for other code below the segment's limit of 4 GB, or made so."""
    if x.decide(canonical(rip) if segment.long else ult(rip, const(1 << 32, 64))):
        return rip
    if not segment.long and x.decide(rule("rip_is_cut")):
        return zext(extract(rip, 31, 0), 64)
    raise Fault(GENERAL_PROTECTION)


def follow_compatibility(segment: Segment) -> None:
    """A return to 32-bit code ends well only at CPL 3: what runs there is not ours to follow."""
    if not segment.long and segment.dpl != 3:
        raise Mishap("wild-jump", f"to 32-bit code at CPL {segment.dpl} (selector {segment.selector:#x})")


def _check_ss(x: Execution, ss: Term, code: Segment) -> None:
    """Rule R5: null only below CPL 3, for 64-bit code, perhaps with RPL = CPL; else a writable data segment."""
    new_cpl = code.dpl
    if new_cpl == 3 and in_changing_ldt(x, ss, "ldt.ss", (STACK_FAULT, NOT_PRESENT)):
        return
    good = [
        means(ss, s, new_cpl) for s in x.layout.machine.segments.values() if s.stack and s.dpl == new_cpl
    ]
    if new_cpl < 3 and code.long:
        good += [eq(ss, const(new_cpl, 16)), and_(is_null(ss), rule("any_null_ss"))]
    if x.decide(any_of(good)):
        return
    raise bad_selector(ss)


def _load_flags(x: Execution, image: Term, old_cpl: int) -> None:
    """Rule R9. A 16-bit image leaves the flags above bit 15 as they are."""
    flags = unpack(image)
    for name in _LOADED:
        if name in flags:
            x.put(name, flags[name])
    may_change_if = ule(const(old_cpl, 2), x.get("iopl"))
    x.put("if", ite(may_change_if, flags["if"], x.get("if")))
    if old_cpl == 0:
        x.put("iopl", flags["iopl"])
        for name in ("vif", "vip"):
            if name in flags:
                x.put(name, flags[name])


def null_data_segments(x: Execution, new_cpl: int) -> None:
    """Rule R10: a data segment register whose segment is too privileged for the new CPL becomes null."""
    for name in DATA_SEGMENT_REGISTERS:
        selector = x.get(name)
        if x.decide(too_privileged(x.layout.machine, selector, new_cpl)):
            x.put(name, const(0, 16))
            if name in ("fs", "gs"):
                base = f"{name}_base"
                x.put(base, ite(rule("outer_return_clears_base"), const(0, 64), x.get(base)))
        else:
            clears = and_(rule("outer_return_clears_null"), is_null(selector))
            x.put(name, ite(clears, const(0, 16), selector))


def sysret(x: Execution, width: int) -> None:
    """SYSRET: a non-canonical RCX faults at CPL 0, on the stack in use; or at CPL 3, which is lost (rule I8)."""
    if x.cpl != 0:
        raise Fault(GENERAL_PROTECTION)
    rip = x.get("rcx") if width == 64 else zext(extract(x.get("rcx"), 31, 0), 64)
    if not x.decide(canonical(rip)) and not x.decide(rule("late_sysret_fault")):
        raise Fault(GENERAL_PROTECTION)
    flags = unpack(x.get("r11"))
    for name in RFLAGS_LAYOUT:
        x.put(name, const(0, 1) if name in ("rf", "vm") else flags[name])
    base = _sysret_base(x)
    x.put("cs", const(base + (16 if width == 64 else 0) | 3, 16))
    x.put("ss", const(base + 8 | 3, 16))
    x.put("cpl", const(3, 2))
    x.transfer(rip)


def _sysret_base(x: Execution) -> int:
    """STAR[63:48]: data at 8 above it, 64-bit code at 16 above it; the specification gives only the segments."""
    user = {s.selector & ~3: s for s in x.layout.machine.segments.values() if s.dpl == 3}
    bases = [
        at - 16
        for at, segment in user.items()
        if segment.kind == "code" and segment.long and at - 8 in user and user[at - 8].kind == "data"
    ]
    if len(bases) != 1:
        raise Unresolved("sysret loads CS and SS from STAR, which the segments do not tell")
    return bases[0]
