"""Memory as the regions of the specification at the addresses of one run (rules A1 to A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import InternalError
from verifier.machine.config import MSRS
from verifier.trace.interpreter.work import MASK64, Fault, Mishap

if TYPE_CHECKING:
    from verifier.ir.ops import Access
    from verifier.machine.config import MachineConfig, Region
    from verifier.trace.interpreter.work import Work
    from verifier.trace.run import Start

STACK_FAULT = 12
GENERAL_PROTECTION = 13


def canonical(address: int) -> bool:
    """Whether bits 63..47 are equal (A1, four-level paging)."""
    return address >> 47 in (0, 0x1FFFF)


def all_canonical(address: int, size: int) -> bool:
    """Whether every byte of an access is canonical (A4); the two ends decide, for size < 2^47."""
    return canonical(address & MASK64) and canonical((address + size - 1) & MASK64)


class Memory:
    """Reads and writes of a `Work`, checked against the regions."""

    def __init__(self, machine: MachineConfig, start: Start) -> None:
        self._places = [(self._base(region, start), region) for region in machine.regions.values()]
        self._machine = machine
        self._start = start.state.cells
        self._prefix_names_segment = start.rules.get("prefix_names_segment", 0)
        self._user_gs = any(
            c.gs == "user" and all(x in c.ldt or getattr(c, x) == self._start[x] for x in ("cpl", "cs", "ss"))
            for c in machine.contexts
        )
        self.bases = {region.name: base for base, region in self._places}

    @staticmethod
    def _base(region: Region, start: Start) -> int:
        return start.bases[region.name] if region.address is None else region.address

    def place_of(self, address: int, size: int) -> tuple[int, Region] | None:
        """The region that holds all of the bytes, with its base, or None."""
        for base, region in self._places:
            if base <= address and address + size <= base + region.size:
                return base, region
        return None

    def place_of_msr(self, number: int) -> int | None:
        """The address of the word that stands for a model-specific register, which no instruction can name."""
        offset = self._machine.msr(number)
        return None if offset is None else self.bases[MSRS] + offset

    def read_msr(self, work: Work, address: int) -> int:
        return self._read(work, address, 8)

    def read_datum(self, work: Work, name: str) -> int:
        """What a datum of the specification holds."""
        found = self._machine.datum(name)
        if found is None:
            raise InternalError(f"the unknown datum {name} is read")
        region, datum = found
        return self._read(work, self.bases[region.name] + datum.offset, datum.size)

    def load(self, work: Work, address: int, size: int, access: Access) -> int:
        """An instruction's read of ``size`` bytes, little endian."""
        self._check_canonical(address, size, access)
        if self.place_of(address, size) is None and self._lies_with_user(work, access):
            work.chosen.append((address, size))
            return work.choices.take("load", 8 * size)
        return self._read(work, address, size)

    def pop(self, work: Work, address: int, size: int) -> int:
        """An implicit read of the stack."""
        if not all_canonical(address, size):
            raise Fault(STACK_FAULT)
        return self._read(work, address, size)

    def store(self, work: Work, address: int, size: int, value: int, access: Access) -> None:
        """An instruction's write of ``size`` bytes."""
        self._check_canonical(address, size, access)
        self.write(work, address, size, value)

    def write(self, work: Work, address: int, size: int, value: int) -> None:
        """A write whose address has been checked."""
        self.expect_writable(address, size)
        for i, byte in enumerate(value.to_bytes(size, "little")):
            work.memory[address + i] = byte
        work.writes.append((address, size))

    def expect_writable(self, address: int, size: int) -> None:
        place = self.place_of(address, size)
        if place is None:
            raise Mishap("wild-write", f"write of {size} bytes at {address:#x}, outside every region")
        if not place[1].writable:
            raise Mishap("wild-write", f"write of {size} bytes at {address:#x}, in read-only {place[1].name}")

    def _read(self, work: Work, address: int, size: int) -> int:
        place = self.place_of(address, size)
        if place is None:
            raise Mishap("wild-read", f"read of {size} bytes at {address:#x}, outside every region")
        base, region = place
        if region.writable:
            data = bytes(work.memory.get(address + i, 0) for i in range(size))
        else:
            data = region.contents[address - base :][:size]
        return int.from_bytes(data, "little")

    def _check_canonical(self, address: int, size: int, access: Access) -> None:
        if all_canonical(address, size):
            return
        through_stack = access.stack
        if self._prefix_names_segment and access.segment is not None:
            through_stack = access.segment == "ss"
        raise Fault(STACK_FAULT if through_stack else GENERAL_PROTECTION)

    def _lies_with_user(self, work: Work, access: Access) -> bool:
        """Whether an address comes from a segment base that the interrupted user context chose."""
        if access.segment not in ("fs", "gs") or not self._user_gs:
            return False
        base = f"{access.segment}_base"
        return work.cells[base] == self._start[base]
