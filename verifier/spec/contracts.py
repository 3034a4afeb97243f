"""Contracts of code that is not shown: holes, functions that are called, handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from verifier.asm.outside import Stub
from verifier.errors import SpecError, nearest
from verifier.ir.cells import CELL_NAMES, FLAGS, STATUS_FLAGS
from verifier.machine.config import Contract
from verifier.machine.events import EVENTS
from verifier.spec.gates import RAISABLE, handler_label, is_hidden
from verifier.spec.names import GENERAL_BUT_RSP, Names

if TYPE_CHECKING:
    from verifier.asm.program import Instruction, Program
    from verifier.spec.document import Fields, Value

Kind = Literal["hole", "function", "handler"]

CHANGE_IF = "change_if"
KEPT_GROUPS = {"registers": GENERAL_BUT_RSP, "status_flags": STATUS_FLAGS, "flags": FLAGS}
_KEYS = ("may", "keeps", "saves", "stack", "writes")

#: What a called function puts back (System V psABI, AMD64 supplement, 3.2.1, table 3.4).
_CALLEE_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
#: General registers that code has put back at its end, unless the specification says otherwise.
_SAVED: dict[Kind, tuple[str, ...]] = {"hole": (), "function": _CALLEE_SAVED, "handler": GENERAL_BUT_RSP}
#: Bytes of stack that code uses, unless the specification says how many.
_STACK: dict[Kind, int] = {"hole": 0, "function": 256, "handler": 256}


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


def read_contracts(root: Fields, machine: Fields, program: Program, names: Names) -> dict[str, Contract]:
    """A contract for all hidden code. SpecError for a hole without one, and for one without a hole."""
    contracts: dict[str, Contract] = {}
    for key, value in root.entries("calls"):
        contracts[key.node.value] = _Reader(names, "function").contract(key.node.value, value)
    for key, value in machine.entries("idt"):
        if is_hidden(value):
            label = handler_label(key, value)
            contract = next(v for k, v in value.entries() if k.node.value == "contract")
            contracts[label] = _Reader(names, "handler").contract(label, contract)
    holes = {name: i for name, i in holes_of(program).items() if name not in contracts}
    for key, value in root.entries("holes"):
        name = key.text("a hole's name")
        if name not in holes:
            hint = nearest(name, holes) or f"the holes are {', '.join(holes) or 'none'}"
            raise key.error(f"the program has no hole '{name}'", hint)
        contracts[name] = _Reader(names, "hole").contract(name, value)
    for name, instruction in holes.items():
        if name not in contracts:
            hint = f"add '{name}: {{keeps: [registers]}}' to 'holes' in the specification"
            raise SpecError(f"nothing says what the hole '{name}' may do", instruction.span, hint)
    return contracts


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads contracts of one kind."""

    names: Names
    kind: Kind

    def contract(self, name: str, value: Value) -> Contract:
        fields = value.fields(_KEYS)
        may = [_allowed(v) for v in fields.items("may")]
        kept: set[str] = set()
        for item in fields.items("keeps"):
            kept.update(_kept(item, may))
        saved = {c for c in _SAVED[self.kind] if c not in kept}
        for item in fields.items("saves"):
            saved.update(_saved(item, kept))
        # An instruction of the hidden code that completes clears RF; a fault's return to one that did not has set it.
        changed = {c for c in (*GENERAL_BUT_RSP, *STATUS_FLAGS) if c not in kept} | {"rf"}
        if CHANGE_IF in may:
            changed.add("if")
        writes = [v.choice(self.names.data, "name of data") for v in fields.items("writes")]
        return Contract(
            name,
            tuple(c for c in CELL_NAMES if c in changed),
            tuple(dict.fromkeys(m for m in may if m != CHANGE_IF)),
            fields.get("stack", lambda v: v.integer(0, 65536, 8), _STACK[self.kind]),
            tuple(dict.fromkeys(writes)),
            tuple(c for c in CELL_NAMES if c in saved),
        )


def _allowed(value: Value) -> str:
    word = value.text("a fault, or change_if")
    if word in EVENTS and EVENTS[word].asynchronous:
        hint = "environment.events says whether it strikes, here and everywhere else"
        raise value.error(f"{word} needs no permission from a hole", hint)
    return value.choice((*RAISABLE, CHANGE_IF), "fault")


def _saved(value: Value, kept: set[str]) -> tuple[str, ...]:
    word = value.choice(("registers", *GENERAL_BUT_RSP), "general register")
    cells = KEPT_GROUPS.get(word, (word,))
    if kept.intersection(cells):
        raise value.error(f"'{word}' is both saved and kept", "keeps: never touched; saves: used, and put back")
    return cells


def _kept(value: Value, may: list[str]) -> tuple[str, ...]:
    word = value.choice((*KEPT_GROUPS, *CELL_NAMES), "register or flag")
    cells = KEPT_GROUPS.get(word, (word,))
    if "if" in cells and CHANGE_IF in may:
        raise value.error(f"'{word}' is kept, and change_if says that IF may change", "drop one of the two")
    return cells
