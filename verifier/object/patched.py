"""What a system may replace of its own code while it runs: decided by the specification, or stated as assumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.object.alternatives import Alternative, patch, read_alternatives, undecided

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.object.code import Refusal
    from verifier.object.layout import Layout

#: Other tables of places that Linux rewrites, by what is meant by them.
TABLES = {
    "__jump_table": "static branches",
    ".static_call_sites": "static calls",
    ".parainstructions": "calls of paravirtual operations",
    ".retpoline_sites": "indirect branches through thunks",
    ".return_sites": "returns through thunks",
    ".call_sites": "calls with call depth tracking",
    ".smp_locks": "lock prefixes",
    "__mcount_loc": "calls for tracing",
    ".ibt_endbr_seal": "landing pads of indirect branches",
}


@dataclass(frozen=True, slots=True)
class Patching:
    """What the specification says of it. ``features``: what the processor has; None: alternatives stay as assembled.

    ``decided`` False: it says nothing. ``entry``: bytes of an entry of the table of alternatives, None if it is to be
    found out.
    """

    decided: bool = False
    features: tuple[int, ...] | None = None
    entry: int | None = None


def apply(patching: Patching, layout: Layout) -> tuple[Mapping[range, Refusal], tuple[str, ...]]:
    """Replaces what is to be replaced; what must not be reached then, and what is taken for granted."""
    entries = read_alternatives(layout, patching.entry)
    if patching.features is not None:
        patch(entries, patching.features, layout)
    refused = undecided(entries) if not patching.decided else {}
    return refused, tuple(_conditions(patching, entries, layout))


def _conditions(patching: Patching, entries: list[Alternative], layout: Layout) -> Iterator[str]:
    if patching.decided and entries:
        if patching.features is None:
            yield f"the code stands as assembled: none of its {len(entries)} alternatives is patched in"
        else:
            shown = ", ".join(str(f) for f in patching.features) or "none"
            yield f"alternatives are patched in for a processor with these features and no others: {shown}"
    present = {p.section.name for p in layout.placed if p.data}
    others = [f"{what} ({name})" for name, what in TABLES.items() if name in present]
    if others:
        yield f"other places that are rewritten at run time stand as assembled: {', '.join(others)}"
