"""A counterexample as a concrete run, and the interpreter that re-executes it."""
