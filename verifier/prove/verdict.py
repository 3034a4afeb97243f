"""Verdicts: what is said of one property, and on what grounds."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.explore.graph import cost_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.explore.graph import End, Node
    from verifier.spec.model import Model, Property, Verdict
    from verifier.terms import Term


@dataclass(frozen=True, slots=True)
class Violation:
    """How a run breaks a property.

    ``node`` is the last boundary inside the program; ``end`` is there when the step after it matters (a return, a
    mishap). ``condition`` holds the literals under which the run exists and breaks the property. ``message`` is the
    one sentence that says what broke. ``stuck``: the nodes of an event-free run that leads nowhere (progress).
    ``names``: the cells, words or data concerned.
    """

    kind: str
    node: Node
    end: End | None
    condition: frozenset[Term]
    message: str
    names: tuple[str, ...] = ()
    stuck: tuple[Node | End, ...] = ()

    @property
    def cost(self) -> tuple[int, int]:
        """How long the run is: shorter is better."""
        return cost_of(self.end or self.node)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a verdict looked at.

    ``instructions``: reached and all; ``missed``: descriptions of those not reached; ``events``: per event, states in
    which it was offered and struck; ``returns``: runs that came home; ``ended``: runs that ended otherwise, by kind;
    ``notes``: what a reader should know (an event that never struck, how far a schedule got).
    """

    instructions: tuple[int, int]
    missed: tuple[str, ...]
    events: Mapping[str, tuple[int, int]]
    returns: int
    ended: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with its grounds. ``bound`` None: any number and depth of the allowed events."""

    model: Model
    property: Property
    verdict: Verdict
    reason: str
    states: int
    seconds: float
    coverage: Coverage
    bound: Mapping[str, int] | None = None
    violation: Violation | None = None
    solver_queries: int = field(default=0)

    @builtins.property
    def as_expected(self) -> bool | None:
        """Whether the verdict is the one that the specification expects; None where it expects none."""
        return None if self.property.expect is None else self.verdict == self.property.expect
