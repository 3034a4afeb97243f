"""One target fuzzed for some seconds, in a process of its own: ``fuzz_process.py ENGINE TARGET FOLDER SECONDS``.

``FOLDER`` is new. Ends with 0 if nothing was found; else the input is in ``FOLDER/found*`` and the reason on stderr.
"""

from __future__ import annotations

import copy
import faulthandler
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import atheris
from fuzz_guard import Guard
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

with atheris.instrument_imports(include=["verifier"]) if sys.argv[1:2] == ["atheris"] else nullcontext():
    from fuzz_targets import TARGETS, Folder, read, seeds, words

#: What one input may take, in seconds, on a machine that is busy.
PATIENCE = 20
LONGEST_INPUT = 65_536


def tester(target: str, folder: Folder, guard: Guard) -> Callable[[bytes], None]:
    name = TARGETS[target][0]

    def test(data: bytes) -> None:
        path = folder.give(name, data)
        with guard.watching():
            read(target, folder, path)

    return test


def with_atheris(test: Callable[[bytes], None], corpus: list[bytes], folder: Path, seconds: int) -> None:
    """Guided by coverage, from the seeds, with a dictionary."""
    (folder / "corpus").mkdir()
    for number, data in enumerate(corpus):
        (folder / "corpus" / str(number)).write_bytes(data)
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in words(corpus)]
    (folder / "words").write_text("".join(f'"{word}"\n' for word in escaped))
    options = {
        "max_total_time": seconds,
        "timeout": 2 * PATIENCE,
        "rss_limit_mb": 1000,
        "max_len": LONGEST_INPUT,
        "dict": folder / "words",
        "artifact_prefix": folder / "found-",
        "print_final_stats": 1,
        "seed": 1,
    }
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(folder / "corpus")], test)
    atheris.Fuzz()


def with_hypothesis(test: Callable[[bytes], None], corpus: list[bytes], folder: Path, seconds: int) -> None:
    """Guided by structure: documents of which parts are replaced, texts of which words and lines are."""
    vocabulary = words(corpus)
    end, rounds, tried = time.monotonic() + seconds, 0, 0

    def examine(source: random.Random) -> None:
        nonlocal tried
        data = mutated(source.choice(corpus), vocabulary, source)
        (folder / "found-last").write_bytes(data)
        tried += 1
        test(data)

    checks = settings(
        max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    while time.monotonic() < end:
        rounds += 1
        seed(rounds)(checks(given(st.randoms(use_true_random=True))(examine)))()
    (folder / "found-last").unlink()
    print(f"{tried} inputs, {peak()} MB")


def mutated(text: bytes, vocabulary: list[bytes], source: random.Random) -> bytes:
    """Some parts replaced by others: of a JSON document its values, of any other text its words and lines."""
    lines = text.split(b"\n")
    for _ in range(source.randrange(1, 5)):
        at = source.randrange(len(lines))
        if lines[at][:1] in (b"{", b"[") and source.randrange(8):
            lines[at] = _document(lines[at], source)
        else:
            _edit(lines, at, vocabulary, source)
    return b"\n".join(lines)[:LONGEST_INPUT]


def _edit(lines: list[bytes], at: int, vocabulary: list[bytes], source: random.Random) -> None:
    line, word = lines[at], source.choice(vocabulary)
    cut = source.randrange(len(line) + 1)
    other = source.choice(lines)
    parts = line.split(b" ")
    parts[source.randrange(len(parts))] = word
    inserted, joined = line[:cut] + word + line[cut:], line + b"\n" + other
    repeated = (line * 300)[:LONGEST_INPUT]
    lines[at] = source.choice([b" ".join(parts), inserted, joined, line[:cut], other, b"", word, repeated])


def _document(text: bytes, source: random.Random) -> bytes:
    try:
        document = json.loads(text)
    except ValueError:
        return text[: source.randrange(len(text))]
    places = list(_places(document))
    for _ in range(source.randrange(1, 4) if places else 0):
        container, key = source.choice(places)
        if isinstance(container, dict) and source.randrange(6) == 0:
            container.pop(key, None)
        elif isinstance(container, dict) or key < len(container):
            old = container.get(key) if isinstance(container, dict) else container[key]
            container[key] = _value(old, places, source)
    return json.dumps(document).encode()


def _places(document: object) -> list[tuple]:
    found, work = [], [document]
    while work:
        container = work.pop()
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(entries):
            found.append((container, key))
            if isinstance(value, (dict, list)) and value:
                work.append(value)
    return found


def _value(old: object, places: list[tuple], source: random.Random) -> object:
    container, key = source.choice(places)
    other = container.get(key) if isinstance(container, dict) else container[key] if key < len(container) else None
    near = [copy.deepcopy(other), _STRANGE[source.randrange(len(_STRANGE))]]
    if isinstance(old, bool):
        near.append(not old)
    elif isinstance(old, int):
        near += [old + 1, -old, old << 40 & (1 << 200) - 1]
    elif isinstance(old, str):
        near += [old[:-1], old + "0", (old + old)[:LONGEST_INPUT]]
    elif isinstance(old, list):
        near += [(old + old)[:1000], old[:-1], old[::-1], old * 1000 if len(old) < 20 else old]
    return source.choice(near)


_STRANGE = [
    None, True, 0, -1, 1 << 64, 1 << 5000, 0.5, float("nan"), float("inf"), "", "0x", "0x" + "f" * 17, "-0x1", "\0",
    "\ud800", "x" * 10_000, [], {}, [[]], {"": None}, ["var", 1], "nmi", "0x0", "1_0", "\u0663", "[" * 50,
]  # fmt: skip


def peak() -> int:
    """Megabytes that this process has had at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def main(engine: str, target: str, where: str, seconds: str) -> None:
    faulthandler.enable()
    folder = Folder(Path(where))
    corpus = seeds(target, folder)
    guard = Guard(folder.tree, PATIENCE)
    test = tester(target, folder, guard)
    name = TARGETS[target][0]
    taken = [read(target, folder, folder.give(name, data)) for data in corpus]  # and everything is imported now
    if not any(taken):
        sys.exit("no seed is taken")
    if engine == "atheris":
        with_atheris(test, corpus, Path(where), int(seconds))
        return
    try:
        with_hypothesis(test, corpus, Path(where), int(seconds))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
