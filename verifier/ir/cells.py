"""The cells of the machine: every register, flag and piece of system state an instruction can name.

One flat numbering, so that a state is a tuple and a location is an index. Names are the manual's. Flags are
cells of their own (``iopl`` has two bits); `RFLAGS_LAYOUT` says where each stands in the packed image.
"""

from __future__ import annotations

from verifier.asm.program import GENERAL_REGISTERS

#: name -> bit position and width in the RFLAGS image (SDM vol. 1, 3.4.3). Bit 1 reads as 1, the rest as 0.
RFLAGS_LAYOUT: dict[str, tuple[int, int]] = {
    "cf": (0, 1),
    "pf": (2, 1),
    "af": (4, 1),
    "zf": (6, 1),
    "sf": (7, 1),
    "tf": (8, 1),
    "if": (9, 1),
    "df": (10, 1),
    "of": (11, 1),
    "iopl": (12, 2),
    "nt": (14, 1),
    "rf": (16, 1),
    "vm": (17, 1),
    "ac": (18, 1),
    "vif": (19, 1),
    "vip": (20, 1),
    "id": (21, 1),
}
FLAGS = tuple(RFLAGS_LAYOUT)
STATUS_FLAGS = ("cf", "pf", "af", "zf", "sf", "of")

SELECTORS = ("es", "cs", "ss", "ds", "fs", "gs")

#: name -> width in bits. ``cpl`` is its own cell, kept apart from the cs selector's low bits.
#: ``inhibit``: 0 none, 1 after STI, 2 after MOV SS / POP SS; set by an instruction for the next boundary only. 3: no
#: shadow, after one of these that cast none because another came before it; a #DB that is held back still is.
SYSTEM: dict[str, int] = {
    "fs_base": 64,
    "gs_base": 64,
    "kernel_gs_base": 64,
    "cr0": 64,
    "cr2": 64,
    "cr3": 64,
    "cr4": 64,
    "cr8": 64,
    "dr6": 64,
    "cpl": 2,
    "inhibit": 2,
}

#: Every cell's width in bits, in the numbering that states use.
CELLS: dict[str, int] = {
    **dict.fromkeys(GENERAL_REGISTERS, 64),
    **{name: width for name, (_, width) in RFLAGS_LAYOUT.items()},
    **dict.fromkeys(SELECTORS, 16),
    **SYSTEM,
}
CELL_NAMES = tuple(CELLS)
CELL_INDEX = {name: i for i, name in enumerate(CELL_NAMES)}
