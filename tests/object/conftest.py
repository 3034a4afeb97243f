"""Verdicts on objects are judged as those of tests/prove are."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "prove"))
