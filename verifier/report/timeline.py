"""A counterexample as a timeline: who was interrupted, each step, the saved frames, and what broke."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS
from verifier.machine.config import MSRS
from verifier.machine.events import MISHAPS
from verifier.report.contexts import contexts_before_last
from verifier.report.names import FRAME, WORD, Names, flags_text, frame_of, rflags_of
from verifier.report.rows import render, rows_of
from verifier.trace.resumed import context_resumed

if TYPE_CHECKING:
    from verifier.machine.config import Region
    from verifier.report.contexts import Saved
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Trace

_LEGEND = "IF and NMI as they stand before each line; NMI: - open, B blocked, P one is held pending"
_WIDTH = 116
_COPIES = 4
#: Words of the interrupted context that the specification fixes: they can be restored without any copy.
_FIXED = ("cs", "ss")
#: Kinds of violations that speak of the state in which an interrupted context goes on.
_AT_RETURN = ("restored", "resumed", "at-rest", "handled")


def timeline(trace: Trace) -> str:
    """The whole run as plain text, ending in the sentence that says what broke."""
    sections = [
        _head(trace),
        [_LEGEND, *render(rows_of(trace))],
        _frames(trace),
        _copies(trace),
        _cells(trace),
        _wrapped(f"broken: {broken(trace)}"),
    ]
    return "\n\n".join("\n".join(s) for s in sections if s)


def broken(trace: Trace) -> str:
    """What broke, in one sentence; a mishap with the addresses of this run."""
    if trace.kind in MISHAPS and trace.steps:
        return f"{MISHAPS[trace.kind]}: {trace.steps[-1].detail}"
    return trace.broken


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False)


def _head(trace: Trace) -> list[str]:
    start, names = trace.start, Names(trace)
    cells = start.state.cells
    interrupted = (
        f"interrupted: {trace.context.name} code at {start.home:#x}  rsp {names.value(cells['rsp'])}  "
        f"rflags {flags_text(rflags_of(start.state))}  cs {cells['cs']:#x}  ss {cells['ss']:#x}"
    )
    if trace.context.gs == "user":
        interrupted += f"  gs_base {names.value(cells['gs_base'])}"
    events = [f"{name} {_place(at, n, names)}" for name, at, n in trace.schedule]
    regions = [f"{name} at {base:#x}" for name, base in start.bases.items() if name != MSRS]
    lines = [interrupted, *_wrapped(f"events: {'; '.join(events)}")]
    if regions:
        lines += _wrapped(f"memory: {', '.join(regions)}")
    data = [f"{d.name}={_datum(trace, b + d.offset, d.size)}" for b, r in _regions(trace) for d in r.data]
    if data:
        lines += _wrapped(f"at the start: {', '.join(data)}")
    rules = [name for name, value in start.rules.items() if value]
    if rules:
        lines.append(f"on a processor with: {', '.join(rules)}")
    return lines


def _place(at: int | None, occurrence: int, names: Names) -> str:
    if at is None:
        return "in the interrupted context"
    again = f" (time {occurrence} that control is there)" if occurrence > 1 else ""
    return f"at {names.code(at)}{again}"


def _regions(trace: Trace) -> list[tuple[int, Region]]:
    regions = trace.model.machine.regions
    return [(base, regions[name]) for name, base in trace.start.bases.items() if regions[name].writable]


def _datum(trace: Trace, address: int, size: int) -> str:
    value = trace.start.state.read(address, size)
    return Names(trace).value(value) if size == WORD else f"{value:#x}"


def _frames(trace: Trace) -> list[str]:
    """The frames of contexts that were still to be resumed, before the last step and after it."""
    live = contexts_before_last(trace)
    if not live:
        return []
    last, names = trace.steps[-1], Names(trace)
    lines = ["saved frames not yet resumed, before the last step and after it:"]
    for saved in live:
        place = names.address(saved.frame)
        lines.append(f"  {saved.whose}, by {saved.event}, at {place}: {names.frame(saved.words)}")
        before, after = (_difference(saved, state, names) for state in (last.before, last.after))
        lines += _both(before, after)
    return lines


def _difference(saved: Saved, state: ConcreteState, names: Names) -> str:
    now = saved.now(state)
    changed = [f"{n} is {names.value(now[n])}" for n in FRAME if now[n] != saved.words[n]]
    return ", ".join(changed) or "as saved"


def _copies(trace: Trace) -> list[str]:
    """Where each word of the interrupted context can be found before the last step and after it."""
    if trace.kind in _AT_RETURN or not trace.steps:
        return []
    last, names = trace.steps[-1], Names(trace)
    words = frame_of(trace.start.state, trace.start.home)
    lines = ["the interrupted context's words, where they are found before the last step and after it:"]
    for name, value in words.items():
        before, after = (_found(value, state, names) for state in (last.before, last.after))
        fixed = "  (the same in every run)" if name in _FIXED and name not in trace.context.ldt else ""
        lines.append(f"  {name:6} {value:#x}{fixed}")
        lines += _both(before, after)
    return lines


def _both(before: str, after: str) -> list[str]:
    if before == after:
        return [f"    both:   {after}"]
    return [f"    before: {before}", f"    after:  {after}"]


def _found(value: int, state: ConcreteState, names: Names) -> str:
    """Registers and aligned words of memory that hold a value."""
    registers = [r for r in GENERAL_REGISTERS if state.cells[r] == value]
    addresses = sorted({a & -WORD for a in state.memory})
    words = [names.address(a) for a in addresses if state.read(a, WORD) == value]
    found = registers + words
    more = [f"and {len(found) - _COPIES} more"] if len(found) > _COPIES else []
    return ", ".join(found[:_COPIES] + more) or "nowhere"


def _cells(trace: Trace) -> list[str]:
    """What the cells that should have been restored were, and what they are."""
    if trace.kind not in ("restored", "resumed") or not trace.steps:
        return []
    start, last = trace.start.state, trace.steps[-1].after
    before = context_resumed(trace) if trace.kind == "resumed" else None
    lines = [f"{'':8}{'was':24}is"]
    for name in trace.names:
        was = _cell(start, name) if before is None else f"{before[name]:#x}"
        lines.append(f"{name:8}{was:24}{_cell(last, name)}")
    return lines


def _cell(state: ConcreteState, name: str) -> str:
    if name == "rip":
        return f"{state.rip:#x}"
    if name == "rflags":
        return flags_text(rflags_of(state))
    return f"{state.cells[name]:#x}"
