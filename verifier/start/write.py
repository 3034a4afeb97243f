"""A survey as the text of a specification, which loads as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.machine.events import EVENTS
from verifier.start.survey import NAME

if TYPE_CHECKING:
    from verifier.start.fields import Part
    from verifier.start.survey import Survey, Use

#: What names of handlers have in them, beside the events' own names.
_HINTS = {
    "nmi": "nmi", "int3": "breakpoint", "mce": "machine_check", "mchk": "machine_check", "dblfault": "double_fault",
    "page": "page_fault", "prot": "general_protection", "irq": "irq", "interrupt": "irq", "timer": "irq",
    "dbg": "debug", "divide": "divide_error", "xxalign": "alignment_check",
}  # fmt: skip
#: Events whose gates name a stack of their own on most systems.
_OWN_STACK = ("nmi", "machine_check", "double_fault", "debug")
#: What YAML may take for something else than text.
_WORDS = ("null", "true", "false", "yes", "no", "on", "off")
_MOST_PLACES = 4


@dataclass(frozen=True, slots=True)
class Gate:
    event: str
    entry: str

    @property
    def stack(self) -> str | None:
        return f"{self.event}_ist" if self.event in _OWN_STACK else None


def gates_of(entries: Iterable[str]) -> list[Gate]:
    """An event for each entry, guessed from its name; an NMI if the name tells nothing. One entry an event."""
    gates: dict[str, Gate] = {}
    for entry in entries:
        gate = Gate(_event(entry), entry)
        gates.setdefault(gate.event, gate)
    return list(gates.values())


def _event(entry: str) -> str:
    word = entry.lower()
    named = next((event for event in EVENTS if event in word), None)
    return named or next((event for part, event in _HINTS.items() if part in word), "nmi")


def specification(survey: Survey, files: Sequence[str]) -> str:
    """The text; ``files``: the objects, as the specification is to name them. It ends in a newline."""
    parts = (_head(survey, files), _program(survey, files), _machine(survey), _calls(survey), _environment(survey))
    return "\n".join(line for part in (*parts, _properties()) for line in part) + "\n"


def _head(survey: Survey, files: Sequence[str]) -> Iterator[str]:
    count = survey.instructions - survey.nops
    yield f"# Begun by 'verifier new' from what {', '.join(files)} says of itself."
    yield "# What is marked (?) is a guess; read everything else too."
    yield f"# From {', '.join(survey.entries)}, direct jumps and calls lead to"
    yield f"# {count} instructions and {survey.nops} nops."
    yield from _list("# Indirect jumps and calls: the search finds out where they lead.", survey.indirect)
    yield from _list("# Not supported yet. A search that comes there says so, and ends:", survey.problems)
    yield "format: 1"
    yield f"title: {_quoted(survey.entries[0] + ' of ' + files[0])}"


def _list(head: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield head
        yield from (f"#   {_one_line(item)}" for item in items)


def _program(survey: Survey, files: Sequence[str]) -> Iterator[str]:
    yield "program:"
    shown = [_quoted(f) for f in files]
    yield f"  object: {shown[0] if len(shown) == 1 else '[' + ', '.join(shown) + ']'}"
    known = {g.entry for g in gates_of(survey.entries)}
    more = [_quoted(e) for e in survey.entries if e not in known]
    if more:
        yield f"  entry: [{', '.join(more)}]"
    if not survey.alternatives:
        return
    yield "  # Code on this path is replaced while the system boots. Or list the features that your processor has, of"
    for feature, places in sorted(survey.alternatives.items()):
        yield f"  #   {feature} (word {feature // 32}, bit {feature % 32}): {_places(places)}"
    yield "  alternatives: original"


def _machine(survey: Survey) -> Iterator[str]:
    gates = gates_of(survey.entries)
    stacks = [g.stack for g in gates if g.stack]
    shared = any(g.stack is None for g in gates)
    yield "machine:"
    yield "  stacks:"
    yield from (f"    {stack}: {{size: 4096}}  # (?)" for stack in stacks)
    if shared:
        yield "    kernel_stack: {size: 8192}  # (?)"
        yield "  rsp0: kernel_stack  # where events from user mode push their frames"
    yield "  idt:"
    for gate in gates:
        stack = f", stack: {gate.stack}" if gate.stack else ""
        yield f"    {gate.event}: {{entry: {_quoted(gate.entry)}, gate: interrupt{stack}}}  # (?) by its name"
    yield "    # Other events need gates too. Handlers that are not shown are told by what they may do:"
    yield "    #   page_fault: {contract: {}, gate: interrupt}"
    if survey.mnemonics & {"rdmsr", "wrmsr"}:
        yield "  # rdmsr and wrmsr are on the path. Registers other than the GS bases must be named:"
        yield "  #   msrs: {0x48: {}}"
    data = [u for u in survey.uses.values() if not u.is_code]
    yield from _data("percpu", [u for u in data if u.percpu], [p for p in survey.parts if p.percpu])
    yield from _data("data", [u for u in data if not u.percpu], [p for p in survey.parts if not p.percpu])
    for table, places in survey.tables.items():
        yield f"  # {table} is read by an index at {_places(places)}: name an element that counts, as"
        yield f"  #   data: {{element: {{of: {table}, offset: 0, size: 8, initially: percpu.base}}}}"


def _data(part: str, uses: Sequence[Use], parts: Sequence[Part]) -> Iterator[str]:
    named, own = [u for u in uses if NAME.fullmatch(u.name)], [p for p in parts if NAME.fullmatch(p.symbol)]
    if not named and not own:
        return
    yield "  # As many bytes of each as this path uses. 'initially: 0' says what one holds before the first event."
    yield f"  {part}:"
    for use in named:
        why = f"used at {_places(use.accessed)}" if use.size else f"(?) its address: {_places(use.address_taken)}"
        yield f"    {use.name}: {{size: {use.size or 8}}}  # {why}"
    for found in own:
        yield f"    {found.name}: {_entry(found)}  # used at {_places(found.accessed)}"


def _entry(part: Part) -> str:
    """Of an executable's own data: a name for a field, or what may stand there for the whole."""
    if not part.percpu:
        return f"{{size: {part.size}}}"
    return "{}" if part.is_whole else f"{{of: {part.symbol}, offset: {part.offset}, size: {part.size}}}"


