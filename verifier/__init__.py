"""Proves or refutes properties of x86-64 interrupt-entry assembly under every interleaving of events."""

__version__ = "0.1.0"
