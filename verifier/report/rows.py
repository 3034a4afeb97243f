"""The rows of a timeline: source lines, event marks, frames, returns, indented by who interrupted whom."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from verifier.asm.outside import SOURCE
from verifier.machine.events import EVENTS
from verifier.report.changes import changes
from verifier.report.contexts import Contexts
from verifier.report.names import Names

if TYPE_CHECKING:
    from verifier.asm.program import Instruction
    from verifier.report.contexts import Return
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Step, Trace

BAR, STRIKE, BACK, CROSS = "│ ", "↯ ", "↩ ", "✗ "
_TEXT = 52
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a timeline. ``state``: that before it, at a boundary; ``notes``: what came of it."""

    text: str
    depth: int
    where: str = ""
    state: ConcreteState | None = None
    notes: list[str] = field(default_factory=list)


def render(rows: list[Row]) -> list[str]:
    """The rows in columns: source line, IF, NMI latches, then the text with its notes, wrapped where long."""
    width = max([4, *(len(r.where) for r in rows)])
    head = f"{'line':>{width}}  IF  NMI"
    return [head, *(line for row in rows for line in _row(row, width))]


def _row(row: Row, width: int) -> list[str]:
    marks = f"{row.state.cells['if']:>2}  {_nmi(row.state):>3}" if row.state is not None else " " * 7
    left = f"{row.where:>{width}}  {marks}  "
    tree = BAR * row.depth
    text = f"{left}{tree}{row.text}"
    if not row.notes:
        return [text.rstrip()]
    column = len(left) + _TEXT
    blank = f"{'':{len(left)}}{tree}"
    lines = textwrap.wrap("  ".join(row.notes), max(40, _WIDTH - column), break_long_words=False)
    first = f"{text:{column}}" if len(text) < column else f"{text}  "
    rest = [f"{blank:{column}}{line}" for line in lines[1:]]
    return [first + lines[0], *rest]


def _nmi(state: ConcreteState) -> str:
    if not state.nmi_blocked:
        return "P" if state.nmi_pending else "-"
    return "BP" if state.nmi_pending else "B"


def rows_of(trace: Trace) -> list[Row]:
    """Every step of a run."""
    writer = _Writer(trace)
    for i, step in enumerate(trace.steps):
        if i == trace.quiet_from:
            writer.say("from here on without any further event:")
        writer.step(step)
    return writer.rows


class _Writer:
    def __init__(self, trace: Trace) -> None:
        self._program = trace.model.machine.program
        self._names = Names(trace)
        self._contexts = Contexts(self._program)
        self._several = len({i.span.file for i in self._program} - {SOURCE}) > 1
        self.rows: list[Row] = []

    def say(self, text: str) -> None:
        self.rows.append(Row(text, self._contexts.depth))

    def step(self, step: Step) -> None:
        depth = self._contexts.depth
        returned = self._contexts.follow(step)
        if step.move.action != "execute":
            self._event(step, depth)
        else:
            self._instruction(step, depth, returned)
        if step.delivered:
            frame = self._contexts.live[-1]
            self.say(f"frame at {self._names.address(frame.frame)}: {self._names.frame(frame.words)}")
        if step.ended not in (None, "home"):
            self.say(f"{CROSS}{step.ended}: {step.detail}")

    def _event(self, step: Step, depth: int) -> None:
        instruction = self._program.instructions.get(step.before.rip) if step.at is not None else None
        where = f"at {self._names.code(step.at)}" if step.at is not None else "in the interrupted context"
        if instruction is not None and instruction.mnemonic == "hole_body":
            where = f"inside {instruction.hole}"
        name = step.move.action
        if step.move.latch:
            self._strike(f"{name} arrives {where} while NMIs are blocked: held pending", depth, step)
            return
        self._strike(f"{name} {where}", depth, step)
        if len(step.delivered) > 1 or step.delivered[-1:] != (name,):
            self._also(step, depth, after=name)

    def _strike(self, text: str, depth: int, step: Step) -> None:
        notes = [*_details(step), *changes(step, self._names)]
        self.rows.append(Row(f"{STRIKE}{text}", depth, "", step.before, notes))

    def _also(self, step: Step, depth: int, after: str) -> None:
        for name in step.delivered:
            if name != after:
                self.rows.append(Row(f"{STRIKE}{name}, while {after} is delivered", depth))

    def _instruction(self, step: Step, depth: int, returned: Return | None) -> None:
        instruction = self._program.instructions[step.before.rip]
        label = self._program.label_at(instruction.address)
        if label is not None:
            self.rows.append(Row(f"{label}:", depth))
        notes = [f"reads {v:#x} there" for kind, v in step.move.choices if kind == "load"]
        notes += changes(step, self._names)
        if step.before.nmi_blocked and not step.after.nmi_blocked:
            notes.append("NMIs unblocked")
        where = self._where(instruction)
        self.rows.append(Row(_shown(instruction), depth, where, step.before, notes))
        if returned is not None:
            self.say(self._back(returned, step))
        for name in step.delivered:
            self.rows.append(Row(f"{STRIKE}{name}{_error(step)}: this instruction raises it", depth))

    def _back(self, returned: Return, step: Step) -> str:
        saved = returned.context
        now = {"rip": step.after.rip, "rsp": step.after.cells["rsp"]}
        place = "" if saved.within is None else f" at {self._names.address(now['rip'])}"
        odd = [f"{n} was {self._names.value(saved.words[n])}" for n in returned.odd]
        if "rsp" in returned.odd:
            odd[-1] += f" and is {self._names.value(now['rsp'])}"
        return f"{BACK}back in {saved.whose}{place}{' (' + ', '.join(odd) + ')' if odd else ''}"

    def _where(self, instruction: Instruction) -> str:
        span = instruction.span
        if span.file == SOURCE:
            return ""
        if not span.line:
            return f"{instruction.address:x}"
        return f"{PurePath(span.file).name}:{span.line}" if self._several else str(span.line)


def _shown(instruction: Instruction) -> str:
    if instruction.mnemonic == "hole_enter":
        return "...  (begins: code that is not shown)"
    if instruction.mnemonic == "hole_body":
        return "...  (ends)"
    return " ".join(instruction.text.split())


def _details(step: Step) -> list[str]:
    """What hidden code has done first, and the error code of an injected fault; CR2 shows among the changes."""
    iret = ["an IRET in it has unblocked NMIs"] if ("hole.iret", 1) in step.move.choices else []
    return iret + [f"error code {value:#x}" for kind, value in step.move.choices if kind == "fault.error_code"]


def _error(step: Step) -> str:
    kind = EVENTS.get(step.delivered[-1])
    if kind is None or not kind.error_code:
        return ""
    return f"({step.after.read(step.after.cells['rsp'], 8):#x})"
