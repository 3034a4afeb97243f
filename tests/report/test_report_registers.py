"""What a timeline says of what is no memory and of selectors that are not the same in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.api import Specification
from verifier.report.timeline import timeline
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
format: 1
program: {source: nmi.s}
machine:
  stacks: {nmi_ist: {size: 1024}}
  idt: {nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}}
  msrs: {0x48: {initially: 7}}
environment: {interrupted: [user: {ss: ldt}], events: {nmi: any}}
properties: {p: {that: intact(frame)}}
"""


def test_registers_have_values_and_no_address_and_a_selector_of_the_ldt_is_open(tmp_path: Path) -> None:
    (tmp_path / "nmi.s").write_text("nmi: movq $0x2b, 32(%rsp)\n iretq\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    trace = Specification(load(tmp_path / "spec.yaml")).refute("p").trace
    assert trace is not None
    text = timeline(trace)
    assert "msr_0x48=0x7" in text
    assert "msrs at" not in text
    assert "cs     0x33  (the same in every run)" in text
    assert "nmi_ist at" in text
    assert not [line for line in text.splitlines() if line.strip().startswith("ss ") and "same in every run" in line]
