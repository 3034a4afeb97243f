"""Every mistake in a specification: its message, the very word that the caret marks, and the hint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spec_mistakes import MISTAKES
from spec_project import SPEC, Project

from verifier.errors import SpecError, VerifierError
from verifier.spec import load


@pytest.mark.parametrize(("old", "new", "message", "marked", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(project: Project, old: str, new: str, message: str, marked: str, hint: str | None) -> None:
    assert old in SPEC
    with pytest.raises(SpecError) as caught:
        project.load(SPEC.replace(old, new, 1))
    error = caught.value
    assert error.span is not None
    assert error.span.file.endswith("small.yaml")
    assert error.message.startswith(message)
    assert error.span.text[error.span.column - 1 : error.span.end - 1] == marked
    assert SPEC.replace(old, new, 1).split("\n")[error.span.line - 1] == error.span.text
    assert error.hint == hint


FILES = {
    "empty": (b"", "the file is empty", 1, 1),
    "comment only": (b"# nothing\n", "the file is empty", 1, 1),
    "binary": (b"\x7fELF\x02\x01\x01\x00\x00", "a NUL byte: this is no text file", 1, 8),
    "invalid UTF-8": (b"format: 1\ntitle: \xff\xfe", "not UTF-8: this is no text file", 2, 8),
    "a list": (b"- 1\n", "a mapping", 1, 1),
    "a word": (b"hello\n", "a mapping", 1, 1),
    "unclosed": (b"format: [1\n", "not YAML: expected ',' or ']', but got '<stream end>'", 2, 1),
    "tab": (b"format: 1\n\ttitle: x\n", "not YAML: found character '\\t' that cannot start any token", 2, 1),
    "key that is a list": (b"[1]: 2\n", "a key must be a word, not a list", 1, 1),
    "impossible escape": (b'title: "\\UFFFFFFFF"\n', "not YAML: ", 1, 1),
    "many values": (b"a: [" + b"x," * 490_000 + b"]", "more than 20,000 values in one file", 1, 39_999),
    "many brackets": (b"[" * 900_000, "nested deeper than 50 levels", 1, 51),
}


@pytest.mark.parametrize(("data", "message", "line", "column"), FILES.values(), ids=FILES)
def test_file(project: Project, data: bytes, message: str, line: int, column: int) -> None:
    with pytest.raises(SpecError) as caught:
        project.load(data)
    span = caught.value.span
    assert message in caught.value.message
    assert span is not None
    assert (span.line, span.column) == (line, column)
    assert "\x7f" not in str(caught.value)


def test_large_file(project: Project) -> None:
    with pytest.raises(SpecError, match="larger than 1,000,000 bytes"):
        project.load(b"# " + b"x" * 1_000_000)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file: "):
        load(tmp_path / "missing.yaml")


def test_folder_and_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SpecError, match="not a regular file"):
            load(path)


OUTSIDE = ["../../outside.s", "/etc/passwd", "../link.s", "../linked/outside.s"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_source_outside_the_tree(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    project = Project(tmp_path / "inner")
    (tmp_path / "outside.s").write_text("nmi: nop")
    (project.root / "link.s").symlink_to(tmp_path / "outside.s")
    (project.root / "linked").symlink_to(tmp_path)
    with pytest.raises(SpecError, match="lies outside the tree of this specification") as caught:
        project.load(SPEC.replace("../asm/small.s", name))
    assert caught.value.span is not None
    assert caught.value.span.line == 4


@pytest.mark.parametrize("name", ["../loop.s", "x" * 5000])
def test_source_that_cannot_be_looked_up(project: Project, name: str) -> None:
    (project.root / "loop.s").symlink_to(project.root / "loop.s")
    with pytest.raises(SpecError, match=r"cannot be looked up|no such file"):
        project.load(SPEC.replace("../asm/small.s", name))


def test_narrower_root(project: Project) -> None:
    with pytest.raises(SpecError, match="lies outside the tree"):
        load(project.spec(), root=project.root / "specs")


def test_hole_without_entry(project: Project) -> None:
    """The place is the hole in the assembly text: the specification has none for it."""
    with pytest.raises(VerifierError) as caught:
        project.load(SPEC.replace("  regular_nmi_code: {may: [page_fault], keeps: [registers]}", "  {}"))
    error = caught.value
    assert error.message == "nothing says what the hole 'regular_nmi_code' may do"
    assert error.span is not None
    assert error.span.file.endswith("small.s")
    assert error.span.text.strip() == "..."
    assert error.hint == "add 'regular_nmi_code: {keeps: [registers]}' to 'holes' in the specification"


def test_event_in_user_mode_without_a_stack(project: Project) -> None:
    text = SPEC.replace("  rsp0: kernel_stack\n", "").replace("  outermost: [nmi]\n", "")
    with pytest.raises(SpecError) as caught:
        project.load(text)
    assert caught.value.message == "irq may strike at CPL 3, and nothing says which stack it uses then"
