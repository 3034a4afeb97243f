"""What must not be called proved: nothing looked at, nothing reached, nothing decided, given up half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explore_models import by_enumeration, by_fixpoint, verdicts, write_model

from verifier.errors import SpecError
from verifier.explore.search import Limits
from verifier.prove.prover import Prover
from verifier.report.verdict import verdict_text
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.prove.verdict import Result
    from verifier.spec.model import Model

PLAIN = """
nmi:
    movb $1,%gs:flag
    nop
body:
    ...
    movb $0,%gs:flag
    iretq
dead:
    nop
    jmp nmi
page_fault:
    addq $8,%rsp
    iretq
"""
FAULTS = {"page_fault": "entry: page_fault, gate: interrupt"}


def only(results: dict[str, Result]) -> Result:
    (result,) = results.values()
    return result


def plain(folder: Path, prop: str, may: str = "[page_fault]", events: str = "nmi: any, page_fault: any") -> Model:
    return write_model(
        folder,
        PLAIN,
        {"p": prop},
        events=events,
        idt=FAULTS,
        holes={"body": f"may: {may}, keeps: [registers]"},
    )


def test_a_label_that_is_never_reached_proves_nothing_about_what_holds_there(tmp_path: Path) -> None:
    result = only(by_fixpoint(plain(tmp_path, "that: 'rax == 0', at: dead")))
    assert result.verdict == "vacuous"
    assert any("dead" in where for where in result.coverage.missed)


def test_dead_code_is_unreachable_and_counted_as_missed(tmp_path: Path) -> None:
    result = only(by_fixpoint(plain(tmp_path, "that: unreachable(dead)")))
    assert result.verdict == "proved"
    reached, total = result.coverage.instructions
    assert (reached, total, len(result.coverage.missed)) == (total - 2, total, 2)


@pytest.mark.parametrize(
    ("during", "verdict"),
    [
        ("[nmi]", "proved"),
        ("[nmi, page_fault in body]", "proved"),
        ("[nmi, nmi at dead]", "vacuous"),
        ("[nmi, page_fault at nmi]", "vacuous"),
        ("[nmi, page_fault in body, nmi at dead, '*']", "vacuous"),
        ("['*', nmi at dead, '*']", "vacuous"),
        ("[page_fault in body]", "vacuous"),
    ],
)
def test_a_schedule_whose_place_is_never_reached_is_vacuous(during: str, verdict: str, tmp_path: Path) -> None:
    result = only(by_fixpoint(plain(tmp_path, f"that: 'restored(rip, rsp)', during: {during}")))
    assert result.verdict == verdict, result.reason


IRQ = {"irq": "entry: irq, gate: interrupt"}
MASKED = "nmi: nop\nbody: iretq\nirq: iretq\n"
#: What is never said of nothing: the inside of a property, a bound, the verdict, and what is said with it.
SAYS_NOTHING = [
    ("that: '%gs:flag == 1', at: body", None, "proved", "", ()),
    ("that: '%gs:flag == 1', at: [body, dead]", None, "proved", "never judged at dead: control does not come", ()),
    ("that: '%gs:flag == 1', at: dead", None, "vacuous", "no run reaches a place", ()),
    ("that: 'cpl == 3 -> %gs:flag == 0', at: body", None, "vacuous", "what stands before '->' never holds", ()),
    ("that: 'cpl == 0 -> %gs:flag == 1', at: body", None, "proved", "", ()),
    ("that: 'rax == 1 -> %gs:flag == 1', at: body", None, "proved", "", ()),
    ("that: '%gs:flag == 0 -> rax == 0', at: body", None, "vacuous", "what stands before '->' never holds", ()),
    ("that: progress", {"nmi": 0, "page_fault": 0}, "vacuous", "nothing strikes", ("nmi never struck",)),
    ("that: unreachable(dead)", {"nmi": 0, "page_fault": 1}, "vacuous", "no run reaches", ("nmi never struck",)),
    ("that: unreachable(dead)", {"nmi": 1, "page_fault": 0}, "proved", "", ("page_fault never struck",)),
    ("that: 'handled(page_fault, body)'", {"nmi": 1, "page_fault": 0}, "vacuous", "page_fault never strikes", ()),
    ("that: resumed(rax)", {"nmi": 1, "page_fault": 0}, "vacuous", "no run reaches", ()),
    ("that: resumed(rax)", {"nmi": 1, "page_fault": 1}, "proved", "", ()),
]


@pytest.mark.parametrize(("prop", "bound", "verdict", "reason", "notes"), SAYS_NOTHING, ids=str)
def test_what_says_nothing_is_not_proved_in_silence(
    prop: str, bound: dict[str, int] | None, verdict: str, reason: str, notes: tuple[str, ...], tmp_path: Path
) -> None:
    model = plain(tmp_path, prop)
    result = only(by_fixpoint(model) if bound is None else by_enumeration(model, bound))
    assert result.verdict == verdict, result.reason
    assert reason in result.reason
    assert bool(reason) == bool(result.reason)
    assert set(notes) <= set(result.coverage.notes)


def test_a_hole_that_is_never_entered_is_noted(tmp_path: Path) -> None:
    program = PLAIN.replace("dead:\n    nop", "dead:\n    ...")
    holes = {name: "may: [page_fault], keeps: [registers]" for name in ("body", "dead")}
    events = "nmi: any, page_fault: any"
    model = write_model(tmp_path, program, {"p": "that: at_rest"}, events=events, idt=FAULTS, holes=holes)
    result = only(by_fixpoint(model))
    assert result.coverage.notes == ("dead was never entered",)
    assert "dead was never entered" in verdict_text(result, None, {})


def test_a_fault_that_no_environment_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="may raise page_fault, which is missing here"):
        plain(tmp_path, "that: at_rest", events="nmi: any")
    with pytest.raises(SpecError, match="nothing can raise page_fault"):
        plain(tmp_path, "that: at_rest", may="[]")


def test_a_handler_of_an_event_that_never_strikes(tmp_path: Path) -> None:
    model = write_model(tmp_path, MASKED, {"p": "that: 'handled(irq, body)'"}, events="nmi: any, irq: any", idt=IRQ)
    result = only(by_fixpoint(model))
    assert (result.verdict, result.reason) == ("vacuous", "irq never strikes")


def test_an_event_that_cannot_strike_is_noted(tmp_path: Path) -> None:
    # NMIs are blocked until the return, and interrupts are masked by the gate
    program = "nmi:\n    nop\n    iretq\nirq:\n    iretq\n"
    idt = {"irq": "entry: irq, gate: interrupt"}
    model = write_model(tmp_path, program, {"p": "that: restored(rip)"}, events="nmi: any, irq: any", idt=idt)
    result = only(by_fixpoint(model))
    offered, struck = result.coverage.events["irq"]
    assert result.verdict == "proved"
    assert offered > 0
    assert struck == 0
    assert "irq never struck" in result.coverage.notes


def test_coverage_counts_what_was_struck(tmp_path: Path) -> None:
    result = only(by_fixpoint(plain(tmp_path, "that: at_rest")))
    assert result.coverage.returns >= 1
    for offered, struck in result.coverage.events.values():
        assert offered >= struck > 0
    assert result.coverage.notes == ()


@pytest.mark.parametrize("states", [1, 2, 5, 10])
def test_a_search_that_gives_up_proves_nothing(states: int, tmp_path: Path) -> None:
    model = plain(tmp_path, "that: at_rest")
    assert only(by_fixpoint(model)).states > 10
    for bound in (None, {"nmi": 2, "page_fault": 2}):
        (result,) = Prover(model, bound, Limits(states=states)).results(model.properties)
        assert result.verdict == "unknown"
        assert f"gave up after {states} states" in result.reason


JUMP = """
nmi:
    testb $1,%gs:other
    je 1f
    jmp *%gs:word
