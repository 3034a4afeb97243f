"""What a verdict takes for granted, in sentences: printed with every proof."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from verifier.machine.config import MSRS, Context, Gate, MachineConfig, Pointer, Segment
from verifier.machine.events import EVENTS, MCG_STATUS
from verifier.spec.hidden import sentence

if TYPE_CHECKING:
    from verifier.spec.model import Environment


def assumptions(machine: MachineConfig, environment: Environment) -> tuple[str, ...]:
    """One sentence each, in a fixed order."""
    return (
        "there is one CPU, it sees its own accesses in program order, and nobody else writes its memory",
        *machine.program.conditions,
        *(_gate(g, machine.rsp0) for g in machine.gates.values()),
        *(sentence(c) for c in machine.contracts.values()),
        *(_context(c) for c in machine.contexts),
        *_home(machine.contexts),
        _segments(machine.segments.values(), machine.has_ldt),
        _events(environment),
        *_places(environment),
        *_regions(machine),
        _mapped(environment),
        *_msrs(machine),
        _at_start(machine),
    )


def _list(words: Iterable[str], nothing: str = "nothing") -> str:
    return ", ".join(words) or nothing


def _gate(gate: Gate, rsp0: str | None) -> str:
    effect = "clears IF" if gate.kind == "interrupt" else "leaves IF as it is"
    article = "an interrupt" if gate.kind == "interrupt" else "a trap"
    stack = f"on stack {gate.stack}" if gate.stack else "on the current stack"
    if gate.slot:
        stack = f"on the stack that {gate.slot} points to then"
    elif rsp0 and not gate.ist:
        stack += f", from CPL 3 on {rsp0}"
    return f"{gate.event} (vector {gate.vector}) enters through {article} gate ({effect}) {stack}"


def _context(context: Context) -> str:
    base = "the kernel's" if context.gs == "kernel" else "any value"
    base += " of the lower half" if context.low_gs else ""
    stack = f"rsp in the middle of {context.stack}" if context.stack else "any rsp"
    fixed = [
        f"{name} = {value:#x}" if value > 9 else f"{name} = {value}" for name, value in context.fixed.items()
    ]
    cs, ss = _selector(context, "cs"), _selector(context, "ss")
    return (
        f"interrupted: {context.name} (CPL {context.cpl}, cs {cs}, ss {ss}, "
        f"gs base: {base}, {stack}; {_list(fixed, 'no flag fixed')}; everything else arbitrary)"
    )


def _selector(context: Context, name: str) -> str:
    return "any of the LDT" if name in context.ldt else f"{getattr(context, name):#x}"


def _home(contexts: Iterable[Context]) -> Iterator[str]:
    yield "NMIs are not blocked in the interrupted context"
    if any(c.cpl == 0 for c in contexts):
        yield "an interrupted kernel context runs outside the program's text"
    if any(c.cpl == 3 for c in contexts):
        yield "code at CPL 3 has no segment of a lower DPL in ds, es, fs or gs"


def _segments(segments: Iterable[Segment], ldt: bool) -> str:
    listed = (f"{s.selector & ~3:#x} ({_described(s)})" for s in segments)
    others = "every other selector is a bad one"
    if ldt:
        others = f"one of the LDT with RPL 3 is good or bad each time, since the LDT may change; {others}"
    return f"the segments are {_list(listed)}, all present and flat; {others}"


def _described(segment: Segment) -> str:
    kind = "data" if segment.writable else "read-only data"
    if segment.kind == "code":
        kind = "64-bit code" if segment.long else "32-bit code"
    limit = "" if segment.limit is None else f", limit {segment.limit:#x}"
    return f"{kind}, DPL {segment.dpl}{limit}"


def _events(environment: Environment) -> str:
    counts = [
        f"{name} {'any number' if count is None else f'at most {count}'}"
        for name, count in environment.events.items()
    ]
    return f"events: {_list(counts)}; the first is {' or '.join(environment.outermost)}"


def _places(environment: Environment) -> Iterator[str]:
    for name, where in environment.places.items():
        how = "instead of the instruction there" if EVENTS[name].saved_rf else "with the rip of the boundary"
        yield f"{name} may also strike {where}, {how}"


def _msrs(machine: MachineConfig) -> Iterator[str]:
    if MSRS in machine.regions:
        names = _list(d.name for d in machine.regions[MSRS].data)
        yield f"the model-specific registers {names} take any value, and only what is shown and contracts change them"
    if machine.gate_of("machine_check") is not None and machine.msr(MCG_STATUS) is None:
        yield "machine checks find MCG_STATUS.MCIP clear: none shuts down because another is handled"


def _mapped(environment: Environment) -> str:
    also = ["where hidden code may raise it"]
    if "page_fault" in environment.places:
        also.append("where it may also strike")
    if "page_fault" in environment.outermost:
        also.append("in the interrupted context")
    return f"the text and all regions are mapped: a page fault comes only {' and '.join(also)}"


def _regions(machine: MachineConfig) -> Iterator[str]:
    floating = [r for r in machine.regions.values() if r.address is None]
    fixed = [r for r in machine.regions.values() if r.address is not None and r.kind != "msr"]
    sizes = (f"{r.name} ({r.size} bytes, aligned to {r.alignment})" for r in floating)
    yield f"regions do not overlap each other or the text: {_list(sizes)}"
    if machine.percpu_origin:
        yield f"the kernel's GS base is percpu.base, {machine.percpu_origin:#x} below the per-CPU data"
    if fixed:
        yield "at fixed addresses: " + _list(f"{r.name} ({r.size} bytes at {r.address:#x})" for r in fixed)


def _at_start(machine: MachineConfig) -> str:
    known = []
    for region in machine.regions.values():
        known += [f"{d.name} = {_value(d.initially)}" for d in region.data if d.initially is not None]
        if not region.writable:
            known.append(f"{region.name} as the program gives it")
    return f"at the start: {_list(known, 'nothing is known')}; everything else in memory is arbitrary"


def _value(value: int | Pointer) -> str:
    if isinstance(value, Pointer):
        return f"{value.region}.base + {value.offset:#x}"
    return f"{value:#x}" if value > 9 else f"{value}"
