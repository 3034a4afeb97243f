"""Typed errors: what a user can cause, apart from what only we can cause.

A fault of the *modelled* machine is a value (``verifier.machine``); the errors here mean that the tool stops.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.source import Span

#: Characters shown at either end of a long message: what it quotes may be as long as a file.
_SHOWN = 250


class VerifierError(Exception):
    """Something the user wrote cannot be used: shown as one message with position and hint, exit code 2."""

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint

    def render(self) -> str:
        """The whole message: ``file:line:column: error: …``, the excerpt with a caret, and the hint."""
        where = f"{self.span.where}: " if self.span else ""
        message = self.message
        if len(message) > 2 * _SHOWN:
            message = f"{message[:_SHOWN]}…{message[-_SHOWN:]}"
        lines = [f"{where}error: {message}"]
        if self.span:
            lines += self.span.excerpt()
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


class AsmError(VerifierError):
    """The assembly text (or the preprocessor's view of it) is wrong or not supported."""


class LiftError(VerifierError):
    """An instruction assembles but has no semantics here."""


class SpecError(VerifierError):
    """The YAML specification is wrong."""


class UsageError(VerifierError):
    """The command line is wrong, or names a file that cannot be read."""


class CutShort(VerifierError):
    """No verdict was reached: memory or the stack ran out, or the process was killed. Exit code 3."""


class InternalError(Exception):
    """A check of the tool against itself failed: no verdict may be shown. Exit code 70."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint naming the known word nearest to a typo, or None."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None
