"""Remarks on an assembly text that is accepted, in the form of an error message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.asm.program import Diagnostic


def diagnostic_text(diagnostic: Diagnostic) -> str:
    """``file:line:column: note: …``, the excerpt with a caret, and the hint."""
    lines = [f"{diagnostic.span.where}: note: {diagnostic.message}", *diagnostic.span.excerpt()]
    if diagnostic.hint:
        lines.append(f"hint: {diagnostic.hint}")
    return "\n".join(lines)
