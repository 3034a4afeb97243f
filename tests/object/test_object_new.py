"""``verifier new``: a specification with all that objects say of themselves, which loads as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from object_build import assembled, linked, listed

import verifier
from verifier.cli import main

ENTRY = """
	.globl asm_exc_nmi, asm_exc_page_fault
asm_exc_nmi:
	cld
	testb $3, 8(%rsp)
	je 1f
	swapgs
	mov %gs:stack_top+8, %rax
	incl boot_flags+4(%rip)
771:	nop
772:
1:	call exc_nmi
	mov $handler, %rdi
	jmp *%rdi
	rdmsr
	jne out_there
	vmovaps %xmm0, %xmm1
asm_exc_page_fault:
	addq $8, %rsp
	iretq
	.pushsection .altinstructions, "a"
	.long 771b - ., 772b - .
	.word 308, 0
	.byte 772b-771b, 0
	.popsection
"""


def begun(folder: Path, *files: Path, entries: tuple[str, ...] = ("asm_exc_nmi",)) -> dict:
    """What the new specification says, which must load."""
    (folder / "pyproject.toml").touch()
    chosen = [word for entry in entries for word in ("--entry", entry)]
    target = folder / "specs" / "new.yaml"
    target.parent.mkdir(exist_ok=True)
    assert main(["new", "--from", *map(str, files), *chosen, "-o", str(target)]) == 0
    verifier.load(target)
    return yaml.safe_load(target.read_text())


def test_what_an_object_needs_from_outside(tmp_path: Path) -> None:
    path = assembled(ENTRY.replace("jmp *%rdi", "jne 2f\n2:"), tmp_path)
    spec = begun(tmp_path, path)
    assert spec["program"] == {"object": "../a.o", "alternatives": "original"}
    assert spec["machine"]["idt"] == {"nmi": {"entry": "asm_exc_nmi", "gate": "interrupt", "stack": "nmi_ist"}}
    assert spec["machine"]["percpu"] == {"stack_top": {"size": 16}}
    assert spec["machine"]["data"] == {"boot_flags": {"size": 8}, "handler": {"size": 8}}
    assert spec["calls"] == {"exc_nmi": {}, "out_there": {}}
    assert spec["environment"]["interrupted"] == [{"user": {"gs": "user"}}, "kernel"]
    assert spec["environment"]["events"] == {"nmi": "any"}
    text = (tmp_path / "specs" / "new.yaml").read_text()
    for part in (
        "# 11 instructions and 1 nops.",
        "this instruction is not supported: ",
        "vmovaps %xmm0,%xmm1",
        "308 (word 9, bit 20): asm_exc_nmi+",
        "out_there: {}  # jumped to at asm_exc_nmi+",
        "handler: {size: 8}  # (?) its address: asm_exc_nmi+",
        "rdmsr and wrmsr are on the path",
    ):
        assert part in text, text


def test_several_entries(tmp_path: Path) -> None:
    path = assembled(ENTRY, tmp_path)
    spec = begun(tmp_path, path, entries=("asm_exc_nmi", "asm_exc_page_fault"))
    assert list(spec["machine"]["idt"]) == ["nmi", "page_fault"]
    assert spec["machine"]["rsp0"] == "kernel_stack"
    text = (tmp_path / "specs" / "new.yaml").read_text()
    assert "jmp *%rdi" in text


def test_from_a_listing(tmp_path: Path) -> None:
    spec = begun(tmp_path, listed(assembled(ENTRY, tmp_path)))
    assert spec["program"] == {"object": "../a.lst"}


def test_check_runs_straight_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = assembled("\t.globl nmi\nnmi: cld\n\tcall work\n\tiretq\n", tmp_path)
    begun(tmp_path, path, entries=("nmi",))
    assert main(["check", str(tmp_path / "specs")]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("context-restored", "frame-intact", "comes-home"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "a.o", "--entry", "nim"], "--entry nim: no code has this name"),
        (["--from", "a.o", "--entry", "datum"], "--entry datum: no code has this name"),
        (["--from", "b.o", "--entry", "nmi"], "b.o: no such file"),
        (["--from", "a.s", "--entry", "nmi"], "is no object file"),
        (["--from", "."], "the following arguments are required: --entry"),
    ],
)
def test_what_cannot_be_begun(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assembled("\t.globl nmi\nnmi: iretq\n\t.data\ndatum: .quad 0\n", tmp_path)
    assert main(["new", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_object_outside_the_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "pyproject.toml").touch()
    path = assembled("\t.globl nmi\nnmi: iretq\n", tmp_path)
    assert main(["new", "--from", str(path), "--entry", "nmi", "-o", str(tmp_path / "inside" / "new.yaml")]) == 0
    assert "so the specification cannot name it" in capsys.readouterr().err


EXECUTABLE = """
	.globl asm_exc_nmi
	.text
asm_exc_nmi:
	verw selector(%rip)
	movq bases(,%rax,8), %rax
	movq %gs:hot+24(%rip), %rax
	movq %gs:whole(%rip), %rax
	call exc_nmi
	iretq
selector: .word 0x18
	.type exc_nmi, @function
exc_nmi:
	movl other(%rip), %eax
	jmp elsewhere
elsewhere:
	ret
	.data
	.type bases, @object
	.size bases, 64
bases:	.fill 8, 8, 0
other:	.long 0
	.section .data..percpu, "aw"
	.type hot, @object
	.size hot, 64
hot:	.fill 64, 1, 0
	.type whole, @object
	.size whole, 8
whole:	.quad 0
"""


@pytest.mark.parametrize("percpu", ["0", "0xffffffff82100000"])
def test_an_executable(percpu: str, tmp_path: Path) -> None:
    """Its functions are cut off where entries call them; fields, and data among code, get names."""
    spec = begun(tmp_path, linked(assembled(EXECUTABLE, tmp_path), percpu))
    assert spec["machine"]["percpu"] == {"hot_24": {"of": "hot", "offset": 24, "size": 8}, "whole": {}}
    assert spec["machine"]["data"] == {"selector": {"size": 2}}
    assert spec["calls"] == {"exc_nmi": {}}
    text = (tmp_path / "specs" / "new.yaml").read_text()
    assert "lead to\n# 6 instructions and 0 nops" in text
    assert "# bases is read by an index at asm_exc_nmi+0x7" in text


def test_a_function_that_is_an_entry_is_followed(tmp_path: Path) -> None:
    path = linked(assembled(EXECUTABLE, tmp_path), "0")
    spec = begun(tmp_path, path, entries=("asm_exc_nmi", "exc_nmi"))
    assert "calls" not in spec
