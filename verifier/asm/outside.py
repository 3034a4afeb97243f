"""Code outside the program that its contract alone describes: functions that it calls, handlers that are not shown.

Each is a stub of a few instructions at an address of its own: a hole, and what leads back from it. Stubs are assembly
text like any other, in a section of their own that lies above the program's. ``assemble`` puts them there for a text;
whoever links objects assembles `text_of` at an address above theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import AsmError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verifier.asm.state import Assembly
    from verifier.source import Span

#: The section that the stubs lie in, and the name of the text that they are assembled from.
SECTION = ".elsewhere"
SOURCE = "<elsewhere>"

#: Control that runs on past the end of the text does not come to the first stub.
_GAP = 16


@dataclass(frozen=True, slots=True)
class Stub:
    """One piece of code elsewhere, by the label that it gets.

    ``span`` is where the specification speaks of it. A function returns with RET; a ``handler`` drops the error code
    if its event pushes one (``error_code``), and returns with IRETQ.
    """

    name: str
    span: Span | None = None
    handler: bool = False
    error_code: bool = False


def text_of(stubs: Iterable[Stub]) -> str:
    """Assembly text that defines the stubs; empty for none."""
    texts = [_text(stub) for stub in stubs]
    if not texts:
        return ""
    return f'\t.section {SECTION}, "ax", @progbits\n\t.p2align 12\n\t.skip {_GAP}\n' + "".join(texts)


def _text(stub: Stub) -> str:
    back = "\tret\n"
    if stub.handler:
        back = ("\tlea 8(%rsp), %rsp\n" if stub.error_code else "") + "\tiretq\n"
    name = stub.name
    kind = f"\t.globl {name}\n\t.type {name}, @function\n"
    return f"\t.p2align 4, 0\n{kind}{name}:\n\t...\n{back}\t.size {name}, . - {name}\n"


def check(stubs: Sequence[Stub], assembly: Assembly) -> None:
    """AsmError for a stub whose name the text defines, and for a function that it never names."""
    entries = {e.name: e for e in assembly.symbols.entries()}
    undefined = [e.name for e in entries.values() if e.used and e.definition is None]
    for stub in stubs:
        entry = entries.get(stub.name)
        if entry is not None and entry.definition is not None:
            where = entry.defined.where if entry.defined else "another place"
            hint = f"write 'entry: {stub.name}', or give the handler another 'name'" if stub.handler else None
            raise AsmError(f"'{stub.name}' is no code outside the program: it stands at {where}", stub.span, hint)
        if not stub.handler and (entry is None or not entry.used):
            raise AsmError(f"nothing in the program calls '{stub.name}'", stub.span, nearest(stub.name, undefined))
