"""Objects and listings made by GNU binutils, and what two programs tell differently."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.asm.program import Target
from verifier.errors import LiftError
from verifier.ir import render_block
from verifier.lift import lift
from verifier.object import link, read_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.asm.program import Instruction, Program

#: Two bytes, as many as a hole has: of no other instruction under study.
PLACEHOLDER = ".byte 0x66, 0x90"

#: A kernel's executable: text, data, and per-CPU data from an address on; a mark of the last section lies elsewhere.
SCRIPT = """
SECTIONS {{
  . = 0xffffffff81000000;
  .text : {{ *(.text) }}
  . = 0xffffffff82000000;
  .data : {{ *(.data) }}
  .data..percpu {percpu} : {{ *(.data..percpu) stray = . + (1 << 62); stray_end = stray + 16; }}
}}
"""
#: Their operands can be written either way round, for one and the same encoding.
EITHER_WAY = ("xchg", "test")


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assembled(text: str, folder: Path, name: str = "a", options: Iterable[str] = ()) -> Path:
    """An object of the text; its path."""
    (folder / f"{name}.s").write_text(text)
    run("as", "--64", *options, "-o", f"{name}.o", f"{name}.s", folder=folder)
    return folder / f"{name}.o"


def linked(path: Path, percpu: str) -> Path:
    """An executable of one object, with per-CPU data from an address on."""
    folder = path.parent
    (folder / "x.lds").write_text(SCRIPT.format(percpu=percpu))
    run("ld", "-e", "0", "-T", "x.lds", "-o", "x", path.name, folder=folder)
    return folder / "x"


def listed(path: Path) -> Path:
    """What objdump prints of an object."""
    listing = path.with_suffix(".lst")
    listing.write_text(run("objdump", "-dr", path.name, folder=path.parent))
    return listing


def read(*paths: Path, **options: object) -> Program:
    """The program that `verifier.object` makes of files in one folder."""
    given = {"text_base": None, "externals": {}} | options
    return link(read_objects(paths, paths[0].parent), **given)  # type: ignore[arg-type]


def with_placeholders(text: str, holes: Mapping[str, str] | None = None) -> str:
    """The text with `PLACEHOLDER` for each hole, or with what ``holes`` has for the label before it."""
    lines: list[str] = []
    label, is_open = "", False
    for line in text.split("\n"):
        bare = re.sub(r"#.*|/\*.*?\*/", "", line).strip()
        if bare == "...":
            lines += [] if is_open else [(holes or {}).get(label, PLACEHOLDER)]
            is_open = True
            continue
        if bare:
            is_open = False
        if match := re.match(r"([A-Za-z_.$][\w.$]*):", bare):
            label = match[1]
        lines.append(line)
    return "\n".join(lines)


def difference(one: Instruction, other: Instruction) -> str:
    """What two programs tell differently of an address, the SSA of its instruction included; or ""."""
    for name in ("address", "encoding", "mnemonic", "width", "condition", "prefixes", "indirect"):
        if getattr(one, name) != getattr(other, name):
            return f"{one.text} / {other.text}: {name}"
    operands = [tuple(replace(o, text="") if isinstance(o, Target) else o for o in i.operands) for i in (one, other)]
    if one.mnemonic in EITHER_WAY and operands[0] == operands[1][::-1]:
        one, operands[0] = replace(one, operands=one.operands[::-1]), operands[1]
    if operands[0] != operands[1]:
        return f"{one.text} / {other.text}: {operands[0]} {operands[1]}"
    return "" if _ssa(one) == _ssa(other) else f"{one.text} / {other.text}: the SSA"


def _ssa(instruction: Instruction) -> str:
    try:
        return render_block(lift(instruction))
    except LiftError as error:
        return error.message
