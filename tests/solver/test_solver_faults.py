"""A solver that crashes, hangs, runs out of memory or lies costs the verdict it was asked for, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from faulty_solver import DEEDS, WORDS

from verifier.cli import main
from verifier.terms import Solver, Term, concat, const, eq, mul, ult, var
from verifier.terms import process as solver_process

ASM = """\
nmi:
	pushq %rax
	cmpq %rsi, %rdi
	jb 1f
	popq %rax
	iretq
1:	popq %rax
	iretq
"""
SPEC = """\
format: 1
program: {source: nmi.S}
machine:
  stacks: {nmi_ist: {size: 4096}}
  idt:
    nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}
environment: {interrupted: [user], events: {nmi: 1}}
properties:
  hard: {at: nmi, that: rcx + 1 != rdx or rcx != rdx}
  easy: {at: nmi, that: r8 + 1 != r9 or r8 != r9}
  broken: {at: nmi, that: r14 != 5}
  alone: {during: [nmi], that: restored(rip)}
"""
#: What the search asks first: which way the branch goes.
BRANCH = r"rsi0"
VALUES = r"check-sat-assuming"
HARD = r"rdx0(.|\n)*\(check-sat\)"

#: Part of the reason that each fault gives.
REASONS = {
    "abort": "it was killed by SIGABRT",
    "exit": "it ended with exit code 3",
    "quiet exit": "it ended with exit code 0",
    "raise": "it ended with exit code 1",
    "sleep": "it did not answer within 2 s",
    "allocate": "it ended with exit code 1",  # Python says MemoryError
    "flood": "its answer is longer than 16 MB",
    "close": "it closed its output",
    "two answers": "it said: sat unsat",
    "error": 'it said: (error "line 1: not now")',
    "error, then an answer": 'it said: (error "line 1: unknown constant") unsat',
    "garbage": "it said: ",
    "no answer": "it said: ",
    "half an answer": "it said: unsat",
    "unknown": "it gave up after 40,000,000 units of work (tired)",
    "answer to another": "it said: unsat",
}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "nmi.S").write_text(ASM)
    (tmp_path / "nmi.yaml").write_text(SPEC)
    return tmp_path / "nmi.yaml"


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes the solver faulty; the one that other tests use is as it was afterwards."""
    genuine = solver_process.command()
    script = Path(__file__).with_name("faulty_solver.py")

    def set_up(fault: str, pattern: str, spared: int = 0, struck: int = 1_000_000) -> None:
        chosen = [str(tmp_path / "count"), fault, pattern, str(spared), str(struck)]
        monkeypatch.setattr(solver_process, "command", lambda: [sys.executable, str(script), *chosen, *genuine])
        monkeypatch.setattr(solver_process, "SECONDS", 2.0)
        monkeypatch.setattr(solver_process, "MEGABYTES", 200)
        solver_process.shared.stop()

    yield set_up
    solver_process.shared.stop()


