"""Exit codes, and which of several wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.spec.model import Verdict

OK: Final = 0
USAGE: Final = 2
REFUSED: Final = 1
UNKNOWN: Final = 3
NOT_COVERED: Final = 5
INTERNAL: Final = 70
INTERRUPTED: Final = 130
#: 128 + SIGPIPE: who read the output stopped reading.
BROKEN_PIPE: Final = 141

PROVE: Final[dict[Verdict, int]] = {"proved": 0, "refuted": 1, "unknown": UNKNOWN, "vacuous": 4}
REFUTE: Final[dict[Verdict, int]] = {"refuted": 0, "proved": 1, "unknown": UNKNOWN, "vacuous": 4}

#: From the worst to the best.
_ORDER: Final = (INTERNAL, USAGE, 1, UNKNOWN, 4, OK)


def worst(codes: Iterable[int]) -> int:
    """The code that a call with several results ends with; 0 of none."""
    return min(codes, key=_ORDER.index, default=OK)
