"""A YAML file as typed nodes that know their place: the only module that knows PyYAML.

Scalars stay text until a field asks for a kind: ``no`` is a word, ``010`` is no integer. Nothing is ever
constructed from tags; aliases, anchors and merge keys are refused: a file means no more than it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from verifier.errors import SpecError, nearest
from verifier.source import Span

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
#: Per list or mapping; what comes later may compare all entries with each other.
MAX_ENTRIES = 1000
#: In the whole file: PyYAML needs seconds for more.
MAX_NODES = 20_000
T = TypeVar("T")

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,39}|0[xX][0-9a-fA-F]{1,32})")

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*")


def integer_from(text: str) -> int | None:
    """The integer that a plain scalar spells, decimal or ``0x``; None for anything else, ``010`` included."""
    return int(text, 0) if _INTEGER.fullmatch(text) else None


def _shown(text: str) -> str:
    """The start of a scalar, fit for a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:40])


#: What could stand at a key that is missing.
_FOR_EXAMPLE = {
    "gate": "interrupt", "that": "progress", "interrupted": "[user, kernel]",
    "events": "{nmi: any}", "from_top": "8", "kind": "data",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one file: makes spans from character positions."""

    name: str
    text: str
    lines: tuple[str, ...]
    starts: tuple[int, ...]

    @staticmethod
    def of(name: str, text: str) -> Document:
        breaks = list(_LINE_BREAK.finditer(text))
        starts = (0, *(b.end() for b in breaks))
        return Document(name, text, tuple(_LINE_BREAK.split(text)), starts)

    def span(self, line: int, column: int, width: int = 1) -> Span:
        """``line`` and ``column`` count from 0; the span never leaves its line."""
        text = self.lines[min(line, len(self.lines) - 1)]
        end = max(column + 1, min(column + width, len(text)))
        return Span(self.name, line + 1, column + 1, end + 1, text)

    def span_at(self, index: int, width: int = 1) -> Span:
        """The span of the character at ``index`` of the whole text."""
        line = next(i for i in range(len(self.starts) - 1, -1, -1) if self.starts[i] <= index)
        return self.span(line, index - self.starts[line], width)


@dataclass(frozen=True, slots=True)
class Value:
    """One node of a document; ``path`` says what it is, for messages (``machine.idt.nmi.gate``)."""

    document: Document
    node: yaml.Node
    path: str

    @property
    def span(self) -> Span:
        start, end = self.node.start_mark, self.node.end_mark
        same_line = start.line == end.line
        return self.document.span(start.line, start.column, end.column - start.column if same_line else 10**6)

    def error(self, message: str, hint: str | None = None) -> SpecError:
        return SpecError(message, self.span, hint)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_plain(self) -> bool:
        """Whether it is a scalar without quotes."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.style is None

    def _unlike(self, wanted: str, hint: str | None = None) -> SpecError:
        if isinstance(self.node, yaml.ScalarNode):
            found = f"'{_shown(self.node.value)}'" if self.node.value else "nothing"
        else:
            found = "a mapping" if self.is_mapping else "a list"
        return self.error(f"{self.path or 'the specification'} must be {wanted}, not {found}", hint)

    def entries(self, what: str = "a mapping") -> list[tuple[Value, Value]]:
        """Keys and values of a mapping whose names are free. SpecError for another kind of node."""
        if not self.is_mapping:
            raise self._unlike(what)
        return [
            (Value(self.document, k, f"{self.path}.{k.value}" if self.path else k.value),
             Value(self.document, v, f"{self.path}.{k.value}" if self.path else k.value))
            for k, v in self.node.value
        ]  # fmt: skip

    def fields(self, known: Iterable[str], required: Iterable[str] = ()) -> Fields:
        """A mapping whose keys are known. SpecError for an unknown or a missing key."""
        known = tuple(known)
        found = {}
        for key, value in self.entries(f"a mapping with the keys {', '.join(known)}"):
            name = key.node.value
            if name not in known:
                where = f" in {self.path}" if self.path else ""
                hint = nearest(name, known) or f"the keys here are {', '.join(known)}"
                raise key.error(f"unknown key '{name}'{where}", hint)
            found[name] = value
        for name in required:
            if name not in found:
                where = self.path or "the specification"
                raise self.error(f"{where} has no '{name}'", f"add '{name}: {_FOR_EXAMPLE.get(name, '…')}'")
        return Fields(self, found)

    def items(self) -> list[Value]:
        """The items of a list. SpecError for another kind of node."""
        if not self.is_sequence:
            raise self._unlike("a list", "write it in brackets: [first, second]")
        return [Value(self.document, n, f"{self.path}[{i}]") for i, n in enumerate(self.node.value)]

    def one_or_more(self) -> list[Value]:
        """The items of a list, or the one thing that stands there without brackets."""
        return self.items() if self.is_sequence else [self]

    def text(self, wanted: str = "text") -> str:
        """A scalar as written, not empty, all printable but for line breaks."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self._unlike(wanted)
        value = cast("str", self.node.value)
        if not value.strip():
            raise self._unlike(wanted)
        if not all(c.isprintable() or c in "\n\t" for c in value):
            raise self.error(f"{self.path} contains a control character")
        return value

    def identifier(self, what: str, dots: bool = True) -> str:
        """A name as an assembler takes it; ``dots`` allows ``.`` and ``$`` in it."""
        value = self.text(what)
        if not (_SYMBOL if dots else _WORD).fullmatch(value):
            raise self.error(f"'{_shown(value)}' cannot be {what}", "letters, digits and _, no digit first")
        return value

    def integer(self, low: int, high: int, step: int = 1) -> int:
        """A plain integer in ``low..high``, a multiple of ``step``."""
        value = integer_from(self.node.value) if self.is_plain else None
        if value is None:
            octal_hint = "a leading 0 is no octal here: write decimal or 0x…"
            quoted_hint = "write it without quotes"
            text = self.node.value if isinstance(self.node, yaml.ScalarNode) else ""
            octal = self.is_plain and text.startswith("0")
            hint = octal_hint if octal else quoted_hint if not self.is_plain else None
            raise self._unlike("an integer", hint if text.isdigit() else None)
        if not low <= value <= high:
            shown = [f"{n:#x}" if abs(n) > 1 << 32 else f"{n}" for n in (low, high)]
            raise self.error(f"{self.path} must be in {shown[0]}..{shown[1]}, not {self.node.value}")
        if value % step:
            raise self.error(f"{self.path} must be a multiple of {step}, not {self.node.value}")
        return value

    def choice(self, options: Iterable[str], what: str) -> str:
        """One of the ``options``. SpecError naming the nearest; ``what`` is the noun for the message."""
        options = tuple(options)
        value = self.text(f"one of {', '.join(options)}" if options else what)
        if value not in options:
            hint = nearest(value, options) or (f"known: {', '.join(options)}" if len(options) <= 12 else None)
            raise self.error(f"unknown {what} '{value}'", hint)
        return value


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one mapping by key."""

    whole: Value
    found: Mapping[str, Value]

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def __getitem__(self, key: str) -> Value:
        return self.found[key]

    def get(self, key: str, read: Callable[[Value], T], default: T) -> T:
        """``read`` of the field, or the default where it is absent."""
        return read(self.found[key]) if key in self.found else default

    def items(self, key: str) -> list[Value]:
        """The items of a list field; none where it is absent."""
        return self.found[key].items() if key in self.found else []

    def entries(self, key: str) -> Iterator[tuple[Value, Value]]:
        """Key and value of a mapping field with free names; none where it is absent."""
        return iter(self.found[key].entries() if key in self.found else ())


class _Loader(yaml.SafeLoader):
    """Composes nodes only; refuses what a reader of the file could not see at a glance."""

    def __init__(self, document: Document) -> None:
        super().__init__(document.text)
        self.document = document
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        where = self.document.span(event.start_mark.line, event.start_mark.column)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise SpecError("aliases and anchors are not supported", where, "write the value out")
        if event.tag is not None:
            raise SpecError(f"tags are not supported: '{event.tag}'", where, "write the plain value")
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise SpecError(f"more than {MAX_NODES:,} values in one file", where)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise SpecError(f"nested deeper than {MAX_DEPTH} levels", where)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.CollectionNode) and len(node.value) > MAX_ENTRIES:
            raise SpecError(f"more than {MAX_ENTRIES} entries", where)
        if isinstance(node, yaml.MappingNode):
            self.check_keys(node)
        return node

    def check_keys(self, node: yaml.MappingNode) -> None:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            value = Value(self.document, key, "a key")
            name = value.text("a word")
            if name == "<<" and value.is_plain:
                raise value.error("merge keys are not supported", "write the keys out")
            if name in first:
                line = first[name].start_mark.line + 1
                raise value.error(f"duplicate key '{name}'", f"it stands on line {line} already")
            first[name] = key


