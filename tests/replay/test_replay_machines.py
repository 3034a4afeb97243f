"""What a machine under a debugger promises (`verifier.replay.machine`), of each driver: on a small program."""

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
from replay_small import (
    AT,
    CHECK_TOP,
    KERNEL,
    KERNEL_RSP,
    NARROW,
    NMI_TOP,
    PAGE,
    RSP0,
    STACKS,
    USER,
    at,
    frame,
    small_image,
    where,
)

from verifier.replay.bochs import Bochs
from verifier.replay.machine import REGISTERS, MachineError, MissingTool, Shutdown, Unsupported
from verifier.replay.probe import nmi_blocked, unblock
from verifier.replay.qemu import Qemu
from verifier.replay.replay import MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.replay.image import Image
    from verifier.replay.machine import Machine

CONTEXTS = {"user": USER, "kernel": KERNEL, "narrow": NARROW}
WIDE = {name: CONTEXTS[name] for name in ("user", "kernel")}
#: event, vector, flags, where it goes, the top of its stack if it has one of its own
EVENTS = [
    ("nmi", 0, 0x2, "nmi", NMI_TOP),
    ("nmi", 0, 0x202, "nmi", NMI_TOP),
    ("machine_check", 0, 0x2, "check", CHECK_TOP),
    ("irq", 0x20, 0x202, "irq", None),
    ("irq", 0xFF, 0x202, "irq", None),
]


@pytest.fixture(scope="module")
def image() -> Image:
    return small_image()


@pytest.fixture(scope="module", params=MACHINES)
def shared(request: pytest.FixtureRequest, image: Image) -> Iterator[Qemu | Bochs]:
    with MACHINES[request.param](image) as machine:
        yield machine


@pytest.fixture
def machine(shared: Qemu | Bochs, image: Image) -> Qemu | Bochs:
    """The shared machine at CPL 0 in the body, NMIs open, nothing pending."""
    if isinstance(shared, Bochs):
        shared._set({"event_mask": 0, "pending_event": 0, "activity_state": 0, "inhibit_mask": 0})
    unblock(shared, image)
    at(shared, "body", **KERNEL)
    return shared


@pytest.mark.parametrize("name", MACHINES)
def test_it_comes_up_at_the_monitors_ready(name: str, image: Image) -> None:
    with MACHINES[name](image) as machine:
        found = machine.read()
        assert found["rip"] == image.symbols["ready"]
        assert (found["cs"], found["ss"]) == (0x10, 0x18)
        assert set(REGISTERS) <= set(found)
        assert not found["rflags"] & 0x200
        assert not machine.nmi_blocked()


# Registers and memory


@pytest.mark.parametrize("cs", [0x33, 0x23, 0x10])
def test_what_is_written_is_read(machine: Machine, cs: int) -> None:
    values = {name: 0x1111_2222_3333_0000 + i for i, name in enumerate(REGISTERS)}
    values |= {"rflags": 0x0024_4AD7, "rip": 0x1234_5678 if cs == 0x23 else AT["body"]}
    values |= {"cs": cs, "ss": 0x18 if cs == 0x10 else 0x2B, "ds": 0x2B, "es": 0, "fs": 0x2B, "gs": 3}
    values |= {"fs_base": 0x7FFF_FFFF_FFFF, "gs_base": 0xFFFF_8000_0000_0000, "kernel_gs_base": 0x1234}
    values["rsp"] &= 0xFFFF_FFFF if cs == 0x23 else (1 << 64) - 1
    machine.write(values)
    assert {name: machine.read()[name] for name in values} == values


def test_a_selector_leaves_the_base_of_fs_and_gs(machine: Machine) -> None:
    machine.write({"fs_base": 0x1000, "gs_base": 0x2000})
    machine.write({"fs": 0x2B, "gs": 0})
    assert (machine.read()["fs_base"], machine.read()["gs_base"]) == (0x1000, 0x2000)


def test_memory_is_loaded_and_stored_across_pages(machine: Machine) -> None:
    data = bytes(range(200))
    machine.store(STACKS + 0xFC1, data)
    assert machine.load(STACKS + 0xFC1, 200) == data
    machine.store(AT["body"], b"\x90")  # a read-only page


def test_memory_that_is_not_mapped_is_an_error(machine: Machine) -> None:
    with pytest.raises(MachineError, match="0x12345000"):
        machine.load(0x1234_5000, 8)
    with pytest.raises(MachineError, match="12345000"):
        machine.store(0x1234_5000, bytes(8))


# Steps


@pytest.mark.parametrize(("context", "target"), [(USER, "fault"), (KERNEL, "nmi")])
def test_the_privilege_level_follows_cs(machine: Machine, context: dict[str, int], target: str) -> None:
    """HLT is #GP(0) at CPL 3, and waits at CPL 0."""
    at(machine, "trap", **context)
    machine.write({"rip": AT["trap"] + 1})
    machine.pend("nmi") if target == "nmi" else None
    machine.step()
    assert where(machine) == AT[target]


