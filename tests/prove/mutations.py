"""Every small change to the repaired sketch and its handlers: an instruction dropped, doubled or put after the next
one; a condition, number, register or label changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = ("nested_nmi_repaired.s", "handlers.s")

_CONDITION = {"jne": "je", "je": "jne", "jb": "jae", "jc": "jnc"}
_REGISTER = {"%rax": "%rdx", "%rdx": "%rax"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """``line`` of a source is replaced by ``after`` (nothing: dropped); ``last``: the last line that is replaced."""

    source: str
    line: int
    before: str
    after: str
    last: int

    @property
    def name(self) -> str:
        where = f"{self.line}" if self.source == SOURCES[0] else f"{self.source}:{self.line}"
        return f"{where}: {self.before} -> {self.after or 'nothing'}"

    def texts(self) -> dict[str, str]:
        """Every source by name, this one changed."""
        texts = {name: _lines(name) for name in SOURCES}
        texts[self.source][self.line - 1 : self.last] = [self.after.replace("; ", "\n")]
        return {name: "\n".join(lines) for name, lines in texts.items()}


def _lines(source: str) -> list[str]:
    return (ROOT / "asm" / source).read_text().split("\n")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    label: str
    code: str


def mutants() -> Iterator[Mutant]:
    for source in SOURCES:
        code = list(_code(_lines(source)))
        labels = [line.label for line in code if line.label and not line.label.isdigit()]
        for line in code:
            if not line.code:
                continue
            head = f"{line.label}:\t" if line.label else ""
            for after in dict.fromkeys(_changed(line.code, labels)):
                if after != line.code:
                    yield Mutant(source, line.number, head + line.code, head + after if after else head, line.number)
        for one, two in pairwise(code):
            if one.code and two.code and one.code != two.code and not two.label:
                head = f"{one.label}:\t" if one.label else ""
                before, after = f"{one.code}; {two.code}", f"{two.code}; {one.code}"
                yield Mutant(source, one.number, head + before, head + after, two.number)


def _code(lines: list[str]) -> Iterator[_Line]:
    """The labels and instructions of a text; a label that stands alone has no code."""
    for number, text in enumerate(lines, 1):
        code = text.split("#")[0].strip()
        label, _, rest = code.rpartition(":\t")
        if code.endswith(":"):
            yield _Line(number, code[:-1], "")
        elif rest and (not rest.startswith(".") or rest == "..."):
            yield _Line(number, label, rest)


def _changed(code: str, labels: list[str]) -> Iterator[str]:
    if code == "...":
        return
    yield ""
    yield f"{code}; {code}"
    mnemonic, _, operands = code.partition(" ")
    if mnemonic in _CONDITION:
        yield f"{_CONDITION[mnemonic]} {operands}"
        yield f"jmp {operands}"
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
