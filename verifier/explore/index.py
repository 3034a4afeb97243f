"""Finding, among the representatives at one control point, those that agree with a node on all that is live at them.

What is live differs from representative to representative, so no one key serves them all. Instead each location says,
by one bit per representative, at which it is live, and at which of these with which value. A node's value of a location
rules out all that have another there, whatever else is live at them; what is left after a few locations, of those that
tell most apart, is compared in full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from verifier.explore.graph import Node

#: So many representatives are compared one by one: most control points have no more.
_FEW = 3


@dataclass(slots=True, eq=False)
class _Location:
    """``live``: the representatives at which it is; ``having``: those of them with each value, by its shape."""

    live: int = 0
    having: dict[int, int] = field(default_factory=dict)


class ControlPoint:
    """The representatives that are alike in all that has to be, whatever is live: in the order in which they came.

    ``compared``: the locations that are live at one, or compared anyway. ``shape``: that of what a node has at a
    location; that two values are equal up to the names of havoc variables is for the caller to find out.
    """

    __slots__ = ("_compared", "_facts", "_locations", "_nodes", "_order", "_shape", "_sorted_at")

    def __init__(self, compared: Callable[[Node], Iterable[int]], shape: Callable[[Node, int], int]) -> None:
        self._compared = compared
        self._shape = shape
        self._nodes: list[Node] = []
        self._locations: dict[int, _Location] = {}
        self._order: list[tuple[int, _Location]] = []
        self._facts = self._sorted_at = 0

    def add(self, node: Node) -> int:
        """Take in a representative; returns its number."""
        self._nodes.append(node)
        number = len(self._nodes) - 1
        if number == _FEW:
            for i, known in enumerate(self._nodes):
                self.live(i, self._compared(known))
        else:
            self.live(number, self._compared(node))
        return number

    def live(self, number: int, locations: Iterable[int]) -> None:
        """Locations are live at a representative, of which that was not said before."""
        if len(self._nodes) <= _FEW:
            return
        bit, node = 1 << number, self._nodes[number]
        for location in locations:
            found = self._locations.get(location)
            if found is None:
                found = self._locations[location] = _Location()
            shape = self._shape(node, location)
            found.live |= bit
            found.having[shape] = found.having.get(shape, 0) | bit
            self._facts += 1

    def candidates(self, node: Node) -> Iterator[Node]:
        """The representatives that may agree with a node."""
        if self._facts > 2 * self._sorted_at or len(self._order) < len(self._locations):
            self._sort()
        left = (1 << len(self._nodes)) - 1
        for location, at in self._order:
            if not left & (left - 1):
                break  # one or none
            left &= ~(at.live ^ at.having.get(self._shape(node, location), 0))
        while left:
            lowest = left & -left
            yield self._nodes[lowest.bit_length() - 1]
            left ^= lowest

    def _sort(self) -> None:
        """The locations with most values first."""
        self._order = sorted(self._locations.items(), key=lambda item: -len(item[1].having))
        self._sorted_at = self._facts
