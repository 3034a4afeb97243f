"""``--dump-smt``: a second solver reads every question that z3 was asked, and gives the same answer."""

from __future__ import annotations

import re
from pathlib import Path

import bitwuzla
import pytest

from verifier.cli import main

ROOT = Path(__file__).parents[2]
HEAD = re.compile(
    r"; specification: (?P<spec>.*)\n"
    r"; property: (?P<property>.*)\n"
    r"(; state: (at .*|back at home), having interrupted \w+ code.*\n)?"
    r"; question: (?P<question>.*)\n"
    r"; answer: (?P<answer>sat|unsat)\n"
    r"\(set-info :status (?P<status>sat|unsat)\)\n"
    r"\(set-logic QF_BV\)\n"
)


def second_opinion(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What Bitwuzla says when it executes the file as it is."""
    capfd.readouterr()
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    parser.parse(str(path))
    del parser
    return capfd.readouterr().out.strip()


@pytest.mark.parametrize(
    ("name", "least"), [("nested_nmi_repaired_irqs_on", 150), ("nested_nmi_2010_literal_iret", 20)]
)
def test_bitwuzla_agrees(name: str, least: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = ROOT / "specs" / f"{name}.yaml"
    assert main(["check", "-q", str(spec), "--dump-smt", str(tmp_path / "new" / "folder")]) == 0
    files = sorted((tmp_path / "new" / "folder" / name).iterdir())
    assert [f.name for f in files] == [f"{i:05}.smt2" for i in range(1, len(files) + 1)]
    assert len(files) >= least
    answers = set()
    for file in files:
        head = HEAD.match(file.read_text())
        assert head is not None, file.read_text()[:1000]
        assert head["spec"] == str(spec)
        assert head["answer"] == head["status"] == second_opinion(file, capfd), file.read_text()
        answers.add(head["answer"])
    assert answers == {"sat", "unsat"}


def test_a_folder_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(ROOT / "specs" / "nested_nmi_2010.yaml")
    arguments = ["prove", spec, "-q", "-p", "nmi-on-iret", "--dump-smt", str(tmp_path)]
    first = main(arguments)
    before = {f: f.read_bytes() for f in (tmp_path / "nested_nmi_2010").iterdir()}
    assert first in (0, 1)
    assert before
    capsys.readouterr()
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/nested_nmi_2010 is there already\n")
    assert {f: f.read_bytes() for f in (tmp_path / "nested_nmi_2010").iterdir()} == before


@pytest.mark.parametrize("folder", ["/dev/null", "/proc/none", "a" * 300, "nul\0"])
def test_a_folder_that_cannot_be(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(ROOT / "specs" / "nested_nmi_2010.yaml")
    assert main(["prove", spec, "--dump-smt", folder]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: cannot make the folder ")
    assert len(err.splitlines()) == 1


def test_a_name_adds_nothing_to_the_question(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x\n(assert false)"
    folder.mkdir()
    for name in ("nmi.S", "nmi.yaml"):
        text = (ROOT / "tests" / "subjects" / f"ticket{Path(name).suffix}").read_text()
        (folder / name).write_text(text.replace("ticket.S", "nmi.S"))
    main(["prove", str(folder / "nmi.yaml"), "--dump-smt", str(tmp_path / "dump")])
    files = list((tmp_path / "dump" / "nmi").iterdir())
    assert files
    for file in files:
        lines = file.read_text().splitlines()
        assert "(assert false)" not in lines
        assert re.search(r":status (\w+)", file.read_text())[1] == second_opinion(file, capfd)
