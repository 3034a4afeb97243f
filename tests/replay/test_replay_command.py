"""``verifier replay`` as a user types it: specifications, traces in files, edited traces, missing emulators."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from verifier.cli import main

SUBJECTS = Path(__file__).parents[1] / "subjects"
SPEC = "ticket.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the subject, which is the current one."""
    for name in ("ticket.S", SPEC):
        shutil.copy(SUBJECTS / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``prove --json`` prints of the subject."""
    folder = tmp_path_factory.mktemp("written")
    for name in ("ticket.S", SPEC):
        shutil.copy(SUBJECTS / name, folder)
    here = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr("verifier.cli.terminal.Terminal.say", lambda self, text="": said.append(text))
            assert main(["prove", SPEC, "-p", "frame-intact", "-p", "single-nmi", "--json"]) == 1
    finally:
        os.chdir(here)
    found: dict[str, Any] = json.loads("\n".join(said))
    return found


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["replay", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("machine", ["interpreter", "qemu", "bochs"])
def test_a_run_of_a_specification(project: Path, machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, SPEC, "-p", "frame-intact", "--on", machine)
    assert (code, err) == (0, "")
    assert out.startswith(f"frame-intact on {machine}: agreed on all ")
    assert ("no-rf-in-fault-frames, at step " in out) == (machine == "qemu")


def test_every_refuted_property_on_two_machines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, SPEC, "--on", "interpreter", "--on", "qemu", "-q")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"{name} on {machine}" for name in ("frame-intact", "comes-home") for machine in ("interpreter", "qemu")
    ]


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, SPEC, "-p", "frame-intact", "--on", "qemu", "--json")
    (entry,) = json.loads(out)["replays"]
    assert code == 0
    assert (entry["property"], entry["machine"], entry["outcome"]) == ("frame-intact", "qemu", "deviates")
    assert entry["agreed"] == entry["steps"] > 5
    assert {d["name"] for d in entry["deviations"]} == {"no-rf-in-fault-frames"}


def test_what_differs_is_told_with_step_and_values(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.replay.deviations.DEVIATIONS", ())
    code, out, _ = run(capsys, SPEC, "-p", "frame-intact", "--on", "qemu")
    assert code == 1
    assert "frame-intact on qemu: differs at step 5: page_fault at work+0x1" in out
    assert "bytes at nmi_ist+0xfb8: 0x1" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [("single-nmi", "single-nmi is proved: there is no run to replay"), ("no-such", "no property is called 'no-such'")],
)
def test_a_property_without_a_run(project: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, SPEC, "-p", name, "--on", "interpreter")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("machine", "left", "program", "package"),
    [
        ("qemu", ("as", "ld", "objcopy", "nm", "bochs"), "qemu-system-x86_64", "qemu-system-x86"),
        ("bochs", ("as", "ld", "objcopy", "nm", "qemu-system-x86_64"), "bochs", "bochs"),
        ("qemu", ("qemu-system-x86_64",), "as", "binutils"),
    ],
)
def test_what_is_missing_is_named_with_its_package(
    machine: str, left: tuple[str, ...], program: str, package: str, project: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tools = project / "bin"
    tools.mkdir()
    for name in left:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    code, out, err = run(capsys, SPEC, "--on", machine)
    assert (code, out) == (2, "")
    assert f"{program} is not installed" in err
    assert f"install the package {package}\n" in err


# Traces in files


def written(project: Path, document: object) -> str:
    (project / "trace.json").write_text(json.dumps(document))
    return "trace.json"


@pytest.mark.parametrize("machine", ["interpreter", "qemu"])
def test_a_trace_is_enough_to_replay_it(
    machine: str, project: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, written(project, document), "--on", machine)
    assert (code, err) == (0, "")
    assert out.startswith(f"frame-intact on {machine}: agreed on all ")


def test_the_specification_can_be_given(
    project: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (project / SPEC).rename(project / "other.yaml")
    name = written(project, document)
    assert run(capsys, name, "--on", "interpreter")[0] == 2
    assert run(capsys, name, "--on", "interpreter", "--spec", "other.yaml")[0] == 0


#: What is changed in a trace (a path of keys, and the new value), and what has to be said of it.
EDITS: list[tuple[tuple[str | int, ...], object, str]] = [
    (("steps", 2, "cells", "rsp"), "0x1", "step 3 (execute): rsp is 0x1 in the trace, and 0x"),
    (("steps", 1, "rip"), "0x40", "step 2 (execute): rip is 0x40 in the trace"),
    (("steps", 0, "action"), "irq", "does not allow irq to strike, as it does in step 1"),
    (("steps", 0, "action"), "page_fault", "does not allow page_fault to strike first"),
    (("steps", 4, "action"), "earthquake", "does not allow earthquake to strike"),
    (("steps", 3, "action"), "page_fault", "step 4 (page_fault): page_fault is injected at"),
    (("steps", 0, "latch"), True, "step 1 (nmi): nmi cannot be latched"),
    (("steps", 0, "nmi_blocked"), False, "nmi_blocked is 0x0 in the trace"),
    (("steps", 4, "choices"), [], "step 5 (page_fault): a choice "),
    (("steps", 4, "choices", 0, "kind"), "undef", "is asked for"),
    (("steps", 2, "memory", 0, "bytes"), "ff" * 8, "the byte at 0x"),
    (("steps", 2, "memory", 0, "address"), "0x" + "f" * 40, "in the trace"),
    (("steps", 4, "ended"), "home", "the run home in the trace, and goes on when executed"),
    (("steps", 0, "cells", "r99"), "0x1", "changes 'r99', which is no cell"),
    (("steps",), [], "the run has no steps"),
    (("initial", "context"), "nobody", "has no interrupted context 'nobody'"),
    (("initial", "cells", "cs"), "0x10", "cs is 0x10 and not 0x33"),
    (("initial", "cells", "rax"), "0x1" + "0" * 16, "rax is 0x10000000000000000, which is no value of 64 bits"),
    (("initial", "cells", "gs_base"), "0x1", "gs_base is 0x1 and not 0x"),
    (("initial", "cells"), {}, "its regions or cells are not those of the specification"),
    (("initial", "regions", "nmi_ist"), "0x1000", "nmi_ist is at 0x1000, where it cannot be"),
    (("initial", "rip"), "0x8000000000000000", "which is not canonical"),
    (("initial", "memory"), [{"address": "0x0", "bytes": "00" * 900_000}], "more memory"),
    (("initial", "rules", "magic"), 1, "no rule is called 'magic'"),
    (("violation", "quiet_from"), 99, "there is no step 99"),
    (("violation", "kind"), "stuck", "the run does not break the property"),
]


@pytest.mark.parametrize(("path", "value", "message"), EDITS, ids=["/".join(map(str, e[0])) for e in EDITS])
def test_an_edited_trace_gives_one_message(
    path: tuple[str | int, ...], value: object, message: str, project: Path, document: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    edited = copy.deepcopy(document)
    place: Any = next(r for r in edited["results"] if r["trace"])["trace"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    code, out, err = run(capsys, written(project, edited), "--on", "qemu")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is no JSON document"),
        (b"\xff\xfe", "this is no JSON document"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "not a document of verdicts"),
        (b'{"format": 2}', "not a document of verdicts"),
        (b'{"format": 1, "tool": {"name":"","version":"","z3":"","python":""}, "results": []}', "there is no run"),
        (b" " * (33 << 20), "larger than 32 MB"),
        (b'{"format": 1' + b"0" * 10_000 + b"}", "this is no JSON document"),
    ],
)
def test_a_foreign_file_gives_one_message(
    content: bytes, message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "trace.json").write_bytes(content)
    code, out, err = run(capsys, "trace.json", "--on", "interpreter")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1


@pytest.mark.parametrize("spec", ["/etc/passwd", "../secret.yaml", "gone.yaml", "\0", "x" * 5000, "."])
def test_a_trace_cannot_make_us_read_elsewhere(
    spec: str, project: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    edited = copy.deepcopy(document)
    for result in edited["results"]:
        result["spec"] = spec
    code, _, err = run(capsys, written(project, edited), "--on", "interpreter")
    assert code == 2
    assert "its specification " in err
    assert "name it with --spec" in err


def test_a_trace_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "gone.json")
    assert code == 2
    assert "gone.json: No such file" in err