def _calls(survey: Survey) -> Iterator[str]:
    functions = [u for u in survey.uses.values() if u.is_code and NAME.fullmatch(u.name)]
    if not functions:
        return
    yield "# Functions that are called and not defined, or that an executable has."
    yield "# An empty contract is the psABI's; add what each may do:"
    yield "#   {may: [page_fault, change_if, iret, schedule, not_return], writes: [NAME]}"
    yield "# What is jumped to may be a thunk that keeps to no ABI: then hand over the object that defines it as well."
    yield "calls:"
    for use in functions:
        how = f"called at {_places(use.called)}" if use.called else f"jumped to at {_places(use.jumped_to)}"
        yield f"  {use.name}: {{}}  # {how}"


def _environment(survey: Survey) -> Iterator[str]:
    events = [g.event for g in gates_of(survey.entries)]
    swaps = "swapgs" in survey.mnemonics
    yield "environment:"
    yield "  interrupted:"
    if swaps:
        yield "    - user: {gs: user}  # there is a swapgs on the path"
    else:
        yield "    - user  # with the kernel's GS base: write 'user: {gs: user}' if the entry changes it"
    yield "    - kernel"
    if swaps:
        yield "    # an entry of the kernel's that is struck before its own swapgs, still on the user's stack:"
        yield "    #   - syscall_gap: {cpl: 0, gs: user, stack: none, fixed: {if: 0}}"
    asynchronous = [e for e in events if EVENTS[e].asynchronous]
    counted = ", ".join(f"{event}: any" for event in asynchronous or ["nmi"])
    shown = events if asynchronous else []
    yield f"  events: {{{counted}}}" if len(shown) == len(asynchronous) else f"  events: {{{counted}}}  # (?)"


def _properties() -> Iterator[str]:
    yield "properties:"
    yield "  # back in the interrupted context, everything is what it was"
    yield "  context-restored:"
    yield "    that: restored(rip, cs, rflags, rsp, ss, registers)"
    yield "  # at every boundary, the five words of the interrupted context are still to be found somewhere"
    yield "  frame-intact:"
    yield "    that: intact(frame)"
    yield "  # from every state, some run without further events comes home"
    yield "  comes-home:"
    yield "    that: progress"


def _places(places: Sequence[str]) -> str:
    shown = ", ".join(_one_line(p) for p in places[:_MOST_PLACES])
    return shown if len(places) <= _MOST_PLACES else f"{shown} and {len(places) - _MOST_PLACES} more places"


def _quoted(text: str) -> str:
    """A scalar of YAML that is read as this text."""
    if re.fullmatch(r"[A-Za-z0-9_][\w./+-]*[A-Za-z]", text, re.ASCII) and text.lower() not in _WORDS:
        return text
    return "'" + _one_line(text).replace("'", "''") + "'"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
