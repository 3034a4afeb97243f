"""What a specification that loads means."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_project import ASM, SPEC, Project

from verifier.asm.program import TEXT_BASE
from verifier.errors import SpecError
from verifier.ir.cells import CELL_NAMES, STATUS_FLAGS
from verifier.machine.config import Context, Contract, Datum, Gate, Pointer, Region, Segment
from verifier.spec import Environment, ScheduleItem, project_root
from verifier.spec.expression import Binary, MemoryRef, Number, Restored
from verifier.spec.names import GENERAL_BUT_RSP

FIXED = {"iopl": 0, "vm": 0, "nt": 0, "vif": 0, "vip": 0}


def test_machine(project: Project) -> None:
    model = project.load()
    machine, at = model.machine, model.machine.program.address_of
    assert model.title == "A small NMI handler"
    assert machine.gates == {
        2: Gate(2, "nmi", at("nmi") or 0, "interrupt", "nmi_ist"),
        32: Gate(32, "irq", at("irq_handler") or 0, "interrupt"),
        14: Gate(14, "page_fault", at("page_fault_handler") or 0, "trap"),
    }
    assert machine.regions == {
        "nmi_ist": Region("nmi_ist", "stack", 4096),
        "kernel_stack": Region("kernel_stack", "stack", 8192),
        "interrupted_stack": Region("interrupted_stack", "interrupted", 4096, alignment=8),
        "percpu": Region(
            "percpu",
            "percpu",
            16,
            data=(Datum("nmi_stack_nesting", 0, 1, 0), Datum("nmi_stack_ptr", 8, 8)),
        ),
        "some_flag": Region(
            "some_flag", "data", 4, TEXT_BASE + (1 << 28), alignment=1, data=(Datum("some_flag", 0, 4, 7),)
        ),
    }
    assert (machine.kernel_cs, machine.rsp0, machine.percpu) == (0x10, "kernel_stack", "percpu")
    assert set(machine.segments.values()) == {
        Segment(0x10, "code", 0, long=True),
        Segment(0x18, "data", 0),
        Segment(0x33, "code", 3, long=True),
        Segment(0x2B, "data", 3),
        Segment(0x23, "code", 3),
    }


def test_environment(project: Project) -> None:
    model = project.load()
    assert model.environment == Environment({"nmi": None, "irq": 2, "page_fault": None}, ("nmi",))
    assert model.machine.contexts == (
        Context("user", 3, 0x33, 0x2B, "kernel", None, FIXED),
        Context("kernel", 0, 0x10, 0x18, "kernel", "interrupted_stack", FIXED),
    )
    by_default = project.load(SPEC.replace("  outermost: [nmi]\n", ""))
    assert by_default.environment.outermost == ("nmi", "irq")


def test_whose_gs_base_is_in_place(project: Project) -> None:
    """User code runs on its own, unless the specification says otherwise."""
    model = project.load(SPEC.replace("[user: {gs: kernel}, kernel]", "[user, kernel, other: {cpl: 3}]"))
    assert [c.gs for c in model.machine.contexts] == ["user", "kernel", "user"]


def test_contexts_of_their_own(project: Project) -> None:
    model = project.load(
        SPEC.replace(
            "[user: {gs: kernel}, kernel]",
            "[user: {gs: user, fixed: {iopl: any, if: 1, rax: 0x10}}, gap: {cpl: 0, gs: user, stack: none}]",
        )
    )
    user, gap = model.machine.contexts
    fixed = {"vm": 0, "nt": 0, "vif": 0, "vip": 0, "if": 1, "rax": 16}
    assert user == Context("user", 3, 0x33, 0x2B, "user", None, fixed)
    assert gap == Context("gap", 0, 0x10, 0x18, "user", None, FIXED)
    assert "interrupted_stack" not in model.machine.regions


CONTRACTS = {
    "{}": (*GENERAL_BUT_RSP, *STATUS_FLAGS),
    "{keeps: [registers]}": STATUS_FLAGS,
    "{keeps: [registers, rsp, if]}": STATUS_FLAGS,
    "{keeps: [registers, status_flags]}": (),
    "{keeps: [registers, flags]}": (),
    "{keeps: [registers, cf, zf]}": ("pf", "af", "sf", "of"),
    "{keeps: [registers, status_flags], may: [change_if]}": ("if",),
    "{keeps: [rax, rbx]}": (*(r for r in GENERAL_BUT_RSP if r not in ("rax", "rbx")), *STATUS_FLAGS),
}


@pytest.mark.parametrize(("text", "clobbers"), CONTRACTS.items(), ids=CONTRACTS)
def test_contract(project: Project, text: str, clobbers: tuple[str, ...]) -> None:
    spec = SPEC.replace("{may: [page_fault], keeps: [registers]}", text).replace(", page_fault: any", "")
    spec = spec.replace("page_fault in regular_nmi_code, ", "")
    (contract,) = project.load(spec).machine.contracts.values()
    in_order = tuple(c for c in CELL_NAMES if c in (*clobbers, "rf"))
    assert contract == Contract("regular_nmi_code", in_order)


def test_contract_with_everything(project: Project) -> None:
    text = "{may: [page_fault, change_if], keeps: [registers], stack: 64, writes: [some_flag, nmi_stack_ptr]}"
    model = project.load(SPEC.replace("{may: [page_fault], keeps: [registers]}", text))
    clobbers = ("cf", "pf", "af", "zf", "sf", "if", "of", "rf")
    assert model.machine.contracts == {
        "regular_nmi_code": Contract(
            "regular_nmi_code", clobbers, ("page_fault",), 64, ("some_flag", "nmi_stack_ptr")
        )
    }


INITIAL = {
    "5": 5,
    "0xff": 255,
    "-1": (1 << 64) - 1,
    "nmi_ist.top": Pointer("nmi_ist", 4096),
    "nmi_ist.top - 0x90": Pointer("nmi_ist", 4096 - 0x90),
    "nmi_ist.base + 8": Pointer("nmi_ist", 8),
    "nmi": TEXT_BASE,
    "$nmi + 4": TEXT_BASE + 4,
}


@pytest.mark.parametrize(("text", "value"), INITIAL.items(), ids=INITIAL)
def test_initial_value(project: Project, text: str, value: int | Pointer) -> None:
    model = project.load(SPEC.replace("{size: 8}", f"{{size: 8, initially: {text}}}"))
    found = model.machine.datum("nmi_stack_ptr")
    assert found is not None
    assert found[1].initially == value


def test_percpu_layout_is_natural(project: Project) -> None:
    added = "    a: {size: 1}\n    b: {size: 4}\n    c: {size: 24}\n    d: {size: 2}\n    e: {size: 32}\n"
    model = project.load(SPEC.replace("  data:\n", added + "  data:\n"))
    offsets = {d.name: d.offset for d in model.machine.regions["percpu"].data}
    assert offsets == {
        "nmi_stack_nesting": 0,
        "nmi_stack_ptr": 8,
        "a": 16,
        "b": 20,
        "c": 24,
        "d": 48,
        "e": 64,
    }


def test_percpu_offsets(project: Project) -> None:
    added = "    low: {size: 4}\n    high: {size: 8, offset: 4, initially: nmi_ist.top}\n"
    data = project.load(SPEC.replace("  percpu:\n", "  percpu:\n" + added, 1)).machine.regions["percpu"].data
    places = [("low", 0), ("high", 4), ("nmi_stack_nesting", 12), ("nmi_stack_ptr", 16)]
    assert [(d.name, d.offset) for d in data] == places
    assert data[1].initially == Pointer("nmi_ist", 4096)


def test_percpu_offsets_overlap(project: Project) -> None:
    text = SPEC.replace("  percpu:\n", "  percpu:\n    low: {size: 8}\n    high: {size: 8, offset: 4}\n", 1)
    with pytest.raises(SpecError, match=r"'high' overlaps 'low' \(at offset 0x0\)"):
        project.load(text)


def test_properties(project: Project) -> None:
    model = project.load()
    at = model.machine.program.address_of
    restored, frame, race = model.properties
    assert restored.that == Restored(("rip", "cs", "rflags", "rsp", "ss", "rax"))
    assert (restored.at, restored.during, restored.expect) == ("outermost-return", None, "refuted")
    assert frame.at == frozenset({at("regular_nmi_code")})
    body, iret = at("regular_nmi_code") or 0, at("nmi_iret_address") or 0
    assert race.at == "always"
    assert race.during == (
        ScheduleItem("nmi", None, "nmi"),
        ScheduleItem("page_fault", frozenset({body, body + 1}), "page_fault in regular_nmi_code"),
        ScheduleItem("irq", frozenset({iret}), "irq at nmi_iret_address"),
        ScheduleItem("nmi", model.machine.program.extent("irq_handler"), "nmi in irq_handler"),
        ScheduleItem("*", None, "*"),
    )
    assert model.property_named("race") is race


PLACES = {
    "restored(rip)": "outermost-return",
    "at_rest": "outermost-return",
    '"handled(nmi, regular_nmi_code)"': "outermost-return",
    "cpl == 0 -> restored(rip)": "outermost-return",
    "progress": "always",
    "intact(frame)": "always",
    "unreachable(gp_handler)": "always",
    "cpl == 0": "always",
}


@pytest.mark.parametrize(("text", "at"), PLACES.items(), ids=PLACES)
def test_default_place(project: Project, text: str, at: str) -> None:
    assert project.load(f"{_without_properties()}  p: {{that: {text}}}\n").properties[0].at == at


def test_given_places(project: Project) -> None:
    head = _without_properties()
    always = project.load(head + "  p: {that: restored(rip), at: always}\n")
    assert always.properties[0].at == "always"
    both = project.load(head + "  p: {that: restored(rip), at: [nmi, nmi_exit]}\n")
    at = both.machine.program.address_of
    assert both.properties[0].at == frozenset({at("nmi"), at("nmi_exit")})


def test_text_of_a_property_is_one_line(project: Project) -> None:
    model = project.load(
        _without_properties() + "  p:\n    that: |\n      rax ==\n        %gs:nmi_stack_ptr\n"
    )
    assert model.properties[0].text == "rax == %gs:nmi_stack_ptr"
    assert isinstance(model.properties[0].that, Binary)


def _without_properties() -> str:
    return SPEC[: SPEC.index("  context-restored")]


ASSUMPTIONS = [
    "nmi (vector 2) enters through an interrupt gate (clears IF) on stack nmi_ist",
    "page_fault (vector 14) enters through a trap gate (leaves IF as it is) "
    "on the current stack, from CPL 3 on kernel_stack",
    "regular_nmi_code may raise page_fault any number of times, may not change IF, "
    "may change the status flags, leaves all other registers and flags but RF alone throughout, uses 0 bytes of stack, "
    "writes no named data",
    "interrupted: user (CPL 3, cs 0x33, ss 0x2b, gs base: the kernel's, any rsp; "
    "iopl = 0, vm = 0, nt = 0, vif = 0, vip = 0; everything else arbitrary)",
    "interrupted: kernel (CPL 0, cs 0x10, ss 0x18, gs base: the kernel's, "
    "rsp in the middle of interrupted_stack; iopl = 0, vm = 0, nt = 0, vif = 0, vip = 0; "
    "everything else arbitrary)",
    "an interrupted kernel context runs outside the program's text",
    "events: nmi any number, irq at most 2, page_fault any number; the first is nmi",
    "at the start: nmi_stack_nesting = 0, some_flag = 7; everything else in memory is arbitrary",
]


def test_assumptions(project: Project) -> None:
    given = project.load().assumptions
    assert [a for a in ASSUMPTIONS if a not in given] == []
    assert given[0].startswith("there is one CPU")


SECTIONS = """
	.data
