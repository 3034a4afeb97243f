"""Step, inject events, recognise states seen before: to a fixpoint, or path by path up to a bound."""

from verifier.explore.graph import End, Graph, Node
from verifier.explore.schedule import ANY, Ghost, Script, Watch
from verifier.explore.search import Fixpoint, Limits, Observer, Tally

__all__ = ["ANY", "End", "Fixpoint", "Ghost", "Graph", "Limits", "Node", "Observer", "Script", "Tally", "Watch"]
