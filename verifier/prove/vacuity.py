"""Why a property that no run breaks may still say nothing: what was never looked at, and what never happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.state import HOME
from verifier.prove.progress import stuck_nodes
from verifier.spec.expression import AtRest, Binary, Handled, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.explore.graph import Graph
    from verifier.explore.schedule import Script
    from verifier.explore.search import Explorer
    from verifier.machine.config import MachineConfig
    from verifier.prove.judge import Judge
    from verifier.spec.model import Model, Property


def vacuous(p: Property, graph: Graph, judge: Judge, explorer: Explorer) -> str:
    """Why a property says nothing at all; empty if it says something."""
    if isinstance(p.that, Progress) and all(n.state.rip == HOME for n in graph.nodes):
        return "nothing strikes the interrupted context"
    if isinstance(p.that, AtRest) and not any(_at_rest(explorer.stepper.layout.machine)):
        return "nothing has a value at rest: no datum has an 'initially'"
    if judge.judged[p.name] == 0:
        return "no run reaches a place where the property is judged"
    if isinstance(p.that, Binary) and p.that.op == "->" and p.name not in judge.premises:
        return "what stands before '->' never holds where the property is judged"
    if isinstance(p.that, Handled) and not explorer.tally.any_struck(p.that.event):
        return f"{p.that.event} never strikes"
    return ""


def _at_rest(machine: MachineConfig) -> Iterator[bool]:
    for region in machine.regions.values():
        yield from (datum.initially is not None for datum in region.data)


def caveat(p: Property, graph: Graph, judge: Judge) -> str:
    """What a proof leaves open: places where the property was never judged, and runs that never come home."""
    if isinstance(p.at, frozenset):
        missed = [judge.where(address) for address in sorted(p.at - judge.places[p.name])]
        return f"never judged at {', '.join(missed)}: control does not come there" if missed else ""
    if p.at == "outermost-return" and graph.returns:
        return "of the runs that come home; whether all can is another question: see progress"
    if p.at == "outermost-return" and stuck_nodes(graph):
        return "of the runs that come home; from some states none does without further events: see progress"
    return ""


def never_happened(model: Model, script: Script, explorer: Explorer) -> Iterator[str]:
    """The allowed events that struck nowhere, and the faults that hidden code may raise and never did."""
    tally, program = explorer.tally, model.machine.program
    for event in script.events:
        if not tally.any_struck(event):
            yield f"{event} never struck"
    if script.schedule is not None:
        return
    for instruction in program.instructions.values():
        if instruction.mnemonic != "hole_body" or not explorer.reached[instruction.address]:
            continue
        for fault in model.machine.contracts[str(instruction.hole)].may_raise:
            struck = tally.struck[fault, instruction.address]
            if fault in script.events and not struck and tally.any_struck(fault):
                yield f"{instruction.hole} never raised {fault}"


def never_entered(model: Model, explorer: Explorer) -> Iterator[str]:
    """The hidden code that control did not come to in a search that is complete."""
    for instruction in model.machine.program.instructions.values():
        if instruction.mnemonic == "hole_enter" and not explorer.reached[instruction.address]:
            yield f"{instruction.hole} was never entered"
