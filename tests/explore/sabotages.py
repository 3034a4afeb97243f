"""Ways to break the search and the machine on purpose: each is a bug that somebody could write.

They measure the random handlers and the programs written for one thing each. Every one of them is noticed: the table
says by which, so that CI can ask for that one at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import directed
import test_merging
from directed import differs
from three_ways import compare

from verifier.asm import outside
from verifier.explore import recognise, resume, schedule
from verifier.explore.recognise import Recogniser
from verifier.explore.search import Explorer, Fixpoint
from verifier.ir.cells import CELL_INDEX, FLAGS
from verifier.machine import delivery, holes, iret, step, strike
from verifier.machine.execution import Execution, Fault
from verifier.machine.layout import CELL_COUNT
from verifier.prove import judge, progress, prover
from verifier.terms import add, const, not_

if TYPE_CHECKING:
    from pathlib import Path

_CASES = {case.name: case for case in (*directed.CASES, *test_merging.CASES)}
_FLAGS = frozenset(CELL_INDEX[f] for f in FLAGS)


@dataclass(frozen=True, slots=True)
class Sabotage:
    """``where.name`` is replaced by what ``by`` makes of it. ``noticed``: by the random handler of this seed, or by the
    case of this name in `directed` or `test_merging`."""

    title: str
    noticed: int | str
    where: Any
    name: str
    by: Callable[[Any], Any]

    @contextmanager
    def done(self) -> Iterator[None]:
        with patch.object(self.where, self.name, self.by(getattr(self.where, self.name))):
            yield


def _learning(keep: Callable[[int], bool]) -> Callable[[Any], Any]:
    """Locations of some kinds never become live."""

    def by(learn: Any) -> Any:
        def kept(self: Recogniser, node: Any, live: Any, *rest: Any) -> None:
            learn(self, node, {x for x in live if keep(x)}, *rest)

        return kept

    return by


def _here_only(learn: Any) -> Any:
    def by(self: Recogniser, *learned: Any) -> None:
        with patch.object(recognise, "_sources", lambda _: []):
            learn(self, *learned)

    return by


def _forgetting_literals(learn: Any) -> Any:
    return lambda self, node, live, atoms, variables: learn(self, node, live, (), ())


def _forgetting_changes(refresh: Any) -> Any:
    def by(self: Recogniser) -> Iterator[Any]:
        self._changed = {}
        return iter(())

    return by


def _point_without(**fixed: Any) -> Callable[[Any], Any]:
    def by(point: Any) -> Any:
        return lambda self, node: point(self, replace(node, state=replace(node.state, **fixed)))

    return by


def _point_without_ghost(point: Any) -> Any:
    return lambda self, node: point(self, replace(node, ghost=schedule.Ghost()))


def _shape_only(_: Any) -> Any:
    return lambda one, other, ours, theirs: one.shape == other.shape


def _merge_unlearnt(merge: Any) -> Any:
    def by(self: Recogniser, node: Any, other: Any) -> None:
        parent, node.parent = node.parent, None
        merge(self, node, other)
        node.parent = parent

    return by


def _unread(get: Any) -> Any:
    def by(self: Execution, name: str) -> Any:
        return self.cells[CELL_INDEX[name]]

    return by


def _judged_unread(node: Any) -> Any:
    def by(self: Any, at: Any) -> Any:
        node(self, at)
        return set(), set()

    return by


def _edges_where(keep: Callable[[Any, Any], bool]) -> Callable[[Any], Any]:
    def by(edges: Any) -> Any:
        return lambda self, node: ((e, g) for e, g in edges(self, node) if keep(node, e))

    return by


def _first_only(edges: Any) -> Any:
    """One way out of each decision is never taken: of two ways on by an instruction, the first."""

    def by(self: Explorer, node: Any) -> Iterator[Any]:
        executed = 0
        for edge, ghost in edges(self, node):
            executed += edge.action == step.EXECUTE
            if edge.action != step.EXECUTE or executed <= 1:
                yield edge, ghost

    return by


def _after(change: Callable[[Any], None]) -> Callable[[Any], Any]:
    """The original, then a change to the `Execution` it worked on."""

    def by(original: Any) -> Any:
        def changed(x: Execution, *rest: Any, **more: Any) -> Any:
            result = original(x, *rest, **more)
            change(x)
            return result

        return changed

    return by


def _open(x: Execution) -> None:
    x.nmi_blocked = False


def _interruptible(x: Execution) -> None:
    x.put("if", x.before.cell("if"))


def _blocked_by_all(x: Execution) -> None:
    x.nmi_blocked = True


def _iret_keeps_block(original: Any) -> Any:
    def by(x: Execution, width: int) -> None:
        blocked = x.nmi_blocked
        original(x, width)
        x.nmi_blocked = blocked

    return by


def _faulting_iret_keeps_block(original: Any) -> Any:
    def by(x: Execution, width: int) -> None:
        blocked = x.nmi_blocked
        try:
            original(x, width)
        except Fault:
            x.nmi_blocked = blocked
            raise

    return by


def _kept_if(load_flags: Any) -> Any:
    def by(x: Execution, image: Any, cpl: int) -> None:
        before = x.cells[CELL_INDEX["if"]]
        load_flags(x, image, cpl)
        x.put("if", before)

    return by


def _no_ist(new_rsp: Any) -> Any:
    return lambda x, gate, cpl: new_rsp(x, replace(gate, stack=None) if cpl == 0 else gate, cpl)


def _less(limit: int) -> Callable[[Any], Any]:
    def by(allowed: Any) -> Any:
        def changed(self: Any, ghost: Any, event: str, rip: int) -> bool:
            bound = self.events[event]
            if bound is not None and bound > limit and ghost.counts[self.counted.index(event)] >= bound - 1:
                return False
            return bool(allowed(self, ghost, event, rip))

        return changed

    return by


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_, **__: value


def _one_way(answer: bool) -> Callable[[Any], Any]:
    """A choice that is recorded, but goes one way only."""

    def by(_: Any) -> Any:
        def either(self: Execution, kind: str) -> bool:
            value = self.choose(kind, 1)
            self._path.add(value if answer else not_(value))
            return answer

        return either

    return by


def _unjudged(enter: Any) -> Any:
    return lambda x, contract: enter(x, replace(contract, requires=()))


def _noted_below(noted: Any) -> Any:
    """What is worked out where control enters lies among what the code may overwrite."""
    return lambda x, contract: [add(a, const(-8, 64)) for a in noted(x, contract)]


def _nothing_saved(_: Any) -> Any:
    return lambda x, contract: []


def _handlers_save_nothing(saved: Any) -> Any:
    return lambda x, contract: saved(x, contract) if contract.kind != "handler" else []


def _hidden_iret_keeps_block(original: Any) -> Any:
    def by(x: Execution, width: int) -> None:
        blocked = x.nmi_blocked
        original(x, width)
        section = next(s for s in x.layout.machine.program.sections if s.address <= x.before.rip < s.end)
        x.nmi_blocked = blocked if section.name == outside.SECTION else x.nmi_blocked

    return by


def _in_never(can_arise: Any) -> Any:
    return lambda self, state, name: name in ("nmi", "irq") or can_arise(self, state, name)


def _if_kept(run_hole: Any) -> Any:
    return lambda x, c: run_hole(x, replace(c, clobbers=tuple(cell for cell in c.clobbers if cell != "if")))


def _not_first(node: Any, edge: Any) -> bool:
    return edge.action == step.EXECUTE or node.edge is None or not node.edge.delivered


def _not_after_return(node: Any, edge: Any) -> bool:
    return edge.action == step.EXECUTE or node.events < 2 or bool(node.edge.delivered)


def _no_fault(can_arise: Any) -> Any:
    return lambda self, state, name: name != "page_fault" and can_arise(self, state, name)


def _forgiving(came: Any) -> Any:
    return lambda self, ghost, event, rip: replace(came(self, ghost, event, rip), owed=(False,) * len(ghost.owed))


def _any_way(_: Any) -> Any:
    return lambda node: [target for _, target in node.successors]


def _unwatched(_: Any) -> Any:
    return lambda self, watched, rip, edge: iter([None])


def _watched_late(_: Any) -> Any:
    return lambda self, rip: self.returned_to.add(rip)


def _place_without_watch(place: Any) -> Any:
    def by(self: Recogniser, node: Any) -> Any:
        found = place(self, node)
        found.always = tuple(at for at in found.always if at >= 0)
        return found

    return by


SABOTAGES = (
    # recognising
    Sabotage("path literals are not compared", 55, Recogniser, "_covers", _constant(True)),
    Sabotage("what matters later is never compared again", 20, Recogniser, "refresh", _forgetting_changes),
    Sabotage("what is learned does not flow backwards", 7, Recogniser, "learn", _here_only),
    Sabotage("decisions are not learned", 55, Recogniser, "learn", _forgetting_literals),
    Sabotage("a merge teaches nothing to the node it came from", 623, Recogniser, "_merge", _merge_unlearnt),
    Sabotage("memory is never live", 196, Recogniser, "learn", _learning(lambda x: x < CELL_COUNT)),
    Sabotage("flags are never live", 126, Recogniser, "learn", _learning(lambda x: x not in _FLAGS)),
    Sabotage("IF is never live", 658, Recogniser, "learn", _learning(lambda x: x != CELL_INDEX["if"])),
    Sabotage("registers are never live", 126, Recogniser, "learn", _learning(lambda x: x not in range(16))),
    Sabotage("which words hold the same unknown does not count", "same unknown", recognise, "_same", _shape_only),
    Sabotage("literals about unknowns do not count", "unknown", recognise, "havoc_literals", _constant(frozenset())),
    Sabotage("what the path ties to unknowns does not count", 310, recognise, "tied", lambda _: lambda _, v: set(v)),
    Sabotage("the ghost does not count", "counted", Recogniser, "_point", _point_without_ghost),
    Sabotage("where the saved words lie does not count", "only copy", recognise, "whereabouts", _constant(())),
    Sabotage("whether NMIs are blocked does not count", "blocked", Recogniser, "_point", _point_without(nmi_blocked=0)),
    Sabotage("a dearer node may stand for a cheaper one", "dearer", recognise, "cost_of", _constant((0, 0))),
    # what a step tells
    Sabotage("reading a register is not told", 126, Execution, "get", _unread),
    Sabotage("what a property read is not told", "read", judge.Judge, "node", _judged_unread),
    Sabotage("what a property read at home is not told", "read at home", judge.Judge, "end", _judged_unread),
    Sabotage("what held an event back is not told", "masked", Fixpoint, "held", _constant(None)),
    # scheduling
    Sabotage("an instruction goes one way only", 63, Explorer, "_edges", _first_only),
    Sabotage("no event strikes a handler's first instruction", 20, Explorer, "_edges", _edges_where(_not_first)),
    Sabotage("no event strikes right after a return", "second", Explorer, "_edges", _edges_where(_not_after_return)),
    Sabotage("the last of several events never comes", 13, schedule.Script, "_allowed", _less(1)),
    Sabotage("hidden code raises no fault", 7, step.Stepper, "can_arise", _no_fault),
    Sabotage("a handler owed is forgotten at the next event", "owed", schedule.Script, "came", _forgiving),
    # delivery
    Sabotage("an NMI blocks no NMI", 13, strike, "deliver", _after(_open)),
    Sabotage("every event blocks NMIs", "irq blocks", strike, "deliver", _after(_blocked_by_all)),
    Sabotage("an interrupt gate leaves IF", 21, delivery, "_commit", _after(_interruptible)),
    Sabotage("rsp is not aligned", 7, delivery, "_align", lambda _: lambda x, rsp: rsp),
    Sabotage("a stack of its own is not used", 12, delivery, "_new_rsp", _no_ist),
    Sabotage("masks do not hold", 21, strike, "masked", _constant(const(0, 1))),
    Sabotage("hidden code that faults has changed nothing", "hidden", strike, "run_hole", _constant(None)),
    Sabotage("hidden code never lets NMIs in", 219, Execution, "either", _one_way(False)),
    Sabotage("hidden code always lets NMIs in", 34, Execution, "either", _one_way(True)),
    Sabotage("hidden code that may stay away does", 34, Execution, "either", _one_way(True)),
    Sabotage("what is required is not judged", 69, holes, "_enter", _unjudged),
    Sabotage("what is given is of the end", 19, holes, "_noted", _noted_below),
    Sabotage("what hidden code saves is not put back", 19, holes, "_saved", _nothing_saved),
    Sabotage("hidden code writes at none of its operands", 19, holes, "_write_operand", _constant(None)),
    Sabotage("hidden code that leaves has changed nothing", 19, holes, "run_hole", _constant(None)),
    Sabotage("IF stays as it is when hidden code leaves", 34, holes, "run_hole", _if_kept),
    Sabotage("what never strikes in hidden code does", 289, step.Stepper, "can_arise", _in_never),
    Sabotage("a handler that is not shown saves nothing", 389, holes, "_saved", _handlers_save_nothing),
    # returns
    Sabotage("the iret of hidden handlers leaves NMIs blocked", 434, step, "iret", _hidden_iret_keeps_block),
    Sabotage("iret leaves NMIs blocked", 2, step, "iret", _iret_keeps_block),
    Sabotage("an iret that faults leaves NMIs blocked", "iret faults", step, "iret", _faulting_iret_keeps_block),
    Sabotage("iret leaves IF", 0, iret, "_load_flags", _kept_if),
    # judging
    Sabotage("nothing is ever stuck", "loop", prover, "stuck_nodes", _constant([])),
    Sabotage("events count as a way on", "loop ended", progress, "_quiet", _any_way),
    Sabotage("a mishap breaks nothing", "no gate", prover, "_control_lost", _constant(None)),
    Sabotage("no context is watched", 41, resume.Watcher, "after", _unwatched),
    Sabotage("contexts are watched too late", "late", Fixpoint, "_watch_at", _watched_late),
    Sabotage("what a watched context had does not count", "watched", Recogniser, "_place", _place_without_watch),
)


def first_to_notice(sabotage: Sabotage, seeds: range, folder: Path) -> tuple[int, str] | None:
    """The first handler of some on which the three ways differ, and how; None if they agree on all."""
    for seed in seeds:
        noticed = how_noticed(sabotage, seed, folder)
        if noticed:
            return seed, noticed
    return None


def how_noticed(sabotage: Sabotage, by: int | str, folder: Path) -> str:
    """What the handler of a seed, or the case of a name, says of the broken tool; empty if all seems well to it."""
    with sabotage.done():
        try:
            return compare(by, folder).differs if isinstance(by, int) else differs(_CASES[by], folder)
        except Exception as error:  # a sabotaged tool may do anything
            return f"{by}: {type(error).__name__}: {error}"
