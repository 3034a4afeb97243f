"""The ``program`` part of a specification to a `Program`: assembled from texts, or linked from objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from verifier import asm
from verifier.errors import nearest
from verifier.object import link, read_objects
from verifier.spec import memory

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.asm.outside import Stub
    from verifier.asm.program import Program
    from verifier.spec.document import Fields
    from verifier.spec.memory import Declared
    from verifier.spec.sources import Sources


def read_program(
    sources: Sources, declared: tuple[Declared, ...], stubs: tuple[Stub, ...], root: Path, machine: Fields
) -> tuple[Program, tuple[Declared, ...]]:
    """The program, and the declared names where they finally lie. AsmError for what the files have wrong.

    Only the program tells which per-CPU data it has itself; if some, the declared ones move behind them.
    """
    make = _linked if sources.objects else _assembled
    entries = (*(e.text("a label") for e in sources.entries), *_handlers(machine))
    program = make(sources, declared, stubs, root, entries)
    for entry in sources.entries:
        if program.address_of(entry.text()) not in program.instructions:
            raise entry.error(f"no code has the symbol '{entry.text()}'", nearest(entry.text(), program.symbols))
    moved = memory.moved_behind_text(declared, program)
    if moved != declared:
        return make(sources, moved, stubs, root, entries), moved
    return program, declared


def _handlers(machine: Fields) -> tuple[str, ...]:
    """The labels that gates lead to, as written; whoever reads the gates judges them."""
    gates = (gate.entries() for _, gate in machine.entries("idt") if gate.is_mapping)
    return tuple(str(v.node.value) for gate in gates for k, v in gate if k.node.value == "entry")


def _assembled(
    sources: Sources, declared: Iterable[Declared], stubs: tuple[Stub, ...], root: Path, _entries: tuple[str, ...]
) -> Program:
    return asm.assemble(
        sources.files,
        root=root,
        defines=sources.defines,
        externals={d.name: d.address for d in declared},
        outside=stubs,
        text_base=sources.text_base,
    )


def _linked(
    sources: Sources, declared: Iterable[Declared], stubs: tuple[Stub, ...], root: Path, entries: tuple[str, ...]
) -> Program:
    return link(
        read_objects(sources.objects, root),
        text_base=sources.text,
        externals={d.name: d.address for d in declared},
        stubs=stubs,
        entries=entries,
        patching=sources.patching,
    )
