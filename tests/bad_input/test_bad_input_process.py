"""What only a process of its own can show: little memory, closed pipes, full disks, encodings, Ctrl-C."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bad_input_project import ASM, SPEC, Project
from bad_input_rows import ASM_ROWS

GIGABYTE = 1 << 30


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def start(
    *arguments: str,
    memory: int = GIGABYTE,
    cwd: Path | None = None,
    stdout: int = subprocess.PIPE,
    **more: str,
):
    return subprocess.Popen(
        [sys.executable, "-m", "verifier", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, **more},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),  # noqa: PLW1509
        start_new_session=True,
    )


def run(*arguments: str, **more) -> tuple[int, str, str]:
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["rept bomb", "nested rept bomb", "macro bomb", "define bomb"])
def test_bombs_in_a_gigabyte(name: str, project: Project) -> None:
    project.asm(ASM.replace(*ASM_ROWS[name][:2]))
    code, out, err = run("prove", str(project.path))
    assert (code, out) == (2, "")
    assert ASM_ROWS[name][4] in err
    assert "Traceback" not in err


def test_large_files_in_a_gigabyte(project: Project) -> None:
    project.asm(ASM.encode() + b"\n" * 8_000_000)
    code, out, err = run("prove", str(project.path))
    assert (code, out, err) == (2, "", "error: nmi.S has more than 100,000 lines\n")


def test_a_search_without_memory_is_unknown(project: Project) -> None:
    """The stack grows for ever, and each state holds all of it."""
    project.spec(SPEC.replace("size: 4096", "size: 16777216"))
    project.asm(ASM.replace("pushq %rax", "1: pushq %rax\n\tjmp 1b"))
    code, out, err = run("prove", str(project.path), "-q", memory=GIGABYTE // 3)
    assert code == 3
    assert "Traceback" not in err
    assert "proved" not in out
    assert "unknown" in out + err


@pytest.mark.parametrize(
    "command", [["schema"], ["prove", "{spec}"], ["prove", "{spec}", "--json"], ["check", "{spec}"]]
)
def test_a_full_disk(command: list[str], project: Project) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    code, _, err = run(*(w.format(spec=project.path) for w in command), stdout=full)
    os.close(full)
    assert (code, err) == (2, "error: cannot write the output: No space left on device\n")


def test_nowhere_to_write(project: Project) -> None:
    """The exit code tells the verdict although the streams are closed."""
    for closed in ("1>&-", "1>&- 2>&-"):
        command = f"exec {sys.executable} -m verifier prove -q {project.path} {closed}"
        assert subprocess.run(["sh", "-c", command], check=False, capture_output=True).returncode == 0


def test_a_pipe_closed_early(project: Project) -> None:
    command = f"{{ {sys.executable} -m verifier prove {project.path}; echo $? >&2; }} | head -n 1"
    shown = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr.strip() in ("0", "141")


def test_messages_in_ascii(project: Project) -> None:
    project.asm(ASM.replace("pushq", "/* ↯ */ puhsq"))
    code, out, err = run("prove", str(project.path), PYTHONIOENCODING="ascii")
    assert (code, out) == (2, "")
    assert err.isascii()
    assert "did you mean 'pushq'?" in err


def test_a_narrow_terminal_breaks_no_message(project: Project) -> None:
    project.asm(ASM.replace("pushq", "puhsq"))
    code, _, err = run("prove", str(project.path), "--color", "always", COLUMNS="10", TERM="xterm")
    assert code == 2
    assert "puhsq %rax\n" in err


def test_names_with_blanks_from_another_folder(tmp_path: Path) -> None:
    project = Project(tmp_path / "ein Ordner" / "größer")
    (tmp_path / "elsewhere").mkdir()
    name = os.path.relpath(project.path, tmp_path / "elsewhere")
    code, out, err = run("prove", name, "-q", cwd=tmp_path / "elsewhere")
    assert (code, out, err) == (0, "restored: proved\n", "")
    project.spec(SPEC.replace("format: 1", "fromat: 1"))
    code, _, err = run("prove", name, cwd=tmp_path / "elsewhere")
    assert code == 2
    assert err.startswith(f"{name}:1:1: error: unknown key 'fromat'")


def test_ctrl_c_leaves_one_line(project: Project) -> None:
    project.asm(ASM.replace("pushq %rax", "1: addq %rax, %r15\n\tincq %rax\n\tjmp 1b"))
    process = start("prove", str(project.path))
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "verifier: interrupted")
