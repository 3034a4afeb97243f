"""Selectors: what they mean, and which MOV and POP load into a segment register (SDM vol. 2B, MOV; rule I11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.execution import Fault
from verifier.machine.state import DATA_SEGMENT_REGISTERS
from verifier.terms import Term, and_, any_of, const, eq, extract, ite, zext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Segment
    from verifier.machine.execution import Execution

GENERAL_PROTECTION = 13


def means(selector: Term, segment: Segment, rpl: int) -> Term:
    return eq(selector, const(segment.selector & ~3 | rpl, 16))


def is_null(selector: Term) -> Term:
    return eq(extract(selector, 15, 2), const(0, 14))


def bad_selector(selector: Term) -> Fault:
    """#GP with the selector, without its RPL, as error code; a null selector gives 0 (rule R8)."""
    named = zext(and_(selector, const(0xFFFC, 16)), 32)
    return Fault(GENERAL_PROTECTION, ite(is_null(selector), const(0, 32), named))


def check_loads(x: Execution, puts: Mapping[str, Term]) -> None:
    """The selectors among what an instruction sets. Raises Fault. That of SS has RPL = CPL: the instruction looks."""
    for name in ("ss", *DATA_SEGMENT_REGISTERS):
        if name in puts and not x.decide(any_of(list(_good(x, name, puts[name])))):
            raise bad_selector(puts[name])


def _good(x: Execution, name: str, selector: Term) -> Iterator[Term]:
    if name != "ss" or x.cpl != 3:
        yield is_null(selector)
    for segment in x.layout.machine.segments.values():
        if name != "ss":
            yield from (means(selector, segment, rpl) for rpl in range(4) if segment.dpl >= max(rpl, x.cpl))
        elif segment.kind == "data" and segment.dpl == x.cpl:
            yield means(selector, segment, x.cpl)
