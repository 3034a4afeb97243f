"""What a person or a program reads: verdicts as text and JSON, counterexamples as timelines."""
