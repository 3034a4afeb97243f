"""Random pieces of assembly text: expressions, data, strings, instructions, comments, blanks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from encode_forms import all_lines
from encode_lines import assemble, read_line

from verifier.asm.encode import EncodeError

if TYPE_CHECKING:
    from random import Random

BINARY = ("*", "/", "%", "<<", ">>", "|", "&", "^", "!", "+", "-", "==", "<>", "!=", "<", ">", ">=", "<=",
          "&&", "||")  # fmt: skip
UNARY = ("-", "~", "+", "!")
NUMBERS = (
    "0", "1", "2", "3", "7", "8", "0x10", "0X1f", "0b101", "0B11", "017", "00", "127", "128", "255", "256",
    "0x7fff", "65535", "0x7fffffff", "0x80000000", "4294967295", "0x7fffffffffffffff", "0xffffffffffffffff",
    "0x8000000000000000", "'a", "'z'", "'\\n'", "'\\\\", "'#", "' '",
)  # fmt: skip
SMALL = ("0", "1", "2", "3", "4", "0x5", "06", "0b111", "8", "13", "'\\t'")
WIDE = {".byte": 1, ".dc.b": 1, ".word": 2, ".value": 2, ".short": 2, ".hword": 2, ".2byte": 2,
        ".dc.w": 2, ".long": 4, ".int": 4, ".4byte": 4, ".dc.l": 4, ".quad": 8, ".8byte": 8, ".dc.a": 8}  # fmt: skip
ESCAPES = ("\\n", "\\t", "\\r", "\\b", "\\f", "\\\\", '\\"', "\\0", "\\7", "\\12", "\\101", "\\x41", "\\x7",
           "\\XfF", "\\1012", "#", "//", "/*", ";", ",", " ", "'", "%", "$", "(", "*/", "é", "@", ":")  # fmt: skip
COMMENTS = ("# c", "#", "#!x;y", "# 'x \"", "/* c */", "/* ; \" ' */", "/**/", "# \\")
BLANKS = ("", "", "", " ", "\t", "  ")


def expression(random: Random, names: tuple[str, ...], depth: int = 3) -> str:
    """Any operators over numbers and ``names``, with and without parentheses and blanks."""
    roll = random.random()
    if depth == 0 or roll < 0.25:
        return random.choice((*NUMBERS, *names, *names))
    if roll < 0.4:
        return random.choice(UNARY) + random.choice(BLANKS) + expression(random, names, depth - 1)
    if roll < 0.6:
        return f"({random.choice(BLANKS)}{expression(random, names, depth - 1)}{random.choice(BLANKS)})"
    operator = random.choice(BINARY)
    left, right = (expression(random, names, depth - 1) for _ in range(2))
    if operator in "/%":
        right = f"(({right})|1)"
    if operator in ("<<", ">>"):
        right = f"(({right})&63)"
    return f"{left}{random.choice(BLANKS)}{operator}{random.choice(BLANKS)}{right}"


def fitting(random: Random, names: tuple[str, ...], size: int) -> str:
    """An expression whose value fits ``size`` bytes."""
    if random.random() < 0.4:
        return random.choice(SMALL)
    text = expression(random, names)
    return text if size == 8 else f"({text})&{random.choice(('0x7f', '127', '0x3f + 0x40'))}"


def integers(random: Random, names: tuple[str, ...]) -> str:
    directive, size = random.choice(list(WIDE.items()))
    values = [fitting(random, names, size) for _ in range(random.randint(1, 4))]
    return f"{directive} {comma(random).join(values)}"


def string(random: Random) -> str:
    parts = random.choices((*ESCAPES, "a", "Bc", "x y", "0"), k=random.randint(0, 8))
    return '"' + "".join(parts) + '"'


def strings(random: Random) -> str:
    directive = random.choice((".ascii", ".asciz", ".string"))
    values = [string(random) for _ in range(random.randint(1, 3))]
    return f"{directive} {comma(random).join(values)}"


def comma(random: Random) -> str:
    return random.choice((",", ",", ", ", " ,", "\t,\t"))


@cache
def instructions() -> dict[str, tuple[str, ...]]:
    """Lines that GNU as and this assembler take, by mnemonic. They name ``start``, ``end`` and ``forward…``."""
    lines = [text for some in all_lines().values() for text in some]
    taken = {lines[n] for n in assemble(lines)[0]}
    found = {name: tuple(filter(_is_taken, some)) for name, some in all_lines().items()}
    return {name: kept for name, some in found.items() if (kept := tuple(t for t in some if t in taken))}


def _is_taken(text: str) -> bool:
    """Branches of short reach are left out: whether they reach depends on what stands between."""
    try:
        read_line(text).match()
    except EncodeError:
        return False
    return not text.startswith(("loop", "jrcxz", "jecxz"))


def instruction(random: Random) -> str:
    some = instructions()
    return random.choice(some[random.choice(list(some))])


def spread(random: Random, line: str) -> str:
    """The line with other blanks after its commas and around its ends."""
    line = comma(random).join(line.split(", ")) if '"' not in line else line
    return f"{random.choice(('', ' ', chr(9)))}{line}{random.choice(('', ' '))}"

