"""Files that are no certificates, or want to do harm: one clear message each, soon, in little memory."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from recheck_certificates import COUNTER, Lines, ProofLines, proved

from verifier.errors import VerifierError
from verifier.recheck import GaveUp, Refused, reader, recheck, routines
from verifier.recheck.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"


def certificate() -> Lines:
    return Lines.of(proved(COUNTER)[0])


def first_line() -> bytes:
    return proved(COUNTER)[0].splitlines(keepends=True)[0]


def opening() -> bytes:
    return json.dumps(certificate().proofs[0].opening).encode() + b"\n"


def terms(*lines: object) -> bytes:
    return first_line() + opening() + b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def doubled(op: str, count: int) -> list[list[object]]:
    """Terms that would be 2^count large if they were written out."""
    return [["unknown", 0, 64], *([op, i, i] for i in range(count))]


def changed(change: Callable[[ProofLines, dict[str, Any]], object]) -> bytes:
    """The certificate of a proof with routines whose first state is another."""
    lines = Lines.of(proved(COUNTER, routines=True)[0])
    change(lines.proofs[0], lines.proofs[0].states[0])
    return lines.content()


TEXTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no JSON": lambda: b"hello\n",
    "no text": lambda: b"\xff\xfe\x00\n",
    "NUL bytes": lambda: b"\0" * 1000,
    "a list": lambda: b"[]\n",
    "another format": lambda: first_line().replace(b"verifier certificate", b"verifier trace"),
    "another version": lambda: first_line().replace(b'"version":1', b'"version":3'),
    "deep nesting": lambda: b"[" * 100_000 + b"\n",
    "deep objects": lambda: b'{"a":' * 100_000 + b"\n",
    "a long line": lambda: b'"' + b"a" * (2 << 20) + b'"\n',
    "a huge number": lambda: first_line() + b'{"end":' + b"9" * 100_000 + b"}\n",
    "no proof opens": lambda: first_line() + b'{"end":0}\n',
    "a term of nothing": lambda: terms([]),
    "an unknown operation": lambda: terms(["frobnicate", 0]),
    "a term before its arguments": lambda: terms(["not", 0]),
    "a term of itself": lambda: terms(["unknown", 0, 64], ["not", 1]),
    "a negative number": lambda: terms(["unknown", 0, 64], ["not", -1]),
    "a text for a number": lambda: terms(["unknown", "0", 64]),
    "a truth for a number": lambda: terms(["unknown", True, 64]),
    "widths that differ": lambda: terms(["unknown", 0, 64], ["unknown", 1, 8], ["add", 0, 1]),
    "too few arguments": lambda: terms(["unknown", 0, 64], ["add", 0]),
    "bits that are not there": lambda: terms(["unknown", 0, 8], ["extract", 0, 8, 0]),
    "a constant that does not fit": lambda: terms(["const", "0x100", 8]),
    "a constant that is none": lambda: terms(["const", "0xzz", 8]),
    "a negative constant": lambda: terms(["const", "-0x1", 8]),
    "a width of nothing": lambda: terms(["unknown", 0, 0]),
    "a width of much": lambda: terms(["unknown", 0, 1 << 40]),
    "a wide concatenation": lambda: terms(*doubled("concat", 60)),
    "deep terms": lambda: terms(*doubled("xor", 10_000)),
    "no such region": lambda: terms(["base", "nowhere"]),
    "no such word": lambda: terms(["initial", "percpu", 1 << 40]),
    "a word that is none": lambda: terms(["initial", "percpu", 3]),
    "no such cell": lambda: terms(["interrupted", "r99"]),
    "a state of nothing": lambda: terms({"state": 0}),
    "a param that is none": lambda: terms(["param", "cpl"]),
    "a param of no word": lambda: terms(["param", "percpu", 3]),
    "a param outside of routines": lambda: changed(lambda p, s: s["cells"].update(rax=p.term("param", "rax"))),
    "a routine of nothing": lambda: changed(lambda _, s: s.update(routine=77)),
    "a routine that begins nowhere": lambda: changed(lambda _, s: s.update(routine=0, at="home")),
    "an end of no routine": lambda: changed(lambda _, s: s.update(at="leaving", leaves=[0, 0])),
    "an end that leads nowhere": lambda: changed(lambda _, s: s.update(at="leaving", routine=0)),
    "an end at no CPL": lambda: changed(lambda p, s: s.update(leaves=[p.term("base", "nmi_ist"), 4])),
    "a hint of too much": lambda: changed(lambda _, s: s["steps"].append(["nmi", 0, [], "call", 1])),
    "the end too soon": lambda: terms({"end": 7}),
    "cut off": lambda: proved(COUNTER)[0][: len(proved(COUNTER)[0]) // 2],
    "cut off after a state": lambda: b"".join(proved(COUNTER)[0].splitlines(keepends=True)[:100]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_certificate(name: str, tmp_path: Path) -> None:
    file = tmp_path / "certificate"
    file.write_bytes(TEXTS[name]())
    with pytest.raises(Malformed) as problem:
        list(recheck(file, COUNTER))
    message = problem.value.render()
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    assert "certificate" in message


def test_there_is_an_end_to_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_ENTRIES", 1000)
    file = tmp_path / "certificate"
    file.write_bytes(proved(COUNTER)[0])
    with pytest.raises(Malformed, match="larger than a certificate can be"):
        list(recheck(file, COUNTER))


def test_there_is_an_end_to_what_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routines, "_RETURNS", 10)
    file = tmp_path / "certificate"
    file.write_bytes(proved(COUNTER, routines=True)[0])
    with pytest.raises(Refused, match="more ways out of routines than a certificate needs"):
        list(recheck(file, COUNTER))


def _endless(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize("where", [_endless, lambda f: f, lambda f: f / "nothing", lambda f: f / ("x" * 5000)])
def test_no_file(where: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        list(recheck(where(tmp_path), COUNTER))


@pytest.mark.parametrize("named", ["/etc/passwd", "../spec.yaml", "a/../../spec.yaml"])
def test_a_certificate_opens_no_file_elsewhere(named: str, tmp_path: Path) -> None:
    lines = certificate()
    lines.header["specification"] = named
    file = tmp_path / "certificate"
    file.write_bytes(lines.content())
    with pytest.raises(VerifierError, match="does not say where"):
        list(recheck(file))


def _values(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as its holder and key."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *_values(value[key])]
    return found


ODD: tuple[object, ...] = (None, True, -1, 0, 1, 7, 10**30, 1.5, "", "0x0", "home", [], {}, [[]], "\0", "\ud800")


@pytest.mark.parametrize("seed", range(2000 if FULL else 40))
def test_any_other_value_anywhere_is_no_crash(seed: int, tmp_path: Path) -> None:
    """It is refused, or makes no difference; hints and ranks make none if they are not needed."""
    random, lines = Random(seed), certificate()
    proof = random.choice(lines.proofs)
    lines.proofs = [proof]
    parts: list[Any] = [lines.header, proof.opening, random.choice(proof.terms), *random.sample(proof.states, 3)]
    holder, key = random.choice(_values(random.choice(parts)))
    holder[key] = random.choice(ODD)
    file = tmp_path / "certificate"
    file.write_bytes(lines.content())
    with suppress(VerifierError, Refused, GaveUp):
        list(recheck(file, COUNTER))
