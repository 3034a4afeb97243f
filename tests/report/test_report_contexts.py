"""Who interrupted whom, on runs written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_subject import STACK, at, delivery, program, transfer

from verifier.report.contexts import Contexts

USER, USER_RSP = 0x401000, 0x7FFF_FFFF_E000
NMI_FRAME, FAULT_FRAME, NMI2_FRAME = STACK - 40, STACK - 200, STACK - 320


def nested() -> Contexts:
    """An NMI in user code, a fault at ``last`` in its handler, and an NMI at ``last`` in that one's."""
    contexts = Contexts(program())
    contexts.follow(delivery("nmi", USER, USER_RSP, NMI_FRAME))
    contexts.follow(delivery("page_fault", at("last"), STACK - 100, FAULT_FRAME, error_code=True))
    contexts.follow(delivery("nmi", at("last"), STACK - 280, NMI2_FRAME))
    return contexts


def test_deliveries_push_the_frame_that_they_wrote() -> None:
    live = nested().live
    assert [(s.event, s.within, s.frame) for s in live] == [
        ("nmi", None, NMI_FRAME),
        ("page_fault", "nmi", FAULT_FRAME),
        ("nmi", "page_fault", NMI2_FRAME),
    ]
    assert live[0].words == {"rip": USER, "cs": 0x10, "rflags": 2, "rsp": USER_RSP, "ss": 0}


@pytest.mark.parametrize(
    ("by", "rip", "rsp", "depth", "odd"),
    [
        ("far", "last", STACK - 280, 2, ()),  # the innermost context, as its frame says
        ("near", "last", STACK - 280, 2, ()),
        ("through", "last", STACK - 280, 2, ()),
        ("far", "last", STACK - 100, 1, ()),  # the rsp tells that it is the one below
        ("through", "last", STACK - 272, 2, ("rsp",)),  # no saved rsp at all
        ("far", USER, USER_RSP, 0, ()),  # past all of them
        ("direct", "last", STACK - 280, 3, None),  # a direct jump is no return
        ("far", "near", STACK - 280, 3, None),  # nobody was interrupted there
    ],
)
def test_returns(by: str, rip: str | int, rsp: int, depth: int, odd: tuple[str, ...] | None) -> None:
    contexts = nested()
    returned = contexts.follow(transfer(by, at(rip) if isinstance(rip, str) else rip, rsp))
    assert contexts.depth == depth
    assert (None if returned is None else returned.odd) == odd


def test_an_iret_by_a_frame_that_was_changed_is_a_return() -> None:
    contexts = nested()
    step = transfer("far", at("near"), STACK - 280)
    before = replace(step.before, cells={**step.before.cells, "rsp": NMI2_FRAME})
    returned = contexts.follow(replace(step, before=before))
    assert returned is not None
    assert (contexts.depth, returned.odd) == (2, ("rip",))
