"""A bootable image: the monitor, the processor's tables, and the program's memory at its own virtual addresses.

Everything is made on the host. A loader puts ``data`` at physical `LOAD`, zeros behind it up to ``end``, and enters
``symbols["start"] - window`` in 32-bit protected mode; the image begins with a multiboot header that asks for that.
When rip is ``symbols["ready"]``, the machine is as `verifier.replay.machine` says.

Physical memory stands in the *window*, a 512 GB slot of the kernel half that the program does not use. All pages may
be accessed at every CPL; CR0.WP is set, SMEP and SMAP are not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import UsageError
from verifier.machine.config import MSRS, Gate, MachineConfig, Segment
from verifier.replay.changing import vanished
from verifier.replay.pages import LARGE, OPEN, PAGE, UNCACHED, WRITABLE, Tables, in_memory, pages_of
from verifier.replay.stub import APIC, LOAD, Stub, assemble_stub
from verifier.replay.tables import LDT_SIZE, OWN_IST, Entry, gdt, idt, ist_place, tss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.trace.run import Start

#: Pages that a debugger may use as it likes.
SCRATCH_PAGES = 64
#: All of physical memory that an image may use, in bytes.
MOST = 64 << 20
_SLOT = 1 << 39
_FIRST_WINDOW = 0xFFFF_A000_0000_0000
#: RFLAGS with no flag set; bit 1 is always 1.
NO_FLAGS = 2
_PAD = 16
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands in memory, by virtual address, and what the processor's tables say.

    ``memory``: bytes to start with; ``read_only``: the addresses among its keys whose bytes cannot be written (where
    no other bytes share the page); ``mapped``: stretches (address, size) that are there besides, zero. ``stacks``: the
    top of each stack that a gate names, and the value of each datum that is an IST slot, whose names are ``slots``;
    ``ldt``: whether there is an LDT, empty at first; ``rsp0``: that of the stack on a change of CPL. ``star``:
    STAR[63:48].
    """

    memory: Mapping[int, bytes]
    segments: Iterable[Segment]
    gates: Iterable[Gate] = ()
    stacks: Mapping[str, int] | None = None
    kernel_cs: int = 0x10
    rsp0: int = 0
    star: int = 0
    read_only: frozenset[int] = frozenset()
    slots: frozenset[str] = frozenset()
    ldt: bool = False
    mapped: tuple[tuple[int, int], ...] = ()

    def pages(self) -> set[int]:
        """The addresses of all pages."""
        stretches = [(address, len(data)) for address, data in self.memory.items()] + list(self.mapped)
        return {page & _MASK for address, size in stretches for page in pages_of(address, size)}


@dataclass(frozen=True, slots=True)
class Image:
    """See above. ``symbols``: the monitor's pieces by virtual address.

    ``entries``: the address of each mapped 4 KB page -> where its page table entry stands in the window; ``scratch``:
    the physical addresses of free pages; ``idt``, ``gdt``, ``ldt``: where these stand in the window, and ``slots`` the
    IST slots that are data of the program, by name; ``targets``: vector -> where its
    gate leads: the program's entry, or `pad` of the vector, on a stack of the monitor's, if the program has none.
    ``kernel_ss``: a data segment of DPL 0; ``narrow``: the code segments that are not 64-bit code.
    """

    data: bytes
    end: int
    window: int
    symbols: Mapping[str, int]
    entries: Mapping[int, int]
    scratch: range
    idt: int
    gdt: int
    ldt: int | None
    slots: Mapping[str, int]
    targets: Mapping[int, int]
    kernel_cs: int
    kernel_ss: int
    narrow: frozenset[int]

    def is_narrow(self, cs: int) -> bool:
        """Whether CS selects code that is not 64-bit."""
        return cs in self.narrow or bool(cs & 4)

    def at(self, piece: str) -> dict[str, int]:
        """The registers that let a piece of the monitor run next: at CPL 0, with no flag set."""
        return {"cs": self.kernel_cs, "ss": self.kernel_ss, "rip": self.symbols[piece], "rflags": NO_FLAGS}

    def pad(self, vector: int) -> int:
        """The monitor's own place for a vector: a NOP, then a loop."""
        return self.symbols["pads"] + _PAD * vector

    def sender(self, vector: int) -> int:
        """An instruction that sends the processor an interrupt by this vector."""
        return self.symbols["send_irq"] + _PAD * vector