counter: .quad 5
narrow:	.long 1
	.section .rodata
table:	.byte 1, 2, 3, 4
	.section .data..percpu,"aw",@progbits
mine:	.quad 0
nmi_stack_ptr: .quad 0
	.size nmi_stack_ptr, 8
"""


def test_sections_of_the_program(project: Project) -> None:
    project.asm(ASM + SECTIONS)
    spec = SPEC.replace("  data:\n", "  data:\n    counter: {initially: 3}\n")
    machine = project.load(spec).machine
    regions = machine.regions
    assert [(d.name, d.offset, d.size, d.initially) for d in regions[".data"].data] == [
        ("counter", 0, 8, 3),
        ("narrow", 8, 4, None),
    ]
    assert (regions[".data"].writable, regions[".data"].contents) == (True, b"")
    assert (regions[".rodata"].writable, regions[".rodata"].contents) == (False, b"\1\2\3\4")
    percpu = {d.name: (d.offset, d.size, d.initially) for d in regions["percpu"].data}
    assert percpu == {"mine": (0, 8, None), "nmi_stack_ptr": (8, 8, None), "nmi_stack_nesting": (16, 1, 0)}
    (store,) = [i for i in machine.program if "nmi_stack_ptr" in i.text]
    assert store.operands[-1] == _gs(8)
    (compare,) = [i for i in machine.program if i.mnemonic == "cmp"]
    assert compare.operands[-1] == _gs(16, 8)


DISAGREEMENTS = {
    "counter: {size: 16}": "'counter' has 8 bytes in the program, 16 here",
    "counter: {address: 0xffffffff82000000}": "the program places 'counter'",
    "table: {initially: 1, size: 1}": "'table' lies in the read-only section .rodata",
    "mine: {initially: 1}": "the program defines 'mine', but not as a datum outside the per-CPU sections",
    "nmi_exit: {size: 8}": "the program defines 'nmi_exit', but not as a datum outside the per-CPU sections",
}


@pytest.mark.parametrize(("entry", "message"), DISAGREEMENTS.items(), ids=DISAGREEMENTS)
def test_disagreement_with_the_program(project: Project, entry: str, message: str) -> None:
    project.asm(ASM + SECTIONS)
    with pytest.raises(SpecError) as caught:
        project.load(SPEC.replace("  data:\n", f"  data:\n    {entry}\n"))
    span = caught.value.span
    assert caught.value.message == message
    assert span is not None
    assert span.text[span.column - 1 : span.end - 1] == entry.partition(":")[0]


def _gs(offset: int, width: int = 64) -> object:
    from verifier.asm import Mem

    return Mem(None, None, 1, offset, width, "gs")


def test_data_names_in_expressions(project: Project) -> None:
    project.asm(ASM + SECTIONS)
    model = project.load(_without_properties() + "  p: {that: narrow == 1}\n")
    address = model.machine.program.symbols["narrow"].value
    assert model.properties[0].that == Binary(
        "==", MemoryRef(None, None, None, 1, address - (1 << 64), 32), Number(1)
    )


def test_scalars_are_words(project: Project) -> None:
    """YAML 1.1 would read ``no`` as false and ``1_000`` as a number."""
    model = project.load(SPEC.replace("title: A small NMI handler", "title: no"))
    assert model.title == "no"


def test_defaults(project: Project) -> None:
    model = project.load(SPEC.replace("title: A small NMI handler\n", ""))
    assert model.title == "small"


def test_root(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "specs"
    deep.mkdir(parents=True)
    spec = deep / "x.yaml"
    spec.touch()
    outer = project_root(spec)
    assert deep.is_relative_to(outer)
    (tmp_path / ".git").mkdir()
    assert project_root(spec) == tmp_path.resolve()
    (tmp_path / "a" / "pyproject.toml").touch()
    assert project_root(spec) == (tmp_path / "a").resolve()
    link = tmp_path / "link.yaml"
    link.symlink_to(spec)
    assert project_root(link) == (tmp_path / "a").resolve()


def test_the_segments_are_an_assumption(project: Project) -> None:
    """What IRET and loads of segment registers take for good (rules R4, R5, I11)."""
    (said,) = [a for a in project.load().assumptions if a.startswith("the segments are")]
    assert "0x10 (64-bit code, DPL 0), 0x18 (data, DPL 0)" in said
    assert said.endswith("all present and flat; every other selector is a bad one")


def test_declared_per_cpu_data_lie_behind_the_programs_own(project: Project) -> None:
    """Also where none of the program's own is declared: the two were at one place."""
    project.asm(ASM + '\t.section .data..percpu,"aw",@progbits\nmine:\t.quad 0\n')
    percpu = project.load().machine.regions["percpu"]
    assert {d.name: d.offset for d in percpu.data}["mine"] == 0
    assert all(d.offset >= 8 for d in percpu.data if d.name != "mine")
