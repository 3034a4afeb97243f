"""Where an emulator leaves the manual: each with the exact wrong values it has instead, so that nothing else passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.replay.bochs_deviations import BOCHS
from verifier.replay.deviation import Deviation, Item, Values
from verifier.replay.qemu_deviations import QEMU

if TYPE_CHECKING:
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg

__all__ = ["DEVIATIONS", "Deviation", "Item", "Values", "known"]

DEVIATIONS = (*QEMU, *BOCHS)


def known(
    emulator: str, machine: MachineConfig, leg: Leg, right: Values, got: Values
) -> list[tuple[Deviation, Values]]:
    """The deviations that explain every difference between ``right`` and ``got``, each with its wrong values.

    None if a difference is not explained.
    """
    differences = {item for item, value in right.items() if got[item] != value}
    found: list[tuple[Deviation, Values]] = []
    for deviation in DEVIATIONS:
        if deviation.emulator == emulator:
            wrong = deviation.wrong(machine, leg, right)
            explained = {item for item in differences if item in wrong and wrong[item] == got[item]}
            if explained:
                found.append((deviation, wrong))
                differences -= explained
    return [] if differences else found