def build(plan: Plan) -> Image:
    """Raises UsageError for more memory or stacks than an image can have, MissingTool without GNU binutils."""
    return _Builder(plan).image()


class _Builder:
    """Lays out physical memory: monitor, GDT, IDT, TSS, scratch pages, the program's pages, page tables."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._virtual = sorted(plan.pages())
        if PAGE * len(self._virtual) > MOST:
            raise UsageError(f"replaying needs {len(self._virtual)} pages of memory, more than {MOST >> 20} MB")
        self._window = _free_window(self._virtual)
        self._stub: Stub = assemble_stub(self._window)
        self._segments = tuple(plan.segments)
        self._tss = LOAD + _rounded(len(self._stub.text))
        self._idt = self._tss + PAGE
        self._ldt = self._idt + PAGE if plan.ldt else None
        self._gdt = self._idt + PAGE + (LDT_SIZE if plan.ldt else 0)
        local = None if self._ldt is None else self._window + self._ldt
        self._gdt_data, self._task, self._local = gdt(self._segments, self._window + self._tss, local)
        first = self._gdt + _rounded(len(self._gdt_data))
        self._scratch = range(first, first + SCRATCH_PAGES * PAGE, PAGE)
        self._physical = {page: self._scratch.stop + PAGE * i for i, page in enumerate(self._virtual)}
        self._tables = Tables(self._scratch.stop + PAGE * len(self._virtual))

    def image(self) -> Image:
        boot, final, entries = self._map()
        end = self._scratch.stop + PAGE * len(self._virtual) + self._tables.size
        gates = self._gates()
        text = bytearray(self._stub.text)
        self._fill_in(text, boot, final, end)
        data = bytearray(end - LOAD)
        self._put(data, LOAD, text)
        self._put(data, self._tss, tss(self._plan.rsp0, self._ist()))
        self._put(data, self._idt, idt(gates, self._plan.kernel_cs))
        self._put(data, self._gdt, self._gdt_data)
        self._put(data, end - self._tables.size, self._tables.data())
        for address, content in self._plan.memory.items():
            self._put_virtual(data, address, content)
        return Image(
            bytes(data),
            end,
            self._window,
            self._stub.symbols,
            {page: self._window + at for page, at in entries.items()},
            self._scratch,
            self._window + self._idt,
            self._window + self._gdt,
            None if self._ldt is None else self._window + self._ldt,
            self._slots(),
            {g.vector: g.target for g in gates},
            self._plan.kernel_cs,
            self._kernel_ss(),
            frozenset(s.selector for s in self._segments if s.kind == "code" and not s.long),
        )

    def _kernel_ss(self) -> int:
        return next(s.selector for s in self._segments if s.kind == "data" and s.dpl == 0)

    @staticmethod
    def _put(data: bytearray, at: int, content: bytes | bytearray) -> None:
        data[at - LOAD : at - LOAD + len(content)] = content

    def _put_virtual(self, data: bytearray, address: int, content: bytes) -> None:
        while content:
            room = PAGE - address % PAGE
            self._put(data, self._physical[address & -PAGE] + address % PAGE, content[:room])
            address, content = address + room, content[room:]

    def _map(self) -> tuple[int, int, dict[int, int]]:
        """The roots for booting and for the run, and the physical address of each page's entry."""
        boot, final = self._tables.root(), self._tables.pair()
        for root in (boot, final):
            for at in range(0, 2 * MOST, LARGE):
                self._tables.map_large(root, self._window + at, at | OPEN)
            self._tables.map_large(root, self._window + APIC, 0xFEE0_0000 & -LARGE | OPEN | UNCACHED)
        self._tables.map_large(boot, 0, OPEN)
        fixed = _read_only_pages(self._plan)
        entries = {}
        for page, physical in self._physical.items():
            bits = OPEN & ~WRITABLE if page in fixed else OPEN
            entries[page] = self._tables.map_page(final, page, physical | bits)
        return boot, final, entries

    def _gates(self) -> list[Entry]:
        slots = {name: i for i, name in enumerate(self._plan.stacks or {}, 1)}
        given = {g.vector: g for g in self._plan.gates}
        pads = self._stub.symbols["pads"]
        return [
            Entry(v, g.entry, slots.get(g.stack or g.slot or "", 0), g.kind == "trap", g.dpl)
            if (g := given.get(v))
            else Entry(v, pads + _PAD * v, OWN_IST, False, 3)
            for v in range(256)
        ]

    def _slots(self) -> dict[str, int]:
        """Where the IST slots stand in the window that are data of the program."""
        first = self._window + self._tss
        numbers = enumerate(self._plan.stacks or {}, 1)
        return {name: first + ist_place(number) for number, name in numbers if name in self._plan.slots}

    def _ist(self) -> list[int]:
        tops = list((self._plan.stacks or {}).values())
        if len(tops) >= OWN_IST:
            raise UsageError(f"the gates use {len(tops)} stacks; a replay has room for {OWN_IST - 1}")
        return [*tops, *[0] * (OWN_IST - 1 - len(tops)), self._stub.symbols["monitor_stack"]]

    def _fill_in(self, text: bytearray, boot: int, final: int, end: int) -> None:
        limit = len(self._gdt_data) - 1
        code = self._plan.kernel_cs
        struct.pack_into(
            "<QQHQHQHHHHIHI", text, self._offset("parameters"),
            boot, final, limit, self._window + self._gdt, 4095, self._window + self._idt,
            code, self._kernel_ss(), self._task, self._local, self._plan.star << 16 | code, limit, self._gdt,
        )  # fmt: skip
        struct.pack_into("<I", text, self._offset("header") + 24, end)

    def _offset(self, symbol: str) -> int:
        return self._stub.symbols[symbol] - self._window - LOAD


