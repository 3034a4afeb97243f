"""Whatever is wrong with a text: one message with the place, the words marked, a hint; exit code 2, no verdict."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from bad_input_project import ASM, SPEC, Project
from bad_input_rows import ASM_ROWS, SPEC_ROWS

from verifier.cli import main

#: An error without a place, and the lines that may follow one with a place.
_ERROR = re.compile(r"(?:(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): )?error: (?P<message>.*)")
_MORE = re.compile(r" *\d* \| .*|      expanded from .*|hint: .*")


class Told:
    """What one run of the command line said on stderr, taken apart. ``marked``: the words above the carets."""

    def __init__(self, text: str) -> None:
        first, *rest = text.rstrip("\n").split("\n")
        match = _ERROR.fullmatch(first)
        assert match is not None, text
        assert all(_MORE.fullmatch(line) for line in rest), text
        self.file, self.message = match["file"], match["message"]
        self.place = (int(match["line"]), int(match["column"])) if match["line"] else None
        self.hint = next((line[6:] for line in rest if line.startswith("hint: ")), None)
        self.marked = ""
        if self.place:
            number, _, shown = rest[0].partition(" | ")
            carets = rest[1].partition(" | ")[2]
            assert int(number) == self.place[0]
            self.marked = shown[carets.index("^") : len(carets)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Beside its tree lies a secret, with symbolic links to it inside the tree."""
    (tmp_path / "secret.h").write_text("SECRET\n")
    made = Project(tmp_path / "project")
    (made.root / "link.h").symlink_to(tmp_path / "secret.h")
    (made.root / "out").symlink_to(tmp_path)
    return made


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Runs the command line, which must refuse what it is given quickly and leave no word on stdout."""

    def run(*arguments: str) -> Told:
        began = time.process_time()
        assert main(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "SECRET" not in err
        assert len(err) < 3000
        assert time.process_time() - began < 5
        return Told(err)

    return run


def test_the_project_is_right(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", str(project.path)]) == 0
    assert capsys.readouterr().err == ""


def _compare(told: Told, row: tuple, file: str, root: Path) -> None:
    _, _, line, column, message, marked, hint = row
    assert told.file == file
    assert told.place == (line, column)
    assert told.message.startswith(message)
    assert told.marked == marked
    assert told.hint == (hint and hint.replace("{root}", str(root)))


@pytest.mark.parametrize("row", ASM_ROWS.values(), ids=ASM_ROWS)
def test_assembly_text(row: tuple, project: Project, refused) -> None:
    assert ASM.count(row[0])
    project.asm(ASM.replace(row[0], row[1], 1))
    _compare(refused("prove", str(project.path)), row, "nmi.S", project.root)


@pytest.mark.parametrize("row", SPEC_ROWS.values(), ids=SPEC_ROWS)
def test_specification(row: tuple, project: Project, refused) -> None:
    assert SPEC.count(row[0])
    project.spec(SPEC.replace(row[0], row[1], 1))
    _compare(refused("prove", str(project.path)), row, str(project.path), project.root)


#: The bytes of a whole file; whether it is the specification; the place; the message begins so.
FILES = {
    "empty spec": (b"", True, (1, 1), "the file is empty"),
    "blank spec": (b" \n\n", True, (1, 1), "the file is empty"),
    "binary spec": (b"\x7fELF\x02\x01\x01\0\0", True, (1, 8), "a NUL byte: this is no text file"),
    "UTF-16 spec": (SPEC.encode("utf-16"), True, (1, 4), "a NUL byte: this is no text file"),
    "Latin-1 spec": (b"title: caf\xe9\n", True, (1, 11), "not UTF-8: this is no text file"),
    "50 MB spec": (SPEC.encode() + b"#" * 50_000_000, True, None, "{spec} is larger than 1,000,000 bytes"),
    "spec of brackets": (b"[" * 900_000, True, (1, 51), "nested deeper than 50 levels"),
    "spec of question marks": (b"? " * 400_000, True, (1, 101), "nested deeper than 50 levels"),
    "spec of steps": (
        b"".join(b" " * i + b"a:\n" for i in range(1000)),
        True,
        (50, 50),
        "nested deeper than 50",
    ),
    "alias bomb": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%b]\n" % (i, i, b"*%c," % (i - 1) * 9) for i in range(98, 120)),
        True,
        (1, 4),
        "aliases and anchors are not supported",
    ),
    "100,000 properties": (
        SPEC.encode() + b"".join(b"  p%d: {}\n" % i for i in range(100_000)),
        True,
        None,
        "{spec} is larger than 1,000,000 bytes",
    ),
    "empty asm": (b"", False, (1, 1), "the text has no instruction"),
    "comment as asm": (b"# nothing\n", False, (1, 1), "the text has no instruction"),
    "binary asm": (b"\x7fELF\x02\x01\x01\0\0\xff", False, (1, 10), "not UTF-8: this is no text file"),
    "NUL in asm": (b"nop\n  \0\n", False, (2, 3), "a NUL byte: this is no text file"),
    "Latin-1 asm": (b"nop # caf\xe9\n", False, (1, 10), "not UTF-8: this is no text file"),
    "50 MB asm": (ASM.encode() + b"#" * 50_000_000, False, None, "nmi.S is larger than 8 MB"),
    "8 MB of lines": (ASM.encode() + b"\n" * 8_000_000, False, None, "nmi.S has more than 100,000 lines"),
    "8 MB in a line": (
        ASM.encode() + b";" * 8_000_000,
        False,
        (13, 1),
        "a line is longer than 16,384 characters",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_whole_file(name: str, project: Project, refused) -> None:
    data, is_spec, place, message = FILES[name]
    (project.spec if is_spec else project.asm)(data)
    told = refused("prove", str(project.path))
    assert told.place == place
    assert told.file == ((str(project.path) if is_spec else "nmi.S") if place else None)
    assert told.message.startswith(message.format(spec=project.path))


#: Arguments ({spec}: the specification, {root}: its folder), the message begins so, the hint contains.
COMMANDS = {
    "missing spec": (["prove", "{root}/nim.yaml"], "no such file: {root}/nim.yaml", None),
    "folder as spec": (["prove", "{root}"], "not a regular file: {root}", None),
    "device as spec": (["prove", "/dev/zero"], "not a regular file: /dev/zero", None),
    "missing path": (
        ["check", "{root}/nim.yaml"],
        "{root}/nim.yaml: no such file or folder",
        "did you mean 'nmi.yaml'?",
    ),
    "path too long": (["check", "a" * 5000], "aaaaaaaaaa", None),
    "spec too long": (["prove", "a" * 5000], "cannot read aaaaaaaaaa", None),
    "loop of links": (["lift", "{root}/loop"], "{root}/loop: cannot be looked up", None),
    "missing text": (
        ["lift", "{root}/nmi.s"],
        "cannot open {root}/nmi.s: No such file",
        "did you mean 'nmi.S'?",
    ),
    "text elsewhere": (
        ["lift", "{root}/nmi.S", "/etc/passwd"],
        "/etc/passwd is outside the folder tree",
        "project/",
    ),
    "unknown property": (
        ["prove", "{spec}", "-p", "restorde"],
        "{spec}: no property",
        "did you mean 'restored'?",
    ),
    "no such event": (
        ["prove", "{spec}", "--bound", "nmii=1"],
        "{spec}: bound: no event",
        "did you mean 'nmi'?",
    ),
    "bound without a number": (
        ["prove", "{spec}", "--bound", "nmi"],
        "argument --bound: 'nmi' is not EVENT",
        "--help",
    ),
    "bound that is negative": (
        ["prove", "{spec}", "--bound", "nmi=-1"],
        "argument --bound: 'nmi=-1'",
        "--help",
    ),
    "bound beyond the spec": (
        ["prove", "{spec}", "--bound", "nmi=3"],
        "{spec}: bound: nmi=3 is more than the 2",
        None,
    ),
    "no states": (
        ["prove", "{spec}", "--max-states", "0"],
        "argument --max-states: '0' is no positive",
        "--help",
    ),
    "no command": ([], "no command", "--help"),
    "unknown command": (["porve"], "argument COMMAND: invalid choice: 'porve'", "--help"),
    "unknown option": (["prove", "{spec}", "--jsno"], "unrecognized arguments: --jsno", "--help"),
    "no property to refute": (["refute", "{spec}"], "the following arguments are required: -p", "--help"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_line(name: str, project: Project, refused) -> None:
    (project.root / "loop").symlink_to(project.root / "loop")
    words = {"spec": project.path, "root": project.root}
    arguments, message, hint = COMMANDS[name]
    told = refused(*(a.format(**words) for a in arguments))
    assert told.place is None
    assert told.message.startswith(message.format(**words))
    assert (hint in (told.hint or "")) if hint else told.hint is None


def test_the_hole_without_a_contract_is_shown(project: Project, refused) -> None:
    project.spec(SPEC.replace("  work: {may: [page_fault], keeps: [registers]}", "  {}"))
    told = refused("prove", str(project.path))
    assert (told.file, told.place, told.marked) == ("nmi.S", (5, 2), "...")
    assert told.hint == "add 'work: {keeps: [registers]}' to 'holes' in the specification"


@pytest.mark.parametrize(
    "definition",
    ['.include "/etc/passwd"; ', '.incbin "/etc/passwd" # ', "#include </etc/passwd>", "pushq pushq"],
)
def test_a_definition_reads_no_file(
    definition: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a definition puts into the text obeys the rules for the text."""
    project.spec(SPEC.replace("{source: nmi.S}", f"{{source: nmi.S, define: {{pushq: '{definition}'}}}}"))
    assert main(["prove", str(project.path)]) in (1, 2)
    out, err = capsys.readouterr()
    assert "root:" not in out + err
    assert "proved" not in out
