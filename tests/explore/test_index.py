"""What finds the representative that may stand for a node rules out those that differ from it, and no others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

import pytest

from verifier.explore.index import ControlPoint

if TYPE_CHECKING:
    from verifier.explore.graph import Node

LOCATIONS = range(6)


class _Fake:
    """What it holds at each location, and what is live at it."""

    def __init__(self, source: random.Random) -> None:
        self.shapes = [source.randrange(3) for _ in LOCATIONS]
        self.live = {at for at in LOCATIONS if source.random() < 0.3}


def _fake(node: Node) -> _Fake:
    return cast("_Fake", node)


@pytest.mark.parametrize("seed", range(20))
def test_candidates(seed: int) -> None:
    source = random.Random(seed)
    point = ControlPoint(lambda node: _fake(node).live, lambda node, at: _fake(node).shapes[at])
    known: list[_Fake] = []
    narrowed = 0
    for _ in range(60):
        new = _Fake(source)
        found = [_fake(node) for node in point.candidates(cast("Node", new))]
        agree = [k for k in known if all(k.shapes[at] == new.shapes[at] for at in k.live)]
        assert [k for k in known if k in found] == found, "in the order in which they came"
        assert set(agree) <= set(found)
        assert len(known) < 4 or set(found) == set(agree) or len(found) == 1
        narrowed += len(found) < len(known)
        assert point.add(cast("Node", new)) == len(known)
        known.append(new)
        number = source.randrange(len(known))  # more turns out to be live somewhere
        more = {source.choice(LOCATIONS)} - known[number].live
        known[number].live |= more
        point.live(number, more)
    assert narrowed
