"""No input makes a reader fall over, hang, take much memory, open a file outside the tree or execute anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Seconds in all: an hour, or a minute.
BUDGET = 3600 if os.environ.get("VERIFIER_FULL") == "1" else 48
ENGINES = ("atheris", "hypothesis")
#: Where each says how many inputs it tried, and how many megabytes it had at most.
FIGURES = {
    "atheris": (r"^stat::number_of_executed_units: +(\d+)$", r"^stat::peak_rss_mb: +(\d+)$"),
    "hypothesis": (r"^(\d+) inputs", r", (\d+) MB$"),
}
TARGETS = ("assembler", "preprocessor", "object", "listing", "specification", "expression", "trace", "certificate")
#: Megabytes.
MOST_MEMORY = 1000


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz(target: str, engine: str, tmp_path: Path) -> None:
    seconds = BUDGET // (len(ENGINES) * len(TARGETS))
    command = [sys.executable, str(HERE / "fuzz_process.py"), engine, target, str(tmp_path / "fuzz"), str(seconds)]
    # a process counts the memory of the one that it is forked from as its own: the shell has little
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@"; exit $?', *command], capture_output=True, check=False, timeout=seconds + 300
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    found = sorted((tmp_path / "fuzz").glob("found*"))
    assert (done.returncode, found) == (0, []), f"{said[-5000:]}\n{[f.read_bytes()[:3000] for f in found]}"
    tried, memory = (re.search(pattern, said, re.MULTILINE) for pattern in FIGURES[engine])
    assert tried is not None
    assert memory is not None
    assert int(tried[1]) > 20
    assert int(memory[1]) < MOST_MEMORY
