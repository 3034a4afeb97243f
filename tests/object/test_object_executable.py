"""An executable laid out as kernels are: per-CPU data at addresses of their own, structures, what a linker adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from object_build import assembled, linked
from three_machines import judged

from verifier.errors import AsmError, SpecError
from verifier.prove.prover import Prover
from verifier.spec import load
from verifier.trace.allowed import problems
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.spec.model import Model

#: Switches to the thread's stack by a field of a per-CPU structure, and to the kernel's GS base by a table.
CODE = """
	.globl nmi
	.text
nmi:
	pushq	%rax
	movq	bases(%rip), %rax
	wrgsbase %rax
	movq	%gs:hot+24(%rip), %rax
	xchgq	%rax, %rsp
work:
	pushq	%rax
	popq	%rsp
	popq	%rax
	iretq
	.data
bases:	.fill	4, 8, 0
	.section .data..percpu, "aw"
first:	.fill	16, 1, 0
hot:	.fill	64, 1, 0
last:	.quad	0
"""
SPEC = """
format: 1
program: {{object: x}}
machine:
  stacks: {{nmi_ist: {{size: 512}}, task: {{size: 512}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
  data: {{cpu_0: {{of: bases, size: 8, initially: percpu.base}}}}
  percpu:
    {members}
environment:
  interrupted: [user: {{gs: kernel, fixed: {{cr4: 0x10020}}}}]
  events: {{nmi: any}}
properties:
  inside: {{that: "rsp == task.top", at: work}}
  kernels: {{that: "gs_base == percpu.base and gs_base == interrupted.gs_base", at: work}}
  field: {{that: "%gs:top == task.top", at: work}}
  home: {{that: restored(rip)}}
  anything: {{that: "%gs:second == 0", at: work}}
"""
PERCPU = ("0", "0xffffffff82100000")
MEMBERS = "top: {of: hot, offset: 24, size: 8, initially: task.top}\n    second: {of: hot, offset: 32, size: 8}"


def executable(folder: Path, percpu: str, members: str = MEMBERS) -> Model:
    linked(assembled(CODE, folder), percpu)
    (folder / "spec.yaml").write_text(SPEC.format(members=members))
    return load(folder / "spec.yaml", folder)


@pytest.mark.parametrize("percpu", PERCPU)
def test_per_cpu_data(percpu: str, tmp_path: Path) -> None:
    """Up to Linux 6.14 the addresses of per-CPU data count from 0; then they are like those of other data."""
    model = executable(tmp_path, percpu)
    assert model.machine.regions["percpu"].size == 16 + 64 + 8
    results = judged(model)
    expected = dict.fromkeys(results, "proved") | {"anything": "refuted"}
    assert {name: r.verdict for name, r in results.items()} == expected


@pytest.mark.parametrize("percpu", PERCPU)
def test_where_a_run_may_start(percpu: str, tmp_path: Path) -> None:
    """With the GS base that such data have."""
    model = executable(tmp_path, percpu)
    prover = Prover(model)
    (result,) = prover.results(tuple(p for p in model.properties if p.name == "anything"))
    trace = concretise(prover, result)
    assert trace is not None
    assert list(problems(model.machine, trace.context, trace.start)) == []


def test_a_handler_that_is_not_shown_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Kernels have much that is called like an event's handler."""
    for more, symbol in (("nmi_body: ret", "nmi_body"), (".data; first_irq: .quad 0", "first_irq")):
        gate = f"    irq: {{contract: {{}}, gate: interrupt, name: {symbol}}}\n"
        assembled(f"{CODE}\n.text\n{more}\n", tmp_path)
        (tmp_path / "spec.yaml").write_text(
            SPEC.format(members=MEMBERS).replace("object: x", "object: a.o").replace("  data:", f"{gate}  data:")
        )
        with pytest.raises(AsmError, match=f"'{symbol}' is a symbol of the program"):
            load(tmp_path / "spec.yaml", tmp_path)


@pytest.mark.parametrize(("members", "message"), [
    ("top: {of: cold, size: 8}", "unknown datum 'cold'"),
    ("top: {of: bases, size: 8}", "unknown datum 'bases'"),
    ("top: {of: hot, offset: 60, size: 8}", "'top' ends behind 'hot', which has 64 bytes"),
    ("first: {of: hot, size: 8}", "'first' is the name of something else"),
    ("top: {of: hot}", "has no 'size'"),
    ("top: {of: hot, address: 8, size: 8}", "unknown key 'address'"),
    ("top: {of: hot, size: 8, initially: 1}\n    low: {of: hot, offset: 7, size: 1, initially: 0}",
     "'low' and 'top' say what lies at one place"),
])  # fmt: skip
def test_mistakes(members: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        executable(tmp_path, "0", members)