def test_int3_stops_at_the_gates_target(machine: Machine) -> None:
    at(machine, "trap", **USER)
    machine.step()
    assert where(machine) == AT["debug"]
    assert frame(machine)[0] == AT["trap"] + 1


def test_the_trap_of_tf_belongs_to_its_instruction(machine: Machine) -> None:
    at(machine, "body", **KERNEL, rflags=0x102)
    machine.step()
    assert where(machine) == AT["debug"]
    assert frame(machine)[0] == AT["body"] + 1
    assert machine.read().get("dr6", 1 << 14) & 1 << 14


def test_a_repeated_string_instruction_goes_by_iterations(machine: Machine) -> None:
    at(machine, "string", **KERNEL, rcx=3, rsi=STACKS, rdi=STACKS + 8)
    machine.step()
    assert (where(machine), machine.read()["rcx"]) == (AT["string"], 2)


@pytest.mark.parametrize("context", WIDE.values(), ids=WIDE)
def test_a_page_fault_and_its_repair(machine: Machine, image: Image, context: dict[str, int]) -> None:
    entry = image.entries[PAGE]
    present = machine.load(entry, 1)
    at(machine, "load", **context)
    machine.step()
    assert where(machine) == AT["loaded"]  # so the page is remembered
    machine.store(entry, bytes([present[0] & ~1]))
    machine.forget(PAGE)
    at(machine, "load", **context)
    machine.step()
    assert (where(machine), machine.read()["cr2"]) == (AT["fault"], PAGE)
    assert frame(machine, 2) == [4 if context is USER else 0, AT["load"]]
    assert frame(machine, 4)[3] == (0x1_0002 if machine.name == "bochs" else 2)  # RF: see `no-rf-in-fault-frames`
    machine.store(entry, present)
    machine.forget(PAGE)
    for _ in range(5):
        machine.step()
    assert where(machine) == AT["loaded"]
    assert machine.read()["rax"] == 0x5A5A_5A5A_5A5A_5A5A


@pytest.mark.parametrize("name", MACHINES)
def test_a_triple_fault_shuts_down(name: str, image: Image) -> None:
    with MACHINES[name](image) as machine:
        machine.write({"rip": AT["trap"] + 1, **USER})
        for vector in (8, 13):
            machine.store(image.idt + 16 * vector, bytes(16))
        with pytest.raises(Shutdown):
            machine.step()


# Events


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize(("event", "vector", "flags", "handler", "top"), EVENTS)
def test_an_event_is_delivered_and_nothing_of_its_handler_executed(
    machine: Machine, context: dict[str, int], event: str, vector: int, flags: int, handler: str, top: int | None
) -> None:
    at(machine, "body", **{"rip": AT["body"], **context}, rflags=flags)
    before = machine.read()
    machine.pend(event, vector)
    machine.step()
    after = machine.read()
    bottom = top or (KERNEL_RSP if context is KERNEL else RSP0)
    assert (after["rip"], after["rsp"], after["cs"]) == (AT[handler], bottom - 40, 0x10)
    nulled = context is not KERNEL or (top is not None and machine.rules["ist_nulls_ss"])
    assert after["ss"] == (0 if nulled else 0x18)
    assert frame(machine) == [before["rip"], before["cs"], flags, before["rsp"], before["ss"]]
    trap_gate = vector == 0x20 or event == "machine_check"
    assert after["rflags"] == (flags if trap_gate else 0x2)
    assert machine.nmi_blocked() == (event == "nmi")


def test_events_of_one_kind_follow_one_another(machine: Machine) -> None:
    for event, vector, handler in [("irq", 0x20, "irq"), ("machine_check", 0, "check")] * 3:
        at(machine, "body", **KERNEL, rflags=0x202)
        machine.pend(event, vector)
        machine.step()
        assert where(machine) == AT[handler]


def test_an_nmi_that_is_held_back_comes_at_the_target_of_the_iret(machine: Machine) -> None:
    machine.pend("nmi")
    machine.step()
    machine.pend("nmi")
    places = []
    for _ in range(4):
        machine.step()
        places.append(where(machine))
    assert places == [AT["nmi"] + 1, AT["nmi"] + 2, AT["body"], AT["nmi"]]
    assert frame(machine)[0] == AT["body"]


def test_an_interrupt_hits_the_first_instruction_behind_a_trap_gate(machine: Machine) -> None:
    at(machine, "body", **KERNEL, rflags=0x202)
    for vector in (0x20, 0xFF):
        machine.pend("irq", vector)
        machine.step()
    assert frame(machine)[0] == AT["irq"]


