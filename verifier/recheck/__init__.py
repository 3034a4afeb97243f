"""Checks a certificate: a second path from a specification to a verdict, without search and without ``terms/``."""

from verifier.recheck.check import Checked, recheck
from verifier.recheck.errors import Refused
from verifier.recheck.solver import GaveUp

__all__ = ["Checked", "GaveUp", "Refused", "recheck"]
