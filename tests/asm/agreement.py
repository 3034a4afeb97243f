"""One text under two assemblers: whether both take it, and whether they then say the same of every byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from decoder import differences
from gnu_reference import Linked, Refused, link

from verifier.asm import Program, assemble_text
from verifier.errors import AsmError

if TYPE_CHECKING:
    from pathlib import Path

AGREED, BOTH_REFUSE, STRICTER, DIFFERENT = "agreed", "both refuse", "stricter", "different"
#: GNU as itself broke down (a division of the smallest number by -1, say), or there is hidden code.
NO_OPINION = "no opinion"


@dataclass(frozen=True)
class Verdict:
    """``kind`` is one of those above; ``reason``: what we, or GNU as, said, or what differs."""

    kind: str
    reason: str = ""


def judge(text: str, folder: Path, suffix: str = ".s") -> Verdict:
    """`STRICTER` where only we refuse the text; `DIFFERENT` for whatever must not be."""
    program, message = None, ""
    try:
        program = assemble_text(text, f"a{suffix}", root=folder)
    except AsmError as error:
        message = error.message
        if error.span is None:
            return Verdict(DIFFERENT, f"a message without a place: {message}")
    if program and any(instruction.hole for instruction in program):
        return Verdict(NO_OPINION)
    try:
        linked = link(text, program, folder, suffix=suffix)
    except Refused as refused:
        if "Internal error" in str(refused):
            return Verdict(NO_OPINION)
        if program is None:
            return Verdict(BOTH_REFUSE, message)
        return Verdict(DIFFERENT, f"only GNU refuses: {refused}")
    if program is None:
        return Verdict(STRICTER, message)
    found = difference(program, linked)
    return Verdict(DIFFERENT, found) if found else Verdict(AGREED)


def difference(program: Program, linked: Linked) -> str:
    """The first thing of which the program and the linked image, or a decoder, tell different things; or ""."""
    for section in program.sections:
        if section.data != linked.contents.get(section.name):
            return f"{section.name}: {section.data.hex(' ')} != {linked.contents.get(section.name, b'').hex(' ')}"
    for name, value in linked.symbols.items():
        if program.address_of(name) != value:
            return f"{name}: {program.address_of(name)} != {value:#x}"
    for instruction in program:
        section = next(s for s in program.sections if s.address <= instruction.address < s.end)
        at = instruction.address - section.address
        code = linked.contents[section.name][at : at + instruction.length]
        found = differences(instruction, instruction.operands, code, instruction.address)
        if found:
            return f"{instruction.text}: {found}"
    return ""
