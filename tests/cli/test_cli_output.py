"""``-o FILE``: what would go to stdout, whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from verifier.cli import main

SPEC = str(Path(__file__).parents[1] / "subjects" / "ticket.yaml")
ASM = str(Path(__file__).parents[1] / "subjects" / "ticket.S")

COMMANDS = [
    ["prove", SPEC, "-p", "single-nmi", "-q"],
    ["refute", SPEC, "-p", "frame-intact"],
    ["check", SPEC],
    ["prove", SPEC, "--json", "-p", "nothing"],
    ["schema"],
]


def masked(text: str) -> str:
    """Without times, and without values that are chosen freely."""
    return re.sub(r"0x[0-9a-f]+|\d+\.\d+", "", text)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_the_file_has_what_stdout_would_have(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(command)
    out, err = capsys.readouterr()
    file = tmp_path / "out"
    file.write_text("old")
    assert main([*command, "--color", "always", "-o", str(file)]) == code
    again = capsys.readouterr()
    assert (again.out, bool(again.err)) == ("", bool(err))
    assert masked(file.read_text()) == masked(out)
    assert out
    assert "\x1b" not in file.read_text()


def test_an_error_leaves_the_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"
    file.write_text("old")
    assert main(["prove", SPEC, "-p", "nothing", "-o", str(file)]) == 2
    assert file.read_text() == "old"
    assert main(["prove", SPEC, "-p", "nothing", "--json", "-o", str(file)]) == 2
    assert json.loads(file.read_text())["error"]["kind"] == "UsageError"


@pytest.mark.parametrize("name", ["", "missing/out", "nul\0", "a" * 300, "/dev/null", "/dev/full"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_refused_before_anything_is_judged(
    name: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("verifier.cli.commands.load", judged)
    file = name if name.startswith("/") else f"{tmp_path}/{name}"
    assert main(["prove", SPEC, "-o", file, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: cannot write /")
    assert len(err.splitlines()) == 1
