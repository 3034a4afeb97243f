"""Bochs as a machine: steps, events and state through its debugger.

Two things of Bochs shape this file.

**A step that delivers an NMI or an interrupt goes on with the first instruction of the handler.** So here every gate
leads to the monitor's *pad* for its vector, a NOP, and when a step ends at a pad or behind its NOP, rip is set to where
the gate led. The NOP changes nothing that a handler could see, and a fault or INT n stops in front of it. An event that
has to come between a fault and its handler's first instruction comes after rip has been set, so its frame is right.

**Any part of the processor's state can be read and set directly**, the NMI latches and the interrupt controller too
(``show`` and ``restore``). So nothing here runs code of its own in the guest after booting.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Self

from verifier.machine.rules import RULES
from verifier.replay.bochs_debugger import Debugger
from verifier.replay.machine import NOT_PRESENT_IS_NP, MachineError, Shutdown, Unsupported
from verifier.replay.stub import LOAD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from verifier.replay.bochs_debugger import Parameters
    from verifier.replay.image import Image

#: Our names of registers -> the names of the processor's parameters.
_GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)), "rip")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_SHOWN = {
    **{name: f"{name.upper()}.selector" for name in _SEGMENTS},
    "fs_base": "FS.base",
    "gs_base": "GS.base",
    "kernel_gs_base": "MSR.kernelgsbase",
    **{name: name.upper() for name in ("cr0", "cr2", "cr3", "cr4", "dr6")},
}
_HIDDEN = ("event_mask", "pending_event", "activity_state", "debug_trap", "inhibit_mask", "inhibit_icount", "icount")
_READ = ("r", *Debugger.show([*_SHOWN.values(), *_HIDDEN]))

# Bits of event_mask and pending_event, of debug_trap and of inhibit_mask; values of activity_state.
_NMI, _LAPIC_INTERRUPT = 1 << 0, 1 << 11
_TRAPS = 0xF000
_NO_TRAPS = 1 << 1
_HALTED, _SHUT_DOWN = 1, 2

_NMI_VECTOR, _MACHINE_CHECK_VECTOR = 2, 18
_GATE = 16

_BOOT_STEPS = 100_000


class Bochs:
    """See `verifier.replay.machine.Machine`."""

    name = "bochs"
    choices = NOT_PRESENT_IS_NP
    rules: Mapping[str, int] = dict.fromkeys(RULES, 0) | {
        "fault_in_nmi_delivery_blocks": 1,
        "ss_after_ss_casts_none": 1,
        "ss_after_ss_traps": 1,
        "frame_below_the_edge": 1,
        "any_null_ss": 1,
        "rip_is_cut": 1,
        "outer_return_clears_null": 1,
    }

    def __init__(self, image: Image, seconds: float = 30) -> None:
        """Boot an image. ``seconds``: how long Bochs may take to answer."""
        self._image = image
        #: While a machine check is pending: the bits of event_mask and pending_event for NMIs.
        self._machine_check: tuple[int, int] | None = None
        self._data = _with_pads(image)
        self._debugger = Debugger(self._data, LOAD, image.end, seconds)
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def _boot(self) -> None:
        start, ready = self._image.symbols["start"] - self._image.window, self._image.symbols["ready"]
        code, data = (_descriptor(0x00CF_0000_0000_FFFF | access << 40) for access in (0x9B, 0x93))
        self._debugger.restore(
            {
                "cpu_mode": 2,
                "CR0": 0x11,
                "RIP": start,
                "CS": {"selector": 0x08, **code},
                **{name: {"selector": 0x10, **data} for name in ("DS", "ES", "SS", "FS", "GS")},
            }
        )
        self._state = self._parse(self._debugger.command(f"lb {ready:#x}", f"s {_BOOT_STEPS}", "d 1", *_READ))
        if self._state["rip"] != ready:
            raise MachineError(f"the image does not come up on Bochs: it stands at {self._state['rip']:#x}")
        place = Debugger.parse(self._debugger.command(*Debugger.show(["GDTR.base", "GDTR.limit"])))
        self._gdt = self.load(place["GDTR.base"], place["GDTR.limit"] + 1)

    # Registers

    def read(self) -> dict[str, int]:
        """All registers but CR8."""
        return {name: self._state[name] for name in (*_GENERAL, "rflags", *_SHOWN)}

    @staticmethod
    def _parse(answer: str) -> dict[str, int]:
        """An answer to `_READ`, by our names."""
        values = Debugger.parse(answer)
        try:
            state = {name: values[name] for name in (*_GENERAL, "rflags", *_HIDDEN)}
            return state | {name: values[parameter] for name, parameter in _SHOWN.items()}
        except KeyError as error:
            raise MachineError(f"Bochs does not tell {error}: {answer.strip()[-200:]}") from None

    def write(self, values: Mapping[str, int]) -> None:
        """See `Machine.write`; DR6 and control registers can be set too."""
        parameters: dict[str, int | dict[str, int | bool]] = {}
        for name, value in values.items():
            if name in _SEGMENTS:
                parameters[name.upper()] = {"selector": value, **self._cache(name, value)}
        for name, value in values.items():
            part, _, field = _SHOWN.get(name, "").partition(".")
            if name in _GENERAL:
                parameters[name.upper()] = value
            elif name == "rflags":
                parameters["EFLAGS"] = value
            elif not part:
                raise ValueError(f"no such register: {name}")
            elif not field:
                parameters[part] = value
            elif field != "selector":
                fields = parameters.setdefault(part, {})
                assert isinstance(fields, dict)
                fields[field] = value
        self._set(parameters)

    def _set(self, parameters: Parameters) -> None:
        self._state = self._parse(self._debugger.restore(parameters, *_READ))

    def _cache(self, name: str, selector: int) -> dict[str, int | bool]:
        """What a segment register remembers of the segment of a selector. A base of FS or GS stays."""
        cache = _descriptor(self._segment(selector) if selector & ~3 else 0)
        if name in ("fs", "gs"):
            del cache["base"]
        return cache

    def _segment(self, selector: int) -> int:
        if selector & 4 and self._image.ldt is not None:
            return int.from_bytes(self.load(self._image.ldt + (selector & ~7), 8), "little")
        if selector & 4 or (selector | 7) >= len(self._gdt):
            raise ValueError(f"the image has no segment {selector:#x}")
        return int.from_bytes(self._gdt[selector & ~7 :][:8], "little")

    # Memory

    def load(self, address: int, size: int) -> bytes:
        """See `Machine.load`."""
        return self._debugger.load(address, size)

    def store(self, address: int, data: bytes) -> None:
        """See `Machine.store`."""
        while data:
            room = 0x1000 - address % 0x1000
            self._debugger.store(self._physical(address), data[:room])
            address, data = address + room, data[room:]

    def _physical(self, address: int) -> int:
        """The window is physical memory; anything else is where the page tables have it now."""
        in_window = 0 <= address - self._image.window < self._image.end
        return address - self._image.window if in_window else self._debugger.physical(address)

    def forget(self, address: int) -> None:
        """Drop what is remembered of all pages."""
        del address
        self._debugger.restore({})

    # Steps and events

    def step(self) -> None:
        """See `Machine.step`. A halted processor stays where it is until an event may come."""
        if self._state["activity_state"] == _SHUT_DOWN:
            raise Shutdown
        if self._state["activity_state"] == _HALTED and not self._state["pending_event"] & ~self._state["event_mask"]:
            return
        self._one_step()
        if self._machine_check:
            self._machine_check_done(*self._machine_check)
        if self._state["debug_trap"] & _TRAPS and not self._traps_held():
            if self._state["activity_state"] == _HALTED:  # Bochs would wait for an interrupt first
                self._debugger.restore({"activity_state": 0})
            self._one_step()

    def _one_step(self) -> None:
        self._state = self._parse(self._debugger.command("s", *_READ))
        if self._state["activity_state"] == _SHUT_DOWN:
            raise Shutdown
        vector, beyond = divmod(self._state["rip"] - self._image.pad(0), self._image.pad(1) - self._image.pad(0))
        if vector in self._image.targets and beyond <= 1:
            self._state["rip"] = self._image.targets[vector]
            self._debugger.command(f"set rip={self._state['rip']:#x}")

    def _traps_held(self) -> bool:
        """Whether MOV SS was executed last, which holds back the #DB of a trap."""
        return bool(self._state["inhibit_mask"] & _NO_TRAPS) and self._state["icount"] <= self._state["inhibit_icount"]

    def pend(self, event: str, vector: int = 0) -> None:
        """See `Machine.pend`."""
        if event == "nmi":
            self._state = self._parse(self._debugger.command("take nmi", *_READ))
        elif event == "irq" and vector >= 16:
            self._pend_interrupt(vector)
        elif event == "machine_check":
            self._pend_machine_check()
        else:
            raise Unsupported(f"Bochs cannot make {event}{f' by vector {vector}' if vector else ''} happen")

    def _pend_interrupt(self, vector: int) -> None:
        """Let the local APIC ask for an interrupt. What it thinks is in service is done: nobody else asks."""
        registers = {f"isr{i}": 0 for i in range(8)} | {f"irr{vector // 32}": 1 << vector % 32}
        pending = self._state["pending_event"] | _LAPIC_INTERRUPT
        self._set({"local_apic": registers, "pending_event": pending, "async_event": 1})

    def _pend_machine_check(self) -> None:
        """Bochs has none. What is delivered is an NMI, which no latch holds back, by the gate of machine checks."""
        mask, pending = self._state["event_mask"], self._state["pending_event"]
        self._machine_check = mask & _NMI, pending & _NMI
        self._set_nmi_gate(_MACHINE_CHECK_VECTOR)
        self._set(
            {
                "event_mask": mask & ~_NMI,
                "pending_event": pending | _NMI,
                "async_event": 1,
                "inhibit_mask": 0,
                "debug_trap": 0,
            }
        )

    def _machine_check_done(self, masked: int, pending: int) -> None:
        """Put the NMI latches and gate back."""
        self._machine_check = None
        self._set_nmi_gate(_NMI_VECTOR)
        self._set(
            {
                "event_mask": self._state["event_mask"] & ~_NMI | masked,
                "pending_event": self._state["pending_event"] & ~_NMI | pending,
                "async_event": 1,
            }
        )

    def _set_nmi_gate(self, vector: int) -> None:
        """Let the gate of NMIs be that of a vector."""
        at = self._image.idt - self._image.window - LOAD + _GATE * vector
        self.store(self._image.idt + _GATE * _NMI_VECTOR, self._data[at : at + _GATE])

    def nmi_blocked(self) -> bool:
        """The latch that decides it in Bochs, and nothing is tried."""
        return bool(self._state["event_mask"] & _NMI)

    # The end

    def close(self) -> None:
        """See `Machine.close`."""
        self._debugger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _with_pads(image: Image) -> bytes:
    """The image with the pad of each vector in its gate."""
    data = bytearray(image.data)
    table = image.idt - image.window - LOAD
    for vector in image.targets:
        at, target = table + _GATE * vector, image.pad(vector)
        struct.pack_into("<H", data, at, target & 0xFFFF)
        struct.pack_into("<HI", data, at + 6, target >> 16 & 0xFFFF, target >> 32)
    return bytes(data)


def _descriptor(quad: int) -> dict[str, int | bool]:
    """A segment descriptor of the GDT as Bochs keeps it (SDM vol. 3A, 3.4.5)."""
    limit = quad & 0xFFFF | (quad >> 48 & 0xF) << 16
    coarse = bool(quad >> 55 & 1)
    return {
        "valid": int(quad != 0),
        "p": bool(quad >> 47 & 1),
        "dpl": quad >> 45 & 3,
        "segment": bool(quad >> 44 & 1),
        "type": quad >> 40 & 0xF,
        "base": quad >> 16 & 0xFF_FFFF | (quad >> 56) << 24,
        "limit_scaled": limit << 12 | 0xFFF if coarse else limit,
        "granularity": coarse,
        "d_b": bool(quad >> 54 & 1),
        "l": bool(quad >> 53 & 1),
        "avl": bool(quad >> 52 & 1),
    }
