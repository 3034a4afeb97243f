"""What reviewers of entry code ask: each proved of an entry, refuted of one with a mistake, and rechecked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recheck_certificates import proved

import verifier
from verifier.errors import SpecError
from verifier.recheck import recheck

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = """
nmi:
	{first}
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %r12
	pushq %r13
	movq %cr2,%rbx
	movq %cr3,%r12
	movq %dr6,%r13
	{before}
	call nmi_c
	{after}
	popq %r13
	popq %r12
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
nmi_exit:
	{last}
"""
GOOD = {
    "first": "cld; clac; swapgs",
    "before": "nop",
    "after": "movq %rbx,%cr2; movq %r12,%cr3; movq %r13,%dr6; swapgs",
    "last": "iretq",
}
SPEC = """
format: 1
program: {{source: entry.s}}
machine:
  stacks: {{nmi_ist: {{size: 1024}}, other: {{size: 1024}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    page_fault: {{contract: {{}}, gate: interrupt}}
  percpu: {{other_top: {{size: 8, initially: other.top}}}}
calls:
  nmi_c: {{abi: none, saves: [rbx, rbp, r12, r13, r14, r15], stack: {stack}, may: [page_fault], changes: [cr3, dr6]}}
environment:
  interrupted: [user: {{gs: user, fixed: {{cr4: 0, dr6: 0xffff0ff0}}}}]
  events: {{nmi: 1, page_fault: any}}
properties: {{it: {{that: "{that}"{at}}}}}
"""
DR6 = "dr6 & 0xe00f == interrupted.dr6 & 0xe00f"  # BLD and RTM are not there, or are: MOV leaves them undefined
#: what must hold, where, and the mistake that breaks it: the parts of the entry that are different
QUESTIONS = {
    "kernel gs": (
        "gs_base == percpu.base",
        "calls",
        {"first": "cld; clac", "after": GOOD["after"].replace("swapgs", "nop")},
    ),
    "gs put back": ("restored(gs_base, kernel_gs_base)", None, {"after": GOOD["after"].replace("swapgs", "nop")}),
    "df": ("df == 0", "calls", {"first": "clac; swapgs"}),
    "ac": ("ac == 0", "calls", {"first": "cld; swapgs"}),
    "cr2": ("restored(cr2)", None, {"after": GOOD["after"].replace("movq %rbx,%cr2", "nop")}),
    "cr3": ("restored(cr3)", None, {"after": GOOD["after"].replace("movq %r12,%cr3", "nop")}),
    "dr6": (DR6, "outermost-return", {"after": GOOD["after"].replace("movq %r13,%dr6", "nop")}),
    "open at home": (
        "interrupted.cpl == 3 -> nmi_blocked == 0",
        "outermost-return",
        {"last": "movq 0(%rsp),%rcx; movq 16(%rsp),%r11; movq 24(%rsp),%rsp; sysretq"},
    ),
    "on its stack": (
        "within(rsp, nmi_ist)",
        "calls",
        {"before": "movq %rsp,%rbp; movq %gs:other_top,%rsp", "after": "movq %rbp,%rsp; " + GOOD["after"]},
    ),
    "blocked in C": (
        "nmi_blocked == 1",
        "calls",
        {"before": "pushq $0; pushq %rsp; pushfq; pushq $0x10; pushq $1f; iretq; 1: popq %r14"},
    ),
    "privilege": ("no_mishap", None, {"after": GOOD["after"] + "; movq $0x10,104(%rsp); movq $0x18,128(%rsp)"}),
}


def specification(folder: Path, that: str, at: str | None, changes: dict[str, str], stack: int = 64) -> Path:
    (folder / "pyproject.toml").touch()
    (folder / "entry.s").write_text(ENTRY.format(**(GOOD | changes)))
    path = folder / "entry.yaml"
    path.write_text(SPEC.format(that=that, at=f", at: {at}" if at else "", stack=stack))
    return path


@pytest.mark.parametrize("what", QUESTIONS)
def test_the_right_entry_is_proved_and_rechecked(what: str, tmp_path: Path) -> None:
    that, at, _ = QUESTIONS[what]
    spec = specification(tmp_path, that, at, {})
    content, names = proved(spec)
    assert names == {"it"}
    file = tmp_path / "certificate"
    file.write_bytes(content)
    assert [name for proof in recheck(file, spec, "z3") for name in proof.judged] == ["it"]


@pytest.mark.parametrize("what", QUESTIONS)
def test_the_wrong_one_is_refuted(what: str, tmp_path: Path) -> None:
    that, at, changes = QUESTIONS[what]
    outcome = verifier.load(specification(tmp_path, that, at, changes)).prove("it")
    assert outcome.verdict == "refuted", outcome.result.reason


def test_a_stack_that_is_too_small_refutes_everything(tmp_path: Path) -> None:
    outcome = verifier.load(specification(tmp_path, "df == 0", "calls", {}, stack=1000)).prove("it")
    assert outcome.verdict == "refuted"
    assert "nmi_c" in outcome.result.reason


MISTAKES = [
    ("within(rsp)", None, "within takes a value and regions"),
    ("within(rsp, nmi_stack)", None, "'nmi_stack' is no region"),
    ("within(rsp, interrupted_stack)", None, "'interrupted_stack' is no region"),
    ("within(rsp == 0, nmi_ist)", None, "this is true or false, where a value is wanted"),
    ("rsp == interrupted_stack.top", None, "unknown name 'interrupted_stack.top'"),
    ("no_mishap", "calls", "this property speaks of every state: it has no place"),
]


@pytest.mark.parametrize(("that", "at", "message"), MISTAKES)
def test_a_mistake(that: str, at: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        verifier.load(specification(tmp_path, that, at, {}))


def test_no_calls(tmp_path: Path) -> None:
    path = specification(tmp_path, "df == 0", "calls", {"before": "nop", "after": "nop"})
    (tmp_path / "entry.s").write_text("nmi:\n\tiretq\n")
    text = path.read_text()
    text = text.replace(text[text.index("calls:\n") : text.index("environment:")], "")
    path.write_text(text.replace(", page_fault: any", ""))
    with pytest.raises(SpecError, match="the specification has no 'calls'"):
        verifier.load(path)


def test_nothing_at_rest_is_vacuous(tmp_path: Path) -> None:
    path = specification(tmp_path, "at_rest", None, {})
    assert verifier.load(path).prove("it").verdict == "proved"
    path.write_text(path.read_text().replace(", initially: other.top", ""))
    outcome = verifier.load(path).prove("it")
    assert (outcome.verdict, outcome.result.reason) == (
        "vacuous",
        "nothing has a value at rest: no datum has an 'initially'",
    )
