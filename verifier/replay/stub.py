"""The monitor's text (``boot.S``), assembled and linked by GNU binutils once per place."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from verifier.errors import InternalError
from verifier.replay.machine import MissingTool

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the image stands in physical memory.
LOAD = 0x10_0000
#: Where the local APIC stands in the window, in place of the last 2 MB of its first GB.
APIC = 0x3FE0_0000
_SOURCE = Path(__file__).with_name("boot.S")


@dataclass(frozen=True, slots=True)
class Stub:
    """Machine code for physical address `LOAD`, and its global symbols by virtual address."""

    text: bytes
    symbols: Mapping[str, int]


def tool(name: str, package: str) -> str:
    """The path of a program. MissingTool names the Debian package that has it."""
    found = shutil.which(name)
    if found is None:
        raise MissingTool(f"{name} is not installed, and replaying needs it", None, f"install the package {package}")
    return found


@lru_cache(maxsize=8)
def assemble_stub(window: int) -> Stub:
    """The monitor for physical memory that stands at ``window``."""
    with TemporaryDirectory(prefix="verifier-") as folder:
        path = Path(folder)
        _run(tool("as", "binutils"), "--64", f"--defsym=WINDOW={window:#x}", f"--defsym=LOAD={LOAD:#x}",
             "-o", path / "boot.o", _SOURCE)  # fmt: skip
        _run(tool("ld", "binutils"), f"--defsym=APIC={window + APIC:#x}", "-Ttext", f"{window + LOAD:#x}",
             "-e", "start", "-o", path / "boot", path / "boot.o")  # fmt: skip
        _run(tool("objcopy", "binutils"), "-O", "binary", "-j", ".text", path / "boot", path / "boot.bin")
        listing = _run(tool("nm", "binutils"), path / "boot")
        text = (path / "boot.bin").read_bytes()
    rows = [line.split() for line in listing.splitlines()]
    return Stub(text, {name: int(value, 16) for value, kind, name in rows if kind == "T"})


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InternalError(f"{command[0]} cannot make the monitor: {done.stderr.strip()}")
    return done.stdout
