"""What a word can mean in a specification: the cells of the machine, and the names that one program gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS
from verifier.ir.cells import CELLS, FLAGS, RFLAGS_LAYOUT, SELECTORS
from verifier.spec.expression import CellRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The region of per-CPU data.
PERCPU = "percpu"
FUNCTIONS = (
    "restored", "resumed", "intact", "handled", "progress", "at_rest", "no_mishap", "unreachable", "within", "count",
)  # fmt: skip
GENERAL_BUT_RSP = tuple(r for r in GENERAL_REGISTERS if r != "rsp")

#: The words of an interrupted context that a hardware frame saves.
FRAME = ("rip", "cs", "rflags", "rsp", "ss")

#: What ``restored(...)`` takes besides single names.
RESTORED_GROUPS = {
    "registers": GENERAL_BUT_RSP,
    "all": (*FRAME, *GENERAL_BUT_RSP, "gs_base", "memory"),
}
RESTORABLE = ("rip", "rflags", "memory", *CELLS)

#: What ``resumed(...)`` takes: single cells, and these groups. Few ways back but IRET can load RF.
RESUMABLE = (*GENERAL_BUT_RSP, *FLAGS, *SELECTORS, "fs_base", "gs_base", "kernel_gs_base")
RESUMED_GROUPS = {
    "registers": GENERAL_BUT_RSP,
    "flags": tuple(f for f in FLAGS if f != "rf"),
    "rflags": FLAGS,
    "all": (*GENERAL_BUT_RSP, *FLAGS, "cs", "ss", "gs_base"),
}


def _parts_of(register: str) -> dict[str, CellRef]:
    """A general register and its parts by name (SDM vol. 1, 3.4.1.1)."""
    whole = {register: CellRef(register, 0, 64)}
    if register[1].isdigit():
        parts = {register + suffix: width for suffix, width in (("d", 32), ("w", 16), ("b", 8))}
    else:
        short = register[1:]
        low = short[0] + "l" if short.endswith("x") else short + "l"
        parts = {"e" + short: 32, short: 16, low: 8}
        if short.endswith("x"):
            whole[short[0] + "h"] = CellRef(register, 8, 8)
    return whole | {name: CellRef(register, 0, width) for name, width in parts.items()}


#: What can be written with a ``%``: registers, their parts, selectors, control registers.
REGISTERS: dict[str, CellRef] = {
    **{name: ref for register in GENERAL_REGISTERS for name, ref in _parts_of(register).items()},
    **{name: CellRef(name, 0, width) for name, width in CELLS.items() if name[:2] == "cr" or width == 16},
    "rip": CellRef("rip", 0, 64),
    "rflags": CellRef("rflags", 0, 64),
}

#: Every word that names a piece of the machine's state.
STATE: dict[str, CellRef] = {
    **REGISTERS,
    **{name: CellRef(name, 0, width) for name, width in CELLS.items() if name not in REGISTERS},
    **{f"rflags.{name}": CellRef(name, 0, width) for name, (_, width) in RFLAGS_LAYOUT.items()},
    "nmi_blocked": CellRef("nmi_blocked", 0, 1),
    "nmi_pending": CellRef("nmi_pending", 0, 1),
}


@dataclass(frozen=True, slots=True)
class DataName:
    """A named datum: ``address`` is its offset from the GS base if ``percpu``, from the lowest address of ``region``
    if that is given; ``size`` in bytes."""

    address: int
    size: int
    percpu: bool
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one program and its machine.

    ``symbols``: every symbol's value; ``code``: those of them that stand at an instruction; ``events``: those
    that the environment allows; ``percpu_origin``: what the addresses of per-CPU data count from.
    """

    symbols: Mapping[str, int] = field(default_factory=dict)
    code: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, DataName] = field(default_factory=dict)
    regions: Iterable[str] = ()
    events: Iterable[str] = ()
    percpu_origin: int = 0

    @property
    def edges(self) -> tuple[str, ...]:
        return tuple(f"{r}.{edge}" for r in self.regions for edge in ("base", "top"))

    def words(self) -> list[str]:
        """Everything that may stand in an expression, for hints."""
        interrupted = [f"interrupted.{name}" for name in (*FRAME, *GENERAL_BUT_RSP)]
        percpu = [n for n, d in self.data.items() if d.percpu]
        return [*self.symbols, *self.data, *percpu, *STATE, *FUNCTIONS, *self.edges, *interrupted]
