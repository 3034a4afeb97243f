"""Proves or refutes properties of x86-64 interrupt-entry assembly under every interleaving of events."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: What `verifier.api` offers under this name; it is imported when it is first asked for.
_API = ("Outcome", "Outcomes", "Specification", "load")


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module("verifier.api"), name)
    raise AttributeError(f"module 'verifier' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
