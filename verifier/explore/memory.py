"""How much memory this process has, and may get: a search gives up before it harms the machine that it runs on."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Linux's account of this process.
_STATM = Path("/proc/self/statm")


def holds_more_than(megabytes: int) -> bool:
    """Whether it holds more than that now, whatever it held before; cheap enough to be asked at every state."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return most > megabytes and (not _STATM.exists() or _bytes(1) >> 20 > megabytes)


@contextmanager
def capped(megabytes: int) -> Iterator[None]:
    """Within this context no more than that is to be had on top of what there is now: MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if _STATM.exists():
        wanted = _bytes(0) + (megabytes << 20)
        limit = min(n for n in (wanted, soft, hard) if n != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _bytes(field: int) -> int:
    """Field 0: the address space, 1: what is resident."""
    return int(_STATM.read_bytes().split()[field]) * resource.getpagesize()