def test_an_interrupt_waits_for_the_end_of_the_shadow_of_sti(machine: Machine) -> None:
    at(machine, "shadow", **KERNEL)
    machine.step()
    machine.pend("irq", 0x20)
    machine.step()
    assert where(machine) == AT["shadow"] + 2
    machine.step()
    assert where(machine) == AT["irq"]


def test_trying_whether_nmis_are_blocked_leaves_no_trace(machine: Machine, image: Image) -> None:
    def tried(expected: bool) -> None:
        before, memory = machine.read(), machine.load(STACKS, 0x5000)
        assert nmi_blocked(machine, image) is machine.nmi_blocked() is expected
        assert (machine.read(), machine.load(STACKS, 0x5000)) == (before, memory)

    for context in (USER, NARROW, KERNEL):
        at(machine, "body", **{"rip": AT["body"], **context}, rflags=0x0024_4AD7)
        tried(False)
    machine.pend("nmi")
    machine.step()
    for _ in range(3):
        tried(True)


@pytest.mark.parametrize(("event", "vector"), [("earthquake", 0), ("irq", 2)])
def test_what_it_cannot_do_is_said(machine: Machine, event: str, vector: int) -> None:
    if machine.name == "qemu" and event == "irq":
        machine.pend("irq", 0x20)  # any vector goes
        return
    with pytest.raises(Unsupported, match=event):
        machine.pend(event, vector)


# Of Bochs alone


@pytest.fixture
def bochs(image: Image) -> Iterator[Bochs]:
    with Bochs(image) as machine:
        at(machine, "body", **KERNEL)
        yield machine


def test_bochs_unblocks_nmis_by_an_iret_that_faults(bochs: Bochs) -> None:
    """The rule that QEMU does not have. The frame has the handler's own address, not the pad's."""
    bochs.pend("nmi")
    bochs.step()
    bochs.store(bochs.read()["rsp"], struct.pack("<Q", 1 << 63))
    bochs.pend("nmi")
    for _ in range(3):
        bochs.step()
    assert where(bochs) == AT["fault"]
    bochs.step()
    assert where(bochs) == AT["nmi"]
    assert frame(bochs)[0] == AT["fault"]


def test_bochs_waits_in_a_halt(bochs: Bochs) -> None:
    bochs.write({"rip": AT["trap"] + 1})
    for _ in range(3):
        bochs.step()
        assert where(bochs) == AT["halted"]
    bochs.pend("nmi")
    bochs.step()
    assert frame(bochs)[0] == AT["halted"]


def test_bochs_makes_a_machine_check_that_leaves_the_latches_of_nmis(bochs: Bochs) -> None:
    bochs.pend("nmi")
    bochs.step()
    bochs.pend("nmi")
    bochs.pend("machine_check")
    bochs.step()
    assert where(bochs) == AT["check"]
    assert bochs.nmi_blocked()
    bochs.step()  # its IRET unblocks
    bochs.step()
    assert frame(bochs)[0] == AT["nmi"]


# The process


@pytest.mark.parametrize("name", MACHINES)
def test_two_at_once(name: str, image: Image) -> None:
    with MACHINES[name](image) as one, MACHINES[name](image) as other:
        one.write({"rax": 1})
        other.write({"rax": 2})
        assert (one.read()["rax"], other.read()["rax"]) == (1, 2)


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_is_left_of_it(name: str, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with MACHINES[name](image) as machine:
        process = process_of(machine)
        assert process.poll() is None
        assert list(tmp_path.iterdir())
    machine.close()
    assert process.poll() is not None
    assert not list(tmp_path.iterdir())
    with pytest.raises(MachineError, match="closed"):
        machine.step()


@pytest.mark.parametrize("name", MACHINES)
def test_one_that_dies_is_an_error(name: str, image: Image) -> None:
    with MACHINES[name](image) as machine:
        process = process_of(machine)
        process.kill()
        process.wait()
        with pytest.raises(MachineError):
            machine.step()


@pytest.mark.parametrize(("name", "package"), [("qemu", "qemu-system-x86"), ("bochs", "bochs")])
def test_without_it_the_package_is_named(
    name: str, package: str, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool) as caught:
        MACHINES[name](image)
    assert f"package {package}" in caught.value.render()


@pytest.mark.parametrize("name", MACHINES)
def test_it_ends_with_the_process_that_started_it(name: str, tmp_path: Path) -> None:
    """Killed at any moment, nothing runs on."""
    script = tmp_path / "start.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from replay_small import small_image\n"
        "from test_replay_machines import MACHINES, process_of\n"
        f"print(process_of(MACHINES[{name!r}](small_image())).pid, flush=True)\n"
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
    pytest.fail(f"{name} still runs")


def process_of(machine: Qemu | Bochs) -> subprocess.Popen[bytes]:
    process = machine._process if isinstance(machine, Qemu) else machine._debugger._process
    assert process is not None
    return process