def read(path: Path, name: str) -> Value:
    """The root node of the file at ``path``, shown as ``name`` in messages.

    SpecError, with the position where there is one: no such file, not a regular file, larger than 1 MB,
    empty, not UTF-8, not YAML, or YAML that this module refuses.
    """
    document = Document.of(name, _decoded(_bytes(path, name), name))
    try:
        loader = _Loader(document)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        span = document.span(mark.line, mark.column) if mark else None
        raise SpecError(f"not YAML: {e.problem}", span, e.context) from None
    except yaml.reader.ReaderError as e:
        span = document.span_at(e.position)
        raise SpecError(f"a character that YAML does not allow: U+{e.character:04X}", span) from None
    except (ValueError, OverflowError) as e:  # PyYAML on "\\UFFFFFFFF"
        raise SpecError(f"not YAML: {e}", document.span(0, 0)) from None
    if node is None:
        raise SpecError("the file is empty", document.span(0, 0), "a specification starts with 'format: 1'")
    return Value(document, node, "")


def _bytes(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise SpecError(f"no such file: {name}")
        if not path.is_file():
            raise SpecError(f"not a regular file: {name}")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as e:
        raise SpecError(f"cannot read {name}: {e.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{name} is larger than {MAX_BYTES:,} bytes")
    return data


def _decoded(data: bytes, name: str) -> str:
    if 0 in data:
        raise _binary(data, data.index(0), name, "a NUL byte: this is no text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise _binary(data, e.start, name, "not UTF-8: this is no text file") from None


def _binary(data: bytes, at: int, name: str, message: str) -> SpecError:
    head = data[:at].decode("utf-8", "replace")
    document = Document.of(name, head + data[at : at + 80].decode("utf-8", "replace"))
    return SpecError(message, document.span_at(len(head)), "a specification is YAML in UTF-8")
