"""What is wrong only when control comes there: an error, a violation or an unknown, and never a proof."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_input_project import ASM, Project

from verifier.cli import main


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


#: Code at the entry, the exit code, the verdict, part of its reason.
REACHED = {
    "jump to a register": ("jmp *%rcx", 1, "refuted", "control goes to an address"),
    "call through memory": ("call *8(%rsp)", 1, "refuted", "control goes to an address"),
    "return to anywhere": ("pushq %rcx\n\tret", 1, "refuted", "control goes to an address"),
    "fall off the text": ('jmp 9f\n\t.section .last, "ax"\n9:\tnop\n\t.text', 1, "refuted", "control goes to"),
    "write to nowhere": ("movq %rcx, (%rdx)", 1, "refuted", "a write outside every region"),
    "write to a fixed nowhere": ("movq %rcx, 0xffffffff80001000", 1, "refuted", "a write outside every region"),
    "write to its own text": ("movq %rcx, nmi(%rip)", 1, "refuted", "a write outside every region"),
    "read from nowhere": ("movq (%rdx), %rax", 1, "refuted", "a read outside every region"),
    "push below the stack": ("1: pushq %rax\n\tsubq $999, %rsp\n\tjmp 1b", 1, "refuted", "a write outside every"),
    "a loop of its own": ("1: jmp 1b", 1, "refuted", "without further events control never comes back"),
    "string of unknown length": ("leaq -512(%rsp), %rdi\n\trep stosq", 3, "unknown", "can be anywhere in"),
    "unknown register number": ("rdmsr", 3, "unknown", "model-specific register"),
    "a vector without a gate": ("ud2", 1, "refuted", "has no gate"),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_never_a_proof(name: str, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    code, exit_code, verdict, reason = REACHED[name]
    project.asm(ASM.replace("nmi:\n", f"nmi:\n\t{code}\n", 1))
    assert main(["prove", str(project.path)]) == exit_code
    out = " ".join(capsys.readouterr().out.split())
    assert f"restored: {verdict}" in out
    assert reason in out


#: Instructions that assemble and have no semantics here.
UNSUPPORTED = ["lgdt (%rax)", "monitor", "movq %rax, %dr7", "pdep %rax, %rcx, %rdx"]


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_an_unsupported_instruction_is_an_error_where_it_is_reached(
    code: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.asm(ASM.replace("nmi:\n", f"nmi:\n\t{code}\n", 1))
    assert main(["prove", str(project.path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("nmi.S:2:2: error: ")
    assert "restored: " not in out
    project.asm(f"{ASM}\t{code}\n")
    assert main(["prove", str(project.path)]) == 0
