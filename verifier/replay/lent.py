"""Memory outside every region, which a program reads through a base that the user chose: there for one step at a time.

A wild access of the program must fault, so a page that only such reads touch is mapped while one of them is executed,
with the values that the run has chosen.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from verifier.replay.image import plan_of
from verifier.replay.pages import PRESENT, pages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from verifier.replay.course import Course
    from verifier.replay.image import Image
    from verifier.replay.machine import Machine


class Lent:
    """The pages of an image that only chosen reads touch; absent from the time when this is made."""

    def __init__(self, machine: Machine, image: Image, course: Course) -> None:
        self._machine = machine
        self._image = image
        self._pages = set(image.entries) - plan_of(course.machine, course.start).pages()
        for page in self._pages:
            self._set_present(page, 0)

    @contextmanager
    def pages_for(self, places: Iterable[tuple[int, int]], values: Iterable[int]) -> Iterator[None]:
        """Let each place (address and size in bytes) have its value for a while."""
        chosen = list(zip(places, values, strict=True))
        absent = sorted({p for (address, size), _ in chosen for p in pages_of(address, size) if p in self._pages})
        for page in absent:
            self._set_present(page, PRESENT)
        saved = [(address, self._machine.load(address, size)) for (address, size), _ in chosen]
        for (address, size), value in chosen:
            self._machine.store(address, value.to_bytes(size, "little"))
        yield
        for address, data in saved:
            self._machine.store(address, data)
        for page in absent:
            self._set_present(page, 0)

    def _set_present(self, page: int, present: int) -> None:
        place = self._image.entries[page]
        (entry,) = struct.unpack("<Q", self._machine.load(place, 8))
        self._machine.store(place, struct.pack("<Q", entry & ~PRESENT | present))
        self._machine.forget(page)
