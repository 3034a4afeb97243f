"""Every small change to the repaired sketch: an instruction dropped or doubled, a condition, number, register or label
changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "asm" / "nested_nmi_repaired.s"

_CONDITION = {"jne": "je", "je": "jne", "jb": "jae", "jc": "jnc"}
_REGISTER = {"%rax": "%rdx", "%rdx": "%rax"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """``line`` of the text is replaced by ``after`` (nothing: dropped)."""

    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.line}: {self.before} -> {self.after or 'nothing'}"

    def text(self) -> str:
        lines = SOURCE.read_text().split("\n")
        lines[self.line - 1] = self.after.replace("; ", "\n")
        return "\n".join(lines)


def mutants() -> Iterator[Mutant]:
    lines = SOURCE.read_text().split("\n")
    labels = [m[1] for line in lines if (m := re.match(r"(\w+):", line)) and not m[1].isdigit()]
    for number, line in enumerate(lines, 1):
        code = line.split("#")[0].strip()
        label, _, rest = code.rpartition(":\t")
        head = f"{label}:\t" if label else ""
        if not rest or rest.endswith(":") or (rest.startswith(".") and rest != "..."):
            continue
        for after in dict.fromkeys(_changed(rest, labels)):
            if after != rest:
                yield Mutant(number, code, head + after if after else head)


def _changed(code: str, labels: list[str]) -> Iterator[str]:
    if code == "...":
        return
    yield ""
    yield f"{code}; {code}"
    mnemonic, _, operands = code.partition(" ")
    if mnemonic in _CONDITION:
        yield f"{_CONDITION[mnemonic]} {operands}"
    if mnemonic[0] == "j" and operands in labels:
        at = labels.index(operands)
        yield f"{mnemonic} {labels[at - 1]}"
        yield f"{mnemonic} {labels[(at + 1) % len(labels)]}"
    for match in re.finditer(r"(?<![\w$])(\d*)\((%\w+)\)", operands):
        start, end = match.span()
        offset = int(match[1] or 0)
        for other in (offset + 8, offset - 8):
            yield f"{mnemonic} {operands[:start]}{other}({match[2]}){operands[end:]}"
    for match in re.finditer(r"\$(0x)?[0-9a-f]+\b", operands):
        value = int(match[0][1:], 0)
        for other in (value + 1, value + 8):
            yield f"{mnemonic} {operands[: match.start()]}${other}{operands[match.end() :]}"
    for match in re.finditer(r"%(rax|rdx)", operands):
        yield f"{mnemonic} {operands[: match.start()]}{_REGISTER[match[0]]}{operands[match.end() :]}"
