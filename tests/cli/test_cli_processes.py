"""One specification that takes its process with it leaves the others their verdicts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from verifier.cli import check as check_module
from verifier.cli import main
from verifier.cli.processes import Death, each_in_a_process

SUBJECTS = Path(__file__).parents[1] / "subjects"


def fails(error: type[Exception]) -> None:
    raise error("no more")


DEEDS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), 3, "was killed by SIGKILL"),
    "ended": (lambda: os._exit(7), 3, "ended with exit code 7"),
    "memory": (lambda: fails(MemoryError), 3, "ran out of memory"),
    "stack": (lambda: fails(RecursionError), 3, "ran out of Python's stack"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four specifications; the second one does the deed when it is loaded."""
    for name in ("ticket.S", "ticket.yaml"):
        text = (SUBJECTS / name).read_text()
        (tmp_path / name).write_text(text)
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.yaml").write_text((SUBJECTS / "ticket.yaml").read_text())
    (tmp_path / "ticket.yaml").unlink()
    return tmp_path


def doing(deed, monkeypatch: pytest.MonkeyPatch) -> None:
    load = check_module.load

    def load_or_do(path: Path):
        if path.stem == "b":
            deed()
        return load(path)

    monkeypatch.setattr(check_module, "load", load_or_do)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("name", DEEDS)
def test_the_others_get_their_verdicts(
    name: str, jobs: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deed, code, reason = DEEDS[name]
    whole = main(["check", str(folder), "-j", jobs, "--json"])
    expected = json.loads(capsys.readouterr().out)["results"]
    assert whole in (0, 1)
    doing(deed, monkeypatch)
    assert main(["check", str(folder), "-j", jobs, "--json"]) == (1 if whole else code)
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert [(r["spec"], r["property"], r["verdict"]) for r in told["results"]] == [
        (r["spec"], r["property"], r["verdict"]) for r in expected if Path(r["spec"]).stem != "b"
    ]
    (error,) = told["errors"]
    assert error["kind"] == "CutShort"
    assert error["message"].startswith(f"{folder / 'b.yaml'}: ")
    assert reason in error["message"]


def test_our_own_faults_are_not_hidden(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doing(lambda: fails(AssertionError), monkeypatch)
    assert main(["check", str(folder), "-j", "2"]) == 70
    err = capsys.readouterr().err
    assert "internal error: AssertionError: no more" in err
    assert "Traceback" not in err
    assert main(["check", str(folder), "-v"]) == 70
    assert "in fails\n" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2, 5, 50])
def test_answers_come_in_order(jobs: int) -> None:
    def work(n: int) -> bytes:
        if n % 7 == 3:
            os._exit(n)
        return bytes([n]) * (1 << n % 20)

    expected = [Death(n) if n % 7 == 3 else bytes([n]) * (1 << n % 20) for n in range(40)]
    assert list(each_in_a_process(work, range(40), jobs)) == expected
