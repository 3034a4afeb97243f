"""QEMU with its own translator (TCG) as a machine, driven by its gdb stub and its monitor (QMP)."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Self

from verifier.machine.rules import RULES
from verifier.replay.gdb import PATIENCE, Gdb
from verifier.replay.machine import MORE, NOT_PRESENT_IS_NP, REGISTERS, MachineError, Shutdown, Unsupported
from verifier.replay.probe import nmi_blocked
from verifier.replay.stub import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from verifier.replay.image import Image

#: Our name of a register -> QEMU's.
_NAMES = {"rflags": "eflags", "kernel_gs_base": "k_gs_base"}
#: What is set first: a selector brings its base along, and SS the CPL.
_SELECTORS = ("ss", "ds", "es", "fs", "gs", "cs")
_MESSAGES = 0xFEE0_0000
_NMI_MESSAGE = 0x400
_MCG_STATUS = 0x17A
#: Bank 1 reports an uncorrected error that is enabled and valid: VAL, UC, EN, PCC.
_MACHINE_CHECK = "mce 0 1 0xb200000000000000 0x5 0 0"


class Qemu:
    """See `verifier.replay.machine.Machine`."""

    name = "qemu"
    choices = NOT_PRESENT_IS_NP
    rules: Mapping[str, int] = dict.fromkeys(RULES, 0) | {
        "ist_nulls_ss": 1,
        "fault_in_nmi_delivery_blocks": 1,
        "ss_after_ss_casts_none": 1,
        "ss_after_sti_casts_none": 1,
        "sti_after_ss_casts_none": 1,
        "frame_below_the_edge": 1,
        "any_null_ss": 1,
        "rip_is_cut": 1,
        "outer_return_clears_null": 1,
        "late_sysret_fault": 1,
    }

    def __init__(self, image: Image) -> None:
        """Boot. Raises MissingTool, MachineError."""
        program = tool("qemu-system-x86_64", "qemu-system-x86")
        self._image = image
        self._folder = Path(mkdtemp(prefix="verifier-"))
        self._irq = False
        self._machine_check = False
        self._gdb: Gdb | None = None
        self._process = self._launch(program)
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        (self._folder / "image").write_bytes(self._image.data)
        options = (
            "-accel tcg,thread=single -cpu max -machine q35 -m 128 -nodefaults -display none -no-reboot -S "
            "-kernel image -gdb unix:gdb,server=on,wait=off -qmp unix:qmp,server=on,wait=off"
        )
        end_with_us = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return subprocess.Popen(
            [*end_with_us, program, *options.split()],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def _boot(self) -> None:
        self._gdb = self._connect()
        self._offsets = _layout(self._gdb.features())
        self._gdb.command("Qqemu.sstep=1")  # the default holds back NMIs and interrupts while stepping
        ready = self._image.symbols["ready"]
        self._gdb.command(f"Z1,{ready:x},1")
        self._stopped(self._gdb.ask("c"))
        self._gdb.command(f"z1,{ready:x},1")

    def _connect(self) -> Gdb:
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            try:
                return Gdb(self._folder / "gdb")
            except OSError:
                time.sleep(0.005)
        self._process.kill()
        said = self._process.communicate()[1].decode(errors="replace").strip()
        raise MachineError(f"QEMU does not start: {said[:300]}")

    # registers and memory

    @property
    def _stub(self) -> Gdb:
        if self._gdb is None:
            raise MachineError("QEMU is closed")
        return self._gdb

    def read(self) -> dict[str, int]:
        found = self._read()
        if self._image.is_narrow(found["cs"]):
            with self._wide(found["cs"], found["cs"]):
                found = self._read() | {"cs": found["cs"]}
        return found

    def _read(self) -> dict[str, int]:
        data = bytes.fromhex(self._stub.ask("g").replace("x", "0"))
        found = {name: int.from_bytes(data[at : at + n], "little") for name, (_, at, n) in self._offsets.items()}
        return {name: value & 0xFFFF if name in _SELECTORS else value for name, value in found.items()}

    def write(self, values: Mapping[str, int]) -> None:
        now = self._read()
        if "fs" in values or "gs" in values:
            values = {n: now[n] for n in ("fs_base", "gs_base")} | dict(values)
        order = [n for n in _SELECTORS[:-1] if n in values] + [n for n in values if n not in _SELECTORS]
        with self._wide(now["cs"], values.get("cs", now["cs"])):
            for name in order:
                self._set(name, values[name])

    @contextmanager
    def _wide(self, before: int, after: int) -> Iterator[None]:
        """QEMU shows and sets no more than the lower halves of registers unless CS is a 64-bit segment."""
        narrow = self._image.is_narrow(before)
        if narrow:
            self._set("cs", self._image.kernel_cs)
        yield
        if narrow or before != after:
            self._set("cs", after)

    def _set(self, name: str, value: int) -> None:
        number, _, size = self._offsets[name]
        self._stub.command(f"P{number:x}={value.to_bytes(size, 'little').hex()}")

    def load(self, address: int, size: int) -> bytes:
        return self._stub.read_memory(address, size)

    def store(self, address: int, data: bytes) -> None:
        self._stub.write_memory(address, data)

    def forget(self, address: int) -> None:
        del address  # loading CR3 drops everything
        self.write({"cr3": self.read()["cr3"]})

    # running

    def step(self) -> None:
        self._stopped(self._stub.ask("s"))
        if self._irq:
            self._irq = False
            self._aside("eoi")
        elif self._machine_check:
            self._machine_check = False
            self._aside("wrmsr_", {"rcx": _MCG_STATUS, "rax": 0, "rdx": 0})

    def _stopped(self, answer: str) -> None:
        if answer[:1] == "W":
            raise Shutdown
        if answer[:1] not in ("T", "S"):
            raise MachineError(f"QEMU answers '{answer[:40]}' to a step")

    def _aside(self, piece: str, values: Mapping[str, int] | None = None) -> None:
        """Let the processor execute one instruction of the monitor's."""
        saved = self.read()
        changed = self._image.at(piece) | dict(values or {})
        self.write(changed)
        self._stopped(self._stub.ask("s"))
        self.write({name: saved[name] for name in changed})

    def pend(self, event: str, vector: int = 0) -> None:
        if event == "nmi":
            self._message(_NMI_MESSAGE)
        elif event == "irq":
            self._message(vector)
            self._stopped(self._stub.ask("s"))  # QEMU's own polling of the APIC: no instruction
            self._irq = True
        elif event == "machine_check":
            self._monitor("human-monitor-command", {"command-line": _MACHINE_CHECK})
            self._machine_check = True
        else:
            raise Unsupported(f"QEMU cannot make a {event} happen")

    def _message(self, data: int) -> None:
        """A message-signalled interrupt, as a device sends it: a write to physical memory."""
        self._stub.command("Qqemu.PhyMemMode:1")
        self._stub.write_memory(_MESSAGES, data.to_bytes(4, "little"))
        self._stub.command("Qqemu.PhyMemMode:0")

    def nmi_blocked(self) -> bool:
        return nmi_blocked(self, self._image)

    def _monitor(self, command: str, arguments: Mapping[str, Any]) -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(str(self._folder / "qmp"))
            answers = link.makefile()
            answers.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                link.sendall(json.dumps(request).encode())
                answer = json.loads(answers.readline())
                while "event" in answer:
                    answer = json.loads(answers.readline())
                if "error" in answer:
                    raise MachineError(f"QEMU's monitor: {answer['error']}")

    # the end

    def close(self) -> None:
        if self._gdb is not None:
            self._gdb.close()
            self._gdb = None
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stderr is not None and not self._process.stderr.closed:
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _layout(features: str) -> dict[str, tuple[int, int, int]]:
    """Of each register: its number, its place in the answer to 'g', and its size in bytes."""
    ours = {theirs: name for name, theirs in _NAMES.items()}
    found, at = {}, 0
    for number, row in enumerate(re.findall(r"<reg ([^>]*)/>", features)):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', row))
        size = int(attributes["bitsize"]) // 8
        found[ours.get(attributes["name"], attributes["name"])] = (number, at, size)
        at += size
    return {name: place for name, place in found.items() if name in (*REGISTERS, *MORE)}
