"""`restored(memory)`: what an interrupted kernel context keeps on its own stack."""

from pathlib import Path

import pytest

from verifier.prove import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

SPEC = """
format: 1
title: a handler and the interrupted stack
program: {source: nmi.s}
machine:
  stacks: {nmi_ist: {size: 512}}
  idt: {nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}}
environment: {interrupted: [kernel], events: {nmi: any}}
properties:
  restored: {that: "restored(%s)"}
"""
BELOW = "movq %rdx,-8(%rax)"
ABOVE = "movq %rdx,16(%rax)"
THERE_AND_BACK = "movq (%rax),%rcx; movq %rdx,(%rax); movq %rcx,(%rax)"


@pytest.mark.parametrize(
    ("store", "what", "verdict"),
    [
        (BELOW, "all", "proved"),
        (ABOVE, "registers, rip, rsp", "proved"),
        (ABOVE, "memory", "refuted"),
        (ABOVE, "all", "refuted"),
        (THERE_AND_BACK, "memory", "proved"),
        ("movb %dl,7(%rax)", "memory", "refuted"),
    ],
)
def test_stores_to_the_interrupted_stack(tmp_path: Path, store: str, what: str, verdict: str) -> None:
    (tmp_path / "nmi.s").write_text(
        "nmi: pushq %rax; pushq %rcx; pushq %rdx\n movq 48(%rsp),%rax; movq $1,%rdx\n"
        f"{store}\n popq %rdx; popq %rcx; popq %rax; iretq\n"
    )
    (tmp_path / "spec.yaml").write_text(SPEC % what)
    prover = Prover(load(tmp_path / "spec.yaml"))
    (result,) = prover.results(prover.model.properties)
    assert result.verdict == verdict, result.reason
    trace = concretise(prover, result)
    assert (trace is not None) == (verdict == "refuted")


def test_a_property_that_reads_at_a_bad_address_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "nmi.s").write_text("nmi: nop\n iretq\n")
    text = (SPEC % "all").replace("[kernel]", "[kernel: {fixed: {rax: 0x1000000000000000}}]")
    (tmp_path / "spec.yaml").write_text(text + "  bad: {that: 0(%rax) == 0, at: nmi}\n")
    prover = Prover(load(tmp_path / "spec.yaml"))
    results = {r.property.name: r for r in prover.results(prover.model.properties)}
    assert results["restored"].verdict == "proved"
    assert results["bad"].reason == "the property reads memory at 0x1000000000000000, which is not canonical"
