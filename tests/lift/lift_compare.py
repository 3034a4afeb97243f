"""Forms of instructions run on an oracle, and compared: the block on numbers with the oracle; the symbolic machine and
the concrete interpreter with the block; the flags left undefined with the manual's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lift_cases import groups
from lift_concrete import differences, run_undefined
from lift_machine import FIXED, Both
from lift_undefined import undefined_flags

from verifier.ir.cells import STATUS_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lift_cases import Group, World
    from lift_concrete import State
    from lift_shapes import Form

    from verifier.asm.program import Instruction

Case = tuple["Instruction", "State"]
_BATCH = 4000


class Oracle(Protocol):
    """What runs states and was not written here."""

    def run(self, batch: Sequence[Case]) -> list[State]: ...


@dataclass
class Report:
    """``states``: how many were run, by form; ``wrong``: what differs, by line."""

    states: Counter[Form] = field(default_factory=Counter)
    wrong: dict[str, object] = field(default_factory=dict)


def compare(forms: Sequence[Form], world: World, oracle: Oracle, count: int, each: int) -> Report:
    """Every form from ``count`` groups of ``each`` states; one that found fewer is wrong too."""
    report = Report()
    for batch in _batches((form, group) for form in forms for group in groups(form, world, count, each)):
        observed = iter(oracle.run([(group.instruction, state) for _, group in batch for state in group.states]))
        for form, group in batch:
            report.states[form] += len(group.states)
            for name, what in _compare_group(group, world, observed):
                report.wrong.setdefault(f"{world.name}: {group.instruction.text}: {name}", what)
    report.wrong |= {f"states of {f}": report.states[f] for f in forms if report.states[f] != count * each}
    return report


def _batches(items: Iterable[tuple[Form, Group]]) -> Iterator[list[tuple[Form, Group]]]:
    batch: list[tuple[Form, Group]] = []
    for form, group in items:
        batch.append((form, group))
        if sum(len(g.states) for _, g in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _compare_group(group: Group, world: World, observed: Iterator[State]) -> Iterator[tuple[str, object]]:
    block, pins = group.block, {name: group.states[0].cells[name] for name in group.pins}
    machines = Both(group.instruction, block, pins, group.states[0].segments)
    for number, before in enumerate(group.states):
        found: dict[str, object] = dict(_against_oracle(group, world, before, next(observed)))
        found |= machines.differences(_at_cpl0(before), random.Random(f"{group.instruction.text} {number}"))
        where = {name: hex(before.cells[name]) for name in (*group.pins, "cpl", "iopl", "rax", "rcx", "rdx")}
        for name, what in found.items():
            yield name, (what, where)


def _at_cpl0(before: State) -> State:
    state = before.copy()
    state.cells |= FIXED
    return state


def _against_oracle(group: Group, world: World, before: State, observed: State) -> Iterator[tuple[str, object]]:
    outcome = run_undefined(group.block, before)
    if (outcome.after.rip, observed.rip) not in world.deviations:
        ignored = world.wrong.get(group.instruction.mnemonic, frozenset())
        yield from ((name, what) for name, what in differences(outcome, observed).items() if name not in ignored)
    undefined = {cell for cell in outcome.undefined if cell in STATUS_FLAGS}
    faulted = str(outcome.after.rip).startswith("fault")
    expected = set() if faulted else undefined_flags(group.instruction, before)
    if undefined != expected:
        yield "undefined flags", (undefined, expected)
