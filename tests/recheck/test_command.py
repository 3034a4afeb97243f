"""``prove --certificate`` and ``recheck`` as a user types them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from recheck_certificates import COUNTER, Lines

import verifier.recheck.check
from verifier.cli import codes, main
from verifier.recheck.solver import GaveUp

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]
    Patch = pytest.MonkeyPatch


@pytest.fixture
def written(tmp_path: Path, monkeypatch: Patch, capsys: Captured) -> Path:
    """A certificate that ``prove`` wrote, in the working folder, with the specification beside it."""
    monkeypatch.chdir(tmp_path)
    for file in COUNTER.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert main(["prove", "counter.yaml", "-q", "-p", "restored", "-p", "wrong", "--certificate", "c"]) == 1
    capsys.readouterr()
    return tmp_path / "c"


def test_what_is_proved_is_rechecked(written: Path, capsys: Captured) -> None:
    assert main(["recheck", "c"]) == codes.OK
    out = capsys.readouterr().out
    assert out.startswith("restored: rechecked (")
    assert "wrong" not in out
    assert main(["recheck", str(written), "-q", "--solver", "bitwuzla", "--spec", "counter.yaml"]) == codes.OK
    assert capsys.readouterr().out == "restored: rechecked\n"


def test_with_routines(written: Path, capsys: Captured) -> None:
    """The file says which version it needs; what is resumed is proved without routines, in the same file."""
    wanted = ("restored", "progress", "resumed")
    chosen = [word for name in wanted for word in ("-p", name)]
    assert main(["prove", "counter.yaml", "--routines", "-q", *chosen, "--certificate", "c"]) == codes.OK
    lines = Lines.of(written.read_bytes())
    assert lines.header["version"] == 2
    assert [bool(p.opening.get("routines")) for p in lines.proofs] == [True, False]
    capsys.readouterr()
    assert main(["recheck", "c", "-q"]) == codes.OK
    assert capsys.readouterr().out.split() == [word for name in wanted for word in (f"{name}:", "rechecked")]


def test_it_says_what_is_wrong(written: Path, capsys: Captured) -> None:
    lines = Lines.of(written.read_bytes())
    lines.proofs[0].opening["properties"].append("wrong")
    written.write_bytes(lines.content())
    assert main(["recheck", "c"]) == codes.REFUSED
    said = capsys.readouterr().out
    assert re.fullmatch(r"refused: state \d+ \(kernel, after\): wrong does not hold\n", said)


def test_another_specification(written: Path, capsys: Captured) -> None:
    written.with_name("counter.s").write_text((COUNTER.parent / "counter.s").read_text().replace("$5", "$6"))
    assert main(["recheck", "c"]) == codes.REFUSED
    assert "the assembly text is not the one" in capsys.readouterr().out
    written.with_name("counter.yaml").write_text("format: 1\n")
    assert main(["recheck", "c"]) == codes.REFUSED
    assert "counter.yaml is not the specification" in capsys.readouterr().out
    written.with_name("counter.yaml").unlink()
    assert main(["recheck", "c"]) == codes.USAGE
    assert "--spec SPEC says where" in capsys.readouterr().err


def test_no_rank_is_no_confirmation(written: Path, capsys: Captured) -> None:
    assert main(["prove", "counter.yaml", "-q", "-p", "progress", "-p", "intact", "--certificate", "c"]) == 0
    lines = Lines.of(written.read_bytes())
    for state in lines.proofs[0].states:
        state["rank"] = None
    written.write_bytes(lines.content())
    capsys.readouterr()
    assert main(["recheck", "c", "-q"]) == codes.NOT_COVERED
    assert "intact: rechecked" in (out := capsys.readouterr().out)
    assert "progress: not rechecked: " in out


def test_a_solver_that_gives_up(written: Path, monkeypatch: Patch, capsys: Captured) -> None:
    class Weary:
        def satisfiable(self, _literals):
            return "unknown"

        def value(self, _literals, _wanted):
            return None

    monkeypatch.setattr(verifier.recheck.check, "backend", lambda _name: Weary())
    assert main(["recheck", str(written)]) == codes.UNKNOWN
    assert "gave up" in capsys.readouterr().out


def test_bitwuzla_may_be_missing(written: Path, monkeypatch: Patch, capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "bitwuzla", None)
    monkeypatch.delitem(sys.modules, "verifier.recheck.with_bitwuzla", raising=False)
    assert main(["recheck", str(written), "--solver", "bitwuzla"]) == codes.USAGE
    assert "pip install 'verifier[bitwuzla]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--bound", "nmi=1,irq=1,page_fault=1"], ["-p", "nothing"]])
def test_no_certificate(arguments: list[str], written: Path, capsys: Captured) -> None:
    assert main(["prove", "counter.yaml", "--certificate", "d", *arguments]) == codes.USAGE
    assert not written.with_name("d").exists()
    assert main(["recheck", "d"]) == codes.USAGE
    assert capsys.readouterr().err.count("error: ") == 2


def test_gave_up_is_told_from_refused() -> None:
    assert not issubclass(GaveUp, verifier.recheck.check.Refused)
