"""GNU as and ld as the other opinion: bytes of every section and addresses of every symbol."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.asm import Program


def accepts(text: str, folder: Path) -> bool:
    """Whether GNU as assembles the text."""
    return _as(text, folder).returncode == 0


def link(
    text: str, program: Program, folder: Path, externals: Mapping[str, int] | None = None
) -> tuple[dict[str, bytes], dict[str, int]]:
    """The sections' bytes and the symbols' values when GNU ld places the sections as ``program`` does."""
    done = _as(text, folder)
    assert done.returncode == 0, done.stderr
    places = "".join(
        f'"{s.name}" {s.address:#x} : SUBALIGN(1) {{ KEEP(*("{s.name}")) }}\n' for s in program.sections
    )
    script = folder / "script.ld"
    script.write_text(f"SECTIONS {{\n{places}/DISCARD/ : {{ *(.text .data .bss .note*) }}\n}}\n")
    defined = [f"--defsym={name}={value:#x}" for name, value in (externals or {}).items()]
    options = ["-T", str(script), "-e", "0", "--no-warn-rwx-segments", *defined]
    _run(["ld", *options, "-o", "linked", "a.o"], folder)
    contents = {}
    for section in program.sections:
        flags = f"--set-section-flags={section.name}=alloc,load,contents"
        copied = folder / "section.bin"
        copied.unlink(missing_ok=True)
        _run(
            ["objcopy", "-O", "binary", "-j", section.name, flags, "linked", "section.bin"],
            folder,
        )
        contents[section.name] = copied.read_bytes()
    listing = _run(["nm", "linked"], folder).splitlines()
    symbols = {parts[2]: int(parts[0], 16) for parts in map(str.split, listing) if len(parts) == 3}
    return contents, symbols


def _as(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "a.s").write_text(text)
    command = ["as", "--64", "-o", "a.o", "a.s"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
