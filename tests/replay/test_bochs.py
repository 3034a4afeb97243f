"""The driver of Bochs, on a small program: what a machine under a debugger promises."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verifier.asm.assembler import assemble_text
from verifier.machine.config import Gate, Segment
from verifier.replay.bochs import Bochs
from verifier.replay.bochs_debugger import Debugger
from verifier.replay.image import Image, Plan, build
from verifier.replay.machine import REGISTERS, MachineError, MissingTool, Shutdown, Unsupported
from verifier.replay.probe import nmi_blocked

SEGMENTS = [
    Segment(0x10, "code", 0, long=True),
    Segment(0x18, "data", 0),
    Segment(0x23, "code", 3),
    Segment(0x2B, "data", 3),
    Segment(0x33, "code", 3, long=True),
]
TEXT = """
body:	nop
	nop
load:	movabsq	0xffff888000007000, %rax
loaded:	nop
trap:	int3
	hlt
halted:	nop
shadow:	sti
	nop
	nop
string:	rep movsb
	nop
nmi:	pushq	%rax
	popq	%rax
	iretq
irq:	pushq	%rbx
	popq	%rbx
	iretq
fault:	pushq	%rcx
	popq	%rcx
	addq	$8, %rsp
	iretq
debug:	iretq
check:	iretq
"""
PROGRAM = assemble_text(TEXT)
AT = {name: symbol.value for name, symbol in PROGRAM.symbols.items()}
STACKS = 0xFFFF_8880_0000_1000
NMI_TOP, CHECK_TOP, RSP0, KERNEL_RSP = (STACKS + 0x1000 * i for i in (1, 2, 3, 4))
PAGE = 0xFFFF_8880_0000_7000
USER_STACK = 0x7FFF_FFFF_0000
USER = {"cs": 0x33, "ss": 0x2B, "rsp": USER_STACK + 0x800}
KERNEL = {"cs": 0x10, "ss": 0x18, "rsp": KERNEL_RSP}
GATES = [
    Gate(1, "debug", AT["debug"], "interrupt"),
    Gate(2, "nmi", AT["nmi"], "interrupt", "nmi_ist"),
    Gate(3, "breakpoint", AT["debug"], "trap", dpl=3),
    Gate(13, "general_protection", AT["fault"], "interrupt"),
    Gate(14, "page_fault", AT["fault"], "interrupt"),
    Gate(18, "machine_check", AT["check"], "trap", "check_ist"),
    Gate(0x20, "irq", AT["irq"], "trap"),
    Gate(0xFF, "irq", AT["irq"], "interrupt"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    (text,) = PROGRAM.sections
    return build(
        Plan(
            {text.address: text.data, PAGE: b"\x5a" * 8},
            SEGMENTS,
            GATES,
            {"nmi_ist": NMI_TOP, "check_ist": CHECK_TOP},
            rsp0=RSP0,
            read_only=frozenset([text.address]),
            mapped=((STACKS, 0x5000), (USER_STACK, 0x1000)),
        )
    )


@pytest.fixture(scope="module")
def machine(image):
    with Bochs(image) as bochs:
        yield bochs


@pytest.fixture(autouse=True)
def fresh(request):
    """The shared machine at CPL 0 in the body, NMIs open, nothing pending."""
    if "machine" in request.fixturenames:
        machine = request.getfixturevalue("machine")
        machine._set({"event_mask": 0, "pending_event": 0, "activity_state": 0, "inhibit_mask": 0})
        at(machine, "body", **KERNEL)


def at(machine: Bochs, label: str, **values: int) -> None:
    machine.write({"rflags": 2, "rip": AT[label], **values})


def frame(machine: Bochs, words: int = 5) -> list[int]:
    return list(struct.unpack(f"<{words}Q", machine.load(machine.read()["rsp"], 8 * words)))


def where(machine: Bochs) -> int:
    return machine.read()["rip"]


def test_it_comes_up_at_the_monitors_ready(image):
    with Bochs(image) as bochs:
        found = bochs.read()
        assert found["rip"] == image.symbols["ready"]
        assert (found["cs"], found["ss"]) == (0x10, 0x18)
        assert set(REGISTERS) <= set(found)
        assert not found["rflags"] & 0x200
        assert not bochs.nmi_blocked()


def test_what_is_written_is_read(machine):
    values = {name: 0x1111_2222_3333_0000 + i for i, name in enumerate(REGISTERS)}
    values |= {"rflags": 0x0024_4AD7, "rip": AT["body"]}
    values |= {"cs": 0x33, "ss": 0x2B, "ds": 0x2B, "es": 0, "fs": 0x2B, "gs": 0}
    values |= {"fs_base": 0x7FFF_FFFF_FFFF, "gs_base": 0xFFFF_8000_0000_0000, "kernel_gs_base": 0x1234}
    machine.write(values)
    assert {name: machine.read()[name] for name in values} == values


def test_a_selector_leaves_the_base_of_fs_and_gs(machine):
    machine.write({"fs_base": 0x1000, "gs_base": 0x2000})
    machine.write({"fs": 0x2B, "gs": 0})
    assert (machine.read()["fs_base"], machine.read()["gs_base"]) == (0x1000, 0x2000)


@pytest.mark.parametrize(("context", "kind"), [(USER, 3), (KERNEL, 0)])
def test_the_privilege_level_follows_cs(machine, context, kind):
    """HLT is #GP(0) at CPL 3, and waits at CPL 0."""
    at(machine, "trap", **context)
    machine.write({"rip": AT["trap"] + 1})
    machine.step()
    assert where(machine) == (AT["fault"] if kind == 3 else AT["halted"])


