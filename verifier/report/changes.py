"""What one step changed, in names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS, FLAGS, SELECTORS
from verifier.report.names import FRAME, WORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.report.names import Names
    from verifier.trace.run import ConcreteState
    from verifier.trace.trace import Step

#: Cells that say nothing to a reader who sees the instruction (``inhibit`` lasts for one boundary).
_SILENT = frozenset({"inhibit"})
#: What a delivery changes by itself; the frame and the marks show it.
_DELIVERY = frozenset({"rsp", "cs", "ss", "cpl", "if", "tf", "nt", "rf", "vm", "inhibit"})
#: Where words of memory stop being listed one by one.
_MANY = 8


def changes(step: Step, names: Names) -> list[str]:
    """Registers, flags and words that differ after a step: ``rsp=nmi_ist+0xfd0``, ``zf=1``, ``[n]=0xff``."""
    hidden = _DELIVERY if step.delivered else _SILENT
    frame = _frame_bytes(step) if step.delivered else range(0)
    return [*_cells(step, hidden, names), *_words(step, frame, names)]


def _cells(step: Step, hidden: frozenset[str], names: Names) -> list[str]:
    before, after = step.before.cells, step.after.cells
    changed = [c for c in CELLS if c not in hidden and before[c] != after[c]]
    registers = [f"{c}={_cell(c, after[c], names)}" for c in changed if c not in FLAGS]
    return registers + [f"{c}={after[c]}" for c in changed if c in FLAGS]


def _cell(name: str, value: int, names: Names) -> str:
    return names.value(value) if CELLS[name] == 64 and name not in SELECTORS else f"{value:#x}"


def _frame_bytes(step: Step) -> range:
    """The frame and error code that the delivery of this step pushed."""
    rsp = step.after.cells["rsp"]
    return range(rsp, rsp + WORD * (len(FRAME) + 1))


def _words(step: Step, hidden: range, names: Names) -> list[str]:
    changed = [a for a in changed_bytes(step.before, step.after) if a not in hidden]
    words = dict.fromkeys(_word_of(a, names) for a in changed)
    shown = [f"[{names.address(a)}]={_word(step.after, a, size, names)}" for a, size in words]
    more = len(shown) - _MANY
    return shown if more <= 1 else [*shown[:_MANY], f"and {more} more words of memory"]


def changed_bytes(before: ConcreteState, after: ConcreteState) -> Iterable[int]:
    """The addresses of the bytes that differ, upwards."""
    old, new = before.memory, after.memory
    return sorted(a for a in old.keys() | new.keys() if old.get(a, 0) != new.get(a, 0))


def _word_of(address: int, names: Names) -> tuple[int, int]:
    """The datum of at most 8 bytes, else the aligned word, that a byte belongs to: address and bytes."""
    datum = names.datum_at(address)
    if datum is not None and datum[0].size <= WORD:
        return datum[1], datum[0].size
    return address & -WORD, WORD


def _word(state: ConcreteState, address: int, size: int, names: Names) -> str:
    value = state.read(address, size)
    return names.value(value) if size == WORD else f"{value:#x}"
