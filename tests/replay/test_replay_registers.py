"""Control and model-specific registers that a program writes, on machines; and what no replay can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.api import Specification
from verifier.errors import UsageError
from verifier.replay.replay import MACHINES
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.replay.replay import Replayed

SPEC = """
format: 1
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 1024}}}}
  rsp0: nmi_ist
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    machine_check: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
  percpu: {{seen: {{size: 8}}}}
  msrs: {msrs}
holes: {holes}
environment:
  interrupted: [user: {{gs: kernel}}]
  events: {{nmi: any, machine_check: any}}
properties: {{subject: {{that: "{that}"{at}, during: [{during}]}}}}
"""
CR3 = "mov %cr3, %rax\n {0} %rax\n mov %rax, %cr3"
#: text of the handler, what is refuted of it
FOLLOWED = [
    (CR3.format("xor $0x1000,"), "cr3 == interrupted.cr3"),
    (CR3.format("xor $0x1000,") + "\n" + CR3.format("xor $0x1018,"), "cr3 == interrupted.cr3"),
    ("mov %cr0, %rax\n or $8, %rax\n mov %rax, %cr0", "cr0 & 8 == 0"),
    ("mov %cr4, %rax\n xor $0x80, %rax\n mov %rax, %cr4", "cr4 == interrupted.cr4"),
]
HIDDEN = "jmp body\nbody: ..."
#: text of the handler, what is said
NOT_FOLLOWED = [
    (CR3.format("xor $0x2000,"), "sets CR3 to 0x[0-9a-f]+, and page tables are at 0x[0-9a-f]+ and 0x1000 above"),
    (CR3.format("bts $62,"), "sets CR3 to 0x40"),
    ("mov %cr0, %rax\n btr $16, %rax\n mov %rax, %cr0", "changes bits 0x10000 of CR0"),
    ("mov %cr4, %rax\n bts $20, %rax\n mov %rax, %cr4", "changes bits 0x100000 of CR4"),
    (HIDDEN, "sets CR3 to 0x"),
]
EACH = "mov ${0:#x}, %ecx\n rdmsr\n inc %eax\n wrmsr\n rdmsr\n mov %rax, %gs:seen"
#: the register, whether the emulators have it
LISTED = [(0x48, False), (0xC000_0103, True), (0x175, True), (0xC000_0082, True)]


def replayed(folder: Path, machine: str, text: str, that: str, during: str = "nmi", **more: str) -> Replayed:
    saved = " push %rax\n push %rcx\n push %rdx\n", "\n pop %rdx\n pop %rcx\n pop %rax\n iretq\n"
    (folder / "nmi.s").write_text(f"nmi:\n{saved[0]} {text}{saved[1]}")
    given = {"msrs": "{0x48: {}}", "holes": "{}", "at": ", at: outermost-return"} | more
    (folder / "spec.yaml").write_text(SPEC.format(that=that, during=during, **given))
    specification = Specification(load(folder / "spec.yaml"))
    trace = specification.refute("subject").trace
    assert trace is not None
    return specification.replay(trace, machine)


def agrees(found: Replayed) -> None:
    assert found.report is not None, found.why_not
    assert not found.report.differs, found.report
    assert found.report.steps == len(found.trace.steps)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("text", "that"), FOLLOWED)
def test_control_registers_are_followed(tmp_path: Path, text: str, that: str, machine: str) -> None:
    agrees(replayed(tmp_path, machine, text, that))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("text", "said"), NOT_FOLLOWED)
def test_what_cannot_be_followed_is_said(tmp_path: Path, text: str, said: str, machine: str) -> None:
    holes = "{body: {changes: [cr3]}}" if text == HIDDEN else "{}"
    with pytest.raises(UsageError, match=said):
        replayed(tmp_path, machine, text, "count(nmi) == 0", holes=holes)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_write_that_needs_pcids_cannot_be_shown(tmp_path: Path, machine: str) -> None:
    """CR3[63], which is #GP(0) while CR4.PCIDE=0, as the image leaves it."""
    found = replayed(tmp_path, machine, CR3.format("bts $63,"), "count(nmi) == 0")
    assert found.report is None
    assert "another way" in found.why_not


@pytest.mark.parametrize("machine", MACHINES)
def test_hidden_code_changes_control_registers(tmp_path: Path, machine: str) -> None:
    """It sets CR0.TS, and the bit is there after it."""
    holes = "{body: {keeps: [registers], gives: {cr0: cr0 | 8}}}"
    agrees(replayed(tmp_path, machine, HIDDEN, "cr0 & 8 == 0", holes=holes))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("number", "real"), LISTED)
def test_registers_that_the_specification_lists(tmp_path: Path, number: int, real: bool, machine: str) -> None:
    msrs = f"{{{number:#x}: {{initially: 5}}}}"
    found = replayed(tmp_path, machine, EACH.format(number), "count(nmi) == 0", msrs=msrs)
    agrees(found)
    assert found.report is not None
    assert bool(found.report.notes) is not real


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("during", "that"), [
    ("machine_check, nmi at nmi", "nmi_blocked == 0"), ("machine_check, machine_check at nmi", "no_mishap"),
])  # fmt: skip
def test_machine_checks_where_mcg_status_is_listed(tmp_path: Path, during: str, that: str, machine: str) -> None:
    """Rule E7: but no emulator is made to shut down by the second one."""
    found = replayed(tmp_path, machine, "nop", that, during, msrs="{0x17a: {initially: 0}}", at="")
    if that != "no_mishap":
        agrees(found)
        return
    assert found.report is None
    assert "MCIP" in found.why_not