1:  iretq
"""


@pytest.mark.parametrize(
    ("that", "verdict"),
    [
        ("restored(rip)", "refuted"),  # word can also be an address outside the program
        ("progress", "refuted"),
    ],
)
def test_a_jump_anywhere_loses_control(that: str, verdict: str, tmp_path: Path) -> None:
    assert only(by_fixpoint(write_model(tmp_path, JUMP, {"p": f"that: {that}"}))).verdict == verdict


@pytest.mark.parametrize("that", ["restored(rip)", "progress", "at_rest"])
def test_where_the_engine_cannot_go_on_nothing_is_proved(that: str, tmp_path: Path) -> None:
    # the model-specific register that is written is not known
    program = "nmi:\n    testb $1,%gs:other\n    je 1f\n    movl %gs:word,%ecx\n    rdmsr\n1:  iretq\n"
    model = write_model(tmp_path, program, {"p": f"that: {that}"}, events="nmi: any")
    for result in (only(by_fixpoint(model)), only(by_enumeration(model, {"nmi": 1}))):
        assert result.verdict == "unknown"
        assert "model-specific" in result.reason
        assert result.coverage.ended["unresolved"] >= 1


def test_progress_is_refuted_where_a_loop_has_no_way_out(tmp_path: Path) -> None:
    program = "nmi:\n    testb $1,%gs:other\n    je 1f\n2:  jmp 2b\n1:  iretq\n"
    model = write_model(tmp_path, program, {"p": "that: progress"})
    assert only(by_fixpoint(model)).verdict == "refuted"


@pytest.mark.parametrize(("program", "verdict"), [("hlt", "refuted"), ("nop", "proved")])
def test_progress_is_refuted_where_a_handler_waits_for_an_event(tmp_path: Path, program: str, verdict: str) -> None:
    """N10: with IF=0 and NMIs blocked, HLT never ends."""
    model = write_model(tmp_path, f"nmi:\n    {program}\n    iretq\n", {"p": "that: progress"})
    prover = Prover(model)
    (result,) = prover.results(model.properties)
    assert result.verdict == verdict
    if result.violation is not None:
        assert "halts" in result.violation.message
        trace = concretise(prover, result)
        assert trace is not None
        assert trace.steps[-1].detail.startswith("halted")


def test_restored_is_refuted_where_no_run_comes_back(tmp_path: Path) -> None:
    model = write_model(tmp_path, "nmi:\n    jmp nmi\n", {"p": "that: restored(rip)", "q": "that: at_rest"})
    assert verdicts(by_fixpoint(model)) == {"p": "refuted", "q": "vacuous"}


def test_progress_is_refuted_where_a_handler_waits_before_the_interrupted_rip(tmp_path: Path) -> None:
    """The interrupted context may stand right behind the text: HLT as the last instruction waits all the same."""
    model = write_model(tmp_path, "nmi:\n    jmp 1f\n    iretq\n1:  hlt\n", {"p": "that: progress"})
    prover = Prover(model)
    (result,) = prover.results(model.properties)
    assert result.verdict == "refuted"
    assert concretise(prover, result) is not None