def _rounded(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _read_only_pages(plan: Plan) -> set[int]:
    fixed = {p for a in plan.read_only for p in pages_of(a, len(plan.memory[a]))}
    other = [(a, len(data)) for a, data in plan.memory.items() if a not in plan.read_only]
    return fixed - {p for a, size in [*other, *plan.mapped] for p in pages_of(a, size)}


def _free_window(pages: Iterable[int]) -> int:
    taken = {page // _SLOT for page in pages}
    return next(w for w in range(_FIRST_WINDOW, 1 << 64, _SLOT) if w // _SLOT not in taken)


def plan_of(machine: MachineConfig, start: Start, mapped: Iterable[tuple[int, int]] = ()) -> Plan:
    """The memory of a run from ``start``: the program's text, every region at its address there, and ``mapped``.

    A region that is writable has the bytes that the start gives it, and zeros else.
    """
    memory: dict[int, bytes] = {}
    fixed = set()
    for section in machine.program.sections:
        if section.executable and section.data:
            memory[section.address] = section.data
            fixed.add(section.address)
    extra = [*mapped, (start.home, 1)]
    for name, region in machine.regions.items():
        base = start.bases[name]
        if name == MSRS:
            continue
        if not region.writable:
            memory[base] = region.contents
            fixed.add(base)
        else:
            extra.append((base, region.size))
    memory |= _stretches(start.state.memory, machine, start)
    slots = frozenset(g.slot for g in machine.gates.values() if g.slot)
    tops = {name: start.bases[name] + machine.regions[name].size for name in _stacks(machine)}
    rsp0 = start.bases[machine.rsp0] + machine.regions[machine.rsp0].size if machine.rsp0 else 0
    return Plan(
        memory,
        (*machine.segments.values(), *vanished(machine, start)),
        tuple(machine.gates.values()),
        tops | dict.fromkeys(sorted(slots), 0),
        machine.kernel_cs,
        rsp0,
        _star(machine),
        frozenset(fixed),
        slots,
        machine.has_ldt,
        tuple(extra),
    )


def _stacks(machine: MachineConfig) -> list[str]:
    return list(dict.fromkeys(g.stack for g in machine.gates.values() if g.stack))


def _stretches(content: Mapping[int, int], machine: MachineConfig, start: Start) -> dict[int, bytes]:
    """The bytes of writable memory, in stretches without a gap."""
    fixed = [(start.bases[n], r.size) for n, r in machine.regions.items() if not r.writable]
    found: dict[int, bytearray] = {}
    first = last = -2
    for address in sorted(content):
        if any(base <= address < base + size for base, size in fixed) or not in_memory(address):
            continue
        if address != last + 1:
            first = address
            found[first] = bytearray()
        found[first].append(content[address])
        last = address
    return {address: bytes(data) for address, data in found.items()}


def _star(machine: MachineConfig) -> int:
    """What SYSRET adds its offsets to: the user's 64-bit code segment stands 16 above, its data 8 (rule I8)."""
    code = [s.selector & ~7 for s in machine.segments.values() if s.kind == "code" and s.long and s.dpl == 3]
    return code[0] - 16 | 3 if code else 0
