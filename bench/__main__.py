"""Prints what the shipped verdicts cost: `./dev bench [--runs N]`.

Whole processes, started afresh each time, as a user would; wall seconds (best and median of the runs) and peak resident
memory as the operating system accounts it. The last table compares, in one process and one run, the fixpoint search
with the reference engine, which merges nothing, on the same property and growing bounds: their ratio is what counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from verifier.prove import Prover
from verifier.spec import load

SPECS = Path(__file__).parents[1] / "specs"


@dataclass(frozen=True, slots=True)
class Subject:
    """A command, and what it is meant to stay below: seconds and megabytes on two cores."""

    title: str
    arguments: tuple[str, ...]
    seconds: float
    megabytes: int


SUBJECTS = (
    Subject("nested_nmi_repaired, all properties, unbounded", ("check", "specs/nested_nmi_repaired.yaml"), 3, 500),
    Subject("the same, body may set IF", ("check", "specs/nested_nmi_repaired_irqs_on.yaml"), 10, 500),
    Subject("nmi_on_stack, all properties, unbounded", ("check", "specs/nmi_on_stack.yaml"), 5, 500),
    Subject("the same, all contexts and events", ("check", "--routines", "bench/nmi_on_stack_full.yaml"), 60, 2000),
    Subject("all shipped specs", ("check", "specs"), 60, 500),
)


def measure(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall seconds and peak megabytes of one run of the command line."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "verifier", *arguments], cwd=SPECS.parent, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: verifier {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def whole_commands(runs: int) -> None:
    print(f"{'command':48} {'best s':>7} {'median s':>9} {'aim s':>6} {'peak MB':>8} {'aim MB':>7}")
    for subject in SUBJECTS:
        figures = [measure(subject.arguments) for _ in range(runs)]
        seconds = [s for s, _ in figures]
        peak = max(m for _, m in figures)
        print(
            f"{subject.title:48} {min(seconds):7.2f} {statistics.median(seconds):9.2f} {subject.seconds:6.0f}"
            f" {peak:8.0f} {subject.megabytes:7}"
        )


def engines() -> None:
    model = load(SPECS / "nested_nmi_repaired.yaml")
    restored = [p for p in model.properties if p.name == "context-restored"]
    began = time.perf_counter()
    (unbounded,) = Prover(model).results(restored)
    fixpoint = time.perf_counter() - began
    print(f"\ncontext-restored, any number of events: {unbounded.states} states, {fixpoint:.2f} s")
    print(f"{'the same, path by path, up to':48} {'states':>8} {'s':>7} {'ratio':>8}")
    for bound in ({"nmi": 1, "page_fault": 1}, {"nmi": 2, "page_fault": 1}, {"nmi": 2, "page_fault": 2}):
        began = time.perf_counter()
        (result,) = Prover(model, bound={"irq": 0, **bound}).results(restored)
        seconds = time.perf_counter() - began
        title = ", ".join(f"{event}={n}" for event, n in bound.items())
        print(f"{title:48} {result.states:8} {seconds:7.2f} {seconds / fixpoint:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each command (default 3)")
    whole_commands(parser.parse_args().runs)
    engines()


if __name__ == "__main__":
    main()
