"""The same work on many things, each in a process of its own: one that dies takes nothing with it."""

from __future__ import annotations

import os
import signal
import traceback
from collections import deque
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import ForkProcess

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Shares what is loaded already, and starts in no time.
_fork = get_context("fork")


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of a process that gave no answer."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None or self.code >= 0:
            return f"ended with exit code {self.code}"
        return f"was killed by {signal.Signals(-self.code).name}"


@dataclass(frozen=True, slots=True)
class _Raised:
    """What the work raised: raised again by the process that waits for its answer."""

    error: Exception


def each_in_a_process(
    work: Callable[[Item], Answer], items: Sequence[Item], jobs: int
) -> Iterator[Answer | Death]:
    """What ``work`` makes of each item, in their order; ``jobs`` at a time. Raises what it raises.

    With several at a time, an interrupt from the keyboard is the first process's to handle.
    """
    pool = _Pool(work, items, jobs)
    try:
        for number in range(len(items)):
            while number not in pool.done:
                pool.go_on()
            answer = pool.done.pop(number)
            if isinstance(answer, _Raised):
                raise answer.error
            yield answer
    finally:
        pool.stop()


class _Pool(Generic[Item, Answer]):
    def __init__(self, work: Callable[[Item], Answer], items: Sequence[Item], jobs: int) -> None:
        self.done: dict[int, Answer | _Raised | Death] = {}
        self._waiting = deque(enumerate(items))
        self._running: dict[Connection, tuple[int, ForkProcess]] = {}
        self._work = work
        self._jobs = jobs

    def go_on(self) -> None:
        """Start what there is room for, and take the next answers."""
        while self._waiting and len(self._running) < self._jobs:
            self._start(*self._waiting.popleft())
        for reader in wait(list(self._running)):
            self._take(cast("Connection", reader))

    def stop(self) -> None:
        for reader, (_, process) in self._running.items():
            process.terminate()
            process.join()
            reader.close()

    def _start(self, number: int, item: Item) -> None:
        reader, writer = _fork.Pipe(duplex=False)
        process = _fork.Process(target=_answer, args=(self._work, item, writer, self._jobs > 1))
        process.start()
        writer.close()
        self._running[reader] = number, process

    def _take(self, reader: Connection) -> None:
        number, process = self._running.pop(reader)
        try:
            self.done[number] = reader.recv()
        except (EOFError, OSError):  # it died before, or in the middle of it
            process.join()
            self.done[number] = Death(process.exitcode)
        reader.close()
        process.join()


def _answer(work: Callable[[Item], Answer], item: Item, writer: Connection, ignore_interrupts: bool) -> None:
    if ignore_interrupts:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        writer.send(_tried(work, item))
    finally:
        os._exit(0)  # what the other process has still to write is not for this one to write


def _tried(work: Callable[[Item], Answer], item: Item) -> Answer | _Raised:
    try:
        return work(item)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return _Raised(error)
