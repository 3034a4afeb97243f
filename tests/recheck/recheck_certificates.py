"""Certificates of small and shipped specifications, and their lines as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.spec import load

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "specs").glob("*.yaml"))
COUNTER = Path(__file__).parent / "subjects" / "counter.yaml"
State = dict[str, Any]


@cache
def proved(spec: Path, routines: bool = False) -> tuple[bytes, frozenset[str]]:
    """The certificate of all that is proved of a specification, and the names of that."""
    model = load(spec)
    certificate = Certificate(model)
    results = list(Prover(model, witness=certificate.add, routines=routines).results(model.properties))
    return certificate.content(), frozenset(r.property.name for r in results if r.verdict == "proved")


@dataclass
class ProofLines:
    """One proof of a certificate: its opening, its terms and its states (where the terms all come first)."""

    opening: dict[str, Any]
    terms: list[list[Any]]
    states: list[State]

    def term(self, *entry: Any) -> int:
        """The number of a term, which is added if it is not there."""
        wanted = list(entry)
        if wanted not in self.terms:
            self.terms.append(wanted)
        return self.terms.index(wanted)

    def is_fixed(self, number: int) -> bool:
        """Whether a term has no unknowns."""
        op, *rest = self.terms[number]
        if op in ("const", "interrupted", "base", "initial", "rule", "param"):
            return True
        count = 1 if op in ("extract", "sext") else len(rest)
        return op != "unknown" and all(self.is_fixed(n) for n in rest[:count])

    def mentions(self, number: int, unknown: int) -> bool:
        """Whether a term speaks of an unknown of its state."""
        op, *rest = self.terms[number]
        if op == "unknown":
            return bool(rest[0] == unknown)
        if op in ("const", "interrupted", "base", "initial", "rule", "param"):
            return False
        return any(self.mentions(n, unknown) for n in rest[: 1 if op in ("extract", "sext") else len(rest)])

    def reached(self) -> set[int]:
        """The states that hints lead to from the start; a search with routines leaves some that it has given up."""
        found: set[int] = set()
        work = list(self.opening["starts"])
        while work:
            number = work.pop()
            if number not in found:
                found.add(number)
                work += [hint[1] for hint in self.hints_of(self.states[number])]
        return found

    def hints_of(self, state: State) -> list[list[Any]]:
        """The hints of a state, but for those about ends of routines that none of its steps begins."""
        begun = {(h[0], h[1]) for h in state["steps"] if h[3:] == ["call"]}
        return [
            h for h in state["steps"]
            if len(h) == 3 or h[3] == "call" or (h[0], self.states[h[3]]["routine"]) in begun
        ]  # fmt: skip

    def hints_into(self, target: int) -> Iterator[tuple[State, list[Any]]]:
        """The hints that name a state, if no other hint of that step leads to the same control."""
        for state in self.states:
            for hint in self.hints_of(state):
                alike = [h for h in state["steps"] if h[0] == hint[0] and self._control(h) == self._control(hint)]
                if hint[1] == target and len(alike) == 1:
                    yield state, hint

    def _control(self, hint: list[Any]) -> tuple[object, ...]:
        state = self.states[hint[1]]
        watched = state["watched"] and state["watched"][:2]
        names = ("context", "at", "nmi_blocked", "counts", "owed", "positions")
        return (*(state[name] for name in names), watched, (state.get("leaves") or [None, None])[1], *hint[3:])


@dataclass
class Lines:
    """A certificate as data."""

    header: dict[str, Any]
    proofs: list[ProofLines]

    @staticmethod
    def of(content: bytes) -> Lines:
        header, *rest = map(json.loads, content.splitlines())
        found = Lines(header, [])
        for line in rest:
            if isinstance(line, list):
                found.proofs[-1].terms.append(line)
            elif "properties" in line:
                found.proofs.append(ProofLines(line, [], []))
            elif "state" in line:
                found.proofs[-1].states.append(line)
        return found

    def content(self) -> bytes:
        lines: list[object] = [self.header]
        for proof in self.proofs:
            lines += [proof.opening, *proof.terms, *proof.states, {"end": len(proof.states)}]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
