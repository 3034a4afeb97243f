"""The CPU that the tests run on as an oracle, at CPL 3, in a process of its own that may die."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import lift_records
from lift_records import build, read, size_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lift_concrete import State

    from verifier.asm.program import Instruction

SOURCE = Path(__file__).with_name("lift_native.s")
#: Where the runner maps the file of records: away from code, arena and its own text.
_PLACES = {"FILE": 0x3800_0000, "WHOLE_FILE": 0x4000_0000}
#: What a process cannot see, or (RF) is not as the instruction left it.
_UNSEEN = frozenset(("kernel_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "dr6", "rf"))
_AT_HWCAP2, _HWCAP2_FSGSBASE = 26, 2
_FEATURES = {
    "movbe": "movbe", "tzcnt": "bmi1", "lzcnt": "abm", "popcnt": "popcnt", "andn": "bmi1", "blsr": "bmi1",
    "blsi": "bmi1", "blsmsk": "bmi1", "shlx": "bmi2", "shrx": "bmi2", "sarx": "bmi2", "rorx": "bmi2",
    "bextr": "bmi1", "bzhi": "bmi2", "mulx": "bmi2", "rdrand": "rdrand", "rdseed": "rdseed", "rdpid": "rdpid",
    "rdtscp": "rdtscp", "clflushopt": "clflushopt", "clwb": "clwb",
}  # fmt: skip

available = sys.platform == "linux" and platform.machine() == "x86_64"


@cache
def _cpu_features() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


@cache
def has_fsgsbase() -> bool:
    """Whether the kernel lets CPL 3 write the bases of FS and GS."""
    return bool(ctypes.CDLL(None).getauxval(_AT_HWCAP2) & _HWCAP2_FSGSBASE)


def has(mnemonic: str) -> bool:
    """Whether this CPU has the instruction; of one that is no x86-64 nothing is known."""
    if not available:
        return True
    if mnemonic in ("rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase"):
        return has_fsgsbase()
    feature = _FEATURES.get(mnemonic)
    return feature is None or feature in _cpu_features()


class Native:
    """Runs batches of states. ``folder`` is for the runner's program."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "native"
        build(SOURCE, self._program, _PLACES, "-z", "noexecstack", "-static")

    def run(self, batch: Sequence[tuple[Instruction, State]]) -> list[State]:
        """What this CPU makes of each state; raises if the runner dies."""
        length = size_of(len(batch))
        descriptor = os.memfd_create("records")
        try:
            os.ftruncate(descriptor, length)
            with mmap.mmap(descriptor, length) as file:
                lift_records.begin(file, len(batch), length, int(has_fsgsbase()))
                for number, (instruction, before) in enumerate(batch):
                    write(file, number, instruction, before)
                subprocess.run([self._program], stdin=descriptor, check=True)
                return [read(file, number, before, _UNSEEN) for number, (_, before) in enumerate(batch)]
        finally:
            os.close(descriptor)
