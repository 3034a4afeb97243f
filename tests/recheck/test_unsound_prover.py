"""A search that merges what differs, or leaves out what can happen, makes certificates that are refused.

Each row breaks the prover in one place. It still says "proved", and the recheck does not believe it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from recheck_certificates import ROOT

from verifier.explore import search
from verifier.explore.recognise import Recogniser
from verifier.explore.schedule import Script
from verifier.ir.cells import CELL_INDEX
from verifier.machine import holes, segments, step
from verifier.machine.execution import Execution
from verifier.machine.layout import CELL_COUNT
from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.recheck import Refused, recheck
from verifier.spec import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Break = Callable[[pytest.MonkeyPatch], None]

SPEC = ROOT / "specs" / "nested_nmi_repair_3_gp_window.yaml"


def dead(*cells: str) -> Break:
    """Cells are taken for dead."""
    return _learning(lambda at: at not in {CELL_INDEX[c] for c in cells})


def _learning(keep: Callable[[int], bool], atoms: bool = True) -> Break:
    learn = Recogniser.learn

    def apply(patch: pytest.MonkeyPatch) -> None:
        def learn_less(self, node, live, decided, variables):
            matters = (decided, variables) if atoms else ((), ())
            learn(self, node, [at for at in live if keep(at)], *matters)

        patch.setattr(Recogniser, "learn", learn_less)

    return apply


def never_compared_again(patch: pytest.MonkeyPatch) -> None:
    """What turns out to matter later parts no states that were merged."""
    patch.setattr(Recogniser, "refresh", lambda _self: iter(()))


def without(event: str, where: Callable[[int], bool] = lambda _rip: True) -> Break:
    """An event is not offered everywhere."""
    offers = Script.offers

    def apply(patch: pytest.MonkeyPatch) -> None:
        def offer_less(self, ghost, rip):
            return [e for e in offers(self, ghost, rip) if e != event or rip < 0 or not where(rip)]

        patch.setattr(Script, "offers", offer_less)

    return apply


def blocked_after_iret(patch: pytest.MonkeyPatch) -> None:
    iret = step.iret

    def keep(x, width):
        blocked = x.nmi_blocked
        iret(x, width)
        x.nmi_blocked = blocked

    patch.setattr(step, "iret", keep)


def one_context(patch: pytest.MonkeyPatch) -> None:
    """Only the first context of the specification is explored."""
    starts = search.starts
    patch.setattr(search, "starts", lambda layout: islice(starts(layout), 1))


BREAKS = {
    "rax is dead": dead("rax"),
    "flags are dead": dead("zf", "cf"),
    "cs is dead": dead("cs"),
    "gs_base is dead": dead("gs_base"),
    "memory is dead": _learning(lambda at: at < CELL_COUNT),
    "conditions do not matter": _learning(lambda _at: True, atoms=False),
    "merged for good": never_compared_again,
    "no page fault": without("page_fault"),
    "no NMI at some addresses": without("nmi", lambda rip: rip % 5 == 2),
    "iret does not unblock NMIs": blocked_after_iret,
    "one context": one_context,
}


@pytest.mark.parametrize("how", BREAKS)
def test_what_a_broken_search_proves_is_refused(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[how](monkeypatch)
    expect_refused(SPEC, "context-restored", tmp_path)


def test_memory_that_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written to the interrupted context's memory is no part of what is compared."""
    init = Recogniser.__init__
    monkeypatch.setattr(
        Recogniser, "__init__", lambda self, layout, **given: init(self, layout, **{**given, "guarded": False})
    )
    expect_refused(SPEC.with_stem("nested_nmi_repaired"), "context-restored", tmp_path)


SMALL = """\
format: 1
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 512}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    page_fault: {{contract: {{stack: 0}}, gate: interrupt}}
    general_protection: {{entry: fault, gate: interrupt}}
    segment_not_present: {{entry: fault, gate: interrupt}}
  percpu: {{word: {{size: 8}}}}
holes:
  hidden: {{stack: 0, keeps: [rcx, status_flags], may: [page_fault], {contract}}}
environment:
  interrupted: [user: {{gs: kernel, ss: ldt}}]
  events: {{nmi: 1, page_fault: 1}}
properties:
  p: {{that: "{that}", at: {at}}}
"""
HIDDEN = "nmi:\n movq $0,%gs:word\n movl $1,%ebx\nhidden: ...\nafter:\n nop\n1: jmp 1b\nfault: jmp 1b\n"
LOADED = "nmi:\n movl %ds,%eax\n testl $4,%eax\n je 1f\n movl %eax,%ds\nafter:\n nop\nhidden: ...\n"


def replaced(where: object, name: str, by: Callable[..., object]) -> Break:
    return lambda patch: patch.setattr(where, name, by)


def no_good_ldt(x, selector, _cause, _others):
    """No selector of the LDT is good."""
    if x.decide(segments.in_ldt(selector)):
        raise segments.bad_selector(selector)
    return False


#: text, what the contract of its hidden code says besides, what is then not proved, and how it is proved all the same.
MACHINES = {
    "hidden code executes no IRET": (
        HIDDEN, "may: [page_fault, iret]", "nmi_blocked == 1 or count(page_fault) == 1",
        replaced(Execution, "either", lambda _x, _kind: False),
    ),
    "hidden code writes nothing": (
        HIDDEN, "writes: ['%gs:word']", "%gs:word == 0", replaced(holes, "_write_operand", lambda *_: None),
    ),
    "hidden code changes nothing": (
        HIDDEN, "", "rbx == 1 or count(page_fault) == 1", replaced(holes, "run_hole", lambda *_: None),
    ),
    "no selector of the LDT is good": (
        LOADED + "1: jmp 1b\nfault: jmp 1b\n", "", "rip != after", replaced(segments, "in_changing_ldt", no_good_ldt),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", MACHINES)
def test_what_a_broken_machine_proves_is_refused(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, contract, that, broken = MACHINES[how]
    (tmp_path / "nmi.s").write_text(text)
    spec = SMALL.format(contract=contract, that=that, at="always" if "rip" in that else "after")
    if contract.startswith("may"):
        spec = spec.replace("may: [page_fault], may", "may")
    (tmp_path / "a.yaml").write_text(spec)
    broken(monkeypatch)
    expect_refused(tmp_path / "a.yaml", "p", tmp_path)


def expect_refused(spec: Path, name: str, folder: Path) -> None:
    model = load(spec)
    certificate = Certificate(model)
    properties = [p for p in model.properties if p.name == name]
    (result,) = Prover(model, witness=certificate.add).results(properties)
    assert result.verdict == "proved", "the search noticed: this row shows nothing"
    file = folder / "certificate"
    file.write_bytes(certificate.content())
    with pytest.raises(Refused):
        list(recheck(file, spec))
