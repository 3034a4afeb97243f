"""How the different ways to break a property read, each on a handler of a few lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from verifier.api import Outcome, load

SPEC = """\
format: 1
program: {{source: handler.s}}
machine:
  stacks: {{ist: {{size: 4096}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: ist}}
    invalid_opcode: {{entry: invalid, gate: interrupt}}
    general_protection: {{entry: protection, gate: interrupt}}
  percpu: {{seen: {{size: 8, initially: 0}}}}
environment: {{interrupted: [{context}], events: {{nmi: any}}}}
properties:
  it: {{that: "{that}"}}
"""
HANDLERS = "invalid: addq $2, (%rsp)\niretq\nprotection: addq $8, %rsp\niretq\n"


def judged(folder: Path, code: str, that: str, context: str = "user: {gs: kernel}") -> Outcome:
    (folder / "handler.s").write_text(f"nmi: {code}\n{HANDLERS}")
    (folder / "spec.yaml").write_text(SPEC.format(that=that, context=context))
    return load(folder / "spec.yaml").prove("it")


@pytest.mark.parametrize(
    ("code", "that", "expected"),
    [
        ("incq %rax\niretq", "restored(rax)", "rax     0x1111111111111111      0x1111111111111112"),
        ("incq %rax\niretq", "restored(rax)", "↩ back in the interrupted context"),
        ("movq $16, %rax\njmp *%rax", "restored(rip)", "✗ wild-jump: control goes to 0x10 at CPL 0"),
        ("movq $16, %rax\njmp *%rax", "restored(rip)", "interrupted rip: control goes to 0x10"),
        ("ud2\nincq %rax\niretq", "restored(rax)", "│ ↯ invalid_opcode: this instruction raises it"),
        ("ud2\nincq %rax\niretq", "restored(rax)", "│ ↩ back in the nmi handler at nmi+0x2 (rip was nmi)"),
        ("incq %gs:seen\niretq", "at_rest", "[seen]=0x1"),
        ("cli\nleft: jmp left", "progress", "from here on without any further event:"),
        ("here: iretq", "unreachable(here)", "broken: control reaches"),
    ],
)
def test_kinds(tmp_path: Path, code: str, that: str, expected: str) -> None:
    outcome = judged(tmp_path, code, that)
    assert outcome.verdict == "refuted"
    assert " ".join(expected.split()) in " ".join(outcome.text.split())


def test_the_users_gs_base_is_shown_and_what_was_read_there(tmp_path: Path) -> None:
    context = "{user: {gs: user}}"
    outcome = judged(tmp_path, "cmpq $0, %gs:seen\nje out\nincq %rax\nout: iretq", "restored(rax)", context)
    assert outcome.verdict == "refuted"
    assert "  gs_base 0x" in outcome.text
    assert re.search(r"cmpq .* reads 0x[1-9a-f]\w* there", outcome.text)


def test_an_outcome_is_true_only_if_it_is_what_was_asked_for(tmp_path: Path) -> None:
    proved = judged(tmp_path, "iretq", "restored(rip)")
    refuted = judged(tmp_path, "incq %rax\niretq", "restored(rax)")
    assert (bool(proved), bool(refuted)) == (True, False)
    spec = load(tmp_path / "spec.yaml")
    assert spec.refute("it")
    assert not spec.prove()
    assert repr(spec.refute("it")) == "<it: refuted>"
