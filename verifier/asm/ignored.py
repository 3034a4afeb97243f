"""Directives that change neither bytes nor addresses: unwinding, debug information, listings.

They mean nothing here, but what GNU as refuses of them is refused.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from verifier.asm.data import number
from verifier.asm.expression import parse
from verifier.asm.operands import split
from verifier.asm.program import GENERAL_REGISTERS, SEGMENT_REGISTERS
from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.data import Handler
    from verifier.asm.lines import Line
    from verifier.asm.scrub import Statement
    from verifier.asm.state import Assembly

_STRING = r'"(?:\\.|[^"\\])*"'
_NUMBER = r"(?:0[xX][0-9a-fA-F]+|\d+)"
_LOC_FLAG = rf"basic_block|prologue_end|epilogue_begin|(?:is_stmt|isa|discriminator|view)\s+{_NUMBER}"
#: name -> what its arguments look like
_TEXTS = {
    ".ident": _STRING,
    ".version": _STRING,
    ".print": _STRING,
    ".title": _STRING,
    ".sbttl": _STRING,
    ".lflags": ".*",
    ".line": rf"{_NUMBER}?",
    ".psize": rf"(?:{_NUMBER}(?:\s*,\s*{_NUMBER})?)?",
    ".file": rf"(?:{_NUMBER}\s+(?:{_STRING}\s+)?)?{_STRING}",
    ".loc": rf"{_NUMBER}\s+{_NUMBER}(?:\s+{_NUMBER})?(?:\s+(?:{_LOC_FLAG}))*",
    ".att_syntax": "(?:prefix)?",
    ".cfi_sections": r"(?:\.(?:eh|debug)_frame(?:\s*,\s*\.(?:eh|debug)_frame)?)?",
    **dict.fromkeys((".code64", ".att_mnemonic", ".list", ".nolist", ".eject"), ""),
}
#: name -> the kinds of its arguments: a register, a number, an expression; ``+`` for more of the last
_UNWINDING = {
    "def_cfa": "rn",
    "def_cfa_register": "r",
    "def_cfa_offset": "n",
    "adjust_cfa_offset": "n",
    "offset": "rn",
    "rel_offset": "rn",
    "val_offset": "rn",
    "register": "rr",
    "restore": "r+",
    "undefined": "r+",
    "same_value": "r+",
    "return_column": "r",
    "val_encoded_addr": "rne",
    "escape": "n+",
    "remember_state": "",
    "restore_state": "",
    "signal_frame": "",
    "window_save": "",
    "endproc": "",
}
_UNWOUND = frozenset((*GENERAL_REGISTERS, *SEGMENT_REGISTERS, "rip", *(f"xmm{i}" for i in range(16))))


def _text(
    name: str, pattern: re.Pattern[str], assembly: Assembly, statement: Statement, arguments: Line
) -> None:
    if not pattern.fullmatch(arguments.text):
        raise statement.line.error(f"'{arguments.text[:40]}' is not supported after {name}")
    words = arguments.text.split()
    if name == ".file" and len(words) > 1:
        assembly.debug_files.add(words[0])
    if name == ".loc" and words[0] not in assembly.debug_files:
        raise arguments.error(f"no .file {words[0]} before this", None, 0, len(words[0]))


def _start(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if arguments.text not in ("", "simple"):
        raise arguments.error("'simple' is all that can follow .cfi_startproc")
    if assembly.unwinding:
        raise statement.line.error(".cfi_startproc before the .cfi_endproc of the last one")
    assembly.unwinding, assembly.unwinding_saved = statement.span, 0


def _unwind(name: str, kinds: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if assembly.unwinding is None:
        raise statement.line.error(f".cfi_{name} without .cfi_startproc")
    parts = list(split(arguments))
    fixed = kinds.rstrip("+")
    if len(parts) < len(fixed) or (len(parts) > len(fixed) and fixed == kinds):
        raise statement.line.error(f".cfi_{name} takes {len(fixed)} arguments, not {len(parts)}")
    for i, part in enumerate(parts):
        _argument(fixed[min(i, len(fixed) - 1)], assembly, part)
    if name == "endproc":
        assembly.unwinding = None
    assembly.unwinding_saved += {"remember_state": 1, "restore_state": -1}.get(name, 0)
    if assembly.unwinding_saved < 0:
        raise statement.line.error(".cfi_restore_state without .cfi_remember_state")


def _argument(kind: str, assembly: Assembly, part: Line) -> None:
    if kind == "r" and part.text.removeprefix("%").lower() in _UNWOUND:
        return
    if kind == "e":
        parse(part, assembly)
    else:
        number(assembly, part, -(1 << 63), (1 << 63) - 1)


def _handler(name: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.cfi_personality`` and ``.cfi_lsda``: an encoding, and a symbol unless it says that there is none."""
    if assembly.unwinding is None:
        raise statement.line.error(f"{name} without .cfi_startproc")
    parts = list(split(arguments))
    none = bool(parts) and number(assembly, parts[0], 0, 255) == 0xFF
    if len(parts) != 2 - none:
        raise statement.line.error("an encoding and a symbol are needed, or 0xff alone")
    for part in parts[1:]:
        parse(part, assembly)


def check_closed(assembly: Assembly) -> None:
    """`AsmError` if a ``.cfi_startproc`` is open where the file ends."""
    if assembly.unwinding:
        raise AsmError("no .cfi_endproc follows", assembly.unwinding)


IGNORED: dict[str, Handler] = {
    **{name: partial(_text, name, re.compile(pattern, re.DOTALL)) for name, pattern in _TEXTS.items()},
    **{f".cfi_{name}": partial(_unwind, name, kinds) for name, kinds in _UNWINDING.items()},
    ".cfi_startproc": _start,
    **{name: partial(_handler, name) for name in (".cfi_personality", ".cfi_lsda")},
}
