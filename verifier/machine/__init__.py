"""The CPU around the instructions: state, memory regions, event delivery, iret, faults, NMI blocking."""

from verifier.machine.config import (
    Context,
    Contract,
    Datum,
    Gate,
    MachineConfig,
    Pointer,
    Region,
    Segment,
)
from verifier.machine.events import EVENTS, MISHAPS, Event

__all__ = [
    "EVENTS",
    "MISHAPS",
    "Context",
    "Contract",
    "Datum",
    "Event",
    "Gate",
    "MachineConfig",
    "Pointer",
    "Region",
    "Segment",
]
