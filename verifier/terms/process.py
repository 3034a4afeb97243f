"""Z3 as a process of its own: it may crash, hang or run out of memory there, and is started again.

One process serves all that this process asks. Each request stands for itself, so an answer does not depend on what was
asked before.
"""

from __future__ import annotations

import atexit
import os
import resource
import select
import shutil
import subprocess
import sysconfig
import time
from contextlib import suppress
from itertools import count
from signal import Signals
from threading import Lock

from verifier.errors import UsageError
from verifier.terms.smtlib import LOGIC

#: Wall-clock time for one request. Z3 counts its own work and gives up long before; this is for when it does not.
SECONDS = 120.0
#: What the solver may take; it gives up at this size, and the operating system stops it at twice that.
MEGABYTES = 1_000
#: Of one answer.
_MAX_ANSWER = 16 << 20
#: What z3 ends with when it runs out of memory.
_OUT_OF_MEMORY = 101


class SolverFailure(Exception):
    """There is no answer: the solver crashed, hung, ran out of memory, or said what nobody understands."""


def command() -> list[str]:
    """Z3's program, as it comes with the Python package. Raises UsageError where there is none."""
    program = shutil.which("z3", path=sysconfig.get_path("scripts")) or shutil.which("z3")
    if program is None:
        raise UsageError("the program z3 is missing", None, "install the Python package z3-solver")
    return [program, "-in", f"-memory:{MEGABYTES}"]


class SolverProcess:
    """The process, from the first request on; another one after each failure, and after a fork."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._serials = count()
        self._lock = Lock()

    def ask(self, request: str, rlimit: int) -> list[str]:
        """The lines that answer a request in SMT-LIB 2, which is made in a scope of its own.

        ``rlimit``: units of z3's work that it may cost. Raises SolverFailure with the reason. A process that dies of a
        request and had answered others is given it once more, afresh: what was asked before may be to blame.
        """
        with self._lock:
            if self._running():
                try:
                    return self._asked(request, rlimit)
                except _Died:
                    pass
            self._start()
            return self._asked(request, rlimit)

    def stop(self) -> None:
        """End the process, if it is ours; the next request starts another one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    def _running(self) -> bool:
        return self._process is not None and self._owner == os.getpid()

    def _start(self) -> None:
        program = command()
        try:
            process = subprocess.Popen(
                program,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard is ours to handle
            )
        except OSError as error:
            raise UsageError(f"cannot run {program[0]}: {error.strerror}") from None
        self._process, self._owner = process, os.getpid()
        _limit_memory(process.pid)
        self._serials = count()
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)

    def _asked(self, request: str, rlimit: int) -> list[str]:
        first = next(self._serials)
        end = f"end of answer {first}"
        options = "" if first else f"(set-option :produce-unsat-assumptions true)(set-logic {LOGIC})"
        text = f'{options}(set-option :rlimit {rlimit})(push 1)\n{request}(echo "{end}")(pop 1)\n'
        try:
            answer = self._exchange(text.encode(), f"{end}\n".encode())
        except BaseException:  # whatever it was, what comes out of the process now answers nothing
            self.stop()
            raise
        return answer.decode("utf-8", "replace").split("\n")[:-2]

    def _exchange(self, out: bytes, end: bytes) -> bytes:
        """What the process writes up to and with ``end`` when it is given ``out``."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin.fileno(), process.stdout.fileno()
        deadline, sent, received = time.monotonic() + SECONDS, 0, bytearray()
        while not received.endswith(end):
            left = deadline - time.monotonic()
            if left <= 0:
                raise SolverFailure(f"it did not answer within {SECONDS:g} s")
            waiting = [stdin] if sent < len(out) else []
            readable, writable, _ = select.select([stdout], waiting, [], left)
            if readable:
                part = os.read(stdout, 1 << 16)
                received += part
                if not part:
                    raise _Died(_how_it_died(process, bytes(received)))
                if len(received) > _MAX_ANSWER:
                    raise SolverFailure(f"its answer is longer than {_MAX_ANSWER >> 20} MB")
            elif writable:
                with suppress(BrokenPipeError):  # it has died: what it said before is still to be read
                    sent += os.write(stdin, out[sent : sent + (1 << 16)])
        return bytes(received)


class _Died(SolverFailure):
    """The process has ended."""


def _limit_memory(process: int) -> None:
    """A backstop behind z3's own limit."""
    with suppress(OSError, ValueError):  # it has died already
        _, hard = resource.prlimit(process, resource.RLIMIT_AS)
        most = 2 * MEGABYTES << 20
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.prlimit(process, resource.RLIMIT_AS, (soft, hard))


def _how_it_died(process: subprocess.Popen[bytes], said: bytes) -> str:
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "it closed its output"
    if code == _OUT_OF_MEMORY or b"out of memory" in said:
        return f"it ran out of memory ({MEGABYTES} MB)"
    if code < 0:
        return f"it was killed by {_signal_name(-code)}"
    return f"it ended with exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


#: Serves every `verifier.terms.Solver` of this process.
shared = SolverProcess()
atexit.register(shared.stop)
