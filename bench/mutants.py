"""Mutation of the tool: `python -m bench.mutants [--sample N] [--seed S] [--only NAME ...]`.

Each mutant is one small change to a module, by default of ``verifier/lift`` or ``verifier/machine``. The tests are
collected once. A first run notes which functions each test comes through. Then, per mutant of a function, a process
forked from that one gets the changed code and runs the tests that come through it, up to the first failure. What stands
outside functions (tables, defaults, classes) has long been worked with when tests are collected, so its mutants are
judged by a new process each (`bench.changed`), and by the tests that come through a function that names it.

Prints the survivors, and how many were killed per module.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import marshal
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from bench.mutations import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[1]
#: Modules whose path begins so, and the tests that are asked about them.
TESTS = {
    "verifier/lift/": ("tests/lift/test_lift_system.py", "tests/lift/test_lift_cpu.py::test_this_cpu_agrees"),
    "verifier/machine/": ("tests/machine", "tests/prove/test_events.py", "tests/prove/test_msrs.py",
                          "tests/prove/test_contracts.py", "tests/prove/test_stacks.py", "tests/prove/test_ldt.py"),
    "verifier/object/": ("tests/object",),
    "verifier/spec/": ("tests/spec", "tests/prove/test_contracts.py", "tests/prove/test_events.py",
                       "tests/prove/test_stacks.py"),
    "verifier/trace/": ("tests/trace", "tests/machine", "tests/prove/test_contracts.py"),
    "verifier/recheck/": ("tests/machine", "tests/recheck/test_expression.py", "tests/recheck/test_ghost.py",
                          "tests/recheck/test_tampered.py", "tests/recheck/test_wrong_claims.py"),
}  # fmt: skip
#: Tests that need a whole emulated machine, or minutes: they are not asked.
LEFT_OUT = ("emulator", "qemu", "bochs")
SECONDS = 120
#: No more tests are asked about a mutant than take so long together, in seconds (and as observed: half of that).
ENOUGH = 40.0

Function = tuple[str, str, int]
Items = dict[str, pytest.Item]
#: Per function, the tests that come through it by name, with the seconds they take.
Through = dict[Function, dict[str, float]]


def subjects(only: Iterable[str]) -> list[Path]:
    found = [p.relative_to(ROOT) for p in sorted((ROOT / "verifier").rglob("*.py"))]
    return [p for p in found if any(word in p.as_posix() for word in only)]


@cache
def _code(path: str) -> CodeType:
    return compile((ROOT / path).read_text("utf-8"), path, "exec")


def codes(code: CodeType, path: str) -> Iterator[tuple[Function, CodeType]]:
    """The code of every function in a module's code, by where it is."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (path, constant.co_qualname, constant.co_firstlineno), constant
            yield from codes(constant, path)


def changed(mutant: Mutant) -> dict[Function, CodeType]:
    """The functions that a mutant changes (an inner one changes those around it, too), innermost last."""
    path = mutant.path.as_posix()
    before = dict(codes(_code(path), path))
    after = dict(codes(compile(mutant.tree(), path, "exec"), path))
    return {f: after[f] for f in before if f in after and before[f] != after[f]}


def is_new(mutant: Mutant) -> bool:
    """Whether anything is compiled otherwise."""
    path = mutant.path.as_posix()
    return compile(mutant.tree(), path, "exec") != _code(path) if mutant.outside else bool(changed(mutant))


def users(mutant: Mutant) -> set[Function]:
    """The functions that name what is changed outside functions, or what is made of it when modules are loaded."""
    modules = {p.as_posix(): ast.parse((ROOT / p).read_text("utf-8")).body for p in subjects(["verifier/"])}
    at = next(s for s in modules[mutant.path.as_posix()] if s.lineno <= mutant.line <= (s.end_lineno or 0))
    names = _made(at) | {n.target.id for n in ast.walk(at) if isinstance(n, ast.AnnAssign) and _spans(n, mutant)}
    size = 0
    while len(names) > size:
        size = len(names)
        for body in modules.values():
            for statement in body:
                if not isinstance(statement, ast.FunctionDef) and _named(statement) & names:
                    names |= _made(statement)
    return {f for path in modules for f, code in codes(_code(path), path) if names & {*code.co_names}}


def _spans(node: ast.AnnAssign, mutant: Mutant) -> bool:
    return isinstance(node.target, ast.Name) and node.lineno <= mutant.line <= (node.end_lineno or 0)


