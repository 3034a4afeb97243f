"""Selectors: what they mean, and which MOV and POP load into a segment register (SDM vol. 2B, MOV; rule I11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.execution import Fault
from verifier.machine.state import DATA_SEGMENT_REGISTERS, in_ldt
from verifier.terms import Term, and_, any_of, concat, const, eq, extract, ite, ule, zext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Segment
    from verifier.machine.execution import Execution

NOT_PRESENT, STACK_FAULT, GENERAL_PROTECTION = 11, 12, 13


def means(selector: Term, segment: Segment, rpl: int) -> Term:
    return eq(selector, const(segment.selector & ~3 | rpl, 16))


def is_null(selector: Term) -> Term:
    return eq(extract(selector, 15, 2), const(0, 14))


def bad_selector(selector: Term) -> Fault:
    """#GP with the selector, without its RPL, as error code; a null selector gives 0 (rule R8)."""
    named = zext(and_(selector, const(0xFFFC, 16)), 32)
    return Fault(GENERAL_PROTECTION, ite(is_null(selector), const(0, 32), named))


def in_changing_ldt(x: Execution, selector: Term, cause: str, others: tuple[int, ...]) -> bool:
    """Rule R13: whether a selector is one of the LDT and good. Raises Fault where the LDT has nothing good for it.

    ``others``: the vectors besides #GP that one which is not present may raise.
    """
    if not x.layout.machine.has_ldt or not x.decide(in_ldt(selector)):
        return False
    which = x.choose(cause, 2)
    if x.decide(eq(which, const(0, 2))):
        return True
    bad = bad_selector(selector)
    for number, vector in enumerate(others, 1):
        if x.decide(eq(which, const(number, 2))):
            raise Fault(vector, bad.error_code)
    raise bad


def check_loads(x: Execution, puts: Mapping[str, Term]) -> None:
    """The selectors among what an instruction sets. Raises Fault. That of SS has RPL = CPL: the instruction looks."""
    for name in ("ss", *DATA_SEGMENT_REGISTERS):
        if name not in puts or (name != "ss" and in_changing_ldt(x, puts[name], "ldt.data", (NOT_PRESENT,))):
            continue
        if not x.decide(any_of(list(_good(x, name, puts[name])))):
            raise bad_selector(puts[name])


def _good(x: Execution, name: str, selector: Term) -> Iterator[Term]:
    if name != "ss" or x.cpl != 3:
        yield is_null(selector)
    for segment in x.layout.machine.segments.values():
        if name != "ss":
            yield from (means(selector, segment, rpl) for rpl in range(4) if segment.dpl >= max(rpl, x.cpl))
        elif segment.stack and segment.dpl == x.cpl:
            yield means(selector, segment, x.cpl)


def described(x: Execution, query: str, selector: Term, otherwise: Term) -> Term:
    """Rule I13: what LSL, LAR, VERR or VERW finds: ZF in bit 32, below it the limit or the rights."""
    found = otherwise
    for segment in x.layout.machine.segments.values():
        same = eq(extract(selector, 15, 2), const(segment.selector >> 2, 14))
        reached = ule(extract(selector, 1, 0), const(segment.dpl, 2)) if segment.dpl >= x.cpl else const(0, 1)
        value = extract(otherwise, 31, 0)
        if query == "lsl" and segment.limit is not None:
            value = const(segment.limit, 32)
        if query == "verw" and not segment.stack:
            reached = const(0, 1)
        found = ite(same, concat(reached, value), found)
    return ite(is_null(selector), const(0, 33), found)
