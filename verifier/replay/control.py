"""What a run may do to control registers and be followed: these rule over the replay too.

CR3 can be either of two tables that say the same, 4 KB apart, as kernels keep one for user code (`Tables.pair`);
CR0 and CR4 change in bits that mean nothing to what is replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.replay.course import Course, Leg

#: The bits of CR3 that a replay takes from the run: which of two tables, and those below, which address nothing.
OF_THE_RUN = 0x1FFF
#: CR0: MP, EM, TS, NE, AM. CR4: TSD, DE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT (SDM vol. 3A, "Control Registers").
_OPEN = {"cr0": 0x4_002E, "cr4": 0x7CC}


def start_of(course: Course, now: Mapping[str, int]) -> dict[str, int]:
    """The control registers that a run starts with on a machine, by those that the image has made."""
    cr3 = course.start.state.cells["cr3"]
    return {"cr0": now["cr0"], "cr4": now["cr4"], "cr3": now["cr3"] & ~OF_THE_RUN | cr3 & OF_THE_RUN}


def expect_followable(course: Course) -> None:
    """Raises UsageError for a step that leaves a control register as no replay can have it."""
    first = course.start.state.cells
    for number, leg in enumerate(course.legs, 1):
        for why in _problems(leg, first):
            raise UsageError(f"step {number} {why}: a replay cannot follow it")


def _problems(leg: Leg, first: Mapping[str, int]) -> Iterator[str]:
    after = leg.outcome.state.cells
    if (after["cr3"] ^ first["cr3"]) & ~OF_THE_RUN:
        yield f"sets CR3 to {after['cr3']:#x}, and page tables are at {first['cr3'] & ~OF_THE_RUN:#x} and 0x1000 above"
    for name, bits in _OPEN.items():
        changed = (after[name] ^ first[name]) & ~bits
        if changed:
            yield f"changes bits {changed:#x} of {name.upper()}, by which the replay itself runs"
