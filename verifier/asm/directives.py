"""Directives about sections and symbols, those that mean nothing here, and those that are refused."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from verifier.asm.data import DATA, decode_string, number
from verifier.asm.expression import Const, parse
from verifier.asm.operands import split
from verifier.asm.program import Diagnostic
from verifier.asm.sections import Fill, Pad

if TYPE_CHECKING:
    from verifier.asm.data import Handler
    from verifier.asm.lines import Line
    from verifier.asm.scrub import Statement
    from verifier.asm.state import Assembly

_NAME = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_SECTION_NAME = re.compile(r'"([^"\\]+)"|([^\s,"]+)')
_SECTION_TYPES = ("progbits", "nobits", "note", "init_array", "fini_array", "preinit_array", "unwind")
_TYPE = re.compile(r'([\w.$]+)\s*,?\s*(?:[@%#]|STT_|)"?(\w+)"?', re.ASCII)
_TYPES = {
    "function": "func", "func": "func", "object": "object", "notype": "notype", "tls_object": "tls",
    "tls": "tls", "common": "object", "gnu_indirect_function": "func", "gnu_unique_object": "object",
}  # fmt: skip


def _switch(name: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if arguments.text not in ("", "0"):
        raise arguments.error(
            "subsections are not supported", "write the text in the order it is to be laid out"
        )
    assembly.enter(name, None, None, statement.span)


def _section(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    parts = list(split(arguments))
    match = _SECTION_NAME.fullmatch(parts[0].text) if parts else None
    if match is None:
        raise statement.line.error("a section needs a name")
    flags = kind = None
    if len(parts) > 1:
        if not parts[1].text.startswith('"'):
            raise parts[1].error('the flags of a section are a string, as "ax"')
        flags = decode_string(parts[1]).decode("utf-8", "replace")
    if len(parts) > 2:
        kind = parts[2].text.lstrip("@%")
        if kind not in _SECTION_TYPES:
            raise parts[2].error(f"unknown section type '{kind[:40]}'", "@progbits or @nobits")
    assembly.enter(match.group(1) or match.group(2), flags, kind, statement.span)


def _push(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if len(assembly.stack) >= 1000:
        raise statement.line.error("more than 1000 sections are pushed")
    assembly.stack.append((assembly.current, assembly.previous))
    _section(assembly, statement, arguments)


def _pop(assembly: Assembly, statement: Statement, _arguments: Line) -> None:
    if not assembly.stack:
        raise statement.line.error(".popsection without .pushsection")
    assembly.current, assembly.previous = assembly.stack.pop()


def _previous(assembly: Assembly, _statement: Statement, _arguments: Line) -> None:
    assembly.current, assembly.previous = assembly.previous, assembly.current


def _binding(binding: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    for name in _symbols(statement, arguments):
        assembly.symbols.entry(name).binding = binding


def _visibility(_assembly: Assembly, statement: Statement, arguments: Line) -> None:
    _symbols(statement, arguments)


def _symbols(statement: Statement, arguments: Line) -> list[str]:
    if not arguments.text:
        raise statement.line.error("the name of a symbol is missing")
    return [_symbol(part) for part in split(arguments)]


def _symbol(part: Line) -> str:
    if not _NAME.fullmatch(part.text):
        raise part.error("a symbol's name is needed")
    return part.text


def _type(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    match = _TYPE.fullmatch(arguments.text)
    kind = _TYPES.get(match.group(2).lower()) if match else None
    if match is None or kind is None:
        raise statement.line.error(".type needs a symbol and @function, @object or @notype")
    assembly.symbols.entry(match.group(1)).type = kind


def _size(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    parts = list(split(arguments))
    if len(parts) != 2:
        raise statement.line.error(".size needs a symbol and an expression")
    assembly.symbols.entry(_symbol(parts[0])).size = parse(parts[1], assembly)


def _set(once: bool, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    parts = list(split(arguments))
    if len(parts) != 2:
        raise statement.line.error("a symbol and an expression are needed, separated by a comma")
    assign(assembly, parts[0], parts[1], once)


def assign(assembly: Assembly, name: Line, expression: Line, once: bool = False) -> None:
    """``name = expression``; a value known now is kept as a number."""
    node = parse(expression, assembly)
    value = assembly.constant(node)
    assembly.symbols.set(_symbol(name), node if value is None else Const(value), name.span(), once)


def _common(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.comm NAME, SIZE[, ALIGNMENT]``: zeros in ``.bss``."""
    parts = list(split(arguments))
    if len(parts) not in (2, 3):
        raise statement.line.error("a symbol, a size and perhaps an alignment are needed")
    size = number(assembly, parts[1], 0, 1 << 24)
    natural = min(1 << max(size.bit_length() - 1, 0), 32)
    alignment = number(assembly, parts[2], 1, 4096) if len(parts) == 3 else natural
    kept = (assembly.current, assembly.previous)
    assembly.enter(".bss", None, None, statement.span)
    assembly.current.alignment = max(assembly.current.alignment, alignment)
    assembly.emit(Pad(statement.span, alignment=alignment, limit=alignment, fill=0), variable=True)
    assembly.label(_symbol(parts[0]), parts[0].span())
    assembly.emit(Fill(statement.span, size, node=Const(size), unit=bytes(1), known=True))
    assembly.current, assembly.previous = kept


