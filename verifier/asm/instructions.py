"""Instruction statements and holes to items of the current section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from verifier.asm.encode import EncodeError, match
from verifier.asm.operands import read_operands
from verifier.asm.program import Diagnostic
from verifier.asm.sections import Code, Hole
from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.encode import Form
    from verifier.asm.lines import Line
    from verifier.asm.operands import Written
    from verifier.asm.scrub import Statement
    from verifier.asm.state import Assembly
    from verifier.source import Span

_WORD = re.compile(r"[A-Za-z][\w.]*", re.ASCII)
PREFIXES = frozenset(
    ("lock", "rep", "repe", "repz", "repne", "repnz", "notrack", "bnd", "xacquire", "xrelease", "data16",
     "addr32", "rex64", "rex.w", "cs", "ds", "es", "fs", "gs", "ss")
)  # fmt: skip
#: Mnemonics that GNU as reads as 32-bit returns although the code around is 64-bit.
_NARROW_RETURNS = {"iret": "iretq", "lret": "lretq", "sysret": "sysretq"}
#: Repeats and macros write the same instruction again and again.
_match = lru_cache(maxsize=4096)(match)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """Prefixes that stood as a statement of their own (``rep; nop``): they belong to the next instruction."""

    words: tuple[str, ...]
    statement: Statement


def instruct(assembly: Assembly, statement: Statement, line: Line, pending: Pending | None) -> Pending | None:
    """Adds an instruction (``line``: the statement without labels); returns prefixes that wait for one."""
    prefixes, rest = split_prefixes(line)
    if pending:
        prefixes = pending.words + prefixes
    if not rest.text:
        return Pending(prefixes, pending.statement if pending else statement)
    word = _WORD.match(rest.text)
    if word is None or rest.text[word.end() : word.end() + 1].strip():
        hint = None if rest.text.isascii() else "letters beyond ASCII are not supported in names"
        if rest.text.startswith("{"):
            hint = "prefixes in braces, which choose between encodings, are not supported"
        raise rest.error(f"'{rest.text[:40]}' is neither an instruction nor a directive", hint)
    if not assembly.current.executable:
        hint = 'write .section NAME,"ax" for a section with code'
        raise rest.error(f"an instruction in section {assembly.current.name}, which is not executable", hint)
    mnemonic = word.group().lower()
    arguments = rest[word.end() :].strip()
    operands, indirect = read_operands(arguments, mnemonic, assembly)
    try:
        form = _match(mnemonic, tuple(o.raw for o in operands), indirect=indirect, prefixes=prefixes)
    except EncodeError as error:
        raise placed(error, rest.span(0, word.end()), operands) from error
    _tell(assembly, statement, mnemonic, form)
    text = f"{pending.statement.text}; {statement.text}" if pending else statement.text
    span = pending.statement.span if pending else line.span()
    assembly.budget.instruction(span)
    text = _without_labels(text)
    code = Code(span, form.sizes[0], form=form, operands=operands, indirect=indirect, text=text)
    assembly.emit(code, variable=len(form.sizes) > 1)
    return None


def placed(error: EncodeError, mnemonic: Span, operands: tuple[Written, ...]) -> AsmError:
    """The encoder's error with the place of the operand it speaks of, or of the mnemonic."""
    index = error.operand_index
    if index is not None and index < len(operands):
        return operands[index].line.error(error.message, error.hint)
    return AsmError(error.message, mnemonic, error.hint)


def split_prefixes(line: Line) -> tuple[tuple[str, ...], Line]:
    """The prefixes that an instruction statement begins with, and what comes after them."""
    words: list[str] = []
    while (match_ := _WORD.match(line.text)) and match_.group().lower() in PREFIXES:
        words.append(match_.group().lower())
        line = line[match_.end() :].strip()
    return tuple(words), line


def _without_labels(text: str) -> str:
    return re.sub(r"^(?:[\w.$]+\s*:\s*)+", "", text)


def _tell(assembly: Assembly, statement: Statement, mnemonic: str, form: Form) -> None:
    if mnemonic in _NARROW_RETURNS and form.width == 32:
        wanted = _NARROW_RETURNS[mnemonic]
        assembly.diagnostics.append(
            Diagnostic(
                f"'{mnemonic}' assembles as a 32-bit return ({mnemonic}l)",
                statement.span,
                f"write {wanted}, or define {mnemonic} to {wanted} in the specification",
            )
        )
    elif form.warning:
        assembly.diagnostics.append(Diagnostic(form.warning, statement.span))


def hole(assembly: Assembly, statement: Statement) -> None:
    """A ``...``: code that is not shown. Several in a row are one."""
    section = assembly.current
    if section.hole_open:
        return
    span = statement.span
    if section.label is None:
        raise AsmError("'...' has no label before it", span, "a hole goes by the name of the label before it")
    if not section.executable:
        raise AsmError(f"'...' in section {section.name}, which is not executable", span)
    first = assembly.hole_names.setdefault(section.label, span)
    if first is not span:
        hint = f"the first is at {first.where}; write a label before the second"
        raise AsmError(f"a second hole under the label '{section.label}'", span, hint)
    for kind in ("hole_enter", "hole_body"):
        assembly.budget.instruction(span)
        assembly.emit(Hole(span, 1, kind=kind, name=section.label))
    section.hole_open = True
