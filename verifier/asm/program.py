"""What the assembler produces: instructions at addresses, sections with bytes, symbols.

This is the data type at the first arrow of the house; the reader of objects (`verifier.object`) makes the same one.
Mnemonics here are canonical, without size suffix and in the manual's spelling: ``movq`` is ``mov`` with
``width=64``, ``movzbl`` is ``movzx``, ``jne`` is ``jcc`` with ``condition="ne"``.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from verifier.source import Span

#: Where text is laid out unless the spec says otherwise: the base of a kernel image.
TEXT_BASE = 0xFFFF_FFFF_8100_0000

#: What the sections of per-CPU data are called, or begin with.
_PERCPU = ".data..percpu"

#: The general registers, 64-bit names, in encoding order.
GENERAL_REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
SEGMENT_REGISTERS = ("es", "cs", "ss", "ds", "fs", "gs")

#: Conditions in encoding order (the low four bits of the opcode), in the one spelling used after parsing.
CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")


def is_percpu(section: str | None) -> bool:
    """Whether a section of this name holds per-CPU data, whose addresses are relative to a CPU's own base."""
    return section is not None and section.startswith(_PERCPU)


@dataclass(frozen=True, slots=True)
class Reg:
    """A register operand: ``name`` is the full register (``rax``, ``gs``, ``cr3``), ``width`` in bits.

    ``high`` marks ah, ch, dh, bh: bits 15..8 of the register.
    """

    name: str
    width: int
    high: bool = False


@dataclass(frozen=True, slots=True)
class Imm:
    """An immediate, as the CPU uses it: already sign-extended and reduced to ``width`` bits (unsigned)."""

    value: int
    width: int


@dataclass(frozen=True, slots=True)
class Mem:
    """A memory operand: address = segment base + base + index*scale + disp (mod 2^64); access of ``width`` bits.

    ``base`` and ``index`` are full register names (``rip``-relative operands carry the absolute target in
    ``disp`` and ``base=None, rip_relative=True``). ``disp`` is signed. ``address_width`` is 64, or 32 under an
    addr32 prefix (``(%eax)``). ``width`` is 0 where no data is accessed (lea, invlpg, verw's m16 is 16). ``segment``:
    the override that the instruction has a prefix for; NOTRACK is that for ``ds``.
    """

    base: str | None
    index: str | None
    scale: int
    disp: int
    width: int
    segment: str | None = None
    rip_relative: bool = False
    address_width: int = 64


@dataclass(frozen=True, slots=True)
class Target:
    """A direct branch target: an absolute address, and the expression it was written as."""

    address: int
    text: str


Operand = Reg | Imm | Mem | Target


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction (or one hole) at an address.

    ``operands`` stand in AT&T order: source first, destination last. ``width`` is the operand size in bits
    (8, 16, 32, 64; 0 where the notion does not apply). ``indirect`` marks ``jmp *x`` and ``call *x``.
    ``prefixes`` are ``lock``, ``rep``, ``repne`` as written.

    A hole (``...`` on a line of its own: code that is not shown; several in a row are one) becomes two
    instructions of one nominal byte each: ``hole_enter`` at the hole's start, and ``hole_body``, which stands for
    every address inside it. Both carry ``hole``: the name of the label before it.
    """

    address: int
    encoding: bytes
    mnemonic: str
    operands: tuple[Operand, ...]
    width: int
    text: str
    span: Span
    condition: str | None = None
    prefixes: tuple[str, ...] = ()
    indirect: bool = False
    hole: str | None = None

    @property
    def length(self) -> int:
        """Bytes; a hole's nominal length is its ``encoding`` too (zeros)."""
        return len(self.encoding)

    @property
    def next_address(self) -> int:
        return self.address + len(self.encoding)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol with its final value. ``section`` is None for absolute symbols (``.set``, spec-given names)."""

    name: str
    value: int
    section: str | None
    span: Span | None
    size: int = 0
    type: str = "notype"
    binding: str = "local"
    defined_by_set: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A section laid out at ``address``. ``data`` has its bytes (code included; holes are zeros)."""

    name: str
    address: int
    data: bytes
    executable: bool
    writable: bool

    @property
    def end(self) -> int:
        return self.address + len(self.data)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something worth telling that is no error: the text encodes something else than it seems to say."""

    message: str
    span: Span
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Everything the later stages know of the assembly.

    ``conditions``: what the code takes for granted as it is; ``unknown``: addresses of executable sections whose bytes
    are not those that will stand there.
    """

    instructions: Mapping[int, Instruction]
    symbols: Mapping[str, Symbol]
    sections: tuple[Section, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    files: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    unknown: Container[int] = frozenset()
    _labels: tuple[tuple[int, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        labels = [
            (s.value, s.type != "func", s.name)
            for s in self.symbols.values()
            if s.section is not None and not s.defined_by_set and self.in_text(s.value)
        ]
        object.__setattr__(self, "_labels", tuple((value, name) for value, _, name in sorted(labels)))

    def __iter__(self) -> Iterator[Instruction]:
        for address in sorted(self.instructions):
            yield self.instructions[address]

    def covers(self, address: int) -> bool:
        """Whether the address is that of a byte of an executable section."""
        return any(s.executable and s.address <= address < s.end for s in self.sections)

    def in_text(self, address: int) -> bool:
        """Whether the address lies in (or just after the last byte of) an executable section."""
        return any(s.executable and s.address <= address <= s.end for s in self.sections)

    def address_of(self, name: str) -> int | None:
        symbol = self.symbols.get(name)
        return None if symbol is None else symbol.value

    def label_at(self, address: int) -> str | None:
        """The first label that stands exactly at the address, a function's if there is one, or None."""
        i = bisect_right(self._labels, (address, ""))
        return self._labels[i][1] if i < len(self._labels) and self._labels[i][0] == address else None

    def describe(self, address: int) -> str:
        """``label`` or ``label+offset`` for an address in text, else hexadecimal."""
        i = bisect_right(self._labels, (address, "\U0010ffff")) - 1
        if i < 0 or not self.in_text(address):
            return f"{address:#x}"
        base = self._labels[i][0]
        while i > 0 and self._labels[i - 1][0] == base:
            i -= 1
        offset = address - base
        return self._labels[i][1] + (f"+{offset:#x}" if offset else "")

    def extent(self, name: str) -> range:
        """The addresses that ``in NAME`` means: its ``.size``, or up to the next label of that section."""
        symbol = self.symbols[name]
        if symbol.size:
            return range(symbol.value, symbol.value + symbol.size)
        section = next((s for s in self.sections if s.name == symbol.section), None)
        if section is None:
            return range(symbol.value, symbol.value + 1)
        later = [v for v, _ in self._labels if v > symbol.value and v <= section.end]
        return range(symbol.value, min(later, default=section.end))
