"""Data among code, which the code reads: named under ``machine.data``, they hold what the program gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from object_build import assembled
from three_machines import judged

from verifier.errors import SpecError
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.spec.model import Model

CODE = """
	.globl nmi
	.text
nmi:
	pushq	%rax
	movzwl	selector(%rip), %eax
	{also}
work:
	popq	%rax
	iretq
selector: .word 0x18, 0x33
unsized: .word 1
{more}
"""
SPEC = """
format: 1
program: {{{program}}}
machine:
  stacks: {{nmi_ist: {{size: 512}}}}
  idt: {{nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}}}
  data: {{{data}}}
{calls}
environment: {{interrupted: [kernel], events: {{nmi: any}}}}
properties: {{value: {{that: "{that}", at: work}}, named: {{that: "word selector(%rip) == 0x18"}}}}
"""


def model(folder: Path, *, kind: str = "object", also: str = "", more: str = "", data: str = "selector: {size: 2}",
          that: str = "rax == 0x18", calls: str = "") -> Model:  # fmt: skip
    assembled(CODE.format(also=also, more=more).replace("...", "nop"), folder)
    (folder / "a.s").write_text(CODE.format(also=also, more=more))
    program = "object: a.o" if kind == "object" else "source: a.s"
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(program=program, data=data, that=that, calls=calls))
    return load(path, folder)


@pytest.mark.parametrize("kind", ["object", "source"])
@pytest.mark.parametrize(("that", "also", "verdict"), [
    ("rax == 0x18", "", "proved"),
    ("rax == 0x33", "", "refuted"),
    ("rax == 0x18", "movw $1, selector(%rip)", "refuted"),
    ("rax == 0x33", "movzwl selector+2(%rip), %eax", "refuted"),
])  # fmt: skip
def test_what_is_read(kind: str, that: str, also: str, verdict: str, tmp_path: Path) -> None:
    """The last two: a write to it is a mishap, and so is what lies beside it."""
    assert judged(model(tmp_path, kind=kind, that=that, also=also))["value"].verdict == verdict


@pytest.mark.parametrize(("kind", "data", "more", "message"), [
    ("object", "unsized: {}", "", "'unsized' lies among the code and has no size there"),
    ("object", "selector: {size: 4096}", "", "'selector' lies among the code and has no size there"),
    ("object", "selector: {size: 2, initially: 3}", "", "'selector' lies in the read-only section"),
    ("object", "selector: {size: 2, address: 0xffffffff81000000}", "", "defines 'selector' among its code"),
    ("object", "selector: {size: 2}, place: {size: 8}", "place: .quad elsewhere", "not all bytes of 'place' are known"),
    ("source", "selector: {size: 2}, hidden: {size: 2}", "hidden: ...\n ret", "but not as a datum"),
    ("source", "selector: {size: 2}, last: {size: 3}", "last: .byte 1\nhidden: ...\n ret", "not all bytes of 'last'"),
])  # fmt: skip
def test_mistakes(kind: str, data: str, more: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        model(tmp_path, kind=kind, data=data, more=more, calls="holes: {hidden: {}}" if kind == "source" else "")
