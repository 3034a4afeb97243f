"""What a specification file means: machine, environment, properties. The arrow into ``explore/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verifier.machine.config import MachineConfig
    from verifier.source import Span
    from verifier.spec.expression import Expression

Verdict = Literal["proved", "refuted", "unknown", "vacuous"]


@dataclass(frozen=True, slots=True)
class Environment:
    """Which events may strike: name -> how often in a run, None for any number.

    Asynchronous events (nmi, irq, machine_check) strike at any boundary where the machine lets them; faults
    strike where a contract says that they may, and at the ``places`` in the text, in words, that are said to raise
    them. ``outermost``: the events that may strike the interrupted context first.
    """

    events: Mapping[str, int | None]
    outermost: tuple[str, ...]
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleItem:
    """One event of a ``during`` schedule: ``event``, and the addresses of the boundaries it may strike at.

    ``addresses`` None: anywhere, the interrupted context included. ``event`` ``*``: any events, any number.
    ``text`` is the item as written, for reports.
    """

    event: str
    addresses: range | frozenset[int] | None
    text: str


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a spec.

    ``at``: ``outermost-return`` (when control returns to the interrupted context), ``always`` (at every
    boundary), or the addresses of labels: whenever control is there. ``during``: the property speaks only of
    runs whose events are exactly these, in this order; None: of all runs.
    """

    name: str
    that: Expression
    text: str
    at: Literal["outermost-return", "always"] | frozenset[int]
    during: tuple[ScheduleItem, ...] | None
    expect: Verdict | None
    span: Span


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded specification. ``assumptions``: one readable sentence each, printed with every verdict."""

    path: Path
    title: str
    machine: MachineConfig
    environment: Environment
    properties: tuple[Property, ...]
    assumptions: tuple[str, ...]

    def property_named(self, name: str) -> Property | None:
        return next((p for p in self.properties if p.name == name), None)