def judged(spec: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    code = main(["prove", str(spec), "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    return code, {r["property"]: (r["verdict"], r["reason"]) for r in json.loads(out)["results"]}


def test_every_fault_has_a_reason() -> None:
    assert set(REASONS) | {"lie"} == {*DEEDS, *WORDS}


@pytest.mark.parametrize("fault", REASONS)
def test_a_fault_in_the_question_of_one_property(
    fault: str, spec: Path, faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty(fault, HARD)
    code, verdicts = judged(spec, capsys)
    assert verdicts["hard"][0] == "unknown"
    assert verdicts["hard"][1].startswith("the solver gave no answer on it in some state: ")
    assert REASONS[fault] in verdicts["hard"][1]
    assert {name: verdict for name, (verdict, _) in verdicts.items() if name != "hard"} == {
        "easy": "proved",
        "broken": "refuted",
        "alone": "proved",
    }
    assert code == 1


@pytest.mark.parametrize("fault", ["abort", "sleep", "error", "unknown", "half an answer"])
def test_a_fault_where_values_are_wanted(fault: str, spec: Path, faulty, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that cannot be shown is no refutation."""
    faulty(fault, VALUES)
    code, verdicts = judged(spec, capsys)
    verdict, reason = verdicts.pop("broken")
    assert verdict == "unknown"
    assert reason.startswith("some run seems to break it, but the solver gave no values for it: it ")
    assert {verdict for verdict, _ in verdicts.values()} == {"proved"}
    assert code == 3


@pytest.mark.parametrize("fault", ["abort", "sleep", "unknown"])
def test_a_fault_on_the_way(fault: str, spec: Path, faulty, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a branch is not decided, nothing after it is known; what was refuted before it stays so."""
    faulty(fault, BRANCH + r"(.|\n)*\(check-sat\)")
    code, verdicts = judged(spec, capsys)
    assert {name: verdict for name, (verdict, _) in verdicts.items()} == {
        "hard": "unknown",
        "easy": "unknown",
        "broken": "refuted",
        "alone": "unknown",
    }
    assert "at nmi+0x4: the solver gave no answer on a branch condition: it " in verdicts["hard"][1]
    assert code == 1


@pytest.mark.parametrize("fault", ["abort", "exit"])
@pytest.mark.parametrize("spared", range(1, 6))
def test_a_crash_that_does_not_come_again_costs_nothing(
    fault: str, spared: int, spec: Path, faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = judged(spec, capsys)
    faulty(fault, "", spared, struck=1)
    assert judged(spec, capsys) == expected


@pytest.mark.parametrize("spared", range(12))
def test_a_solver_that_fails_from_some_point_on(
    spared: int, spec: Path, faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    right = judged(spec, capsys)[1]
    faulty("abort", "", spared)
    code, verdicts = judged(spec, capsys)
    assert all(verdict in ("unknown", right[name][0]) for name, (verdict, _) in verdicts.items())
    assert code == (1 if verdicts["broken"][0] == "refuted" else 3 if "unknown" in dict(verdicts.values()) else 0)


def test_a_solver_that_always_hangs_is_given_up_soon(faulty, tmp_path: Path) -> None:
    faulty("sleep", "")
    solver, began = Solver(), time.monotonic()
    for i in range(20):
        assert solver.satisfiable([ult(var("x", 64), const(i + 2, 64))]) == "unknown"
    assert solver.reason == "it did not answer within 2 s; it has failed 3 times and is asked no more"
    assert (tmp_path / "count").stat().st_size == 3
    assert time.monotonic() - began < 20


def test_a_solver_that_lies_is_an_internal_error(
    spec: Path, faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    """No values make the run that it speaks of."""
    faulty("lie", HARD)
    assert main(["prove", str(spec), "-p", "hard"]) == 70
    out, err = capsys.readouterr()
    assert "hard: " not in out
    assert "internal error: InternalError: no model for a violation" in err


def hard_question() -> Solver:
    x, y = var("x", 64), var("y", 64)
    solver = Solver()
    wide = [concat(const(0, 64), v) for v in (x, y)]
    product = eq(mul(*wide), const(0x3FFFFFFFFFFFFFD9C00000000000037B, 128))
    assert solver.satisfiable([product, ult(const(1, 64), x), ult(x, y)]) == "unknown"
    return solver


def test_z3_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_process, "MEGABYTES", 30)
    solver_process.shared.stop()
    assert hard_question().reason == "it ran out of memory (30 MB)"
    assert Solver().satisfiable([easy_condition()]) == "sat"


def test_z3_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_process, "SECONDS", 0.5)
    assert hard_question().reason == "it did not answer within 0.5 s"
    assert Solver().satisfiable([easy_condition()]) == "sat"


def easy_condition() -> Term:
    return ult(var("x", 64), const(next(_numbers), 64))


_numbers = count(2)


@pytest.mark.parametrize("problem", [None, ["/nowhere/z3"]])
def test_no_solver(
    problem: list[str] | None, spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if problem is None:
        monkeypatch.setattr(solver_process.shutil, "which", lambda *_, **__: None)
    else:
        monkeypatch.setattr(solver_process, "command", lambda: problem)
    solver_process.shared.stop()
    assert main(["prove", str(spec)]) == 2
    out, err = capsys.readouterr()
    assert "proved" not in out
    assert err in (
        "error: the program z3 is missing\nhint: install the Python package z3-solver\n",
        "error: cannot run /nowhere/z3: No such file or directory\n",
    )


def test_an_interrupt_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the question that was interrupted must not become that to the next."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    question = easy_condition()
    with monkeypatch.context() as patch:
        patch.setattr(solver_process.select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Solver().satisfiable([question])
    x = var("x", 64)
    assert Solver().satisfiable([ult(x, const(3, 64)), ult(const(5, 64), x)]) == "unsat"


def test_a_fork_asks_a_solver_of_its_own() -> None:
    assert Solver().satisfiable([easy_condition()]) == "sat"
    x = var("x", 64)
    child = os.fork()
    if child == 0:
        right = all(
            Solver().satisfiable([ult(x, const(n, 64)), ult(const(n, 64), x)]) == "unsat" for n in range(30, 60)
        )
        solver_process.shared.stop()
        os._exit(0 if right else 1)
    answers = {Solver().satisfiable([easy_condition()]) for _ in range(30)}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert answers == {"sat"}


def test_the_solver_ends_with_the_process_that_asks_it() -> None:
    script = (
        "from verifier.terms import *; from verifier.terms.process import shared; import time\n"
        "assert Solver().satisfiable([ult(var('x', 64), const(5, 64))]) == 'sat'\n"
        "print(shared._process.pid, flush=True); time.sleep(3600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    solver = Path("/proc") / parent.stdout.readline().strip()
    assert b"z3" in (solver / "cmdline").read_bytes()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while solver.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not solver.exists()
