"""Code that tells the kernel's GS base by its sign is right where user code has bases of the lower half only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.prove.prover import Prover
from verifier.trace.allowed import problems
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from pathlib import Path

BY_SIGN = """
nmi:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	movl $1, %ebx
	movl $0xc0000101, %ecx
	rdmsr
	testl %edx, %edx
	js work
	swapgs
	xorl %ebx, %ebx
work:
	movq %gs:word, %rax
	testl %ebx, %ebx
	jnz out
	swapgs
out:
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	iretq
"""
VERDICTS = [
    ("user: {gs: user_lower_half}", "proved"),
    ("user: {gs: user}", "refuted"),
    ("entry: {cpl: 0, gs: user_lower_half, stack: none}", "proved"),
    ("entry: {cpl: 0, gs: user, stack: none}", "refuted"),
    ("kernel", "proved"),
]


@pytest.mark.parametrize(("context", "verdict"), VERDICTS)
def test_sign_of_the_base(tmp_path: Path, context: str, verdict: str) -> None:
    properties = {"gs": "that: gs_base == percpu.base, at: work"}
    model = write_model(tmp_path, BY_SIGN, properties, interrupted=context)
    assert judged(model)["gs"].verdict == verdict


def test_a_run_that_starts_in_the_upper_half_is_not_allowed(tmp_path: Path) -> None:
    properties = {"gs": "that: gs_base == percpu.base, at: work"}
    model = write_model(tmp_path, BY_SIGN, properties, interrupted="user: {gs: user}")
    prover = Prover(model)
    (result,) = prover.results(model.properties)
    trace = concretise(prover, result)
    assert trace is not None
    assert list(problems(model.machine, trace.context, trace.start)) == []
    (problem,) = problems(model.machine, replace(trace.context, low_gs=True), trace.start)
    assert problem.endswith("which is not in the lower half")
