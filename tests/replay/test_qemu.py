"""The driver of QEMU, on the small program of the tests of Bochs: what a machine under a debugger promises."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_bochs import AT, CHECK_TOP, KERNEL, KERNEL_RSP, NMI_TOP, PAGE, RSP0, STACKS, USER, image

from verifier.replay.machine import REGISTERS, MachineError, Shutdown, Unsupported
from verifier.replay.probe import unblock
from verifier.replay.qemu import Qemu

if TYPE_CHECKING:
    from verifier.replay.image import Image

__all__ = ["image"]
NARROW = {"cs": 0x23, "ss": 0x2B, "rsp": 0x7FFF_0800}


@pytest.fixture(scope="module")
def qemu(image: Image):
    with Qemu(image) as machine:
        yield machine


@pytest.fixture
def machine(qemu: Qemu, image: Image) -> Qemu:
    """The shared machine at CPL 0 in the body, NMIs open."""
    unblock(qemu, image)
    at(qemu, "body", **KERNEL)
    return qemu


def at(machine: Qemu, label: str, **values: int) -> None:
    machine.write({"rflags": 2, "rip": AT[label], **values})


def frame(machine: Qemu, words: int = 5) -> list[int]:
    return list(struct.unpack(f"<{words}Q", machine.load(machine.read()["rsp"], 8 * words)))


def where(machine: Qemu) -> int:
    return machine.read()["rip"]


@pytest.mark.parametrize("cs", [0x33, 0x23, 0x10])
def test_what_is_written_is_read(machine: Qemu, cs: int) -> None:
    values = {name: 0x1111_2222_3333_0000 + i for i, name in enumerate(REGISTERS)}
    values |= {"rflags": 0x0024_4AD7, "rip": 0x1234_5678 if cs == 0x23 else AT["body"]}
    values |= {"cs": cs, "ss": 0x18 if cs == 0x10 else 0x2B, "ds": 0x2B, "es": 0, "fs": 0x2B, "gs": 3}
    values |= {"fs_base": 0x7FFF_FFFF_FFFF, "gs_base": 0xFFFF_8000_0000_0000, "kernel_gs_base": 0x1234}
    machine.write(values)
    assert {name: machine.read()[name] for name in values} == values


@pytest.mark.parametrize("context", [USER, KERNEL, NARROW], ids=["user", "kernel", "narrow"])
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
    machine: Qemu, context: dict[str, int], event: str, vector: int, flags: int, handler: str, top: int | None
) -> None:
    at(machine, "body", **context, rflags=flags)
    if context is NARROW:
        machine.write({"rip": 0x1234})
    before = machine.read()
    machine.pend(event, vector)
    machine.step()
    after = machine.read()
    bottom = top or (KERNEL_RSP if context is KERNEL else RSP0)
    assert (after["rip"], after["rsp"], after["cs"]) == (AT[handler], bottom - 40, 0x10)
    assert frame(machine) == [before["rip"], before["cs"], flags, before["rsp"], before["ss"]]
    trap_gate = vector == 0x20 or event == "machine_check"
    assert after["rflags"] == (flags if trap_gate else 0x2)
    assert machine.nmi_blocked() == (event == "nmi")


def test_trying_whether_nmis_are_blocked_leaves_no_trace(machine: Qemu) -> None:
    for context in (USER, NARROW, KERNEL):
        at(machine, "body", **context, rflags=0x0024_4AD7)
        before, memory = machine.read(), machine.load(STACKS, 0x5000)
        assert not machine.nmi_blocked()
        assert (machine.read(), machine.load(STACKS, 0x5000)) == (before, memory)
    machine.pend("nmi")
    machine.step()
    before, memory = machine.read(), machine.load(STACKS, 0x5000)
    for _ in range(3):
        assert machine.nmi_blocked()
        assert (machine.read(), machine.load(STACKS, 0x5000)) == (before, memory)


def test_events_of_one_kind_follow_one_another(machine: Qemu) -> None:
    for event, vector, handler in [("irq", 0x20, "irq"), ("machine_check", 0, "check")] * 3:
        at(machine, "body", **KERNEL, rflags=0x202)
        machine.pend(event, vector)
        machine.step()
        assert where(machine) == AT[handler]


def test_an_nmi_that_is_held_back_comes_at_the_target_of_the_iret(machine: Qemu) -> None:
    machine.pend("nmi")
    machine.step()
    machine.pend("nmi")
    places = []
    for _ in range(4):
        machine.step()
        places.append(where(machine))
    assert places == [AT["nmi"] + 1, AT["nmi"] + 2, AT["body"], AT["nmi"]]


@pytest.mark.parametrize("context", [USER, KERNEL], ids=["user", "kernel"])
def test_a_page_fault_and_its_repair(machine: Qemu, image: Image, context: dict[str, int]) -> None:
    at(machine, "load", **context)
    machine.step()
    assert where(machine) == AT["loaded"]  # so the page is remembered
    entry = image.entries[PAGE]
    present = machine.load(entry, 1)
    machine.store(entry, bytes([present[0] & ~1]))
    machine.forget(PAGE)
    at(machine, "load", **context)
    machine.step()
    assert (where(machine), machine.read()["cr2"]) == (AT["fault"], PAGE)
    assert frame(machine, 2) == [4 if context is USER else 0, AT["load"]]
    machine.store(entry, present)
    machine.forget(PAGE)
    for _ in range(5):
        machine.step()
    assert where(machine) == AT["loaded"]


def test_a_repeated_string_instruction_goes_by_iterations(machine: Qemu) -> None:
    at(machine, "string", **KERNEL, rcx=3, rsi=STACKS, rdi=STACKS + 8)
    machine.step()
    assert (where(machine), machine.read()["rcx"]) == (AT["string"], 2)


def test_memory_that_is_not_mapped_is_an_error(machine: Qemu) -> None:
    with pytest.raises(MachineError, match="0x12345000"):
        machine.load(0x1234_5000, 8)
    with pytest.raises(MachineError):
        machine.store(0x1234_5000, bytes(8))


def test_what_qemu_cannot_do_is_said(machine: Qemu) -> None:
    with pytest.raises(Unsupported, match="earthquake"):
        machine.pend("earthquake")


def test_a_triple_fault_shuts_down(image: Image) -> None:
    with Qemu(image) as machine:
        machine.write({"rip": AT["trap"] + 1, **USER})
        for vector in (8, 13):
            machine.store(image.idt + 16 * vector, bytes(16))
        with pytest.raises(Shutdown):
            machine.step()


def test_a_qemu_that_dies_is_an_error_and_leaves_nothing(image: Image) -> None:
    with Qemu(image) as machine:
        folder = machine._folder
        machine._process.kill()
        machine._process.wait()
        with pytest.raises(MachineError):
            machine.step()
    assert not folder.exists()


def test_qemu_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(
        "import os, signal\n"
        "from verifier.machine.config import Segment\n"
        "from verifier.replay.image import Plan, build\n"
        "from verifier.replay.qemu import Qemu\n"
        "segments = [Segment(0x10, 'code', 0, True), Segment(0x18, 'data', 0)]\n"
        "print(Qemu(build(Plan({}, segments)))._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    alive = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(100):
        if not alive.exists() or alive.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("QEMU still runs")
