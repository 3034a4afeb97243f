"""Every small change to the programs that are proved: an instruction dropped, doubled or put after the next one; a
condition, an offset, a number, a register or a label changed."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.spec import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verifier.asm.program import Instruction, Program

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program and the specifications that judge its mutants, in this order: quick ones that kill many come first.

    ``routines``: searches with them are worth a try, since they end sooner.
    """

    sources: tuple[str, ...]
    specs: tuple[str, ...]
    routines: bool = False


#: Of what several of them share, the first one's specifications judge the mutants.
SUBJECTS = (
    Subject(("nested_nmi_repaired.s", "handlers.s"), ("nested_nmi_repaired", "nested_nmi_repaired_irqs_on")),
    Subject(("nested_nmi_variants.S", "handlers.s"), ("nested_nmi_repair_3_gp_window",)),
    Subject(
        ("nmi_on_stack.S",),
        (
            "nmi_on_stack_irq", "nmi_on_stack", "nmi_on_stack_faults", "nmi_on_stack_contexts", "nmi_on_stack_bad_ss",
            "nmi_on_stack_late_faults",
        ),
        routines=True,
    ),
    Subject(("nmi_on_stack.S",), ("nmi_on_stack_cr3",)),
    Subject(("nmi_on_stack.S",), ("nmi_on_stack_gs_by_sign_low",)),
)  # fmt: skip

_CONDITIONS = {
    "jne": ("je",), "je": ("jne",), "jnz": ("jz",), "jz": ("jnz",), "jc": ("jnc",), "js": ("jns",),
    "jb": ("jae", "jbe"), "ja": ("jbe", "jae"),
}  # fmt: skip
_REGISTERS = {
    "rax": "rdx", "rdx": "rax", "rcx": "rsi", "rsi": "rdi", "rdi": "rcx", "rsp": "rbp",
    "r8": "r9", "r9": "r10", "r10": "r11", "r11": "r8", "rbx": "r12", "r12": "r13", "r13": "r14", "r14": "rbx",
    "eax": "edx", "edx": "eax", "ebx": "ecx", "ecx": "ebx", "r13d": "r14d", "cr2": "cr3", "cr3": "cr2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to a source: ``changes`` are its lines by number, anew. ``inner``: which line of the macro that
    ``line`` invokes; 0: none."""

    subject: Subject
    source: str
    line: int
    inner: int
    before: str
    after: str
    changes: tuple[tuple[int, str], ...]

    @property
    def name(self) -> str:
        where = f"{self.line}/{self.inner}" if self.inner else f"{self.line}"
        where = where if self.source == SUBJECTS[0].sources[0] else f"{self.source}:{where}"
        return f"{where}: {self.before} -> {self.after or 'nothing'}"

    def texts(self) -> dict[str, str]:
        """Every source by name, this one changed."""
        texts = {name: (ROOT / "asm" / name).read_text() for name in self.subject.sources}
        lines = texts[self.source].split("\n")
        for number, text in self.changes:
            lines[number - 1] = text
        return texts | {self.source: "\n".join(lines)}


@dataclass(frozen=True, slots=True)
class _Place:
    """An instruction as written: in ``line``, or line ``inner`` of the macro that it invokes. ``labelled``: control can
    come to it from elsewhere."""

    line: int
    inner: int
    code: str
    head: str
    tail: str
    labelled: bool


def mutants() -> Iterator[Mutant]:
    seen: set[tuple[str, int, int]] = set()
    for subject in SUBJECTS:
        program = load(ROOT / "specs" / f"{subject.specs[0]}.yaml").machine.program
        for source in subject.sources:
            places = _places(program, source)
            new = {p for p in places if (source, p.line, p.inner) not in seen}
            yield from _single(subject, source, places, new, _labels(program, source))
            yield from _swapped(subject, source, places, new)
            seen.update((source, p.line, p.inner) for p in new)


def _of(program: Program, source: str) -> list[Instruction]:
    return [i for i in program if Path(i.span.file).name == source]


def _labels(program: Program, source: str) -> list[str]:
    """One label for each address of the source's text that has any, in order."""
    return list(filter(None, (program.label_at(i.address) for i in _of(program, source))))


def _places(program: Program, source: str) -> list[_Place]:
    """What is assembled of a source, in order; a hole is two instructions in one place."""
    places: dict[tuple[int, int], _Place] = {}
    for i in _of(program, source):
        span, origin = i.span, i.span.origin
        head, tail = span.text[: span.column - 1], span.text[span.end - 1 :].rstrip("\n")
        labelled = bool(head.strip()) or program.label_at(i.address) is not None
        line, inner = (origin.line, span.line) if origin else (span.line, 0)
        places.setdefault((line, inner), _Place(line, inner, i.text, head, tail, labelled))
    return list(places.values())


def _single(
    subject: Subject, source: str, places: Sequence[_Place], new: set[_Place], labels: Sequence[str]
) -> Iterator[Mutant]:
    for place in places:
        if place in new and place.code != "...":
            for after in dict.fromkeys(_changed(place.code, labels)):
                if after != place.code:
                    changes = _rewritten(places, {place: after})
                    yield Mutant(subject, source, place.line, place.inner, place.code, after, changes)


def _swapped(subject: Subject, source: str, places: Sequence[_Place], new: set[_Place]) -> Iterator[Mutant]:
    for one, two in pairwise(places):
        if one.code != two.code and not two.labelled and (one in new or two in new):
            before, after = f"{one.code}; {two.code}", f"{two.code}; {one.code}"
            changes = _rewritten(places, {one: two.code, two: one.code})
            yield Mutant(subject, source, one.line, one.inner, before, after, changes)


def _rewritten(places: Sequence[_Place], codes: Mapping[_Place, str]) -> tuple[tuple[int, str], ...]:
    """The lines of these places with other code; in place of a macro, all that it expands to."""
    lines: dict[int, list[str]] = defaultdict(list)
    for place in places:
        lines[place.line].append(place.head + codes.get(place, place.code).replace("; ", "\n") + place.tail)
    return tuple((line, "\n".join(lines[line])) for line in dict.fromkeys(p.line for p in codes))


def _changed(code: str, labels: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"{code}; {code}"
    mnemonic, _, operands = code.partition(" ")
    for other in (*_CONDITIONS.get(mnemonic, ()), "jmp" * (mnemonic in _CONDITIONS)):
        yield f"{other} {operands}" if other else code
    for start, end, other in _operand_changes(operands, labels):
        yield f"{mnemonic} {operands[:start]}{other}{operands[end:]}"


def _operand_changes(operands: str, labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """What to put in place of which characters."""
    for match in re.finditer(r"[A-Za-z_]\w*", operands):
        if match[0] in labels:
            at = labels.index(match[0])
            for other in (labels[at - 1], labels[(at + 1) % len(labels)]):
                yield *match.span(), other
    for match in re.finditer(r"(?<![\w$+-])([-+\w]*)(?=\(%(?!rip))|(?<=%gs:)\w+", operands):
        for more in (8, -8):
            yield *match.span(), _plus(match[0], more)
    for match in re.finditer(r"(?<=\$)[~\w]+", operands):
        if match[0] not in labels:
            for more in (1, 8):
                yield *match.span(), _plus(match[0], more)
    for match in re.finditer(r"(?<=%)\w+", operands):
        if match[0] in _REGISTERS:
            yield *match.span(), _REGISTERS[match[0]]


def _plus(number: str, more: int) -> str:
    try:
        return str(int(number or "0", 0) + more)
    except ValueError:
        return f"{number}{more:+}"
