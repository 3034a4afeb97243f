"""Contracts of code that is not shown: functions that are called, handlers, holes.

Each row is judged, its counterexample re-executed, its proof rechecked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.lift import lift
from verifier.machine.layout import Layout
from verifier.machine.state import starts
from verifier.machine.step import HELD, Stepper
from verifier.prove import Prover
from verifier.prove import judge as judge_module
from verifier.prove.certificate import Certificate
from verifier.recheck.check import recheck
from verifier.recheck.errors import Refused
from verifier.spec import load
from verifier.terms import Solver
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.prove.verdict import Result

SPEC = """
format: 1
title: code that is not shown
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 2048}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    {gate}
  percpu: {{base: {{size: 8}}, seen: {{size: 8, initially: 0}}}}
calls: {{{calls}}}
environment: {{interrupted: [user: {{gs: kernel}}], events: {{nmi: {nmi}{events}}}}}
properties:
  subject: {{that: "{that}", at: {at}}}
"""
CALLED = "nmi: cld\n pushq %rax\n pushq %rbx\n call helper\nafter: popq %rbx\n popq %rax\n iretq\n"
HANDLED = "nmi: cld\nwork: call helper\nafter: iretq\n"
PAGE_FAULT = "page_fault: {contract: {%s}, gate: interrupt}"


def judge(folder: Path, text: str, that: str, at: str = "always", *, calls: str = "", gate: str = "",
          events: str = "", nmi: str = "any") -> Result:  # fmt: skip
    """The verdict on one property, with all that stands behind it checked."""
    (folder / "nmi.s").write_text(text)
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(calls=calls, gate=gate, events=events, that=that, at=at, nmi=nmi))
    if at == "run":
        spec.write_text(spec.read_text().replace(", at: run", ""))
    model = load(spec)
    certificate = Certificate(model)
    prover = Prover(model, witness=certificate.add)
    (result,) = prover.results(model.properties)
    assert (concretise(prover, result) is not None) == (result.verdict == "refuted")
    if result.verdict == "proved":
        (folder / "certificate").write_bytes(certificate.content())
        (checked,) = recheck(folder / "certificate", spec)
        assert checked.judged
    return result


@pytest.mark.parametrize(
    ("contract", "that", "at", "verdict"),
    [
        ("", "rbx == interrupted.rbx", "after", "proved"),
        ("", "rcx == interrupted.rcx", "after", "refuted"),
        ("", "cr3 == interrupted.cr3", "after", "proved"),
        ("keeps: [rcx]", "rcx == interrupted.rcx", "after", "proved"),
        ("saves: [rcx]", "rcx == interrupted.rcx", "after", "proved"),
        ("", "rsp >= nmi_ist.top - 368", "always", "proved"),  # frame, rax, rbx, return address, six registers, 256
        ("", "rsp >= nmi_ist.top - 367", "always", "refuted"),
        ("stack: 8, keeps: [registers]", "rsp >= nmi_ist.top - 72", "always", "proved"),
        ("stack: 4096", "rsp >= nmi_ist.base", "always", "refuted"),
        ("", "%gs:seen == 0", "after", "proved"),
        ("writes: [seen]", "%gs:seen == 0", "after", "refuted"),
        ("", "progress", "run", "proved"),
    ],
)
def test_a_function_does_what_the_psabi_says(
    tmp_path: Path, contract: str, that: str, at: str, verdict: str
) -> None:
    assert judge(tmp_path, CALLED, that, at, calls=f"helper: {{{contract}}}", nmi="1").verdict == verdict


@pytest.mark.parametrize(
    ("contract", "that", "at", "verdict"),
    [
        ("", "resumed(registers, flags)", "run", "proved"),
        ("", "unreachable(page_fault_handler)", "run", "refuted"),
        ("", "nmi_blocked == 0", "after", "refuted"),  # without a fault it is still blocked
        ("", "nmi_blocked == 1", "after", "refuted"),  # and a fault's IRET unblocks
        ("", "if == 0", "page_fault_handler", "proved"),
        ("", "rsp >= nmi_ist.base + 512", "always", "proved"),
        ("stack: 1024", "rsp >= nmi_ist.base + 512", "always", "refuted"),
        ("name: fault, ", "unreachable(fault)", "run", "refuted"),
    ],
)
def test_a_handler_that_is_not_shown_returns(
    tmp_path: Path, contract: str, that: str, at: str, verdict: str
) -> None:
    gate = PAGE_FAULT % contract
    if contract.startswith("name"):
        gate = f"page_fault: {{contract: {{}}, {contract}gate: interrupt}}"
    result = judge(tmp_path, HANDLED, that, at, calls="helper: {may: [page_fault]}", gate=gate,
                   events=", page_fault: any", nmi="1")  # fmt: skip
    assert result.verdict == verdict, result.reason


def test_the_iret_of_a_hidden_handler_lets_the_next_nmi_in(tmp_path: Path) -> None:
    result = judge(tmp_path, HANDLED, "intact(frame)", "always", calls="helper: {may: [page_fault]}",
                   gate=PAGE_FAULT % "", events=", page_fault: any")  # fmt: skip
    assert result.verdict == "refuted"
    assert result.violation is not None
    assert struck(tmp_path) == ["nmi", "page_fault", "nmi"]


def struck(folder: Path) -> list[str]:
    """The events of the run that breaks the property."""
    prover = Prover(load(folder / "spec.yaml"))
    (result,) = prover.results(prover.model.properties)
    trace = concretise(prover, result)
    assert trace is not None
    return [event for event, _, _ in trace.schedule]


NESTED = "nmi: cld\nwork: call helper\nafter: incq %gs:base\n iretq\n"
POWERS = [
    # requires
    ("requires: [df == 0]", "progress", "run", "proved"),
    ("requires: [df == 1]", "progress", "run", "refuted"),
    ("requires: ['rsp == nmi_ist.top - 48', '0(%rsp) == after']", "progress", "run", "proved"),
    ("requires: ['rsp == nmi_ist.top - 48', '0(%rsp) == nmi']", "progress", "run", "refuted"),
    ("requires: [nmi_blocked == 1]", "progress", "run", "proved"),
    ("requires: ['gs_base == percpu.base and %gs:seen == 0']", "progress", "run", "proved"),
    ("requires: ['%gs:base != 5']", "progress", "run", "refuted"),
    ("requires: ['%gs:base != 5 or %gs:base == 5']", "progress", "run", "proved"),
    ("requires: ['rflags & 2', 'not (rflags & 0x200)']", "progress", "run", "proved"),
    ("requires: ['rax == 0']", "unreachable(after)", "run", "refuted"),
    ("requires: ['0(%rax) == 0']", "progress", "run", "unknown"),
    ("requires: ['-64(%rsp) s< 0 -> %gs:seen < 1']", "progress", "run", "proved"),
    ("requires: [if == 0], may: [change_if]", "if == 0", "after", "refuted"),
    # iret
    ("may: [iret]", "nmi_blocked == 1", "after", "refuted"),
    ("may: [iret]", "nmi_blocked == 0", "after", "refuted"),
    ("may: [iret]", "intact(frame)", "run", "refuted"),
    ("", "intact(frame)", "run", "proved"),
    ("may: [iret], never: [nmi]", "nmi_blocked == 1 or rip == after", "run", "refuted"),
    # schedule: NMIs are blocked in an NMI's handler
    ("may: [schedule]", "progress", "run", "refuted"),
    # not_return
    ("may: [not_return]", "progress", "run", "proved"),
    ("may: [not_return]", "restored(rip, rsp, gs_base)", "run", "proved"),
    ("returns: never", "progress", "run", "proved"),
    ("returns: never", "unreachable(after)", "run", "proved"),
    ("returns: never", "restored(rip)", "run", "vacuous"),
    # gives
    ("gives: {rax: rdi}", "rax == interrupted.rdi", "after", "proved"),
    ("gives: {rax: rdi}", "rdi == interrupted.rdi", "after", "refuted"),
    ("gives: {rbx: '$nmi + 1'}", "rbx == nmi + 1", "after", "proved"),
    ("gives: {cr2: 'cr3 + 8', zf: 'rdi == 0'}", "cr2 == cr3 + 8 and (zf -> interrupted.rdi == 0)", "after", "proved"),
    ("gives: {rax: 'nmi_ist.top - rsp'}", "rax == 48", "after", "proved"),
    # changes
    ("changes: [cr2]", "cr2 == interrupted.cr2", "after", "refuted"),
    ("changes: [cr2]", "cr3 == interrupted.cr3", "after", "proved"),
    ("changes: [df]", "df == 0", "after", "refuted"),
    ("changes: [rbx]", "rbx == interrupted.rbx", "after", "refuted"),
    ("changes: [rbx]", "rbp == interrupted.rbp", "after", "proved"),
    # writes
    ("writes: ['%gs:seen']", "%gs:seen == 0", "after", "refuted"),
    ("writes: ['%gs:base']", "%gs:seen == 0", "after", "proved"),
    ("writes: ['dword %gs:(seen+4)']", "dword %gs:seen == 0", "after", "proved"),
    ("writes: ['dword %gs:(seen+4)']", "dword %gs:(seen+4) == 0", "after", "refuted"),
    ("writes: ['8(%rsp)']", "restored(rip)", "run", "refuted"),
    ("writes: ['byte 24(%rsp)']", "restored(rip)", "run", "proved"),
    ("writes: ['byte 24(%rsp)']", "restored(rflags)", "run", "refuted"),
    ("writes: [percpu]", "%gs:seen == 0", "after", "refuted"),
    ("writes: ['0(%rdi)']", "progress", "run", "refuted"),
    ("writes: ['4096(%rsp)']", "progress", "run", "refuted"),
    # abi
    ("abi: none", "rbx == interrupted.rbx", "after", "refuted"),
    ("abi: none, keeps: [rbx]", "rbx == interrupted.rbx", "after", "proved"),
]


@pytest.mark.parametrize(("contract", "that", "at", "verdict"), POWERS)
def test_powers(tmp_path: Path, contract: str, that: str, at: str, verdict: str) -> None:
    assert judge(tmp_path, NESTED, that, at, calls=f"helper: {{{contract}}}").verdict == verdict


@pytest.mark.parametrize(
    ("during", "verdict"),
    [("[nmi]", "refuted"), ("[nmi, nmi in helper]", "refuted"), ("[nmi, page_fault in helper]", "refuted")],
)
def test_a_broken_contract_refutes_whatever_the_schedule_was_to_be(
    tmp_path: Path, during: str, verdict: str
) -> None:
    """The contract does not say how a run goes on that breaks it: it may well come to the rest of the schedule."""
    result = judge(tmp_path, NESTED, "restored(rip)", f"outermost-return, during: {during}", nmi="any",
                   calls="helper: {requires: [rax != 7], may: [page_fault]}", events=", page_fault: any",
                   gate=PAGE_FAULT % "")  # fmt: skip
    assert result.verdict == verdict
    assert result.reason.endswith("helper requires rax != 7")


def test_code_that_is_never_entered_is_named(tmp_path: Path) -> None:
    result = judge(tmp_path, NESTED, "progress", "run", calls="helper: {}", gate=PAGE_FAULT % "")
    assert result.verdict == "proved"
    assert "page_fault_handler was never entered" in result.coverage.notes
    assert "helper was never entered" not in result.coverage.notes


def test_a_broken_contract_ends_the_search(tmp_path: Path) -> None:
    """Nothing that costs more can change a verdict, also of a property that is judged on the whole graph."""
    result = judge(tmp_path, NESTED, "progress", "run", calls="helper: {may: [page_fault, iret]}",
                   events=", page_fault: any", gate=PAGE_FAULT % "may: [schedule]")  # fmt: skip
    assert result.verdict == "refuted"
    assert result.reason.endswith("page_fault_handler requires nmi_blocked == 0")
    assert result.states < 100


@pytest.mark.parametrize(("contract", "that", "at", "verdict"), POWERS)
def test_both_engines_agree(tmp_path: Path, contract: str, that: str, at: str, verdict: str) -> None:
    """Of one NMI: the search that recognises states, and the one that takes path by path."""
    found = judge(tmp_path, NESTED, that, at, calls=f"helper: {{{contract}}}", nmi="1")
    prover = Prover(load(tmp_path / "spec.yaml"), {"nmi": 1})
    (other,) = prover.results(prover.model.properties)
    assert (found.verdict, found.violation and found.violation.cost) == (
        other.verdict, other.violation and other.violation.cost,
    )  # fmt: skip
    assert verdict == found.verdict or that == "intact(frame)", "a second NMI matters to the frame alone"


@pytest.mark.parametrize(
    ("contract", "reason"),
    [("", "helper requires df == 0"), ("requires: [df == 0]", "helper requires df == 0"), ("abi: none", "")],
)
def test_the_psabi_wants_df_clear(tmp_path: Path, contract: str, reason: str) -> None:
    """As SDM vol. 3A has it, the delivery of an event leaves DF as it is."""
    result = judge(tmp_path, NESTED.replace("cld", "nop"), "progress", "run", calls=f"helper: {{{contract}}}", nmi="1")
    assert result.reason.endswith(reason)
    assert result.verdict == ("refuted" if reason else "proved")


def test_the_recheck_refuses_a_proof_that_passes_over_a_broken_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that breaks it ends before its schedule does, and other runs complete that."""
    monkeypatch.setattr(judge_module, "BROKEN_CONTRACT", "overlooked")
    with pytest.raises(Refused, match="helper requires rax != 7"):
        judge(tmp_path, NESTED, "restored(rip)", "outermost-return, during: [nmi, page_fault in helper]",
              calls="helper: {requires: [rax != 7], may: [page_fault]}", events=", page_fault: any",
              gate=PAGE_FAULT % "")  # fmt: skip


