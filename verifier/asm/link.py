"""Addresses, final values, bytes: from what was read to a `Program`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.asm.encode import EncodeError, RawTarget
from verifier.asm.expression import Evaluator, Value, signed
from verifier.asm.instructions import placed
from verifier.asm.program import Instruction, Program, Section, Symbol, Target
from verifier.asm.relax import Relaxation
from verifier.asm.sections import Bytes, Code, Datum, Fill, Hole, Item, Org, Pad, SectionBuilder
from verifier.errors import AsmError, nearest
from verifier.source import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.asm.expression import Node, Operation
    from verifier.asm.operands import Written
    from verifier.asm.program import Operand
    from verifier.asm.sections import Place
    from verifier.asm.state import Assembly
    from verifier.asm.symbols import SymbolEntry

_PAGE = 4096
_LARGE_PAGE = 2 << 20
_CODE_ALIGNMENT = 16
_ADDRESSES = 1 << 64
#: Multi-byte nops as GNU as pads with (alt_patt in its tc-i386.c), by length.
NOPS = tuple(bytes.fromhex(text) for text in (
    "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000", "0f1f840000000000",
    "660f1f840000000000", "662e0f1f840000000000", "66662e0f1f840000000000",
))  # fmt: skip

#: Bytes of padding that GNU as has the processor jump over.
_JUMPED_OVER = 8 * len(NOPS)


class Linker:
    """Lays out one assembly and evaluates everything in it."""

    def __init__(self, assembly: Assembly, externals: Mapping[str, int], text_base: int) -> None:
        self._assembly = assembly
        self._externals = externals
        self._text_base = text_base
        self._sections = list(assembly.sections.values())
        self._known = {e.name for e in assembly.symbols.entries() if e.definition is not None} | set(
            externals
        )
        self._instructions: dict[int, Instruction] = {}

    def program(self, files: tuple[str, ...]) -> Program:
        """The finished program; `AsmError` for undefined symbols and values that do not fit."""
        self._check_defined()
        Relaxation(self._sections, self._in_section).run()
        self._place_sections()
        sections = tuple(
            Section(s.name, s.address, self._contents(s), s.executable, s.writable)
            for s in self._sections
            if s.allocated and s.size
        )
        if not self._instructions:
            raise AsmError("the text has no instruction", Span(files[0], 1, 1, 2, ""))
        return Program(
            instructions=self._instructions,
            symbols=self._symbols(),
            sections=sections,
            diagnostics=tuple(self._assembly.diagnostics),
            files=files,
            unknown=frozenset(i.address for i in self._instructions.values() if i.hole is not None),
        )

    # --- values ---

    def _check_defined(self) -> None:
        sections = {".text", ".data", ".bss", *self._assembly.sections}
        for entry in self._assembly.symbols.entries():
            if entry.defined and entry.name in sections:
                raise AsmError(f"'{entry.name}' is the name of a section", entry.defined)
            if entry.used and entry.definition is None and entry.name not in self._externals:
                raise self._undefined(entry, entry.used)

    def _undefined(self, entry: SymbolEntry, span: Span) -> AsmError:
        hint = nearest(entry.name, self._known)
        hint = hint or f"define it in the text; a function elsewhere: add '{entry.name}: {{}}' to 'calls'"
        return AsmError(f"the symbol '{entry.name}' is not defined", span, hint)

    def _lookup(self, entry: SymbolEntry, span: Span) -> Value | Node:
        if entry.definition is not None:
            return entry.definition
        if entry.name in self._externals:
            return Value(signed(self._externals[entry.name]))
        raise self._undefined(entry, span)

    def _in_section(self, node: Node, section: SectionBuilder) -> Value:
        """A value while sizes are being found: places are offsets in their sections."""
        return Evaluator(lambda p: Value(p.offset, p.section), self._lookup, _mismatch, section).value(node)

    def _value(self, node: Node, section: SectionBuilder | None) -> Value:
        """A final value, as a signed 64-bit number."""
        return Evaluator(_address, self._lookup, _mismatch, section).value(node)

    # --- sections ---

    def _place_sections(self) -> None:
        at = self._text_base
        percpu = 0
        for section in self._sections:
            if section.executable:
                section.address = at = _up(at, max(section.alignment, _CODE_ALIGNMENT))
                at += section.size
        at = _up(at, _LARGE_PAGE)
        for section in self._sections:
            if section.executable or not section.allocated:
                continue
            if section.percpu:
                section.address = percpu = _up(percpu, section.alignment)
                percpu += section.size
            else:
                section.address = at = _up(at, max(section.alignment, _PAGE))
                at += section.size
        if at > _ADDRESSES:
            raise AsmError(f"the sections do not fit above {self._text_base:#x}")

    def _contents(self, section: SectionBuilder) -> bytes:
        data = bytearray()
        for item in section.items:
            part = self._bytes(item, section)
            if section.nobits and any(part):
                raise AsmError(f"section {section.name} holds no data, only zeros", item.span)
            data += part
        return bytes(data)

    def _bytes(self, item: Item, section: SectionBuilder) -> bytes:
        match item:
            case Bytes():
                return item.data
            case Datum():
                return self._datum(item, section)
            case Code():
                return self._code(item, section)
            case Hole():
                self._add(_hole(item, section))
                return bytes(1)
            case Pad():
                return self._padding(item, section)
            case Org():
                return bytes([item.fill]) * item.size
            case Fill():
                return self._fill(item, section)
        return bytes(item.size)

    def _datum(self, item: Datum, section: SectionBuilder) -> bytes:
        value = self._value(item.node, section)
        bits = 8 * item.size
        number = value.number % _ADDRESSES if value.base is not None else value.number
        if item.size < 8 and not -(1 << (bits - 1)) <= number < 1 << bits:
            raise AsmError(f"{number:#x} does not fit in {item.size} bytes", item.span)
        return (number % (1 << bits)).to_bytes(item.size, "little")

    def _padding(self, item: Pad, section: SectionBuilder) -> bytes:
        if item.fill is not None:
            return bytes([item.fill]) * item.size
        over = self._jump_over(item, section) if item.size >= _JUMPED_OVER else b""
        return over + self._nops(item, section, len(NOPS), len(over))

    def _jump_over(self, item: Pad, section: SectionBuilder) -> bytes:
        """The jump that GNU as puts before many nops."""
        address, end = (section.address + item.offset + n for n in (0, item.size))
        short = item.size - 2 <= 127
        code = bytes([0xEB, item.size - 2]) if short else b"\xe9" + (item.size - 5).to_bytes(4, "little")
        self._assembly.budget.instruction(item.span)
        self._add(Instruction(address, code, "jmp", (Target(end, f"{end:#x}"),), 64, "jmp", item.span))
        return code

    def _fill(self, item: Fill, section: SectionBuilder) -> bytes:
        if section.executable and item.unit == NOPS[0]:
            return self._nops(item, section, 1, 0)
        return item.unit * (item.size // len(item.unit)) if item.unit else b""

    def _nops(self, item: Item, section: SectionBuilder, longest: int, start: int) -> bytes:
        """Nops of at most ``longest`` bytes from the item's byte ``start`` to its end."""
        data = b""
        while (left := item.size - start - len(data)) > 0:
            nop = NOPS[min(left, longest) - 1]
            self._assembly.budget.instruction(item.span)
            address = section.address + item.offset + start + len(data)
            self._add(Instruction(address, nop, "nop", (), 0, "nop", item.span))
            data += nop
        return data

    # --- instructions ---

    def _add(self, instruction: Instruction) -> None:
        self._instructions[instruction.address] = instruction

    def _code(self, item: Code, section: SectionBuilder) -> bytes:
        address = section.address + item.offset
        values = tuple(self._operand_value(o, address + item.size, section) for o in item.operands)
        try:
            encoding = item.form.encode(values, address, item.size)
            operands = item.form.operands(values)
        except EncodeError as error:
            raise placed(error, item.span, item.operands) from error
        self._add(
            Instruction(
                address=address,
                encoding=encoding,
                mnemonic=item.form.mnemonic,
                operands=tuple(_named(o, item.operands) for o in operands),
                width=item.form.width,
                text=item.text,
                span=item.span,
                condition=item.form.condition,
                prefixes=item.form.prefixes,
                indirect=item.indirect,
            )
        )
        return encoding

    def _operand_value(self, operand: Written, following: int, section: SectionBuilder) -> int | None:
        """What the encoder wants: addresses unsigned, plain numbers signed, rip-relative ones absolute."""
        if operand.node is None:
            return None
        value = self._value(operand.node, section)
        if operand.from_next:
            return (following + value.number) % _ADDRESSES
        unsigned = value.base is not None or isinstance(operand.raw, RawTarget)
        return value.number % _ADDRESSES if unsigned else value.number

    # --- symbols ---

    def _symbols(self) -> dict[str, Symbol]:
        found: dict[str, Symbol] = {}
        entries = [(e, e.current) for e in self._assembly.symbols.entries() if e.current is not None]
        count = Counter(e.name for e, _ in entries)
        for entry, node in entries:
            symbol = self._symbol(entry, node)
            if count[entry.name] > 1 and entry.defined:
                symbol = replace(symbol, name=f"{entry.name} ({entry.defined.file})")
            found[symbol.name] = symbol
        for name, value in self._externals.items():
            found.setdefault(name, Symbol(name, value % _ADDRESSES, None, None))
        return found

    def _symbol(self, entry: SymbolEntry, node: Node) -> Symbol:
        value = self._value(node, None)
        base = value.base
        return Symbol(
            name=entry.name,
            value=value.number % _ADDRESSES,
            section=base.name if isinstance(base, SectionBuilder) else None,
            span=entry.defined,
            size=self._size(entry),
            type=entry.type,
            binding=entry.binding,
            defined_by_set=entry.is_set,
        )

    def _size(self, entry: SymbolEntry) -> int:
        if entry.size is None:
            return 0
        size = self._value(entry.size, None)
        if size.base is not None or size.number < 0:
            raise AsmError(f"the size of '{entry.name}' is not a number of bytes", entry.defined)
        return size.number


def _address(place: Place) -> Value:
    return Value(signed(place.section.address + place.offset), place.section)


def _mismatch(operation: Operation, left: Value, right: Value) -> Exception:
    names = [v.base.name if isinstance(v.base, SectionBuilder) else "a number" for v in (left, right)]
    shown = f"{names[0]} and {names[1]}" if operation.right is not None else names[0]
    return AsmError(
        f"'{operation.operator}' has no meaning for addresses in {shown}",
        operation.span,
        "addresses can be subtracted from each other, and numbers added to them or subtracted",
    )


def _hole(item: Hole, section: SectionBuilder) -> Instruction:
    address = section.address + item.offset
    return Instruction(address, bytes(1), item.kind, (), 0, "...", item.span, hole=item.name)


def _named(operand: Operand, written: tuple[Written, ...]) -> Operand:
    """A branch target with the expression it was written as."""
    if not isinstance(operand, Target):
        return operand
    text = next((w.line.text for w in written if isinstance(w.raw, RawTarget)), "")
    return Target(operand.address, text)


def _up(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment
