"""QEMU as an oracle for what CPL 3 may not run, and at CPL 0 to 3: a machine with nothing but our records in it."""

from __future__ import annotations

import mmap
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lift_records import begin, build, read, size_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lift_concrete import State

    from verifier.asm.program import Instruction

SOURCE = Path(__file__).with_name("lift_guest.s")
QEMU = "qemu-system-x86_64"
#: Physical addresses: the kernel, and the records above code and arena.
_IMAGE, _SHARED = 0x10_0000, 0x80_0000
_PLACES = {"IMAGE": _IMAGE, "SHARED": _SHARED, "GATES": 0x21}
_LIMIT = 128 << 20
_SWITCHED_OFF = 1
_UNSEEN = frozenset(("rf",))

available = shutil.which(QEMU) is not None


class Qemu:
    """Runs batches of states. ``folder`` is for the kernel and the guest's memory."""

    def __init__(self, folder: Path) -> None:
        self._kernel, self._memory = folder / "guest", folder / "memory"
        build(SOURCE, self._kernel, _PLACES, "--oformat=binary", f"-Ttext={_IMAGE:#x}", "-static")

    def run(self, batch: Sequence[tuple[Instruction, State]]) -> list[State]:
        """What the machine makes of each state. A timer ends each HLT."""
        assert _SHARED + size_of(len(batch)) <= _LIMIT
        with self._memory.open("w+b") as backing:
            backing.truncate(_LIMIT)
            with mmap.mmap(backing.fileno(), _LIMIT) as memory, memoryview(memory)[_SHARED:] as records:
                begin(records, len(batch))
                for number, (instruction, before) in enumerate(batch):
                    write(records, number, instruction, before, instruction.mnemonic == "hlt")
                self._boot()
                return [read(records, number, before, _UNSEEN) for number, (_, before) in enumerate(batch)]

    def _boot(self) -> None:
        backend = f"memory-backend-file,id=ram,share=on,mem-path={self._memory},size={_LIMIT}"
        command = [
            QEMU, "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max", "-m", str(_LIMIT >> 20),
            "-object", backend, "-machine", "q35,memory-backend=ram", "-nodefaults", "-display", "none",
            "-no-reboot", "-device", "isa-debug-exit,iobase=0x501,iosize=1", "-kernel", str(self._kernel),
        ]  # fmt: skip
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=120, check=False)
        if ended.returncode != _SWITCHED_OFF:
            raise RuntimeError(f"QEMU ended with {ended.returncode}: a record reset the machine")