def _error(_assembly: Assembly, statement: Statement, arguments: Line) -> None:
    text = decode_string(arguments).decode("utf-8", "replace") if arguments.text else ".err"
    raise statement.line.error(text)


def _warning(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    text = decode_string(arguments).decode("utf-8", "replace") if arguments.text else ".warning"
    assembly.diagnostics.append(Diagnostic(text, statement.span))


def _nothing(_assembly: Assembly, _statement: Statement, _arguments: Line) -> None:
    """For what changes neither bytes nor addresses: debug information, unwinding, listings."""


def _refuse(reason: str, _assembly: Assembly, statement: Statement, _arguments: Line) -> None:
    raise statement.line.error(f"{statement.line.text.split()[0]} is not supported", reason)


_WITHOUT_EFFECT = (
    ".file", ".loc", ".ident", ".code64", ".att_syntax", ".att_mnemonic", ".line", ".ln", ".list", ".nolist",
    ".title", ".sbttl", ".psize", ".eject", ".lflags", ".version", ".arch", ".addrsig", ".addrsig_sym",
    ".print",
    *(f".cfi_{name}" for name in (
        "startproc", "endproc", "sections", "personality", "lsda", "def_cfa", "def_cfa_register",
        "def_cfa_offset", "adjust_cfa_offset", "offset", "rel_offset", "register", "restore", "undefined",
        "same_value", "remember_state", "restore_state", "return_column", "signal_frame", "window_save",
        "escape",        "val_encoded_addr", "label", "val_offset",
    )),
)  # fmt: skip

_REFUSED = {
    ".code32": "only 64-bit code is read",
    ".code16": "only 64-bit code is read",
    ".code16gcc": "only 64-bit code is read",
    ".intel_syntax": "write AT&T syntax",
    ".intel_mnemonic": "write AT&T syntax",
    ".altmacro": "the alternate macro syntax is not read",
    ".incbin": "binary files are not read",
    ".subsection": "write the text in the order it is to be laid out",
    ".reloc": "relocations are resolved here",
    ".symver": "symbol versions mean nothing here",
    ".eqv": "use .set",
}

DIRECTIVES: dict[str, Handler] = {
    **DATA,
    **{name: partial(_switch, name) for name in (".text", ".data", ".bss")},
    ".section": _section,
    ".pushsection": _push,
    ".popsection": _pop,
    ".previous": _previous,
    **dict.fromkeys((".globl", ".global"), partial(_binding, "global")),
    ".local": partial(_binding, "local"),
    ".weak": partial(_binding, "weak"),
    **dict.fromkeys((".hidden", ".internal", ".protected", ".extern"), _visibility),
    ".type": _type,
    ".size": _size,
    **dict.fromkeys((".set", ".equ"), partial(_set, False)),
    ".equiv": partial(_set, True),
    **dict.fromkeys((".comm", ".lcomm"), _common),
    **dict.fromkeys((".error", ".err", ".fail"), _error),
    ".warning": _warning,
    **dict.fromkeys(_WITHOUT_EFFECT, _nothing),
    **{name: partial(_refuse, reason) for name, reason in _REFUSED.items()},
}
