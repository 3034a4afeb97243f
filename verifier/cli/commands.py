"""``prove``, ``refute``, ``lift`` and ``schema``: each takes its arguments and returns an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.api import load
from verifier.asm import assemble
from verifier.cli import codes
from verifier.cli.arguments import addresses, definitions
from verifier.cli.terminal import Progress
from verifier.errors import UsageError, nearest
from verifier.ir import render_program
from verifier.lift import lift as lift_instruction
from verifier.object import Patching, is_object, link, read_objects
from verifier.object.code import successors
from verifier.prove.certificate import Certificate
from verifier.report.diagnostics import diagnostic_text
from verifier.report.document import document, result_entry
from verifier.report.dump import Dump
from verifier.report.verdict import assumptions_text
from verifier.spec import project_root
from verifier.spec import schema as spec_schema

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from verifier.api import Outcome, Specification
    from verifier.asm import Program
    from verifier.cli.terminal import Terminal
    from verifier.spec.model import Verdict

    Tool = Mapping[str, str]


def prove(arguments: Namespace, terminal: Terminal, tool: Tool) -> int:
    return _judge(arguments, terminal, tool, codes.PROVE)


def refute(arguments: Namespace, terminal: Terminal, tool: Tool) -> int:
    return _judge(arguments, terminal, tool, codes.REFUTE)


def _judge(arguments: Namespace, terminal: Terminal, tool: Tool, code: Mapping[Verdict, int]) -> int:
    if arguments.routines and arguments.bound is not None:
        raise UsageError("--routines: there is no such search with a bound", None, "leave it out")
    spec = load(arguments.spec)
    text = not arguments.json and not arguments.quiet
    if text:
        for diagnostic in spec.model.machine.program.diagnostics:
            terminal.complain(diagnostic_text(diagnostic))
    outcomes: list[Outcome] = []
    told: dict[str, str] = {}
    certificate = _certificate(arguments, spec)
    with Progress(arguments.spec, arguments.quiet) as progress:
        found = spec.outcomes(
            arguments.property,
            arguments.bound,
            states=arguments.max_states,
            progress=progress,
            witness=None if certificate is None else certificate.add,
            listener=Dump.of(arguments.dump_smt, spec.model),
            routines=arguments.routines,
        )
        for outcome in found:
            progress.pause()
            if text and not outcomes:
                terminal.say(f"{assumptions_text(spec.model)}\n")
            outcomes.append(outcome)
            if not arguments.json:
                terminal.say(_shown(outcome, told, arguments.quiet))
    if arguments.json:
        order = [p.name for p in spec.properties]
        outcomes.sort(key=lambda o: order.index(o.name))
        results = [result_entry(o.result, o.trace) for o in outcomes]
        terminal.say(json.dumps(document(tool, results), indent=1))
    if certificate is not None:
        certificate.write(Path(arguments.certificate))
    return codes.worst(code[o.verdict] for o in outcomes)


def _certificate(arguments: Namespace, spec: Specification) -> Certificate | None:
    if arguments.certificate is None:
        return None
    if arguments.bound is not None:
        raise UsageError("--certificate: what is proved up to a bound has no certificate", None, "leave --bound out")
    return Certificate(spec.model)


def _shown(outcome: Outcome, told: dict[str, str], quiet: bool) -> str:
    return f"{outcome.name}: {outcome.verdict}" if quiet else f"{outcome.text_after(told)}\n"


def lift(arguments: Namespace, terminal: Terminal, _tool: Tool) -> int:
    program = _program(arguments, [Path(name) for name in arguments.asm])
    for diagnostic in program.diagnostics:
        terminal.complain(diagnostic_text(diagnostic))
    blocks = {i.address: lift_instruction(i) for i in program}
    terminal.say(render_program(blocks, program, _entries(program, arguments.entry)).rstrip("\n"))
    return codes.OK


def _program(arguments: Namespace, files: list[Path]) -> Program:
    """What is decoded of objects is what the entries lead to; of a text, all of it."""
    root, externals = project_root(files[0]), addresses(arguments.extern)
    if not any(is_object(path) for path in files):
        return assemble(files, root=root, defines=definitions(arguments.define), externals=externals)
    if arguments.define:
        raise UsageError("-D: objects are preprocessed already", None, "leave it out")
    inside = [path.resolve() for path in files]
    objects = read_objects(inside, Path(inside[0].anchor))
    names = [s.name for o in objects for s in o.symbols if s.binding != "local"]
    entries = arguments.entry or names
    program = link(objects, text_base=None, externals=externals, entries=entries, patching=Patching(True))
    for address in [program.address_of(entry) for entry in entries] + [a for i in program for a in successors(i)]:
        if address is not None and address in program.instructions:
            _ = program.instructions[address]  # what could not be decoded says so
    return program


def _entries(program: Program, labels: list[str] | None) -> list[int]:
    """The given labels; else every global one; else the first instruction of the text."""
    at = {s.name: s.value for s in program.symbols.values() if s.value in program.instructions}
    for label in labels or ():
        if label not in at:
            raise UsageError(f"--entry {label}: no instruction stands there", None, nearest(label, at))
    if labels:
        return [at[label] for label in labels]
    shared = [at[s.name] for s in program.symbols.values() if s.binding == "global" and s.name in at]
    return shared or sorted(program.instructions)[:1]


def schema(_arguments: Namespace, terminal: Terminal, _tool: Tool) -> int:
    terminal.say(json.dumps(spec_schema(), indent=2))
    return codes.OK