@pytest.mark.parametrize(
    ("contract", "outcomes"),
    [("", []), ("may: [iret]", [(None, ("nmi",)), (HELD, ())]), ("may: [iret], never: [nmi]", None)],
)
def test_an_nmi_strikes_where_hidden_code_has_unblocked_it(
    tmp_path: Path, contract: str, outcomes: list[tuple[str | None, tuple[str, ...]]] | None
) -> None:
    """N2 and N6: where it has executed no IRET yet, the NMI is held back."""
    judge(tmp_path, NESTED, "progress", "run", calls=f"helper: {{{contract}}}", nmi="1")
    layout = Layout(load(tmp_path / "spec.yaml").machine)
    program = layout.machine.program
    stepper = Stepper(layout, Solver(layout.facts), lambda rip: lift(program.instructions[rip]))
    (edge,) = stepper.strike(next(starts(layout)), "nmi")
    while edge.state is not None and stepper.hole_at(edge.state) is None:
        edge = next(e for e in stepper.execute(edge.state) if e.ended is None)
    assert edge.state is not None
    assert edge.state.nmi_blocked
    assert stepper.can_arise(edge.state, "nmi") == (outcomes is not None)
    if outcomes is not None:
        assert [(e.ended, e.delivered) for e in stepper.strike(edge.state, "nmi")] == outcomes
