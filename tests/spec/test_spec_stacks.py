"""Data at fixed places of a stack: their places, their values, their mistakes, and what proves and refutes."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_project import SPEC, Project

import verifier
from verifier.errors import SpecError
from verifier.machine.config import Datum, Pointer
from verifier.spec.expression import Binary, CellRef, MemoryRef, Number, RegionRef

STACK = "nmi_ist: {size: 4096"
WORD = STACK + ", data: {marker: {from_top: 64, initially: 0}}"


def test_a_datum_of_a_stack_lies_below_its_top(project: Project) -> None:
    data = "data: {low: {from_top: 4096, size: 4}, marker: {from_top: 64, initially: nmi_ist.top - 8}}"
    region = project.load(SPEC.replace(STACK, f"{STACK}, {data}")).machine.regions["nmi_ist"]
    assert region.data == (Datum("low", 0, 4), Datum("marker", 4032, 8, Pointer("nmi_ist", 4088)))


def test_alignment(project: Project) -> None:
    model = project.load(SPEC.replace(STACK, f"{STACK}, alignment: 4096"))
    assert model.machine.regions["nmi_ist"].alignment == 4096


@pytest.mark.parametrize("alignment", [8, 24, 131072])
def test_no_alignment(project: Project, alignment: int) -> None:
    with pytest.raises(SpecError, match=r"machine\.stacks\.nmi_ist\.alignment must be"):
        project.load(SPEC.replace(STACK, f"{STACK}, alignment: {alignment}"))


def test_its_name_means_its_value(project: Project) -> None:
    text = SPEC.replace(STACK, WORD).replace('that: "restored(rip, cs, rflags, rsp, ss, rax)"', "that: marker == 1")
    (that, *_) = [p.that for p in project.load(text).properties]
    assert that == Binary("==", MemoryRef(None, None, None, 1, 4032, 64, "nmi_ist"), Number(1))


def test_within_means_both_edges(project: Project) -> None:
    text = SPEC.replace('"restored(rip, cs, rflags, rsp, ss, rax)"', "'within(rsp, nmi_ist, kernel_stack)'")
    (that, *_) = [p.that for p in project.load(text).properties]

    def inside(region: str) -> Binary:
        rsp = CellRef("rsp", 0, 64)
        low, high = RegionRef(region, "base"), RegionRef(region, "top")
        return Binary("and", Binary(">=", rsp, low), Binary("<=", rsp, high))

    assert that == Binary("or", inside("nmi_ist"), inside("kernel_stack"))


MISTAKES = {
    "no place": ("{size: 8}", "machine.stacks.nmi_ist.data.marker has no 'from_top'"),
    "beyond the stack": ("{from_top: 4097}", "machine.stacks.nmi_ist.data.marker.from_top must be in 1..4096"),
    "above the top": ("{from_top: 4, size: 8}", "machine.stacks.nmi_ist.data.marker.size must be in 1..4"),
    "no value has this size": ("{from_top: 64, size: 3, initially: 0}", "'marker' has 3 bytes"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake(project: Project, what: str) -> None:
    entry, message = MISTAKES[what]
    with pytest.raises(SpecError, match=message):
        project.load(SPEC.replace(STACK, f"{STACK}, data: {{marker: {entry}}}"))


@pytest.mark.parametrize("name", ["nmi_stack_ptr", "some_flag", "nmi_exit", "nmi_ist", "kernel_stack"])
def test_a_name_that_means_something_else(project: Project, name: str) -> None:
    with pytest.raises(SpecError, match=f"'{name}' is the name of something else"):
        project.load(SPEC.replace(STACK, f"{STACK}, data: {{{name}: {{from_top: 64}}}}"))


def test_two_that_overlap(project: Project) -> None:
    with pytest.raises(SpecError, match="'b' overlaps 'a'"):
        project.load(SPEC.replace(STACK, f"{STACK}, data: {{a: {{from_top: 16}}, b: {{from_top: 9, size: 1}}}}"))


def test_its_address_is_no_number(project: Project) -> None:
    text = SPEC.replace(STACK, WORD).replace('that: "restored(rip, cs, rflags, rsp, ss, rax)"', "that: rsp == $marker")
    with pytest.raises(SpecError, match="'marker' lies on a stack, which can be anywhere"):
        project.load(text)


ASM = """
nmi:
	movq $1,-24(%rsp)		/* rsp is 40 below the top */
nmi_body:
	...
	movq $0,-24(%rsp)
nmi_exit:
	iretq
"""

JUDGED = """
format: 1
program: {source: word.s}
machine:
  stacks: {nmi_ist: {size: 4096, data: {marker: {from_top: 64, initially: 0}}}}
  idt: {nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}}
holes: {nmi_body: {keeps: [registers]}}
environment: {interrupted: [kernel], events: {nmi: any}}
properties:
  set-inside: {that: marker == 1, at: nmi_body, expect: proved}
  set-at-the-end: {that: marker == 1, at: nmi_exit, expect: refuted}
  clear-at-the-start: {that: marker == 0, at: nmi, expect: proved}
  at-rest: {that: at_rest, expect: proved}
"""


@pytest.mark.parametrize("rest", ["{marker: {from_top: 64, initially: 0}}", "{marker: {from_top: 64}}"])
def test_it_is_judged(tmp_path: Path, rest: str) -> None:
    (tmp_path / "word.s").write_text(ASM)
    spec = tmp_path / "word.yaml"
    spec.write_text(JUDGED.replace("{marker: {from_top: 64, initially: 0}}", rest))
    found = {o.name: o.verdict for o in verifier.load(spec).prove()}
    known = "initially" in rest
    assert found == {
        "set-inside": "proved",
        "set-at-the-end": "refuted",
        "clear-at-the-start": "proved" if known else "refuted",
        "at-rest": "proved" if known else "vacuous",
    }