def test_memory_is_loaded_and_stored_across_pages(machine):
    data = bytes(range(200))
    machine.store(STACKS + 0xFC1, data)
    assert machine.load(STACKS + 0xFC1, 200) == data
    machine.store(AT["body"], b"\x90")  # a read-only page


@pytest.mark.parametrize("access", ["load", "store"])
def test_memory_that_is_not_mapped_is_an_error(machine, access):
    arguments = (0x1234_5000, 8) if access == "load" else (0x1234_5000, bytes(8))
    with pytest.raises(MachineError, match=r"0x12345000"):
        getattr(machine, access)(*arguments)


@pytest.mark.parametrize("context", [USER, KERNEL], ids=["user", "kernel"])
@pytest.mark.parametrize(
    ("event", "vector", "flags", "handler", "top"),
    [
        ("nmi", 0, 0x2, "nmi", NMI_TOP),
        ("nmi", 0, 0x202, "nmi", NMI_TOP),
        ("machine_check", 0, 0x2, "check", CHECK_TOP),
        ("irq", 0x20, 0x202, "irq", None),
        ("irq", 0xFF, 0x202, "irq", None),
    ],
)
def test_an_event_is_delivered_and_nothing_of_its_handler_executed(
    machine, context, event, vector, flags, handler, top
):
    at(machine, "body", **context, rflags=flags)
    before = machine.read()
    machine.pend(event, vector)
    machine.step()
    after = machine.read()
    if top is None:
        top = RSP0 if context is USER else KERNEL_RSP
    assert after["rip"] == AT[handler]
    assert after["rsp"] == top - 40
    assert frame(machine) == [AT["body"], before["cs"], flags, before["rsp"], before["ss"]]
    trap_gate = vector == 0x20 or event == "machine_check"
    assert after["rflags"] == (flags if trap_gate else 0x2)
    assert after["ss"] == (0 if context is USER else 0x18)
    assert machine.nmi_blocked() == (event == "nmi")


def test_interrupts_by_the_same_vector_follow_one_another(machine):
    for _ in range(3):
        at(machine, "body", **KERNEL, rflags=0x202)
        machine.pend("irq", 0x20)
        machine.step()
        assert where(machine) == AT["irq"]


def test_an_nmi_that_is_held_back_comes_at_the_target_of_the_iret(machine):
    machine.pend("nmi")
    machine.step()
    machine.pend("nmi")
    places = []
    for _ in range(4):
        machine.step()
        places.append(where(machine))
    assert places == [AT["nmi"] + 1, AT["nmi"] + 2, AT["body"], AT["nmi"]]
    assert frame(machine)[0] == AT["body"]


def test_an_iret_that_faults_unblocks_nmis_so_one_hits_the_handlers_first_instruction(machine):
    """The rule that QEMU does not have. The frame has the handler's own address, not the pad's."""
    machine.pend("nmi")
    machine.step()
    machine.store(machine.read()["rsp"], struct.pack("<Q", 1 << 63))
    machine.pend("nmi")
    for _ in range(3):
        machine.step()
    assert where(machine) == AT["fault"]
    machine.step()
    assert where(machine) == AT["nmi"]
    assert frame(machine)[0] == AT["fault"]


def test_an_interrupt_hits_the_first_instruction_behind_a_trap_gate(machine):
    at(machine, "body", **KERNEL, rflags=0x202)
    machine.pend("irq", 0x20)
    machine.step()
    machine.pend("irq", 0xFF)
    machine.step()
    assert frame(machine)[0] == AT["irq"]


@pytest.mark.parametrize("context", [USER, KERNEL], ids=["user", "kernel"])
def test_a_page_fault_and_its_repair(machine, image, context):
    entry = image.entries[PAGE]
    present = machine.load(entry, 1)
    at(machine, "load", **context)
    machine.step()
    assert where(machine) == AT["loaded"]  # so the page is remembered
    machine.store(entry, bytes([present[0] & ~1]))
    machine.forget(PAGE)
    at(machine, "load", **context)
    machine.step()
    assert where(machine) == AT["fault"]
    assert machine.read()["cr2"] == PAGE
    assert frame(machine, 2) == [4 if context is USER else 0, AT["load"]]
    assert frame(machine, 4)[3] == 0x1_0002  # RF
    machine.store(entry, present)
    machine.forget(PAGE)
    for _ in range(5):
        machine.step()
    assert where(machine) == AT["loaded"]
    assert machine.read()["rax"] == 0x5A5A_5A5A_5A5A_5A5A


