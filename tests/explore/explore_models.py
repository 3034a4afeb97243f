"""Small models made from a few lines of assembly, and both engines run on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from verifier.explore.search import Limits
from verifier.prove.prover import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verifier.prove.verdict import Result
    from verifier.spec.model import Model, Property
    from verifier.terms import Solver

SPEC = """\
format: 1
program: {{source: program.s}}
machine:
  stacks: {{nmi_ist: {{size: 512}}}}
  interrupted_stack: {{size: 512}}
  idt:
    nmi: {{entry: nmi, gate: {gate}{ist}}}
{idt}
  percpu:
    flag: {{size: 1, initially: 0}}
    other: {{size: 1}}
    word: {{size: 8{word}}}
    second: {{size: 8}}
{machine}
{hidden}
environment:
  interrupted: [{interrupted}]
  events: {{{events}}}
  outermost: [{outermost}]
properties:
{properties}
"""


def write_model(
    folder: Path,
    program: str,
    properties: Mapping[str, str],
    *,
    events: str = "nmi: any",
    idt: Mapping[str, str] | None = None,
    holes: Mapping[str, str] | None = None,
    calls: Mapping[str, str] | None = None,
    interrupted: str = "kernel",
    gate: str = "interrupt",
    ist: bool = True,
    machine: str = "",
    outermost: str = "nmi",
    word: str = "",
) -> Model:
    """A model of ``program``, whose NMI enters at the label ``nmi``.

    ``properties``: name -> the inside of its entry in YAML; likewise ``idt``, ``holes`` and ``calls``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.s").write_text(program)
    text = SPEC.format(
        gate=gate,
        ist=", stack: nmi_ist" if ist else "",
        idt="\n".join(f"    {event}: {{{what}}}" for event, what in (idt or {}).items()),
        hidden=_hidden("holes", holes) + _hidden("calls", calls),
        interrupted=interrupted,
        events=events,
        machine=machine,
        outermost=outermost,
        word=word,
        properties="\n".join(f"  {name}: {{{what}}}" for name, what in properties.items()),
    )
    (folder / "spec.yaml").write_text(text)
    return load(folder / "spec.yaml", folder)


def _hidden(key: str, contracts: Mapping[str, str] | None) -> str:
    return "\n".join([f"{key}:", *(f"  {n}: {{{what}}}" for n, what in contracts.items()), ""]) if contracts else ""


def bounded(model: Model, counts: Mapping[str, int]) -> Model:
    """The same model with at most so many of each event."""
    events = {name: counts.get(name, bound) for name, bound in model.environment.events.items()}
    return replace(model, environment=replace(model.environment, events=events))


def by_fixpoint(
    model: Model,
    counts: Mapping[str, int] | None = None,
    properties: tuple[Property, ...] | None = None,
    states: int = 20_000,
    solver: Solver | None = None,
) -> dict[str, Result]:
    """Verdicts of the search that merges states; every counterexample is run by the concrete interpreter.

    ``solver``: one that has judged the same machine, and knows some answers.
    """
    limited = model if counts is None else bounded(model, counts)
    prover = _prover(solver, limited, limits=Limits(states=states))
    return _confirmed(prover, properties or model.properties)


def by_enumeration(
    model: Model,
    counts: Mapping[str, int],
    properties: tuple[Property, ...] | None = None,
    states: int = 20_000,
    solver: Solver | None = None,
) -> dict[str, Result]:
    """Verdicts of the engine that takes every path and merges nothing. ``solver`` as in `by_fixpoint`."""
    prover = _prover(solver, model, bound=counts, limits=Limits(states=states))
    return _confirmed(prover, properties or model.properties)


def _prover(solver: Solver | None, model: Model, **more: Any) -> Prover:
    prover = Prover(model, **more)
    if solver is not None:
        prover.solver = prover._stepper.solver = solver
    return prover


def _confirmed(prover: Prover, properties: tuple[Property, ...]) -> dict[str, Result]:
    results = {}
    for result in prover.results(properties):
        concretise(prover, result)
        results[result.property.name] = result
    return results


def verdicts(results: Mapping[str, Result]) -> dict[str, str]:
    return {name: r.verdict for name, r in results.items()}
