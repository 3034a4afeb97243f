"""Names and memory operands of property expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from lark import Token, Tree

from verifier.asm.program import GENERAL_REGISTERS
from verifier.errors import SpecError, nearest
from verifier.spec.document import integer_from
from verifier.spec.expression import Binary, CellRef, Expression, MemoryRef, Number, RegionRef
from verifier.spec.names import FUNCTIONS, PERCPU, REGISTERS, STATE, DataName, Names

if TYPE_CHECKING:
    from verifier.source import Span

Part = Tree[Token] | Token
MASK = (1 << 64) - 1
SIZES = {"byte": 8, "word": 16, "dword": 32, "qword": 64}


def signed(value: int) -> int:
    """The 64-bit pattern as a signed number."""
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def extent(part: Part) -> tuple[int, int]:
    """First position in the expression's text, and the one after the last."""
    if isinstance(part, Token):
        return part.start_pos or 0, part.end_pos or 0
    return part.meta.start_pos, part.meta.end_pos


@dataclass(frozen=True, slots=True)
class Scope:
    """What words mean here, and where the text stands: ``locate(start, end)`` gives the span in the file."""

    names: Names
    locate: Callable[[int, int], Span]

    def error(self, part: Part, message: str, hint: str | None = None) -> SpecError:
        return SpecError(message, self.locate(*extent(part)), hint)

    def unknown(self, part: Part, word: str, kind: str, known: list[str]) -> SpecError:
        return self.error(part, f"unknown {kind} '{word}'", nearest(word, known))

    def number(self, token: Token) -> int:
        value = integer_from(str(token))
        if value is None:
            raise self.error(token, f"'{token}' is no number", "decimal without a leading 0, or 0x…")
        if value > MASK:
            raise self.error(token, f"'{token}' does not fit in 64 bits")
        return value

    def name(self, token: Token) -> Expression:
        """A word that stands alone: a cell, the edge of a region, a datum's value, a label's address."""
        word = str(token)
        if word in STATE:
            self._refuse_both(token)
            return STATE[word]
        prefix, _, rest = word.partition(".")
        if prefix == "interrupted":
            return self._interrupted(token, rest)
        if word in self.names.edges:
            if word in self.names.symbols:
                message = f"'{word}' is the edge of a region and a symbol of the program"
                raise self.error(token, message, "rename the stack")
            return self._edge(*word.rsplit(".", 1))
        if word in self.names.data:
            return self.datum(token)
        if word in self.names.symbols:
            return Number(self.names.symbols[word] & MASK)
        if word in self.names.regions:
            raise self.error(token, f"'{word}' is a region", f"write {word}.base or {word}.top")
        if word in FUNCTIONS:
            raise self.error(token, f"'{word}' takes arguments", f"write {word}(…)")
        raise self.unknown(token, word, "name", self.names.words())

    def _refuse_both(self, token: Token) -> None:
        word = str(token)
        if word in self.names.symbols or word in self.names.data:
            state = f"%{word}" if word in REGISTERS else f"rflags.{word}"
            hint = f"write {state} for the former, ${word} for the address of the latter"
            raise self.error(token, f"'{word}' is a part of the machine and a symbol of the program", hint)

    def _interrupted(self, token: Token, rest: str) -> CellRef:
        cell = STATE.get(rest)
        if cell is None or rest.startswith("nmi_"):
            known = [name for name in STATE if not name.startswith("nmi_")]
            raise self.error(token, f"unknown part '{rest}' of the interrupted context", nearest(rest, known))
        return replace(cell, interrupted=True)

    def register(self, token: Token) -> CellRef:
        word = str(token)[1:]
        if word not in REGISTERS:
            hint = f"write {word} without %" if word in STATE else nearest(word, REGISTERS)
            raise self.error(token, f"unknown register '%{word}'", hint)
        return REGISTERS[word]

    def _edge(self, region: str, edge: str) -> Expression:
        """The base of the per-CPU region stands for the kernel's GS base."""
        if edge == "top":
            return RegionRef(region, "top")
        base, origin = RegionRef(region, "base"), self.names.percpu_origin
        return Binary("-", base, Number(origin)) if origin and region == PERCPU else base

    def address(self, token: Token) -> int:
        """The value of a symbol, or a per-CPU name's offset."""
        word = str(token)
        if word in self.names.data:
            datum = self.names.data[word]
            if datum.region is not None:
                message = f"'{word}' lies on a stack, which can be anywhere"
                raise self.error(token, message, f"write {datum.region}.base + {datum.address:#x} for its address")
            return datum.address
        if word in self.names.symbols:
            return self.names.symbols[word]
        raise self.unknown(token, word, "name", [*self.names.symbols, *self.names.data])

    def datum(self, token: Token, segment: str | None = None, width: int | None = None) -> MemoryRef:
        """The value of a named datum, as wide as the datum unless ``width`` (bits) says otherwise."""
        word = str(token)
        datum = self.names.data.get(word)
        if datum is None or datum.percpu != (segment == "gs"):
            raise self._no_datum(token, segment, datum)
        if width is None and datum.size not in (1, 2, 4, 8):
            message = f"'{word}' has {datum.size} bytes: no access is that wide"
            raise self.error(token, message, "put byte, word, dword or qword before it")
        return MemoryRef(segment, None, None, 1, signed(datum.address), width or datum.size * 8, datum.region)

    def _no_datum(self, token: Token, segment: str | None, datum: DataName | None) -> SpecError:
        word = str(token)
        if datum is not None and segment is None:
            hint = f"write %gs:{word} for its value, ${word} for its offset"
            return self.error(token, f"'{word}' is a per-CPU name", hint)
        known = [n for n, d in self.names.data.items() if d.percpu == (segment == "gs")]
        return self.unknown(token, word, f"name after %{segment}:" if segment else "datum", known)

    # Memory operands: `width` (bits) is what a size word before the operand says.

    def displaced(self, tree: Tree[Token], width: int | None) -> MemoryRef:
        """``8(%rsp)``, ``-8(%rax,%rcx,8)``."""
        *sign, number, arguments = tree.children
        disp = self.number(cast("Token", number)) * (-1 if sign else 1)
        return self.memory(None, disp, cast("Tree[Token]", arguments), width or 64)

    def segmented(self, tree: Tree[Token], width: int | None) -> MemoryRef:
        """``%gs:name``, ``%gs:(name+8)``, ``%fs:16(%rax)``."""
        prefix, displacement, arguments = cast("tuple[Token, Tree[Token], Tree[Token] | None]", tree.children)
        segment = prefix.strip("%:")
        parts = [t for t in cast("list[Token | None]", displacement.children) if t is not None]
        if arguments is None and parts[0].type == "NAME" and len(parts) == 1:
            return self.datum(parts[0], segment, width)
        disp = self._displacement(parts, segment)
        if arguments is not None:
            return self.memory(segment, disp, arguments, width or 64)
        if width is None:
            message = "nothing says how many bytes this is"
            raise self.error(tree, message, "put byte, word, dword or qword before it")
        return MemoryRef(segment, None, None, 1, signed(disp), width)

    def _displacement(self, parts: list[Token], segment: str) -> int:
        """``[-] NUMBER``, ``NAME`` or ``NAME ± NUMBER``."""
        if parts[0].type == "NAME":
            base = self.datum(parts[0], segment, 8).disp
            if len(parts) == 1:
                return base
            return base + self.number(parts[2]) * (-1 if parts[1] == "-" else 1)
        return self.number(parts[-1]) * (-1 if len(parts) == 2 else 1)

    def indexed(self, token: Token, arguments: Tree[Token], width: int | None) -> MemoryRef:
        """``name(%rip)``, ``name(%rax,%rcx,8)``."""
        first = arguments.children[0]
        if len(arguments.children) == 1 and isinstance(first, Tree) and self._word(first) == "rip":
            return self.datum(token, None, width)
        address = self.address(token)
        if str(token) in self.names.data and self.names.data[str(token)].percpu:
            raise self._no_datum(token, None, self.names.data[str(token)])
        return self.memory(None, address, arguments, width or 64)

    def memory(self, segment: str | None, disp: int, arguments: Tree[Token], width: int) -> MemoryRef:
        """An operand with registers: ``arguments`` are base, index and scale."""
        parts = cast("list[Tree[Token]]", arguments.children)
        if len(parts) > 3:
            raise self.error(parts[3], "a memory operand has a base, an index and a scale, no more")
        base = self._whole_register(parts[0])
        index = self._whole_register(parts[1]) if len(parts) > 1 else None
        if index == "rsp":
            raise self.error(parts[1], "%rsp cannot be an index")
        scale = 1
        if len(parts) > 2:
            token = parts[2].children[0]
            scale = self.number(token) if isinstance(token, Token) and parts[2].data == "number" else 0
            if scale not in (1, 2, 4, 8):
                raise self.error(parts[2], "a scale is 1, 2, 4 or 8")
        return MemoryRef(segment, base, index, scale, signed(disp), width)

    def _word(self, tree: Tree[Token]) -> str | None:
        is_word = tree.data in ("name", "register")
        return str(tree.children[0]).removeprefix("%") if is_word else None

    def _whole_register(self, tree: Tree[Token]) -> str:
        word = self._word(tree)
        if word not in GENERAL_REGISTERS:
            hint = nearest(word, GENERAL_REGISTERS) if word else None
            raise self.error(tree, "an address is made of 64-bit general registers", hint)
        return str(word)
