"""The concrete interpreter: re-executes a counterexample straight from the manual, without z3.

It shares the lifter and the evaluation of pure operations with the symbolic engine, and nothing else: memory,
control, delivery of events, iret, faults and NMI blocking are written here a second time.
"""

from verifier.trace.interpreter.core import Interpreter

__all__ = ["Interpreter"]
