"""The events that can strike at an instruction boundary, and the exceptions an instruction can raise.

Adding an event kind means adding a row here. Vectors, classes and error codes: SDM vol. 3A, 6.3.1 and 6.13 to
6.15; the classes decide double faults (rules H1 and H2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultClass = Literal["benign", "contributory", "page"]


@dataclass(frozen=True, slots=True)
class Event:
    """One vector of the machine.

    ``asynchronous``: may strike at any boundary where it is not masked; ``maskable``: held back by IF=0 and by
    the STI shadow; ``blocks_nmi``: its delivery sets the NMI block; ``saved_rf``: a fault, whose saved image has
    RF=1 (rule F14). ``vector`` None: chosen by the spec (external interrupts). ``error_bits``: what the error code of
    one that strikes by itself can have set (rule E2); ``software``: an instruction of its own calls it, so that the
    gate's DPL counts, and EXT is 0 (rules F2 and F9); ``held_by_ss``: not in the shadow of MOV SS (rule S3).
    """

    name: str
    vector: int | None
    asynchronous: bool = False
    maskable: bool = False
    blocks_nmi: bool = False
    error_code: bool = False
    error_bits: int = 0
    software: bool = False
    held_by_ss: bool = False
    saved_rf: bool = False
    fault_class: FaultClass = "benign"


def _fault(name: str, vector: int, error_bits: int | None, fault_class: FaultClass) -> Event:
    """``error_bits`` None: no error code."""
    coded = error_bits is not None
    return Event(name, vector, error_code=coded, error_bits=error_bits or 0, saved_rf=True, fault_class=fault_class)


#: The error code of a fault that is about a selector: EXT, IDT, TI and the index.
SELECTOR = 0xFFFF
#: That of a page fault: P, W, U, RSVD, I, PK, SS, HLAT, SGX, RMP; and U, which no access of CPL 0 to 2 sets.
PAGE_FAULT, PAGE_FAULT_USER = 0x8000_80FF, 4


EVENTS: dict[str, Event] = {
    e.name: e
    for e in (
        _fault("divide_error", 0, None, "contributory"),
        Event("debug", 1, held_by_ss=True),
        Event("nmi", 2, asynchronous=True, blocks_nmi=True),
        Event("breakpoint", 3, software=True),
        Event("overflow", 4, software=True),
        _fault("invalid_opcode", 6, None, "benign"),
        _fault("device_not_available", 7, None, "benign"),
        Event("double_fault", 8, error_code=True, fault_class="contributory"),
        _fault("invalid_tss", 10, SELECTOR, "contributory"),
        _fault("segment_not_present", 11, SELECTOR, "contributory"),
        _fault("stack_fault", 12, SELECTOR, "contributory"),
        _fault("general_protection", 13, SELECTOR, "contributory"),
        _fault("page_fault", 14, PAGE_FAULT, "page"),
        _fault("alignment_check", 17, 0, "benign"),
        Event("machine_check", 18, asynchronous=True),
        Event("irq", None, asynchronous=True, maskable=True),
    )
}
#: The model-specific register that a machine check sets MCIP in.
MCG_STATUS = 0x17A
#: What the delivery of INT n is called: it is no NMI or fault, whatever its vector (rule N9).
SOFTWARE = ("breakpoint", "overflow", "software_interrupt")
BY_VECTOR: dict[int, Event] = {e.vector: e for e in EVENTS.values() if e.vector is not None}

BROKEN_CONTRACT = "broken-contract"
#: Ways a run can end that are no return: values of the modelled machine, never exceptions of ours.
MISHAPS: dict[str, str] = {
    "wild-jump": "control goes to an address that is neither an instruction of the program nor the interrupted rip",
    "wild-read": "a read outside every region",
    "wild-write": "a write outside every region, or to a read-only one",
    "no-gate": "an event strikes whose vector has no gate in the specification",
    "double-fault": "a fault while a fault is delivered, and no gate for double_fault",
    "shutdown": "a fault while a double fault is delivered, or a machine check in another: the processor shuts down",
    BROKEN_CONTRACT: "code that is not shown is entered although what its contract requires does not hold",
}
#: How a run ends in hidden code that may stay away: neither at home nor by a mishap.
NO_RETURN = "no-return"
