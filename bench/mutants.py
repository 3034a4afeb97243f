"""Mutation of the tool: `python -m bench.mutants [--sample N] [--seed S] [--only NAME]`.

Each mutant is one small change to a function of ``verifier/lift`` or ``verifier/machine``. The tests are collected
once. A first run notes which functions each test comes through. Then, per mutant, a process forked from that one gets
the changed function's code and runs the tests that come through it, fastest first, up to the first failure. Tables
outside functions are made before any test is collected, so their mutants are not among these.

Prints the survivors, and how many were killed per module.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from bench.mutations import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
SUBJECTS = ("verifier/lift", "verifier/machine")
TESTS = (
    "tests/lift/test_lift_system.py",
    "tests/lift/test_lift_shapes.py",
    "tests/lift/test_lift_cpu.py::test_this_cpu_agrees",
    "tests/machine",
    "tests/prove/test_resumed.py",
    "tests/prove/test_saves.py",
    "tests/prove/test_vacuity.py",
    "tests/explore/test_merging.py",
    "tests/explore/test_concrete_runs.py",
)
#: Tests that need a whole emulated machine, or minutes: they are not asked.
LEFT_OUT = ("emulator", "qemu")
SECONDS = 120

Function = tuple[str, str, int]


def subjects(only: str) -> list[Path]:
    found = [p.relative_to(ROOT) for folder in SUBJECTS for p in sorted((ROOT / folder).glob("*.py"))]
    return [p for p in found if only in p.as_posix()]


def codes(code: CodeType, path: str) -> Iterator[tuple[Function, CodeType]]:
    """The code of every function in a module's code, by where it is."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (path, constant.co_qualname, constant.co_firstlineno), constant
            yield from codes(constant, path)


def changed(mutant: Mutant) -> dict[Function, CodeType]:
    """The functions that a mutant changes (an inner one changes those around it, too), innermost last."""
    path = mutant.path.as_posix()
    before = dict(codes(compile((ROOT / path).read_text("utf-8"), path, "exec"), path))
    after = dict(codes(compile(mutant.tree(), path, "exec"), path))
    return {f: after[f] for f in before if f in after and before[f] != after[f]}


def in_a_process(act: Callable[[], int], seconds: int) -> int:
    """What ``act`` returns in a forked process, whose output is lost; -1 if it takes too long or dies."""
    process = os.fork()
    if process == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.alarm(10 * seconds)
        code = 1
        try:
            code = act()
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


class Runner:
    """A pytest plugin: instead of the tests, it runs the mutants."""

    def __init__(self, wanted: list[Mutant], minutes: float) -> None:
        self._wanted = wanted
        self._until = time.monotonic() + 60 * minutes
        self.survivors: list[Mutant] = []
        self.killed: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = [i for i in session.items if not any(word in i.nodeid for word in LEFT_OUT)]
        through = self._coverage(session, items)
        for number, mutant in enumerate(self._wanted):
            if time.monotonic() > self._until:
                break
            functions = changed(mutant)
            seconds = {i: s for f in functions for i, s in through.get(f, {}).items()}
            chosen = [items[i] for i in sorted(seconds, key=lambda i: seconds[i])]
            dead = bool(chosen) and in_a_process(lambda f=functions, c=chosen: _judge(session, f, c), SECONDS) != 0
            module = mutant.path.as_posix()
            self.all[module] += 1
            self.killed[module] += dead
            if not dead:
                self.survivors.append(mutant)
                print(f"survives ({len(chosen)} tests): {mutant.name}", flush=True)
            if number % 10 == 9:
                print(f"{number + 1} of {len(self._wanted)}, {len(self.survivors)} survive", flush=True)
        return True

    def _coverage(self, session: pytest.Session, items: list[pytest.Item]) -> dict[Function, dict[int, float]]:
        """Per function, the tests that come through it by number, with the seconds they take."""
        file = Path(f"/tmp/mutants.{os.getpid()}.json")
        failed = in_a_process(lambda: _observe(session, items, file), 3600)
        rows = json.loads(file.read_text()) if file.exists() else []
        file.unlink(missing_ok=True)
        if failed or not rows:
            pytest.exit("the tests fail as they are", 2)
        found: dict[Function, dict[int, float]] = {}
        for number, (seconds, functions) in enumerate(rows):
            for path, name, line in functions:
                found.setdefault((path, name, line), {})[number] = seconds
        print(f"{len(items)} tests come through {len(found)} functions", flush=True)
        return found


def _observe(session: pytest.Session, items: list[pytest.Item], file: Path) -> int:
    rows: list[Any] = []
    known: dict[CodeType, Function | None] = {}
    seen: set[Function] = set()

    def trace(frame: Any, _: str, __: Any) -> None:
        # A trace function is asked for calls alone if it wants no lines; a profile is for returns and C calls too.
        code = frame.f_code
        if code not in known:
            known[code] = _function(code)
        function = known[code]
        if function is not None:
            seen.add(function)

    for item, following in zip(items, [*items[1:], None], strict=True):
        seen.clear()
        began = time.perf_counter()
        sys.settrace(trace)
        _run(item, following)
        sys.settrace(None)
        rows.append((time.perf_counter() - began, sorted(seen)))
        if session.testsfailed:
            return 1
    file.write_text(json.dumps(rows))
    return 0


def _function(code: CodeType) -> Function | None:
    match = re.search(r"verifier/(lift|machine)/\w+\.py$", code.co_filename)
    return (match[0], code.co_qualname, code.co_firstlineno) if match else None


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    """One test; what is set up for its module stays for the one that follows."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _judge(session: pytest.Session, functions: dict[Function, CodeType], items: list[pytest.Item]) -> int:
    """Put the changed code in place and run tests up to the first failure: 1 if there is one."""
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            code = functions.get(_function(thing.__code__) or ("", "", 0))
            if code is not None:
                thing.__code__ = code
    for item, following in zip(items, [*items[1:], None], strict=True):
        _run(item, following)
        if session.testsfailed:
            return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mutants")
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (default 300; 0: all)")
    parser.add_argument("--seed", type=int, default=2010)
    parser.add_argument("--minutes", type=float, default=1e6, help="judge no more mutants after this time")
    parser.add_argument("--only", default="", help="modules whose path has this in it")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what pytest is given (default: all that fit)")
    options = parser.parse_args()
    os.chdir(ROOT)
    everything = [m for path in subjects(options.only) for m in mutants(path)]
    drawn = Random(options.seed).sample(everything, len(everything))
    wanted = list(islice(filter(changed, drawn), options.sample or None))
    runner = Runner(wanted, options.minutes)
    began = time.perf_counter()
    pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", *options.tests], plugins=[runner])
    for module, n in sorted(runner.all.items()):
        print(f"{module:40} {runner.killed[module]:4} of {n:4}")
    killed, judged = sum(runner.killed.values()), sum(runner.all.values())
    print(f"{killed} of {judged} killed ({killed / max(1, judged):.1%}), of {len(everything)} mutants in all;", end=" ")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
