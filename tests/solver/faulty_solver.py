"""Stands between the product and z3, and at chosen requests does what a solver must not do.

Arguments: a file to count in; the fault; a pattern; how many of the requests that match it are spared, and how many
after those are struck; then z3's own command line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HOUR = 3600


def allocate() -> None:
    kept = []
    while True:
        kept.append(b"x" * (1 << 24))


def flood() -> None:
    while True:
        os.write(1, b"sat\n" * 10_000)


def close() -> None:
    os.close(1)
    time.sleep(HOUR)


DEEDS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "quiet exit": lambda: os._exit(0),
    "raise": lambda: sys.exit("Traceback (most recent call last)"),
    "sleep": lambda: time.sleep(HOUR),
    "allocate": allocate,
    "flood": flood,
    "close": close,
}
#: What is said in place of an answer.
WORDS = {
    "two answers": b'sat\nunsat\n(:reason-unknown "")\n',
    "error": b'(error "line 1: not now")\n',
    "error, then an answer": b'(error "line 1: unknown constant")\nunsat\n(:reason-unknown "")\n',
    "garbage": b"\xff\0(((\n",
    "no answer": b"",
    "half an answer": b"unsat\n",
    "unknown": b'unknown\n(:reason-unknown "tired")\n',
    "lie": b'sat\n(:reason-unknown "")\n',
    "answer to another": b'unsat\n(:reason-unknown "")\nend of answer 77\nsat\n(:reason-unknown "")\n',
}


def main() -> None:
    counter, fault, pattern, spared, struck, *command = sys.argv[1:]
    z3 = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    request = b""
    for line in sys.stdin.buffer:
        request += line
        asked = re.search(rb'\(echo "(end of answer \d+)"\)', line)
        if asked is None:
            continue
        end = asked[1] + b"\n"
        if re.search(pattern.encode(), request) and 0 <= _count(Path(counter)) - int(spared) < int(struck):
            if fault in DEEDS:
                DEEDS[fault]()
            os.write(1, WORDS[fault] + end)
        else:
            os.write(1, _ask(z3, request, end))
        request = b""


def _count(path: Path) -> int:
    """How often it was called before, in whatever process."""
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size - 1


def _ask(z3: subprocess.Popen[bytes], request: bytes, end: bytes) -> bytes:
    assert z3.stdin is not None
    assert z3.stdout is not None
    z3.stdin.write(request)
    answer = b""
    while not answer.endswith(end):
        answer += z3.stdout.read(1 << 16)
    return answer


if __name__ == "__main__":
    main()
