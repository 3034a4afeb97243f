"""Figures, not tests: how long verdicts take and what memory they need."""
