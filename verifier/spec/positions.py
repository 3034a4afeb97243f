"""From a position in a scalar's value back to the place in the file where its author typed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from verifier.source import Span
    from verifier.spec.document import Value


def locator(value: Value) -> Callable[[int, int], Span]:
    """A function from positions ``start, end`` in the scalar's text to the span of its first line there.

    Works for plain, quoted and block scalars: folding changes white space only, so the other characters stand
    in the file in the same order. Where an escape hides them, the whole scalar is the place.
    """
    indices = _indices(value)
    if indices is None:
        return lambda _start, _end: value.span

    def locate(start: int, end: int) -> Span:
        if start >= len(indices):
            after = indices[-1] + 1 + start - len(indices)
            return value.document.span_at(after)
        last = indices[min(end, len(indices)) - 1] if end > start else indices[start]
        return value.document.span_at(indices[start], last - indices[start] + 1)

    return locate


def _indices(value: Value) -> list[int] | None:
    """Per character of the value, its index in the file; None where they do not correspond."""
    text, node = value.document.text, value.node
    assert isinstance(node, yaml.ScalarNode)
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        start = text.index("\n", start) if "\n" in text[start:end] else end
    elif node.style is not None:
        start += 1
    indices: list[int] = []
    at = start
    for character in node.value:
        if not character.isspace():
            while at < end and text[at].isspace():
                at += 1
            if at >= end or text[at] != character:
                return None
        indices.append(min(at, max(start, end - 1)))
        at += 1 if not character.isspace() or (at < end and text[at].isspace()) else 0
    return indices
