"""The rest of the machine: segments, IDT gates, and the contracts of holes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from verifier.errors import SpecError, nearest
from verifier.ir.cells import CELL_NAMES, FLAGS, STATUS_FLAGS
from verifier.machine.config import Contract, Gate, Region, Segment
from verifier.machine.events import EVENTS
from verifier.spec.names import GENERAL_BUT_RSP, Names

if TYPE_CHECKING:
    from verifier.asm.program import Instruction, Program
    from verifier.spec.document import Fields, Value

IRQ_VECTOR = 0x20
CHANGE_IF = "change_if"

#: name -> selector unless the spec says otherwise, kind, DPL, whether 64-bit code.
SEGMENTS: dict[str, tuple[int, Literal["code", "data"], int, bool]] = {
    "kernel_cs": (0x10, "code", 0, True),
    "kernel_ss": (0x18, "data", 0, False),
    "user_cs": (0x33, "code", 3, True),
    "user_ss": (0x2B, "data", 3, False),
    "user32_cs": (0x23, "code", 3, False),
}

#: What a hole may change unless the spec says that it keeps it.
CHANGED_BY_DEFAULT = (*GENERAL_BUT_RSP, *STATUS_FLAGS)
KEPT_GROUPS = {"registers": GENERAL_BUT_RSP, "status_flags": STATUS_FLAGS, "flags": FLAGS}

#: Faults that code can raise by itself: everything that does not come from outside, but for aborts.
RAISABLE = tuple(e.name for e in EVENTS.values() if not e.asynchronous and e.name != "double_fault")


def read_selectors(machine: Fields) -> dict[str, int]:
    """The selectors by name. SpecError for one whose RPL does not fit, or two for one descriptor."""
    given = machine["segments"].fields(SEGMENTS) if "segments" in machine else None
    selectors: dict[str, int] = {}
    for name, (default, _, dpl, _) in SEGMENTS.items():
        value = given[name] if given and name in given else None
        selector = value.integer(8, 0xFFFF) if value else default
        if value and selector & 7 != dpl:
            message = f"{name} must select the GDT with RPL {dpl}, {selector:#x} does not"
            raise value.error(message, f"write {selector & ~7 | dpl:#x}")
        taken = next((n for n, s in selectors.items() if s >> 3 == selector >> 3), None)
        if taken:
            where = value or machine["segments"]
            raise where.error(f"{name} and {taken} select the same descriptor ({selector & ~7:#x})")
        selectors[name] = selector
    return selectors


def segments_of(selectors: Mapping[str, int]) -> dict[int, Segment]:
    """The descriptors by selector, RPL included."""
    return {
        selectors[name]: Segment(selectors[name], kind, dpl, long)
        for name, (_, kind, dpl, long) in SEGMENTS.items()
    }


def code_label(value: Value, names: Names) -> int:
    """The address of a label that an instruction stands at. SpecError with the nearest label."""
    word = value.text("a label")
    if word not in names.code:
        known = "stands at no instruction" if word in names.symbols else "does not exist"
        raise value.error(f"the label '{word}' {known}", nearest(word, names.code))
    return names.code[word]


def read_gates(machine: Fields, names: Names, regions: Mapping[str, Region]) -> dict[int, Gate]:
    """The IDT by vector."""
    gates: dict[int, Gate] = {}
    for key, value in machine.entries("idt"):
        gate = _gate(key.choice(EVENTS, "event"), value, names, regions)
        if gate.vector in gates:
            raise key.error(f"vector {gate.vector} has a gate already, for {gates[gate.vector].event}")
        gates[gate.vector] = gate
    return gates


def _gate(event: str, value: Value, names: Names, regions: Mapping[str, Region]) -> Gate:
    fields = value.fields(("entry", "gate", "stack", "vector", "dpl"), required=("entry", "gate"))
    vector = EVENTS[event].vector
    if vector is None:
        vector = fields.get("vector", lambda v: v.integer(32, 255), IRQ_VECTOR)
    elif "vector" in fields and fields["vector"].integer(0, 255) != vector:
        raise fields["vector"].error(f"the vector of {event} is {vector}", "leave 'vector' out")
    kind = cast("Literal['interrupt', 'trap']", fields["gate"].choice(("interrupt", "trap"), "kind of gate"))
    stack = fields.get("stack", lambda v: stack_name(v, regions), None)
    dpl = fields.get("dpl", lambda v: v.integer(0, 3), 0)
    return Gate(vector, event, code_label(fields["entry"], names), kind, stack, dpl)


def stack_name(value: Value, regions: Mapping[str, Region]) -> str:
    """The name of a region of ``machine.stacks``."""
    return value.choice((r.name for r in regions.values() if r.kind == "stack"), "stack")


def holes_of(program: Program) -> dict[str, Instruction]:
    """The holes of a program by name, each with the instruction that stands for its start."""
    return {i.hole: i for i in program if i.hole is not None and i.mnemonic == "hole_enter"}


def read_contracts(root: Fields, program: Program, names: Names) -> dict[str, Contract]:
    """A contract for each hole. SpecError for a hole without one, and for one without a hole."""
    holes = holes_of(program)
    contracts: dict[str, Contract] = {}
    for key, value in root.entries("holes"):
        name = key.text("a hole's name")
        if name not in holes:
            hint = nearest(name, holes) or f"the holes are {', '.join(holes) or 'none'}"
            raise key.error(f"the program has no hole '{name}'", hint)
        contracts[name] = _contract(name, value, names)
    for name, instruction in holes.items():
        if name not in contracts:
            hint = f"add '{name}: {{keeps: [registers]}}' to 'holes' in the specification"
            raise SpecError(f"nothing says what the hole '{name}' may do", instruction.span, hint)
    return contracts


def _contract(name: str, value: Value, names: Names) -> Contract:
    fields = value.fields(("may", "keeps", "saves", "stack", "writes"))
    may = [_allowed(v) for v in fields.items("may")]
    kept: set[str] = set()
    for item in fields.items("keeps"):
        kept.update(_kept(item, may))
    saved: set[str] = set()
    for item in fields.items("saves"):
        saved.update(_saved(item, kept))
    # An instruction of the hidden code that completes clears RF; a fault's return to one that did not has set it.
    changed = {c for c in CHANGED_BY_DEFAULT if c not in kept} | {"rf"}
    if CHANGE_IF in may:
        changed.add("if")
    writes = [v.choice(names.data, "name of data") for v in fields.items("writes")]
    return Contract(
        name,
        tuple(c for c in CELL_NAMES if c in changed),
        tuple(dict.fromkeys(m for m in may if m != CHANGE_IF)),
        fields.get("stack", lambda v: v.integer(0, 65536, 8), 0),
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