def _made(statement: ast.stmt) -> set[str]:
    """The names that a statement gives something."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _named(statement: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


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

    def __init__(self, wanted: list[Mutant], minutes: float, seen: Path | None) -> None:
        self._wanted = wanted
        self._minutes = minutes
        self._seen = seen
        self.survivors: list[Mutant] = []
        self.killed: Counter[str] = Counter()
        self.all: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {i.nodeid: i for i in session.items if not any(word in i.nodeid for word in LEFT_OUT)}
        through = self._coverage(session, items)
        until = time.monotonic() + 60 * self._minutes
        for number, mutant in enumerate(self._wanted):
            if time.monotonic() > until:
                break
            self._judge_one(session, items, through, mutant)
            if number % 10 == 9:
                print(f"{number + 1} of {len(self._wanted)}, {len(self.survivors)} survive", flush=True)
        return True

    def _judge_one(self, session: pytest.Session, items: Items, through: Through, mutant: Mutant) -> None:
        functions = {} if mutant.outside else changed(mutant)
        seconds = {i: s for f in functions or users(mutant) for i, s in through.get(f, {}).items()}
        tests = _chosen(seconds)
        if not tests:
            dead = False
        elif mutant.outside:
            dead = _judge_apart(mutant, tests) != 0
        else:
            dead = in_a_process(lambda: _judge(session, functions, [items[i] for i in tests]), SECONDS) != 0
        module = mutant.path.as_posix()
        self.all[module] += 1
        self.killed[module] += dead
        if not dead:
            self.survivors.append(mutant)
            print(f"survives ({len(tests)} of {len(seconds)} tests): {mutant.name}", flush=True)

    def _coverage(self, session: pytest.Session, items: Items) -> Through:
        file = self._seen or Path(tempfile.mkdtemp()) / "seen"
        failed = 0 if file.exists() else in_a_process(lambda: _observe(session, items, file), 3600)
        rows = json.loads(file.read_text()) if file.exists() else []
        if failed or not rows:
            pytest.exit("the tests fail as they are", 2)
        found: Through = {}
        for test, seconds, functions in rows:
            for path, name, line in functions if test in items else ():
                found.setdefault((path, name, line), {})[test] = seconds
        print(f"{len(items)} tests come through {len(found)} functions", flush=True)
        return found


def _chosen(seconds: dict[str, float]) -> list[str]:
    """Tests of the file that takes least first, so that what a file sets up stays; of a file the fastest first."""
    files: dict[str, float] = {}
    for test, taken in seconds.items():
        file = test.partition("::")[0]
        files[file] = files.get(file, 0.0) + taken
    ordered = sorted(seconds, key=lambda t: (files[t.partition("::")[0]], t.partition("::")[0], seconds[t]))
    totals = accumulate(seconds[t] for t in ordered)
    return [test for test, total in zip(ordered, totals, strict=True) if total < ENOUGH]


def _observe(session: pytest.Session, items: Items, file: Path) -> int:
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

    every = list(items.values())
    for item, following in zip(every, [*every[1:], None], strict=True):
        seen.clear()
        began = time.perf_counter()
        sys.settrace(trace)
        _run(item, following)
        sys.settrace(None)
        rows.append((item.nodeid, time.perf_counter() - began, sorted(seen)))
        if session.testsfailed:
            return 1
    file.write_text(json.dumps(rows))
    return 0


def _function(code: CodeType) -> Function | None:
    match = re.search(r"verifier/(\w+/)+\w+\.py$", code.co_filename)
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


def _judge_apart(mutant: Mutant, tests: list[str]) -> int:
    """The same in a new process, which loads the changed module."""
    with tempfile.TemporaryDirectory() as folder:
        code, names = Path(folder) / "code", Path(folder) / "tests"
        path = mutant.path.as_posix()
        code.write_bytes(marshal.dumps(compile(mutant.tree(), str(ROOT / path), "exec")))
        names.write_text("\n".join(tests))
        command = [sys.executable, "-m", "bench.changed", str(code), path, f"@{names}"]
        try:
            return subprocess.run(command, capture_output=True, timeout=10 * SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            return -1


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.mutants")
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (default 300; 0: all)")
    parser.add_argument("--seed", type=int, default=2010)
    parser.add_argument("--minutes", type=float, default=1e6, help="judge no more mutants after this time")
    parser.add_argument("--only", nargs="+", default=["verifier/lift/", "verifier/machine/"],
                        help="modules whose path has one of these in it")  # fmt: skip
    parser.add_argument("--outside", action="store_true", help="only what stands outside functions")
    parser.add_argument("--named", nargs="+", default=[], help="only mutants whose name has one of these in it")
    parser.add_argument("--tests", nargs="+", help="what pytest is given (default: what fits the modules)")
    parser.add_argument("--seen", type=Path, help="file that keeps what the tests come through, for the next time")
    options = parser.parse_args()
    os.chdir(ROOT)
    paths = subjects(options.only)
    tests = options.tests or {t: 0 for at in TESTS for p in paths if p.as_posix().startswith(at) for t in TESTS[at]}
    everything = [m for path in paths for m in mutants(path) if m.outside or not options.outside]
    drawn = Random(options.seed).sample(everything, len(everything))
    fitting = (m for m in drawn if not options.named or any(word in m.name for word in options.named))
    runner = Runner(list(islice(filter(is_new, fitting), options.sample or None)), options.minutes, options.seen)
    began = time.perf_counter()
    pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=[runner])
    for module, n in sorted(runner.all.items()):
        print(f"{module:40} {runner.killed[module]:4} of {n:4}")
    killed, judged = sum(runner.killed.values()), sum(runner.all.values())
    print(f"{killed} of {judged} killed ({killed / max(1, judged):.1%}), of {len(everything)} mutants in all;", end=" ")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
