"""What a property means on what was explored; verdicts with their coverage."""

from verifier.prove.prover import Prover
from verifier.prove.verdict import Coverage, Result, Violation

__all__ = ["Coverage", "Prover", "Result", "Violation"]
