"""Directives about sections and symbols, those that mean nothing here, and those that are refused."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from verifier.asm.data import DATA, decode_string, move_to, number
from verifier.asm.expression import Const, parse
from verifier.asm.ignored import IGNORED
from verifier.asm.operands import split
from verifier.asm.program import Diagnostic
from verifier.asm.sections import Fill, Pad

if TYPE_CHECKING:
    from verifier.asm.data import Handler
    from verifier.asm.lines import Line
    from verifier.asm.scrub import Statement
    from verifier.asm.state import Assembly

_IN_ORDER = "write the text in the order it is to be laid out"
_NAME = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_SECTION_NAME = re.compile(r'"([^"\\]+)"|([^\s,"]+)')
_SECTION_TYPES = ("progbits", "nobits", "note", "init_array", "fini_array", "preinit_array", "unwind")
#: Entries of one size, members of a group, sections linked to another: the flags that need more to be told.
_FLAGS_WITH_MORE = frozenset("MGo")
_TYPE = re.compile(r'([\w.$]+)\s*,?\s*(?:[@%#]|STT_|)"?(\w+)"?', re.ASCII)
_TYPES = {
    "function": "func", "func": "func", "object": "object", "notype": "notype", "tls_object": "tls",
    "tls": "tls", "common": "object", "gnu_indirect_function": "func", "gnu_unique_object": "object",
}  # fmt: skip


def _switch(name: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if arguments.text not in ("", "0"):
        raise arguments.error("subsections are not supported", _IN_ORDER)
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
        kind = parts[2].text[1:]
        if parts[2].text[:1] not in ("@", "%") or kind not in _SECTION_TYPES:
            raise parts[2].error(f"section type '{parts[2].text[:40]}' is not supported", "@progbits or @nobits")
    if len(parts) > 3 and not set(flags or "") & _FLAGS_WITH_MORE:
        raise parts[3].error("nothing can follow the type of a section with these flags")
    assembly.enter(match.group(1) or match.group(2), flags, kind, statement.span)


def _push(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if len(assembly.stack) >= 1000:
        raise statement.line.error("more than 1000 sections are pushed")
    assembly.stack.append((assembly.current, assembly.previous))
    _section(assembly, statement, arguments)


def _pop(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if not assembly.stack:
        raise statement.line.error(".popsection without .pushsection")
    _alone(".popsection", arguments)
    assembly.current, assembly.previous = assembly.stack.pop()


def _previous(assembly: Assembly, _statement: Statement, arguments: Line) -> None:
    _alone(".previous", arguments)
    assembly.current, assembly.previous = assembly.previous, assembly.current


def _alone(name: str, arguments: Line) -> None:
    if arguments.text:
        raise arguments.error(f"text after {name}")


def _binding(binding: str, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    for name in _symbols(statement, arguments):
        assembly.symbols.entry(name).binding = binding


def _visibility(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """A symbol that other objects shall not see has to be in this one."""
    for name in _symbols(statement, arguments):
        assembly.symbols.use(name, statement.span)


def _extern(_assembly: Assembly, statement: Statement, arguments: Line) -> None:
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
    if parts[0].text == ".":
        move_to(assembly, statement, parts[1])
        return
    assign(assembly, parts[0], parts[1], once)


def assign(assembly: Assembly, name: Line, expression: Line, once: bool = False) -> None:
    """``name = expression``; a value known now is kept as a number."""
    node = parse(expression, assembly)
    value = assembly.constant(node)
    assembly.symbols.set(_symbol(name), node if value is None else Const(value), name.span(), once)


def _common(most: int, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.comm NAME, SIZE[, ALIGNMENT]``: zeros in ``.bss``."""
    parts = list(split(arguments))
    if not 2 <= len(parts) <= most:
        raise statement.line.error(f"a symbol and a size are needed{', perhaps an alignment' if most > 2 else ''}")
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


def _refuse(name: str, reason: str, _assembly: Assembly, statement: Statement, _arguments: Line) -> None:
    raise statement.line.error(f"{name} is not supported", reason)


#: What GNU as knows besides; its other pseudo operations are unknown to both.
_ELSEWHERE = """
    .abort .attach_to_group .balignl .balignw .bfloat16 .bundle_align_mode .bundle_lock .bundle_unlock .dc .dc.d
    .dc.s .dc.x .dcb .dcb.b .dcb.d .dcb.l .dcb.s .dcb.w .dcb.x .debug .ds .ds.b .ds.d .ds.l .ds.p .ds.s .ds.w .ds.x
    .double .elsec .end .endc .endfunc .ffloat .dfloat .float .format .func .gnu_attribute
    .hfloat .irep .irepc .largecomm .lcommon .linkonce .llen .lsym .mexit .mri .noaltmacro .noformat
    .nop .nops .nopage .octa .offset .optim .noopt .p2alignl .p2alignw .page .plen .rep .sect .single .sleb128 .slong
    .spc .stabd .stabn .stabs .stabx .string16 .string32 .string64 .string8 .struct .tbyte .tfloat .ttl .uleb128
    .vtable_entry .vtable_inherit .weakref .xcom .xdef .xref .xstabs .cfi_fde_data .cfi_inline_lsda
    .cfi_personality_id .cfi_negate_ra_state
"""

_REFUSED = {
    **dict.fromkeys(_ELSEWHERE.split(), "write it with the directives of docs/assembler.md"),
    ".arch": "what it allows and forbids is not checked here",
    ".cfi_label": "write the label itself",
    ".code32": "only 64-bit code is read",
    ".code16": "only 64-bit code is read",
    ".code16gcc": "only 64-bit code is read",
    ".intel_syntax": "write AT&T syntax",
    ".intel_mnemonic": "write AT&T syntax",
    ".altmacro": "the alternate macro syntax is not read",
    ".incbin": "binary files are not read",
    ".subsection": _IN_ORDER,
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
    **dict.fromkeys((".hidden", ".internal", ".protected"), _visibility),
    ".extern": _extern,
    ".type": _type,
    ".size": _size,
    **dict.fromkeys((".set", ".equ"), partial(_set, False)),
    ".equiv": partial(_set, True),
    ".comm": partial(_common, 3),
    ".lcomm": partial(_common, 2),
    **dict.fromkeys((".error", ".err", ".fail"), _error),
    ".warning": _warning,
    **IGNORED,
    **{name: partial(_refuse, name, reason) for name, reason in _REFUSED.items()},
}
