"""The commands as a user types them: exit codes, texts, JSON, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verifier import __version__
from verifier.api import Specification
from verifier.cli import codes, main
from verifier.cli.terminal import Progress
from verifier.errors import InternalError
from verifier.prove.prover import Prover
from verifier.spec.model import Property

SUBJECTS = Path(__file__).parent.parent / "subjects"
#: The subject with a counter in memory: its states never come to an end.
ENDLESS = (SUBJECTS / "ticket.S").read_text().replace("movb $1, %gs:busy", "incb %gs:busy\n\taddq %rax, %r15")
TICKET = str(SUBJECTS / "ticket.yaml")


@pytest.fixture
def spec(tmp_path: Path):
    """Writes a variant of the subject: (old, new) replaced in its YAML."""

    def write(*replacements: tuple[str, str], name: str = "ticket.yaml") -> str:
        (tmp_path / "ticket.S").write_text((SUBJECTS / "ticket.S").read_text())
        text = Path(TICKET).read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("command", "names", "code"),
    [
        ("prove", ["context-restored"], 0),
        ("prove", ["single-nmi", "nmi-at-its-own-entry"], 0),
        ("prove", ["frame-intact"], 1),
        ("prove", ["never-busy"], 4),
        ("prove", ["never-busy", "single-nmi", "frame-intact"], 1),
        ("prove", [], 1),
        ("refute", ["frame-intact"], 0),
        ("refute", ["single-nmi"], 1),
        ("refute", ["never-busy"], 4),
        ("prove", ["no-such-property"], 2),
    ],
)
def test_exit_codes(command: str, names: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, TICKET, "-q", *(w for n in names for w in ("-p", n))]) == code


@pytest.mark.parametrize(("command", "code"), [("prove", 3), ("refute", 3), ("check", 1)])
def test_a_limit_is_unknown(command: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    names = [] if command == "check" else ["-p", "context-restored"]
    assert main([command, TICKET, "--max-states", "3", *names]) == code
    assert "gave up after 3 states (--max-states allows more)" in " ".join(capsys.readouterr().out.split())


def test_the_worst_code_wins() -> None:
    assert codes.worst([0, 4, 3]) == 3
    assert codes.worst([3, 1, 4]) == 1
    assert codes.worst([1, 2]) == 2
    assert codes.worst([2, 70, 1]) == 70
    assert codes.worst([]) == 0


def test_a_verdict_says_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prove", TICKET, "-p", "frame-intact", "-p", "nmi-at-its-own-entry"])
    out = capsys.readouterr().out
    for expected in (
        "assuming that",
        "nmi (vector 2) enters through an interrupt gate",
        "for any number and depth of events",
        "9 of 9 instructions",
        "not: page_fault (1), page_fault_exit (1)",
        "broken: the last copy of the interrupted context's rip",
        "'nmi at nmi': offered in 1 states, held back by NMIs blocked in all",
        "for runs with exactly these events: nmi, then nmi at nmi",
    ):
        assert expected in out


def test_a_run_that_breaks_several_properties_is_told_once(spec, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prove", spec(("interrupted: [user: {gs: kernel}]", "interrupted: [user]"))])
    verdicts = capsys.readouterr().out.split(": refuted")[1:]
    assert len(verdicts) > 2
    assert ["broken: a write outside" in v for v in verdicts] == [True] + [False] * (len(verdicts) - 1)
    assert all("run       the same as that of context-restored" in v for v in verdicts[1:])


def test_a_bound_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", TICKET, "-p", "context-restored", "--bound", "nmi=1,page_fault=1"]) == 0
    assert "up to nmi=1, page_fault=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bound", "message", "hint"),
    [
        ("nmi=2", "leaves page_fault without a bound", "page_fault=1"),
        ("nmi=1,page_fualt=1", "no event is called 'page_fualt'", "did you mean 'page_fault'?"),
        ("nmi", "'nmi' is not EVENT=NUMBER", "--help"),
        ("nmi=1,nmi=2", "'nmi' is given twice", "--help"),
        ("nmi=-1,page_fault=1", "is not EVENT=NUMBER", "--help"),
    ],
)
def test_bad_bounds(bound: str, message: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", TICKET, "--bound", bound]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert hint in err


def test_a_bound_may_not_exceed_the_specification(spec, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec(("nmi: any, page_fault: any", "nmi: 1, page_fault: any"))
    assert main(["prove", path, "--bound", "nmi=2,page_fault=1"]) == 2
    assert "more than the 1 that the specification allows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command"),
        (["prov", TICKET], "invalid choice: 'prov'"),
        (["prove", TICKET, "-p", "frame-intcat"], "did you mean 'frame-intact'?"),
        (["prove", "no-such-file.yaml"], "no-such-file.yaml"),
        (["check", str(SUBJECTS / "tiket.yaml")], "did you mean 'ticket.yaml'?"),
        (["check", str(Path(__file__).parent)], "no *.yaml below this folder"),
        (["prove", TICKET, "--max-states", "0"], "'0' is no positive number"),
        (["lift", str(SUBJECTS / "ticket.S")], "the symbol 'busy' is not defined"),
        (["lift", str(SUBJECTS / "ticket.S"), "--extern", "busy"], "not NAME=ADDRESS"),
        (["lift", str(SUBJECTS / "ticket.S"), "--extern", "busy=0", "--entry", "nim"], "did you mean 'nmi'?"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_check_prints_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SUBJECTS)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["spec", "property", "verdict", "expected", "states", "seconds"]
    assert lines[3].split()[:4] == ["ticket", "frame-intact", "refuted", "refuted"]
    assert lines[-1] == "6 properties of 1 specifications: all as expected"


def test_check_shows_what_is_not_as_expected(spec, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec(("that: intact(frame)\n    expect: refuted", "that: intact(frame)\n    expect: proved"))
    assert main(["check", path]) == 1
    out = capsys.readouterr().out
    assert "frame-intact: refuted (expected: proved)" in out
    assert "broken: the last copy" in out
    assert [line.split()[1] for line in out.splitlines() if "<- not as expected" in line] == ["frame-intact"]


def test_check_without_expectation_wants_a_decision(spec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", spec(("that: progress\n    expect: refuted", "that: progress"))]) == 0
    vacuous = "that: unreachable(work)\n    during: [page_fault in work]\n"
    assert main(["check", spec((f"{vacuous}    expect: vacuous\n", vacuous))]) == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_broken_specification_hides_no_other(spec, jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec(name="b.yaml")
    broken = spec(("title: An", "tilte: An"), name="a.yaml")
    assert main(["check", str(Path(broken).parent), "-j", jobs]) == 2
    out, err = capsys.readouterr()
    assert "did you mean 'title'?" in err
    assert "6 properties of 2 specifications: all as expected; 1 specifications with errors" in out


def test_check_json_has_results_and_errors(spec, capsys: pytest.CaptureFixture[str]) -> None:
    spec(name="b.yaml")
    broken = spec(("title: An", "tilte: An"), name="a.yaml")
    assert main(["check", str(Path(broken).parent), "--json"]) == 2
    whole = json.loads(capsys.readouterr().out)
    assert len(whole["results"]) == 6
    assert [(e["kind"], e["line"]) for e in whole["errors"]] == [("SpecError", 2)]


def test_json_errors(spec, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec(("title: An", "tilte: An"))
    assert main(["prove", path, "--json"]) == 2
    whole = json.loads(capsys.readouterr().out)
    assert whole["format"] == 1
    assert whole["error"]["file"] == path
    assert (whole["error"]["line"], whole["error"]["column"]) == (2, 1)
    assert whole["error"]["hint"] == "did you mean 'title'?"


def test_json_errors_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "--json"]) == 2
    assert "SPEC" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InternalError("step 3 differs"), 70, "internal error: InternalError: step 3 differs\nPlease report"),
        (ZeroDivisionError("oops"), 70, "internal error: ZeroDivisionError: oops\nPlease report"),
        (MemoryError(), 3, "unknown: ran out of memory"),
        (RecursionError(), 3, "unknown: ran out of Python's stack"),
        (KeyboardInterrupt(), 130, "verifier: interrupted"),
    ],
)
def test_whatever_happens_there_is_a_message(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("verifier.cli.commands.load", fail)
    assert main(["prove", TICKET]) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()])
def test_a_search_that_runs_out_is_unknown_and_others_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Prover.results

    def fail(self: Prover, properties: list[Property]):
        if properties[0].during is None:
            raise error
        return results(self, properties)

    monkeypatch.setattr(Prover, "results", fail)
    assert main(["prove", TICKET, "-q", "-p", "frame-intact", "-p", "single-nmi"]) == 3
    assert capsys.readouterr().out == "frame-intact: unknown\nsingle-nmi: proved\n"


def test_an_internal_error_of_one_specification(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InternalError("disagree")

    monkeypatch.setattr(Specification, "outcomes", fail)
    assert main(["check", TICKET]) == 70
    assert "internal error: disagree" in capsys.readouterr().err


def test_lift_prints_ssa(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lift", str(SUBJECTS / "ticket.S"), "--extern", "busy=0", "--entry", "nmi"]) == 0
    assert "nmi:" in capsys.readouterr().out


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert (f"verifier {__version__} (z3 " if argument == "--version" else "exit codes:") in out


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "verifier", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def test_interrupting_leaves_one_line() -> None:
    # path by path, so many events take hours
    running = start("prove", TICKET, "-p", "comes-home", "--bound", "nmi=30,page_fault=30")
    time.sleep(2.5)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert err.strip() == "verifier: interrupted"


def test_interrupting_ends_the_workers_too(spec) -> None:
    # one property that the search does not decide for minutes, in each of two files
    endless = "that: progress\n    during: ['*']\n    expect: refuted"
    for name in ("a.yaml", "b.yaml"):
        path = spec(("that: progress\n    expect: refuted", endless), name=name)
        Path(path).with_name("ticket.S").write_text(ENDLESS)
    running = start("check", str(Path(path).parent), "-j", "2")
    time.sleep(3)
    assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert err.strip() == "verifier: interrupted"


def test_a_reader_that_stops_is_no_error() -> None:
    running = start("schema")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    err = running.stderr.read()
    assert running.wait(timeout=20) == codes.BROKEN_PIPE
    assert err == ""


def test_ascii_where_the_output_cannot_show_more() -> None:
    running = start("refute", TICKET, "-p", "frame-intact", PYTHONIOENCODING="ascii")
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0
    assert out.isascii()
    assert "! nmi in the interrupted context" in out


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        (["--color", "always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {}, False),
        ([], {}, False),
    ],
)
def test_colour(
    options: list[str],
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    main(["prove", TICKET, "-p", "single-nmi", *options])
    assert ("\x1b[1;32mproved" in capsys.readouterr().out) == coloured


@pytest.mark.parametrize(("quiet", "every", "lines"), [(False, 0.0, 2), (False, 60.0, 0), (True, 0.0, 0)])
def test_progress_is_a_line_now_and_then(
    quiet: bool, every: float, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("a.yaml", quiet, every=every) as progress:
        progress(256, 12)
        progress(512, 9)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    assert all(line.startswith("a.yaml: ") and "states explored" in line for line in shown)