def test_int3_stops_at_the_gates_target(machine):
    at(machine, "trap", **USER)
    machine.step()
    assert where(machine) == AT["debug"]
    assert frame(machine)[0] == AT["trap"] + 1


def test_the_trap_of_tf_belongs_to_its_instruction(machine):
    at(machine, "body", **KERNEL, rflags=0x102)
    machine.step()
    assert where(machine) == AT["debug"]
    assert frame(machine)[0] == AT["body"] + 1
    assert machine.read()["dr6"] & 1 << 14


def test_an_interrupt_waits_for_the_end_of_the_shadow_of_sti(machine):
    at(machine, "shadow", **KERNEL)
    machine.step()
    machine.pend("irq", 0x20)
    machine.step()
    assert where(machine) == AT["shadow"] + 2
    machine.step()
    assert where(machine) == AT["irq"]


def test_a_repeated_string_instruction_goes_by_iterations(machine):
    at(machine, "string", **KERNEL, rcx=3, rsi=STACKS, rdi=STACKS + 8)
    machine.step()
    assert (where(machine), machine.read()["rcx"]) == (AT["string"], 2)


def test_a_halted_processor_waits(machine):
    machine.write({"rip": AT["trap"] + 1})
    for _ in range(3):
        machine.step()
        assert where(machine) == AT["halted"]
    machine.pend("nmi")
    machine.step()
    assert frame(machine)[0] == AT["halted"]


def test_the_latch_of_nmis_is_what_trying_finds(machine, image):
    before = machine.read()
    assert nmi_blocked(machine, image) is machine.nmi_blocked() is False
    machine.pend("nmi")
    machine.step()
    assert nmi_blocked(machine, image) is machine.nmi_blocked() is True
    machine.write(before)


def test_a_machine_check_leaves_the_latches_of_nmis(machine):
    machine.pend("nmi")
    machine.step()
    machine.pend("nmi")
    machine.pend("machine_check")
    machine.step()
    assert where(machine) == AT["check"]
    assert machine.nmi_blocked()
    machine.step()  # its IRET unblocks
    machine.step()
    assert frame(machine)[0] == AT["nmi"]


def test_what_bochs_cannot_do_is_said(machine):
    with pytest.raises(Unsupported, match="vector 2"):
        machine.pend("irq", 2)


def test_a_triple_fault_shuts_down(image):
    with Bochs(image) as bochs:
        bochs.write({"rip": AT["trap"] + 1, **USER})
        for vector in (8, 13):
            bochs.store(image.idt + 16 * vector, bytes(16))
        with pytest.raises(Shutdown):
            bochs.step()
        with pytest.raises(Shutdown):
            bochs.step()


# The process


def test_two_at_once(image):
    with Bochs(image) as one, Bochs(image) as other:
        one.write({"rax": 1})
        other.write({"rax": 2})
        assert (one.read()["rax"], other.read()["rax"]) == (1, 2)


def test_nothing_is_left_of_it(image, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Bochs(image) as bochs:
        process = bochs._debugger._process
        assert process.poll() is None
        assert list(tmp_path.iterdir())
    bochs.close()
    assert process.poll() is not None
    assert not list(tmp_path.iterdir())
    with pytest.raises(MachineError, match="closed"):
        bochs.step()


def test_a_bochs_that_dies_is_an_error(image):
    with Bochs(image) as bochs:
        os.kill(bochs._debugger._process.pid, signal.SIGKILL)
        with pytest.raises(MachineError, match="died"):
            bochs.step()


def test_a_bochs_that_hangs_is_an_error(image):
    with Bochs(image) as bochs:
        bochs.write({"rip": AT["trap"] + 1})
        bochs._debugger._seconds = 0.3
        with pytest.raises(MachineError, match=r"within 0\.3 seconds"):
            bochs._debugger.command("s 2")  # past the HLT, and nothing will come


def test_its_last_words_are_shown(monkeypatch):
    monkeypatch.setattr("verifier.replay.bochs_debugger._BIOS", bytes(1 << 23))
    with pytest.raises(MachineError, match="ROM image too large"):
        Debugger(bytes(4096), 0x10_0000, 1 << 20)


def test_a_command_that_it_does_not_know_is_an_error(image):
    with Bochs(image) as bochs, pytest.raises(MachineError, match="syntax error"):
        bochs._debugger.command("no such command")


def test_without_bochs_the_package_is_named(image, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool) as caught:
        Bochs(image)
    assert "package bochs" in caught.value.render()


def test_bochs_ends_with_the_process_that_started_it(image, tmp_path):
    """Killed at any moment, nothing runs on: the pipe closes."""
    script = tmp_path / "start.py"
    script.write_text(
        "import os, sys, signal\n"
        "from verifier.replay.bochs_debugger import Debugger\n"
        "print(Debugger(bytes(4096), 0x10_0000, 1 << 20)._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == -signal.SIGKILL
    alive = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(100):
        if not alive.exists() or alive.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("Bochs still runs")
