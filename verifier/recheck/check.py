"""From a certificate file to a confirmation: that it speaks of this specification, and that its proofs hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.errors import UsageError
from verifier.files import is_inside
from verifier.recheck.closure import Closure
from verifier.recheck.errors import Refused
from verifier.recheck.ghost import Monitors
from verifier.recheck.meaning import KINDS
from verifier.recheck.reader import CertificateReader
from verifier.recheck.solver import Solver, backend
from verifier.recheck.world import World
from verifier.spec import load, project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from verifier.recheck.reader import Header, Proof
    from verifier.recheck.solver import Name
    from verifier.spec.model import Model, Property


_LEFT = "a property of a kind ({}) that cannot be rechecked"


@dataclass(frozen=True, slots=True)
class Checked:
    """One proof that holds. ``judged``: per property, in how many states and returns it was judged; ``left``: per
    property that cannot be rechecked, why."""

    judged: Mapping[str, int]
    left: Mapping[str, str]
    states: int
    queries: int


def recheck(
    path: Path,
    specification: Path | None = None,
    solver: Name = "z3",
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Checked]:
    """Checks every proof in a file, one after another.

    ``specification``: where it lies, if not where the file says; ``progress`` is told of states checked and to be
    checked. Raises Refused for a proof that does not hold, GaveUp where the solver does, and VerifierError for files
    that cannot be used.
    """
    with CertificateReader(path) as reader:
        header = reader.header()
        model = _model(header, specification)
        world = World(model.machine)
        asked = Solver(backend(solver), world.facts)
        for proof in reader.proofs(world):
            yield _checked(model, world, asked, proof, progress)


def _model(header: Header, given: Path | None) -> Model:
    """The specification, if it is the very one that the certificate was made of."""
    path = given or Path(header.specification)
    if given is None and (path.is_absolute() or not is_inside(path, Path.cwd())):
        raise UsageError("the certificate does not say where its specification lies", None, "add --spec SPEC")
    if _hash(path) != header.hashes.get("specification"):
        raise Refused(f"{path.name} is not the specification that the certificate was made of: it has other bytes")
    model = load(path)
    root = project_root(path)
    hashes = {name: _hash(root / name) for name in model.machine.program.files}
    wanted = {name: value for name, value in header.hashes.items() if name != "specification"}
    if hashes != wanted:
        raise Refused("the assembly text is not the one that the certificate was made of: it has other bytes")
    if header.assumptions != model.assumptions:
        raise Refused("the certificate rests on other assumptions than the specification states")
    return model


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        if not path.is_file():
            raise UsageError(f"{path.name}: no such file", None, "--spec SPEC says where the specification lies")
        with path.open("rb") as stream:
            while block := stream.read(1 << 16):
                digest.update(block)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path.name}: {getattr(error, 'strerror', None) or error}") from None
    return digest.hexdigest()


def _checked(
    model: Model, world: World, solver: Solver, proof: Proof, progress: Callable[[int, int], None] | None
) -> Checked:
    named = [_property(model, name) for name in proof.properties]
    properties = [p for p in named if isinstance(p.that, KINDS)]
    left = {p.name: _LEFT.format(type(p.that).__name__.lower()) for p in named if p not in properties}
    if not properties:
        return Checked({}, left, len(proof.states), 0)
    asked = solver.queries
    closure = Closure(world, solver, proof, _monitors(model, proof, properties), properties)
    closure.starts()
    for n, state in enumerate(proof.states.values()):
        if progress is not None and n % 64 == 0:
            progress(n, len(proof.states) - n)
        closure.state(state)
    judged = {p.name: closure.judged[p.name] for p in properties if p.name not in closure.left}
    for p in properties:
        if not closure.judged[p.name] and p.during is None and p.name not in closure.left:
            raise Refused(f"{p.name} is judged in none of the states: it would hold of nothing")
    return Checked(judged, left | closure.left, len(proof.states), solver.queries - asked)


def _property(model: Model, name: str) -> Property:
    found = model.property_named(name)
    if found is None:
        raise Refused(f"the specification has no property '{name[:100]}'")
    return found


def _monitors(model: Model, proof: Proof, properties: list[Property]) -> Monitors:
    """What the specification allows to strike, compared with what the certificate says that it does."""
    if proof.routines and proof.resumed:
        raise Refused("contexts that are resumed are watched, and no routine says of which")
    schedules = {p.during for p in properties}
    if len(schedules) != 1:
        raise Refused("one proof of properties of different schedules")
    (schedule,) = schedules
    events, outermost = dict(model.environment.events), frozenset(model.environment.outermost)
    if schedule is not None and all(item.event != "*" for item in schedule):
        events = {e: n for e, n in events.items() if any(item.event == e for item in schedule)}
        outermost = frozenset(events)
    texts = None if schedule is None else tuple([item.text for item in schedule])
    if (proof.events, proof.outermost, proof.during) != (events, outermost, texts):
        raise Refused("the certificate allows other events than the specification")
    missing = [e for e, bound in events.items() if bound is not None and e not in proof.counted]
    if missing:
        raise Refused(f"the certificate does not count {missing[0]}, of which only so many may strike")
    return Monitors(events, outermost, proof.watches, proof.counted, schedule, proof.resumed, proof.returned_to)
