"""A specification file to a `Model`: reads the parts in the order in which they need each other."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verifier.machine.config import MachineConfig
from verifier.spec import memory
from verifier.spec.assumptions import assumptions
from verifier.spec.contracts import read_contracts, read_stubs
from verifier.spec.document import Fields, read
from verifier.spec.environment import read_contexts
from verifier.spec.events import check_stacks, read_environment
from verifier.spec.gates import read_gates, stack_name
from verifier.spec.members import place_members, read_members
from verifier.spec.model import Model
from verifier.spec.msrs import read_msrs
from verifier.spec.names import PERCPU, DataName, Names
from verifier.spec.program import read_program
from verifier.spec.properties import read_properties
from verifier.spec.segments import read_segments, read_selectors
from verifier.spec.sources import project_root, read_sources
from verifier.spec.stacks import read_stacks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.asm.program import Program
    from verifier.spec.memory import Declared

FORMAT = 1
_OPTIONAL = ("title", "calls", "holes")
_PARTS = ("format", "title", "program", "machine", "calls", "holes", "environment", "properties")
_PROGRAM = ("source", "object", "entry", "alternatives", "alternatives_entry", "define", "text")
_MACHINE = ("stacks", "rsp0", "interrupted_stack", "idt", "percpu", "data", "msrs", "segments")
_ENVIRONMENT = ("interrupted", "events", "outermost")


@cache
def _schema_text() -> str:
    return files("verifier.spec").joinpath("schema.json").read_text("utf-8")


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the format, for editors; `load` checks more than it can say."""
    return cast("dict[str, Any]", json.loads(_schema_text()))


def load(path: Path, root: Path | None = None) -> Model:
    """The model that the specification at ``path`` describes.

    ``root``: the folder tree that the files it names must lie in; default: see `project_root`. Raises
    SpecError (for the assembly text AsmError) with the place of what is wrong.
    """
    spec = read(path, str(path)).fields(_PARTS, required=[p for p in _PARTS if p not in _OPTIONAL])
    if spec["format"].integer(0, 10**9) != FORMAT:
        raise spec["format"].error(f"this version reads format {FORMAT} only", f"write 'format: {FORMAT}'")
    tree = root.resolve() if root else project_root(path)
    program_part = spec["program"].fields(_PROGRAM)
    sources = read_sources(program_part, path, tree)
    machine_part = spec["machine"].fields(_MACHINE, required=("idt",))
    declared = memory.declare(machine_part, sources.text_base)
    stubs = read_stubs(spec, machine_part)
    program, declared = read_program(sources, declared, stubs, tree, machine_part)
    return _model(path, spec, machine_part, program, declared)


def _names(program: Program, data: dict[str, DataName], regions: Iterable[str]) -> Names:
    values = {name: symbol.value for name, symbol in program.symbols.items()}
    code = {
        name: symbol.value
        for name, symbol in program.symbols.items()
        if symbol.section is not None and symbol.value in program.instructions
    }
    return Names(values, code, data, tuple(regions), percpu_origin=memory.percpu_origin(program))


def _model(path: Path, spec: Fields, part: Fields, program: Program, declared: tuple[Declared, ...]) -> Model:
    """What can be said once the program is assembled."""
    data = memory.placed(declared, program)
    members = read_members(part)
    data |= place_members(members, data, program.symbols)
    stacks = read_stacks(part, data, program)
    empty = memory.together(part, stacks.regions, memory.data_regions(declared, data, program))
    selectors = read_selectors(part)
    outside = spec["environment"].fields(_ENVIRONMENT, required=("interrupted", "events"))
    contexts = read_contexts(outside, selectors)
    if all(c.stack != memory.INTERRUPTED for c in contexts):
        del empty[memory.INTERRUPTED]
    msrs = read_msrs(part, {*data, *stacks.names, *program.symbols}, empty)
    names = _names(program, data | stacks.names | msrs.names, empty)
    every = (*declared, *(m.declared for m in members), *stacks.declared, *msrs.declared)
    regions = memory.with_initial_values(empty | msrs.regions, every, names)
    machine = MachineConfig(
        program,
        regions,
        gates=read_gates(part, names, regions),
        segments=read_segments(part, selectors),
        contracts=read_contracts(spec, part, program, names, regions),
        contexts=contexts,
        kernel_cs=selectors["kernel_cs"],
        rsp0=part.get("rsp0", lambda v: stack_name(v, regions), None),
        percpu=PERCPU if PERCPU in regions else None,
        percpu_origin=names.percpu_origin,
    )
    environment, machine = read_environment(outside, machine, names)
    check_stacks(outside, machine, environment.outermost)
    names = replace(names, events=tuple(environment.events))
    properties = read_properties(spec, names, program)
    title = spec.get("title", lambda v: v.text(), path.stem)
    return Model(path, title, machine, environment, properties, assumptions(machine, environment))
