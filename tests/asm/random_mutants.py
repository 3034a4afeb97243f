"""Texts with a random mistake: of a character, a word, or a line of a text that is right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from encode_forms import FILES, IMMEDIATES, REGISTERS
from random_parts import BINARY, NUMBERS, SMALL, instructions

from verifier.asm.directives import DIRECTIVES

if TYPE_CHECKING:
    from random import Random

_TOKEN = re.compile(r"\s+|[\w.$@]+|[%\\\\][\w.]+|.", re.DOTALL)
_WORDS = (
    *(name for names in REGISTERS.values() for name in names), *(name for names in FILES.values() for name in names),
    *(f"${value}" for values in IMMEDIATES.values() for value in values), *BINARY, *NUMBERS, *SMALL, *DIRECTIVES,
    ".macro", ".endm", ".rept", ".irp", ".irpc", ".endr", ".exitm", ".purgem", ".if", ".else", ".elseif", ".endif",
    ".ifdef", ".ifndef", ".ifc", ".ifb", ".include", ".altmacro", ".subsection", ".octa", ".uleb128", ".end",
    "(", ")", ",", "$", "%", "*", "#", '"', "'", ";", ":", "@", "\\", "/", "//", "/*", "*/", "[", "]", "{", "}", "=",
    "?", "`", "~", "!", "st", "%st", "%st(1)", "%xmm0", "%ymm1", "%foo", "%rip", "%eip", "%ss", "lock", "rep", "repne",
    "data16", "addr32", "rex.w", "cs", "gs", "nobody", "L0", "start", "1f", "1b", "9b", ".", "...", "é", "\t", "0x",
    "a.b", "$x", "_y", "@PLT", "L0@GOTPCREL(%rip)", "(%rax)", "8(%rsp)", "%gs:0", "(,%rax,8)", "*%rax", "*(%rax)",
    '"a"', '"', "'a'", "\\x", "\\@", "\\()", "1.5", "1e5", "0f1", "2 3", "08", "$", "-", "+", "ret", "nop",
    "b", "w", "q", "0b",
)  # fmt: skip


def mutant(random: Random, text: str) -> str:
    """The text after one mistake, seldom two."""
    for _ in range(random.choice((1, 1, 1, 2))):
        text = random.choice((_of_a_word, _of_a_word, _of_a_word, _of_a_line, _of_a_character))(random, text)
    return text


def _of_a_word(random: Random, text: str) -> str:
    tokens = _TOKEN.findall(text)
    at = random.randrange(len(tokens))
    tokens[at : at + 1] = random.choice((
        [], [], [tokens[at], tokens[at]], [random.choice(_WORDS)], [random.choice(_WORDS)],
        [tokens[at], random.choice(_WORDS)], [random.choice(_WORDS), tokens[at]],
        [random.choice(tokens)], [tokens[at], " ", random.choice(_WORDS)],
    ))  # fmt: skip
    return "".join(tokens)


def _of_a_line(random: Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    change = random.choice(("drop", "double", "swap", "cut", "move"))
    if change == "drop":
        del lines[at]
    elif change == "double":
        lines.insert(at, lines[at])
    elif change == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif change == "move":
        lines.insert(other, lines.pop(at))
    else:
        lines[at] = lines[at][: random.randrange(len(lines[at]))] + "\n"
    return "".join(lines)


def _of_a_character(random: Random, text: str) -> str:
    at = random.randrange(len(text))
    some = random.choice("".join(_WORDS))
    return text[:at] + random.choice(("", some, text[at] + some, text[at] * 2)) + text[at + 1 :]


def wrong_operands(random: Random) -> str:
    """A mnemonic of ours with the operands of some others."""
    some = instructions()
    name = random.choice(some[random.choice(list(some))]).split(None, 1)[0]
    parts = random.choice(some[random.choice(list(some))]).split(None, 1)
    return f"{name} {parts[1] if len(parts) > 1 else ''}".strip()
