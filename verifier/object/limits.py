"""How much an object file may ask for: whatever it says of itself, reading it ends."""

from __future__ import annotations

#: Of one file, debug information included: a whole kernel with it has several hundred.
FILE_BYTES = 1 << 30
LISTING_BYTES = 64 << 20
#: Of all sections that take memory, of all objects.
MEMORY_BYTES = 128 << 20
SECTIONS = 20_000
SYMBOLS = 2_000_000
RELOCATIONS = 2_000_000
ALTERNATIVES = 200_000
#: Of debug information, decompressed: more of it is left unread, and places are told by symbols.
DEBUG_BYTES = 8 << 20
#: What direct control flow leads to, decoded before the search begins.
FOLLOWED = 50_000
