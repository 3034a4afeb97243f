"""What hidden code does with registers: `keeps` leaves them alone, `saves` uses them and puts them back."""

from pathlib import Path

import pytest

from verifier.errors import SpecError
from verifier.prove import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

SPEC = """
format: 1
title: hidden code and the registers
program: {source: nmi.s}
machine:
  stacks: {nmi_ist: {size: 512}}
  idt:
    nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}
    page_fault: {entry: page_fault, gate: interrupt}
holes: {work: {may: [page_fault], %s}}
environment: {interrupted: [user], events: {nmi: 1, page_fault: 1}}
properties:
  subject: {that: "%s", at: %s}
"""
TEXT = "nmi: nop\nwork: ...\nleave: iretq\npage_fault: addq $8,%rsp\n iretq\n"
REGISTERS = 15 * 8


@pytest.mark.parametrize(
    ("contract", "that", "at", "verdict"),
    [
        ("keeps: [registers]", "restored(all)", "outermost-return", "proved"),
        ("saves: [registers]", "restored(all)", "outermost-return", "proved"),
        ("saves: [registers], stack: 16", "restored(all)", "outermost-return", "proved"),
        ("saves: [rax, rbx]", "restored(rax, rbx)", "outermost-return", "proved"),
        ("saves: [rax, rbx]", "restored(rcx)", "outermost-return", "refuted"),
        ("stack: 16", "restored(rax)", "outermost-return", "refuted"),
        ("keeps: [registers]", "rax == interrupted.rax", "page_fault", "proved"),
        ("saves: [registers]", "rax == interrupted.rax", "page_fault", "refuted"),
        ("saves: [registers]", "rax == interrupted.rax", "leave", "proved"),
        ("saves: [registers], stack: 16", f"rsp >= nmi_ist.top - {40 + REGISTERS + 16 + 64}", "always", "proved"),
        ("saves: [registers], stack: 16", f"rsp >= nmi_ist.top - {40 + REGISTERS + 16}", "always", "refuted"),
        ("saves: [registers], stack: 512", "restored(all)", "outermost-return", "refuted"),
    ],
)
def test_registers(tmp_path: Path, contract: str, that: str, at: str, verdict: str) -> None:
    (tmp_path / "nmi.s").write_text(TEXT)
    (tmp_path / "spec.yaml").write_text(SPEC % (contract, that, at))
    prover = Prover(load(tmp_path / "spec.yaml"))
    (result,) = prover.results(prover.model.properties)
    assert result.verdict == verdict, result.reason
    assert (concretise(prover, result) is not None) == (verdict == "refuted")


@pytest.mark.parametrize("contract", ["saves: [rsp]", "saves: [zf]", "keeps: [rax], saves: [registers]"])
def test_refused(tmp_path: Path, contract: str) -> None:
    (tmp_path / "nmi.s").write_text(TEXT)
    (tmp_path / "spec.yaml").write_text(SPEC % (contract, "progress", "always"))
    with pytest.raises(SpecError):
        load(tmp_path / "spec.yaml")


def test_a_push_of_hidden_code_faults_where_rsp_is_not_canonical(tmp_path: Path) -> None:
    """#SS(0), as of any push: the run that shows it is confirmed, and not called impossible."""
    text = "nmi: movabs $0x8000000000000000,%rsp\nwork: ...\nleave: iretq\nss: hlt\n jmp ss\n"
    (tmp_path / "nmi.s").write_text(text)
    spec = SPEC % ("saves: [rax]", "unreachable(ss)", "always")
    gate = "stack_fault: {entry: ss, gate: interrupt, stack: nmi_ist}"
    spec = spec.replace("page_fault: {entry: page_fault, gate: interrupt}", gate)
    spec = spec.replace("may: [page_fault], ", "").replace(", page_fault: 1", "").replace(", at: always", "")
    (tmp_path / "spec.yaml").write_text(spec)
    prover = Prover(load(tmp_path / "spec.yaml"))
    (result,) = prover.results(prover.model.properties)
    assert result.verdict == "refuted", result.reason
    trace = concretise(prover, result)
    assert trace is not None
    assert trace.steps[-1].delivered == ("stack_fault",)
