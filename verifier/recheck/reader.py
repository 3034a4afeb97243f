"""Reads certificates (docs/certificates.md): hostile text to plain data, with bounds on everything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Final

from verifier.ir.cells import CELLS
from verifier.recheck.errors import Malformed
from verifier.recheck.ghost import HOME, LEAVING, Ghost, Watched
from verifier.recheck.terms import TermReader, is_param

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sized
    from pathlib import Path
    from types import TracebackType

    from verifier.recheck.expression import Expr
    from verifier.recheck.world import Word, World

FORMAT: Final = "verifier certificate"
#: The second has proofs with routines.
VERSIONS: Final = (1, 2)
_LINE: Final = 1 << 20
_STATES: Final = 200_000
#: Entries of all lists and mappings of the states together: what bounds the memory.
_ENTRIES: Final = 15_000_000
_LONGEST_LIST: Final = 10_000

#: What an unknown of the target stands for: an unknown of the source, a choice of the step, an unknown of the state in
#: which a routine is left, or nothing in particular.
Stands = int | tuple[str, int] | None
_PLACES: Final = {"home": HOME, "leaving": LEAVING}


@dataclass(frozen=True, slots=True)
class Header:
    """``hashes``: SHA-256 in hexadecimal of ``specification`` and of each source by its name in the program."""

    specification: str
    hashes: Mapping[str, str]
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hint:
    """Where a step leads, it is said: ``action`` is ``execute`` or an event; ``stands``: by the target's unknowns.

    ``begins``: a routine begins there; ``left``: the state in which one was left that the step began.
    """

    action: str
    target: int
    stands: tuple[Stands, ...]
    begins: bool = False
    left: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """Where control goes from the end of a routine, and at which CPL."""

    target: Expr
    cpl: int


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """A state as listed. ``rank`` bounds the event-free steps to the end of the run, or out of the routine, it is said.

    ``routine``: the number of the first state of the routine that it is in; ``leaves``: set if it is at its end.
    """

    number: int
    context: str
    at: int
    nmi_blocked: bool
    ghost: Ghost
    cells: Mapping[str, Expr]
    memory: Mapping[Word, Expr]
    when: tuple[Expr, ...]
    rank: int | None
    hints: tuple[Hint, ...]
    routine: int | None = None
    leaves: Leaves | None = None

    def terms(self) -> tuple[Expr, ...]:
        """All that it says."""
        watched = self.ghost.watched.values if self.ghost.watched is not None else ()
        target = (self.leaves.target,) if self.leaves is not None else ()
        return (*self.cells.values(), *self.memory.values(), *self.when, *watched, *target)


@dataclass(slots=True)
class Proof:
    """What is claimed, for which runs, and the states that are to show it."""

    properties: tuple[str, ...]
    during: tuple[str, ...] | None
    events: Mapping[str, int | None]
    outermost: frozenset[str]
    watches: tuple[tuple[str, int], ...]
    counted: tuple[str, ...]
    resumed: tuple[str, ...]
    returned_to: frozenset[int]
    home_memory: bool
    starts: tuple[int, ...]
    routines: bool = False
    states: dict[int, Listed] = field(default_factory=dict)


class CertificateReader:
    """Reads a file from the front, a line at a time. Raises Malformed."""

    def __init__(self, path: Path) -> None:
        self._name = path.name[:100]
        self._line = 0
        self._entries = 0
        try:
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._stream = os.fdopen(number, "rb")
            regular = S_ISREG(os.fstat(number).st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Malformed(f"cannot read {self._name}: {reason}") from None
        if not regular:
            self._stream.close()
            raise Malformed(f"cannot read {self._name}: no regular file")

    def __enter__(self) -> CertificateReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def error(self, message: str) -> Malformed:
        return Malformed(f"{self._name}:{self._line}: {message}")

    def _next(self) -> Any:
        """The next line's content; None at the end of the file."""
        self._line += 1
        try:
            line = self._stream.readline(_LINE + 1)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from None
        if not line:
            return None
        if len(line) > _LINE:
            raise self.error("longer than a certificate can be")
        try:
            return json.loads(line.decode())  # bytes may be UTF-16, and mean another text
        except (ValueError, RecursionError):
            raise self.error("no line of a certificate: not JSON") from None

    def header(self) -> Header:
        fields = self._fields(self._next(), ("format", "version", "specification", "sha256", "assumptions"))
        if fields["format"] != FORMAT:
            raise self.error("no certificate")
        if fields["version"] not in VERSIONS:
            raise self.error("this version reads versions 1 and 2 of certificates only")
        hashes = fields["sha256"]
        if not isinstance(hashes, dict):
            raise self.error("'sha256' is no mapping")
        return Header(
            self._text(fields["specification"]),
            {name: self._text(value) for name, value in hashes.items()},
            tuple([self._text(a) for a in self._list(fields["assumptions"])]),
        )

    def proofs(self, world: World) -> Iterator[Proof]:
        """One proof at a time; the file ends right after the last."""
        while (opening := self._next()) is not None:
            proof = self._opening(opening)
            self._states(proof, TermReader(world, self.error), world)
            yield proof

    def _opening(self, line: Any) -> Proof:
        names = ("properties", "during", "events", "outermost", "watches", "counted", "resumed")
        routines = isinstance(line, dict) and "routines" in line
        more = ("routines",) if routines else ()
        fields = self._fields(line, (*names, "returned_to", "home_memory", "starts", *more))
        events = fields["events"]
        if not isinstance(events, dict):
            raise self.error("'events' is no mapping")
        during = fields["during"]
        return Proof(
            self._texts(fields["properties"]),
            None if during is None else self._texts(during),
            {name: None if n is None else self._number(n) for name, n in events.items()},
            frozenset(self._texts(fields["outermost"])),
            tuple([self._watch(w) for w in self._list(fields["watches"])]),
            self._texts(fields["counted"]),
            self._cells_named(fields["resumed"]),
            frozenset([self._address(at) for at in self._list(fields["returned_to"])]),
            self._flag(fields["home_memory"]),
            self._numbers(fields["starts"]),
            routines and self._flag(fields["routines"]),
        )

    def _cells_named(self, value: Any) -> tuple[str, ...]:
        names = self._texts(value)
        if any(name not in CELLS for name in names):
            raise self.error("no such cell")
        return names

    def _watch(self, entry: Any) -> tuple[str, int]:
        event, body = self._list(entry, 2)
        return self._text(event), self._address(body)

    def _states(self, proof: Proof, terms: TermReader, world: World) -> None:
        while True:
            line = self._next()
            if isinstance(line, list):
                terms.add(line)
            elif isinstance(line, dict) and "end" in line:
                if line["end"] != len(proof.states):
                    raise self.error("states are missing")
                return
            elif line is None:
                raise self.error("the certificate is cut off")
            else:
                state = self._state(line, proof, terms, world)
                if state.number != len(proof.states) or state.number >= _STATES:
                    raise self.error("the states are not numbered in order")
                proof.states[state.number] = state

    def _state(self, line: Any, proof: Proof, terms: TermReader, world: World) -> Listed:
        names = ("state", "context", "at", "nmi_blocked", "counts", "owed", "positions", "watched")
        more = ("routine", "leaves") if proof.routines else ()
        fields = self._fields(line, (*names, "cells", "memory", "when", "rank", "steps", *more))
        context = self._text(fields["context"])
        if context not in world.homes:
            raise self.error(f"no context is called '{context}'")
        at = self._place(fields["at"], world)
        rank = fields["rank"]
        found = Listed(
            self._number(fields["state"]),
            context,
            at,
            self._flag(fields["nmi_blocked"]),
            self._ghost(fields, proof, terms),
            self._cells(fields["cells"], terms),
            dict([self._word(entry, terms) for entry in self._list(fields["memory"])]),
            tuple([self._condition(n, terms) for n in self._list(fields["when"])]),
            None if rank is None else self._number(rank),
            tuple([self._hint(entry) for entry in self._list(fields["steps"])]),
            self._routine(fields, proof),
            self._leaves(fields, terms),
        )
        self._expect_sound(found)
        return found

    def _place(self, value: Any, world: World) -> int:
        place = _PLACES.get(value) if isinstance(value, str) else None
        at = self._address(value) if place is None else place
        if at >= 0 and at not in world.machine.program.instructions:
            raise self.error("no instruction stands where this state is")
        return at

    def _routine(self, fields: Mapping[str, Any], proof: Proof) -> int | None:
        if fields.get("routine") is None:
            return None
        number = self._number(fields["routine"])
        first = proof.states.get(number)
        if number != len(proof.states) and (first is None or first.routine != number):
            raise self.error("no routine begins there")
        return number

    def _leaves(self, fields: Mapping[str, Any], terms: TermReader) -> Leaves | None:
        if fields.get("leaves") is None:
            return None
        target, cpl = self._list(fields["leaves"], 2)
        if type(cpl) is not int or not 0 <= cpl <= 3:
            raise self.error("no such CPL")
        return Leaves(terms.get(target, 64), cpl)

    def _expect_sound(self, state: Listed) -> None:
        """Params are of routines; one begins at an instruction and is left by states that say where to."""
        if (state.leaves is not None) != (state.at == LEAVING):
            raise self.error("a state says where it leaves a routine for, if it does")
        if state.routine is None:
            if state.at == LEAVING or any(is_param(x) for t in state.terms() for x in t.free):
                raise self.error("a state that is in no routine speaks of one")
        elif state.at == HOME or (state.at == LEAVING and state.routine == state.number):
            raise self.error("no routine is there")

    def _ghost(self, fields: Mapping[str, Any], proof: Proof, terms: TermReader) -> Ghost:
        counts = self._numbers(fields["counts"])
        owed = tuple([self._flag(o) for o in self._list(fields["owed"], len(proof.watches))])
        positions = frozenset(self._numbers(fields["positions"]))
        watched = fields["watched"]
        if len(counts) != len(proof.counted):
            raise self.error("other events are counted here than the proof says")
        return Ghost(counts, owed, positions, None if watched is None else self._watched(watched, proof, terms))

    def _watched(self, entry: Any, proof: Proof, terms: TermReader) -> Watched:
        at, back, values = self._list(entry, 3)
        cells = ("rsp", *proof.resumed)
        numbers = self._list(values, len(cells))
        found = tuple([terms.get(n, CELLS[c]) for n, c in zip(numbers, cells, strict=True)])
        return Watched(self._address(at), found, self._flag(back))

    def _cells(self, entries: Any, terms: TermReader) -> dict[str, Expr]:
        if not isinstance(entries, dict):
            raise self.error("'cells' is no mapping")
        self._count(entries)
        cells = {}
        for name, number in entries.items():
            if name not in CELLS or name == "cpl":
                raise self.error(f"'{name[:100]}' is no cell that can be listed")
            cells[name] = terms.get(number, CELLS[name])
        return cells

    def _word(self, entry: Any, terms: TermReader) -> tuple[Word, Expr]:
        region, offset, number = self._list(entry, 3)
        return terms.word(region, offset), terms.get(number, 64)

    def _condition(self, number: Any, terms: TermReader) -> Expr:
        return terms.get(number, 1)

    def _hint(self, entry: Any) -> Hint:
        parts = self._list(entry)
        if len(parts) not in (3, 4):
            raise self.error("a hint has three parts, or four")
        action, target, stands, *more = parts
        found = tuple([self._stand(s) for s in self._list(stands)])
        begins = more == ["call"]
        left = self._number(more[0]) if more and not begins else None
        return Hint(self._text(action), self._number(target), found, begins, left)

    def _stand(self, entry: Any) -> Stands:
        if entry is None:
            return None
        if isinstance(entry, list):
            kind, number = self._list(entry, 2)
            if kind not in ("choice", "exit"):
                raise self.error("an unknown stands for an unknown, a choice, one of an exit, or null")
            return kind, self._number(number)
        return self._number(entry)

    # values

    def _fields(self, line: Any, names: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(line, dict) or set(line) != set(names):
            raise self.error(f"a line with {', '.join(names)} belongs here")
        return line

    def _list(self, value: Any, length: int | None = None) -> list[Any]:
        if not isinstance(value, list) or len(value) > _LONGEST_LIST or length not in (None, len(value)):
            raise self.error("a list of another length belongs here")
        self._count(value)
        return value

    def _count(self, value: Sized) -> None:
        self._entries += len(value)
        if self._entries > _ENTRIES:
            raise self.error("larger than a certificate can be")

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error("a text belongs here")
        return value

    def _texts(self, value: Any) -> tuple[str, ...]:
        return tuple([self._text(v) for v in self._list(value)])

    def _number(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value < 1 << 32:
            raise self.error("a number of 32 bits belongs here")
        return value

    def _numbers(self, value: Any) -> tuple[int, ...]:
        return tuple([self._number(v) for v in self._list(value)])

    def _flag(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.error("true or false belongs here")
        return value

    def _address(self, value: Any) -> int:
        text = self._text(value)
        if len(text) > 18 or not text.startswith("0x") or not all(c in "0123456789abcdef" for c in text[2:]):
            raise self.error("an address in hexadecimal belongs here")
        return int(text, 16)
