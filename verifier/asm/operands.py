"""Operands in AT&T syntax: registers, ``$`` immediates, ``segment:disp(base,index,scale)``, ``*``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.encode import Raw, RawImm, RawMem, RawReg, RawTarget
from verifier.asm.expression import Const, Node, Scope, parse
from verifier.asm.lines import Line

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGISTER = re.compile(r"%\s*(st\s*\(\s*\d\s*\)|\w+)", re.ASCII | re.IGNORECASE)
_SEGMENT = re.compile(r"%\s*(\w+)\s*:\s*", re.ASCII)
_BRANCH = re.compile(r"j\w+|call[wq]?|loop\w*|xbegin[wlq]?")
_SCALES = (1, 2, 4, 8)
_MOST_OPERANDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """An operand as the encoder sees it, the expression of its value (if it has one), and its text.

    ``from_next``: a plain number before ``(%rip)``, which counts from the next instruction.
    """

    raw: Raw
    node: Node | None
    line: Line
    from_next: bool = False


def split(line: Line, separator: str = ",") -> Iterator[Line]:
    """The parts between separators that stand outside parentheses and strings, trimmed."""
    if not line.text.strip():
        return
    start = nesting = 0
    quoted = escaped = False
    for at, char in enumerate(line.text):
        if quoted:
            quoted = char != '"' or escaped
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "()":
            nesting += 1 if char == "(" else -1
        elif char == separator and nesting <= 0:
            yield line[start:at].strip()
            start = at + 1
    yield line[start:].strip()


def read_operands(line: Line, mnemonic: str, scope: Scope) -> tuple[tuple[Written, ...], bool]:
    """The operands of an instruction, and whether one is marked ``*``."""
    if (at := line.text.find("=")) >= 0:
        hint = "GNU as takes no '=' there, not even in a comparison: give the value a name with .set"
        raise line.error("'=' in an operand of an instruction", hint, at, at + 1)
    parts = list(split(line))
    if len(parts) > _MOST_OPERANDS:
        raise line.error("too many operands")
    indirect = False
    operands = []
    for part in parts:
        if not part.text:
            raise line.error("an operand is missing beside a comma")
        star = part.text.startswith("*")
        indirect |= star
        operands.append(_operand(part[1:].strip() if star else part, mnemonic, star, scope))
    return tuple(operands), indirect


def _operand(part: Line, mnemonic: str, star: bool, scope: Scope) -> Written:
    text = part.text
    if not text:
        raise part.error("an operand is missing after '*'")
    if text.startswith("$"):
        if not text[1:].strip():
            raise part.error("an immediate needs a value after '$'")
        node = parse(part[1:], scope)
        return Written(RawImm(scope.constant(node)), node, part)
    if match := _REGISTER.fullmatch(text):
        return Written(RawReg(_name(match)), None, part)
    if _BRANCH.fullmatch(mnemonic) and not star and not text.startswith("%") and not text.endswith(")"):
        return Written(RawTarget(), parse(part, scope, branch=True), part)
    memory = _memory(part, scope)
    if _BRANCH.fullmatch(mnemonic) and not star:
        if isinstance(memory.raw, RawMem) and not (memory.raw.base or memory.raw.index or memory.raw.segment):
            return Written(RawTarget(), memory.node, part)
        raise part.error("an indirect branch is marked with '*'", f"write *{text}")
    return memory


def _name(match: re.Match[str]) -> str:
    return "".join(match.group(1).lower().split())


def _memory(part: Line, scope: Scope) -> Written:
    rest, segment = part, None
    if match := _SEGMENT.match(rest.text):
        segment = _name(match)
        rest = rest[match.end() :]
    base = index = None
    scale = 1
    group = _group_start(rest.text)
    if group is not None:
        base, index, scale = _registers(rest[group + 1 : len(rest) - 1], scope)
        rest = rest[:group]
    rest = rest.strip()
    if not rest.text and group is None:
        raise part.error("a memory operand needs an address")
    node = parse(rest, scope) if rest.text else None
    constant = 0 if node is None else scope.constant(node)
    raw = RawMem(segment, base, index, scale, constant, node is not None)
    from_next = base in ("rip", "eip") and constant is not None
    return Written(raw, Const(0) if node is None else node, part, from_next)


def _group_start(text: str) -> int | None:
    """Where the final ``(base,index,scale)`` begins; None if the text ends otherwise."""
    if not text.endswith(")"):
        return None
    nesting = 0
    for at in range(len(text) - 1, -1, -1):
        nesting += {")": 1, "(": -1}.get(text[at], 0)
        if nesting == 0:
            inner = text[at + 1 : -1].lstrip()
            return at if inner.startswith(("%", ",")) else None
    return None


def _registers(group: Line, scope: Scope) -> tuple[str | None, str | None, int]:
    parts = list(split(group))
    if len(parts) > 3:
        raise group.error("an address has a base, an index and a scale, no more")
    if len(parts) > 1 and not parts[1].text:
        raise group.error("the index register after the comma is missing")
    names = [_address_register(part) for part in parts[:2]]
    scale = 1
    if len(parts) == 3 and parts[2].text:
        value = scope.constant(parse(parts[2], scope))
        if value not in _SCALES:
            raise parts[2].error("the scale must be 1, 2, 4 or 8")
        scale = value
    base, index = [*names, None][:2]
    return base, index, scale


def _address_register(part: Line) -> str | None:
    if not part.text:
        return None
    match = _REGISTER.fullmatch(part.text)
    if match is None:
        raise part.error(f"'{part.text[:40]}' is no register", "write a register with '%'")
    return _name(match)
