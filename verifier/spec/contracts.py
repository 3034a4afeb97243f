"""Contracts of code that is not shown: holes, functions that are called, handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from verifier.asm.outside import Stub
from verifier.errors import SpecError, nearest
from verifier.ir.cells import CELL_NAMES, FLAGS, STATUS_FLAGS
from verifier.machine.config import Contract, Operand
from verifier.machine.events import EVENTS
from verifier.spec.gates import RAISABLE, handler_label, is_hidden
from verifier.spec.lower import cell_is, read_operand, read_truth, read_value
from verifier.spec.names import GENERAL_BUT_RSP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from verifier.asm.program import Instruction, Program
    from verifier.ir.formula import Formula
    from verifier.machine.config import Region
    from verifier.spec.document import Fields, Value
    from verifier.spec.names import Names

Kind = Literal["hole", "function", "handler"]

#: What hidden code may do besides raising faults.
CHANGE_IF, IRET, SCHEDULE, NOT_RETURN = "change_if", "iret", "schedule", "not_return"
POWERS = (CHANGE_IF, IRET, SCHEDULE, NOT_RETURN)
KEPT_GROUPS = {"registers": GENERAL_BUT_RSP, "status_flags": STATUS_FLAGS, "flags": FLAGS}
_KEYS = ("may", "keeps", "saves", "changes", "stack", "writes", "requires", "gives", "returns", "never")

#: What a called function puts back (System V psABI, AMD64 supplement, 3.2.1, figure 3.4).
CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
#: Bytes of stack that functions and handlers use, unless the specification says how many.
DEFAULT_STACK = 256
MAX_BYTES = 65536

#: Cells that hidden code can set: all but those that say where control is, and at what privilege.
GIVABLE = tuple(c for c in CELL_NAMES if c not in ("rsp", "cs", "ss", "cpl", "inhibit", "if", "rf", "tf", "vm"))
#: The bases are not: of any value they would not be canonical.
CHANGEABLE = tuple(c for c in GIVABLE if not c.endswith("_base"))

_NAME = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*")


def read_stubs(root: Fields, machine: Fields) -> tuple[Stub, ...]:
    """The code outside the program that ``calls`` and the gates speak of. SpecError for a name that is none."""
    functions = [_function(key) for key, _ in root.entries("calls")]
    handlers = [_handler(key, value) for key, value in machine.entries("idt") if is_hidden(value)]
    stubs: dict[str, Stub] = {}
    for stub in (*functions, *handlers):
        if stub.name in stubs:
            raise SpecError(f"'{stub.name}' is the name of other code outside the program", stub.span)
        stubs[stub.name] = stub
    return tuple(stubs.values())


def _function(key: Value) -> Stub:
    return Stub(key.identifier("a function's name"), key.span)


def _handler(key: Value, value: Value) -> Stub:
    event = EVENTS[key.choice(EVENTS, "event")]
    return Stub(handler_label(key, value), key.span, handler=True, error_code=event.error_code)


def holes_of(program: Program) -> dict[str, Instruction]:
    """Where hidden code begins, by name."""
    return {i.hole: i for i in program if i.hole is not None and i.mnemonic == "hole_enter"}


def read_contracts(
    root: Fields, machine: Fields, program: Program, names: Names, regions: Mapping[str, Region]
) -> dict[str, Contract]:
    """A contract for all hidden code. SpecError for a hole without one, and for one without a hole."""
    contracts: dict[str, Contract] = {}
    for key, value in root.entries("calls"):
        contracts[key.node.value] = _contract(key.node.value, value, "function", names, regions)
    for key, value in machine.entries("idt"):
        if is_hidden(value):
            label = handler_label(key, value)
            contract = next(v for k, v in value.entries() if k.node.value == "contract")
            contracts[label] = _contract(label, contract, "handler", names, regions)
    holes = {name: i for name, i in holes_of(program).items() if name not in contracts}
    for key, value in root.entries("holes"):
        name = key.text("a hole's name")
        if name not in holes:
            hint = nearest(name, holes) or f"the holes are {', '.join(holes) or 'none'}"
            raise key.error(f"the program has no hole '{name}'", hint)
        contracts[name] = _contract(name, value, "hole", names, regions)
    for name, instruction in holes.items():
        if name not in contracts:
            hint = f"add '{name}: {{keeps: [registers]}}' to 'holes' in the specification"
            raise SpecError(f"nothing says what the hole '{name}' may do", instruction.span, hint)
    return contracts


def _contract(name: str, value: Value, kind: Kind, names: Names, regions: Mapping[str, Region]) -> Contract:
    fields = value.fields((*_KEYS, "abi") if kind == "function" else _KEYS)
    psabi = kind == "function" and fields.get("abi", lambda v: v.choice(("psabi", "none"), "ABI"), "psabi") == "psabi"
    may = [_allowed(v) for v in fields.items("may")]
    gives = {cell: formula for cell, formula in (_given(k, v, names) for k, v in fields.entries("gives"))}
    cells = _cells(fields, kind, may, frozenset(gives), psabi=psabi)
    requires = [cell_is("df", 0)] if psabi else []
    requires += [cell_is("nmi_blocked", 0)] if SCHEDULE in may else []
    writes = _written(fields, names, regions)
    return Contract(
        name,
        tuple(c for c in CELL_NAMES if c in cells.changed),
        tuple(dict.fromkeys(m for m in may if m in RAISABLE)),
        fields.get("stack", lambda v: v.integer(0, MAX_BYTES, 8), 0 if kind == "hole" else DEFAULT_STACK),
        tuple(dict.fromkeys(writes.data)),
        tuple(c for c in CELL_NAMES if c in cells.saved),
        kind,
        requires=(*requires, *(read_truth(v, names) for v in fields.items("requires"))),
        gives=tuple(gives.items()),
        regions=tuple(dict.fromkeys(writes.regions)),
        operands=tuple(writes.operands),
        irets=IRET in may or SCHEDULE in may,
        schedules=SCHEDULE in may,
        returns=_returns(fields, may),
        never=tuple(dict.fromkeys(_never(v) for v in fields.items("never"))),
    )


def _returns(fields: Fields, may: list[str]) -> Literal["always", "maybe", "never"]:
    if "returns" not in fields:
        return "maybe" if NOT_RETURN in may else "always"
    fields["returns"].choice(("never",), "way to return")
    return "never"


def _never(value: Value) -> str:
    return value.choice((e.name for e in EVENTS.values() if e.asynchronous), "asynchronous event")


def _allowed(value: Value) -> str:
    word = value.text("a fault, or change_if")
    if word in EVENTS and EVENTS[word].asynchronous:
        hint = "environment.events says whether it strikes, here and everywhere else"
        raise value.error(f"{word} needs no permission from a hole", hint)
    return value.choice((*RAISABLE, *POWERS), "fault")


# registers and flags


@dataclass(frozen=True, slots=True)
class _Cells:
    """``changed``: what holds anything while the code runs; ``saved``: what of that it puts back."""

    changed: frozenset[str]
    saved: frozenset[str]


def _cells(fields: Fields, kind: Kind, may: list[str], gives: frozenset[str], *, psabi: bool) -> _Cells:
    kept: set[str] = set()
    for item in fields.items("keeps"):
        kept.update(_kept(item, may, gives))
    altered = {_altered(item, kept) for item in fields.items("changes")} | gives
    by_default = GENERAL_BUT_RSP if kind == "handler" else CALLEE_SAVED if psabi else ()
    saved = {c for c in by_default if c not in kept | altered}
    for item in fields.items("saves"):
        saved.update(_saved(item, kept, altered))
    # An instruction of the hidden code that completes clears RF; a fault's return to one that did not has set it.
    changed = {c for c in (*GENERAL_BUT_RSP, *STATUS_FLAGS) if c not in kept} | altered | {"rf"}
    if CHANGE_IF in may or SCHEDULE in may:
        changed.add("if")
    return _Cells(frozenset(changed), frozenset(saved))


def _kept(value: Value, may: list[str], gives: frozenset[str]) -> tuple[str, ...]:
    word = value.choice((*KEPT_GROUPS, *CELL_NAMES), "register or flag")
    cells = KEPT_GROUPS.get(word, (word,))
    power = next((m for m in (CHANGE_IF, SCHEDULE) if m in may), None)
    if "if" in cells and power is not None:
        raise value.error(f"'{word}' is kept, and {power} says that IF may change", "drop one of the two")
    if gives.intersection(cells):
        raise value.error(f"'{word}' is kept, and 'gives' says what it is at the end", "drop one of the two")
    return cells


def _altered(value: Value, kept: set[str]) -> str:
    cell = _cell(value, CHANGEABLE)
    if cell in kept:
        raise value.error(f"'{cell}' is both changed and kept", "drop one of the two")
    return cell


def _cell(value: Value, known: Collection[str]) -> str:
    word = value.node.value
    if word == "if":
        raise value.error("IF is changed by what may change it", f"add '{CHANGE_IF}' to 'may'")
    if word in GIVABLE and word not in known:
        hint = "'gives' can say what it is at the end"
        raise value.error(f"{word} cannot hold anything, only what is canonical", hint)
    return value.choice(known, "register or flag that hidden code can change")


def _saved(value: Value, kept: set[str], altered: Collection[str]) -> tuple[str, ...]:
    word = value.choice(("registers", *GENERAL_BUT_RSP), "general register")
    cells = KEPT_GROUPS.get(word, (word,))
    if kept.intersection(cells):
        raise value.error(f"'{word}' is both saved and kept", "keeps: never touched; saves: used, and put back")
    if set(altered).intersection(cells):
        raise value.error(f"'{word}' is both saved and changed", "saves: used, and put back")
    return cells


def _given(key: Value, value: Value, names: Names) -> tuple[str, Formula]:
    return _cell(key, GIVABLE), read_value(value, names)


# memory


@dataclass(frozen=True, slots=True)
class _Written:
    data: list[str] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)


def _written(fields: Fields, names: Names, regions: Mapping[str, Region]) -> _Written:
    """What it writes: named data, whole regions, operands. SpecError for more than `MAX_BYTES` of the latter two."""
    written = _Written()
    size = 0
    for value in fields.items("writes"):
        if value.is_mapping:
            place = value.fields(("at", "size"), required=("at", "size"))
            length = place["size"].integer(1, MAX_BYTES)
            written.operands.append(Operand(read_operand(place["at"], names)[0], length))
        elif (word := value.text("the name of data")) in names.data:
            written.data.append(word)
        elif word in regions:
            written.regions.append(_region(value, regions[word]))
        elif _NAME.fullmatch(word):
            value.choice((*names.data, *(r.name for r in regions.values() if r.writable)), "name of data")
        else:
            written.operands.append(Operand(*read_operand(value, names)))
        size = sum(regions[name].size for name in written.regions) + sum(o.size for o in written.operands)
        if size > MAX_BYTES:
            raise value.error(f"hidden code that writes {size} bytes", f"no more than {MAX_BYTES} in all")
    return written


def _region(value: Value, region: Region) -> str:
    if not region.writable:
        raise value.error(f"'{region.name}' is read-only", "leave it out")
    return region.name
