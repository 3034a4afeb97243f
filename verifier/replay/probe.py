"""Whether NMIs are blocked, found out by trying: the same for every machine.

The NMI gate leads to the monitor for a moment, so that nothing of the program's memory is touched. What is tried is
undone: a try that is delivered is returned from, which unblocks NMIs again; one that is held back is let in by an
IRETQ of the monitor's, and then NMIs are blocked again and none is pending.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from verifier.replay.image import NO_FLAGS
from verifier.replay.machine import MachineError
from verifier.replay.tables import OWN_IST, Entry, idt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.replay.image import Image
    from verifier.replay.machine import Machine

NMI = 2
_GATE = 16
#: Bytes below the top of the monitor's stack where a frame is made by hand, away from what a delivery pushes there.
_FRAME = 512


def nmi_blocked(machine: Machine, image: Image) -> bool:
    """See `Machine.nmi_blocked`. Raises MachineError where the machine does not behave as the manual says it must."""
    saved = machine.read()
    place = image.idt + _GATE * NMI
    gate = machine.load(place, _GATE)
    own = Entry(NMI, image.pad(NMI), OWN_IST, False, 0)
    machine.store(place, idt([own], image.kernel_cs)[_GATE * NMI :][:_GATE])
    machine.write(image.at("nop_"))
    machine.pend("nmi")
    blocked = not _struck(machine, image)
    if blocked:
        _let_in(machine, image)
    else:
        machine.write({"rip": image.symbols["iretq_"]})
        machine.step()
    machine.store(place, gate)
    restore(machine, saved)
    return blocked


def unblock(machine: Machine, image: Image) -> None:
    """End the NMI block, by an IRETQ of the monitor's; all registers are as before."""
    saved = machine.read()
    _return(machine, image)
    restore(machine, saved)


def restore(machine: Machine, saved: Mapping[str, int]) -> None:
    """Set every register that is not what it was."""
    now = machine.read()
    machine.write({name: value for name, value in saved.items() if now[name] != value})


def _struck(machine: Machine, image: Image) -> bool:
    """Whether a step at the monitor's NOP is taken by an NMI."""
    machine.step()
    return machine.read()["rip"] != image.symbols["nop_"] + 1


def _let_in(machine: Machine, image: Image) -> None:
    _return(machine, image)
    if not _struck(machine, image):
        raise MachineError("an NMI that was held back is not delivered after an IRETQ")


def _return(machine: Machine, image: Image) -> None:
    """Execute an IRETQ to the monitor's NOP."""
    frame = image.symbols["monitor_stack"] - _FRAME
    words = (image.symbols["nop_"], image.kernel_cs, NO_FLAGS, frame, image.kernel_ss)
    machine.store(frame, struct.pack("<5Q", *words))
    machine.write(image.at("iretq_") | {"rsp": frame})
    machine.step()
    if machine.read()["rip"] != image.symbols["nop_"]:
        raise MachineError("the monitor's IRETQ does not return")
