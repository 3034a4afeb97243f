"""Assumptions that cannot hold prove nothing; words that only a property reads are part of the run."""

from pathlib import Path

import pytest

from verifier.errors import SpecError
from verifier.prove import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

SPEC = """
format: 1
title: a handler that does nothing
program: {source: nmi.s}
machine:
  stacks: {nmi_ist: {size: 512}}
  idt: {nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}}
  percpu: {word: {size: 8}}
environment: {interrupted: [{kernel: {fixed: {%s}}}], events: {nmi: any}}
properties:
  subject: {that: "%s", at: leave}
"""


def write(tmp_path: Path, fixed: str, that: str) -> Path:
    (tmp_path / "nmi.s").write_text("nmi: nop\nleave: iretq\n")
    (tmp_path / "spec.yaml").write_text(SPEC % (fixed, that))
    return tmp_path / "spec.yaml"


def test_a_contradictory_context_is_an_error(tmp_path: Path) -> None:
    prover = Prover(load(write(tmp_path, "fs_base: 0x8000000000000000", "rax == 1")))
    with pytest.raises(SpecError, match="contradicts itself"):
        list(prover.results(prover.model.properties))


@pytest.mark.parametrize("that", ["%gs:word == 0", "%gs:word != 0", "%gs:word != 0xbad", "16(%rsp) != 0x246"])
def test_a_word_that_only_the_property_reads(tmp_path: Path, that: str) -> None:
    prover = Prover(load(write(tmp_path, "rax: 0", that)))
    (result,) = prover.results(prover.model.properties)
    assert result.verdict == "refuted"
    assert concretise(prover, result) is not None


def test_a_proof_about_coming_home_says_that_some_runs_never_do(tmp_path: Path) -> None:
    path = write(tmp_path, "rax: 0", "restored(all)")
    path.write_text(path.read_text().replace(", at: leave", ""))
    for text, said in (("nmi: iretq", ""), ("nmi: testb $1,%gs:word; je 1f; 2: jmp 2b; 1: iretq", "see progress")):
        (tmp_path / "nmi.s").write_text(text + "\n")
        (result,) = Prover(load(path)).results(load(path).properties)
        assert result.verdict == "proved"
        assert said in result.reason
        assert bool(said) == bool(result.reason)
