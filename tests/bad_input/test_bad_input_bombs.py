"""Each reader against each named bomb, in a process with a gigabyte: one message, exit code 2, and soon."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input_project import ASM, Project
from test_bad_input import Told
from test_bad_input_process import GIGABYTE, run

#: The name of the file, and the words before and after it.
READERS = {
    "specification": ("given.yaml", ["prove"], []),
    "assembler": ("given.s", ["lift"], []),
    "preprocessor": ("given.S", ["lift"], []),
    "trace": ("given.json", ["replay"], ["--on", "interpreter"]),
    "certificate": ("given.cert", ["recheck"], []),
}
BOMBS = {
    "empty": b"",
    "NUL bytes": b"\0" * 1000,
    "invalid UTF-8": b"\xff\xfe\xfd\n",
    "UTF-16": '{"format": 1}\n'.encode("utf-16"),
    "50 MB": b"a" * 50_000_000,
    "50 MB of lines": b"\n" * 50_000_000,
    "deep lists": b"[" * 900_000,
    "deep mappings": b'{"a":' * 190_000,
    "a huge number": b"9" * 990_000,
    "a huge number inside": b'{"format": ' + b"9" * 900_000 + b"}",
    "a huge word": b'"' + b"x" * 900_000 + b'"',
    "a long list": b"[" + b"0," * 400_000 + b"0]",
    "control characters": b'"\x1b[2J"',
    "half a character": b'{"format": "\\ud800"}',
    "no number": b"NaN",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def batch(calls: list[list[str]]) -> list[tuple[int, str, str]]:
    """Code, stdout and stderr of each call, all of them in one process with a gigabyte."""
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bad_input_batch.py"))],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (GIGABYTE, GIGABYTE)),
    )
    assert process.stderr == ""
    return [tuple(answer) for answer in json.loads(process.stdout)]


def call(reader: str, path: Path) -> list[str]:
    _, before, after = READERS[reader]
    return [*before, str(path), *after]


def refused(answer: tuple[int, str, str], path: Path) -> None:
    """One message, which names the file."""
    code, out, err = answer
    assert (code, out) == (2, ""), err
    assert len(err) < 3000
    told = Told(err)
    assert path.name in (told.file or told.message)


@pytest.mark.parametrize("reader", READERS)
def test_content(reader: str, project: Project) -> None:
    name = READERS[reader][0]
    paths = [project.root / str(number) / name for number in range(len(BOMBS))]
    for path, data in zip(paths, BOMBS.values(), strict=True):
        path.parent.mkdir()
        path.write_bytes(data)
    for path, answer in zip(paths, batch([call(reader, path) for path in paths]), strict=True):
        refused(answer, path)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(reader: str, project: Project) -> None:
    name = READERS[reader][0]
    folder, pipe, device, loop = paths = [project.root / kind / name for kind in ("folder", "pipe", "device", "loop")]
    folder.mkdir(parents=True)
    for path in (pipe, device, loop):
        path.parent.mkdir()
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    for path, answer in zip(paths, batch([call(reader, path) for path in paths]), strict=True):
        refused(answer, path)


@pytest.mark.parametrize("way", ["../secret.yaml", "out/secret.yaml", "{outside}/secret.yaml"])
@pytest.mark.parametrize("reader", ["trace", "certificate"])
def test_a_file_leads_out_of_the_folder_that_we_are_in(reader: str, way: str, tmp_path: Path, project: Project) -> None:
    """The very specification that it was made of, but where nobody said that it may be read."""
    outside = Project(tmp_path / "outside")
    outside.replace_asm("iretq\n", "incq %rax\n\tiretq\n") if reader == "trace" else None
    (outside.root / "secret.yaml").write_bytes(outside.path.read_bytes())
    (project.root / "out").symlink_to(outside.root)
    option = "--certificate" if reader == "certificate" else "--json -o"
    name, before, after = READERS[reader]
    made, _, err = run("prove", "secret.yaml", *option.split(), str(project.root / name), "-q", cwd=outside.root)
    assert (made, err) == (1 if reader == "trace" else 0, "")
    written = (project.root / name).read_text()
    assert '"secret.yaml"' in written
    target = way.format(outside=outside.root).replace("../secret", "../outside/secret")
    (project.root / name).write_text(written.replace('"secret.yaml"', f'"{target}"'))
    code, out, err = run(*before, name, *after, cwd=project.root)
    assert (code, out) == (2, "")
    assert "add --spec" in err or "--spec" in err
    assert run(*before, name, *after, "--spec", "out/secret.yaml", cwd=project.root)[0] == 0


_DOUBLING = "".join(f".macro m{i}\nm{i + 1}\nm{i + 1}\n.endm\n" for i in range(40))
#: Texts that are wrong for what they grow to, or that are large and right: the exit code.
GROWING = {
    "includes that double": (2, '#include "a0.h"\n', "more than 2,000 files are included"),
    "macros that double": (2, f"{_DOUBLING}m0\n", "expand"),
    "a macro of arguments that double": (2, ".macro m a:vararg\nm \\a \\a\n.endm\nm 1\n", "more than 16,384"),
    "symbols that double": (0, "".join(f".set a{i}, a{i + 1}+a{i + 1}\n" for i in range(60)) + ".set a60, 0\n", ""),
    "conditions": (2, ".if 1\n" * 10_000, "nested more than 200 deep"),
    "nested repeats": (2, ".irp x,1,2,3,4,5,6,7,8,9\n" * 8 + "nop\n" + ".endr\n" * 8, "more than 100,000 lines"),
    "a large gap": (0, "jmp 1f\n.skip 16000000\n1:\n", ""),
    "a larger gap": (2, "jmp 1f\n.skip 99999999\n1:\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_texts_that_grow(name: str, project: Project) -> None:
    expected, text, message = GROWING[name]
    for i in range(40):
        (project.root / f"a{i}.h").write_text(f'#include "a{i + 1}.h"\n' * 2)
    (project.root / "a40.h").write_text("nop\n")
    project.asm(ASM.replace("pushq %rax\n", f"{text}\tpushq %rax\n", 1))
    code, _, err = run("prove", str(project.path), "-q")
    assert code == expected, err
    assert message in err
    assert "Traceback" not in err


ARGUMENTS = {
    "a long path": ["prove", "x" * 100_000],
    "a deep path": ["check", "x/" * 50_000],
    "a control character": ["prove", "\x1b[2J"],
    "no UTF-8": ["prove", os.fsdecode(b"\xff\xfe")],
    "a huge number": ["prove", "{spec}", "--max-states", "9" * 100_000],
    "a huge bound": ["prove", "{spec}", "--bound", "nmi=" + "9" * 100_000],
    "many bounds": ["prove", "{spec}", "--bound", ",".join(["nmi=1"] * 20_000)],
    "a huge definition": ["lift", "{root}/nmi.S", "-D", "nop=" + "x" * 120_000],
    "a definition of NUL": ["lift", "{root}/nmi.S", "-D", "nop=" + "\x01"],
    "an address that is none": ["lift", "{root}/nmi.S", "--extern", "busy=" + "9" * 100_000],
    "a property that is long": ["prove", "{spec}", "-p", "x" * 100_000],
    "an entry that is long": ["lift", "{root}/nmi.S", "--extern", "busy=0", "--entry", "x" * 100_000],
    "a folder of files without end": ["prove", "{spec}", "--dump-smt", "/proc/self/fd"],
    "an output in no folder": ["prove", "{spec}", "-o", "{root}/none/out"],
}


def test_arguments(project: Project) -> None:
    words = {"spec": project.path, "root": project.root}
    calls = [[a.format(**words) for a in arguments] for arguments in ARGUMENTS.values()]
    for name, (code, out, err) in zip(ARGUMENTS, batch(calls), strict=True):
        assert (code, out) == (2, ""), name
        assert len(err) < 3000, name
        assert err.count("error: ") == 1, name
        assert "Traceback" not in err
        assert all(c.isprintable() or c in "\n\t" for c in err), name
