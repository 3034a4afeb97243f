"""A machine under a debugger, and nothing of which machine it is.

A machine is started from an `verifier.replay.image.Image` and stands, when it is there, at an instruction boundary of
the image's own code at CPL 0 with interrupts off and NMIs not blocked. It is a context manager; leaving it ends the
emulator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from verifier.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

#: What `Machine.read` tells at least: the names of `verifier.ir.cells` for whole registers, flags packed as ``rflags``.
REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rip", "rflags", "es", "cs", "ss", "ds", "fs", "gs",
    "fs_base", "gs_base", "kernel_gs_base", "cr2",
)  # fmt: skip
#: Of a segment of the LDT that is not present, SS has #NP on both emulators, where the manual leaves open #SS (R13).
NOT_PRESENT_IS_NP = {("ldt.ss", 1): 2}
#: What it may tell besides.
MORE = ("cr0", "cr3", "cr4", "cr8", "dr6")


class MissingTool(UsageError):
    """A program that a machine needs is not installed; the hint names the Debian package."""


class Unsupported(Exception):
    """This machine has no way to do what was asked: an event that its debugger cannot make happen, say."""


class Shutdown(Exception):
    """The processor has shut down (a triple fault). The machine can only be closed."""


class MachineError(Exception):
    """The emulator does not answer, or not what its documentation says: nothing is known of the machine any more."""


class Machine(Protocol):
    """One processor at an instruction boundary, with its memory.

    Addresses are virtual, by the page tables in use, and reach pages of every privilege level.
    """

    @property
    def name(self) -> str:
        """As users name it: ``qemu``, ``bochs``."""

    @property
    def rules(self) -> Mapping[str, int]:
        """The way this processor goes where processors may differ (`verifier.machine.rules`)."""

    @property
    def choices(self) -> Mapping[tuple[str, int], int]:
        """What it makes of choices of a move (kind and value) that are left open each time."""

    def read(self) -> dict[str, int]:
        """All registers: `REGISTERS`, and those of `MORE` that this machine can tell."""

    def write(self, values: Mapping[str, int]) -> None:
        """Set registers, by the names that `read` gives; the others keep their values.

        Any of `REGISTERS`, in one call as consistent as the processor wants them: ``cs`` and ``ss`` together decide
        the CPL, selectors are null or select a segment of the image, bases are canonical and stay what they are when
        a selector is set. Has no effect on the NMI latches.
        """

    def load(self, address: int, size: int) -> bytes:
        """``size`` bytes of memory. MachineError where a page is not mapped."""

    def store(self, address: int, data: bytes) -> None:
        """Set memory, read-only pages too. Code and page tables that were used already may have been remembered:
        see `forget`, and use addresses that nothing was fetched from yet where code is to change."""

    def forget(self, address: int) -> None:
        """Drop what the processor remembers of the page at an address (as INVLPG)."""

    def step(self) -> None:
        """One step: an event that is pending and may come now is delivered, or else the instruction at rip is
        executed (of a repeated string instruction, one iteration). Where the step ends in a handler, by an event or by
        a fault of the instruction, nothing of the handler has been executed. Raises Shutdown."""

    def pend(self, event: str, vector: int = 0) -> None:
        """Make ``nmi``, or ``irq`` by a vector, pending, so that the next step delivers it if the processor lets it;
        an ``irq`` is acknowledged to its interrupt controller when it has been delivered. An NMI that is not delivered
        stays pending; an ``irq`` may only be made pending where it can come at once. Raises Unsupported for another
        event that this machine cannot make (``machine_check``)."""

    def nmi_blocked(self) -> bool:
        """Whether NMIs are blocked, found out by trying with an NMI of its own. Nothing is pending before, and
        afterwards registers, memory and latches are as they were, but for a shadow of STI or MOV SS, which ends."""

    def close(self) -> None:
        """End the emulator and remove its files. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
