"""The registers an operand can name: number, width and what they ask of the prefixes (Vol. 2A, 2.2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.asm.program import GENERAL_REGISTERS, SEGMENT_REGISTERS

GENERAL, SEGMENT, CONTROL, DEBUG, POINTER = "general", "segment", "control", "debug", "pointer"


@dataclass(frozen=True, slots=True)
class Register:
    """``name`` is the full register's, ``number`` its encoding (0..15), ``width`` in bits.

    ``high`` marks ah, ch, dh, bh: encoded as 4..7, never with REX. ``needs_rex`` marks spl, bpl, sil, dil.
    """

    name: str
    file: str
    number: int
    width: int
    high: bool = False
    needs_rex: bool = False


def _general() -> dict[str, Register]:
    found: dict[str, Register] = {}
    for number, full in enumerate(GENERAL_REGISTERS):
        legacy = number < 8
        stem = full[1:]
        word = stem if legacy else full + "w"
        double = "e" + stem if legacy else full + "d"
        byte = full + "b" if not legacy else stem[0] + "l" if number < 4 else stem + "l"
        found[full] = Register(full, GENERAL, number, 64)
        found[double] = Register(full, GENERAL, number, 32)
        found[word] = Register(full, GENERAL, number, 16)
        found[byte] = Register(full, GENERAL, number, 8, needs_rex=4 <= number < 8)
    for number, letter in enumerate("acdb"):
        found[letter + "h"] = Register(f"r{letter}x", GENERAL, number + 4, 8, high=True)
    return found


REGISTERS: dict[str, Register] = {
    **_general(),
    **{name: Register(name, SEGMENT, i, 16) for i, name in enumerate(SEGMENT_REGISTERS)},
    **{f"cr{i}": Register(f"cr{i}", CONTROL, i, 64) for i in (0, 2, 3, 4, 8)},
    **{f"{stem}{i}": Register(f"dr{i}", DEBUG, i, 64) for stem in ("dr", "db") for i in range(8)},
    "rip": Register("rip", POINTER, 5, 64),
}
