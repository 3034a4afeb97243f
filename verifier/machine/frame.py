"""What a run nested in the program knows of the context that it struck.

A search can explore the run of a handler once for many contexts (`verifier.explore.routine`). The words of such a
context are params then (`verifier.terms.param`), and its frame says which of them are known after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.terms import Answer, Term


class Frame(Protocol):
    """The boundary between a nested run and what it struck."""

    def possible(self, path: Iterable[Term], condition: Term) -> Answer:
        """Whether a condition can hold where the literals of a path do, in the contexts that the run stands for."""


class Wanted(Exception):
    """A run depends on the very values of some params: it has to be explored with them."""

    def __init__(self, params: Iterable[Term]) -> None:
        super().__init__("a value that was left open")
        self.params = frozenset(params)
