"""Ways to tamper with a certificate at a random place, each wrong by construction.

Each returns False where it finds no place. Why the result is no proof any more stands with it; most rest on this: a
state that a hint leads to, where that hint is the only one of its step with that control, is all that can cover what
the step leads to, and what the step leads to is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from verifier.ir.cells import CELLS
from verifier.lift import lift
from verifier.recheck.errors import Malformed
from verifier.recheck.solver import Solver, backend
from verifier.recheck.terms import TermReader
from verifier.recheck.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from recheck_certificates import Lines, ProofLines, State

    from verifier.spec.model import Model

Tamper = Callable[["Lines", "ProofLines", "Random", "Model"], bool]


def _entered(proof: ProofLines, random: Random) -> Iterator[tuple[State, State, list[Any]]]:
    """Single states, in random order, with a state and a hint that leads to each."""
    reached = proof.reached()
    for state in random.sample(proof.states, len(proof.states)):
        for before, hint in proof.hints_into(state["state"]):
            if before["state"] in reached:
                yield state, before, hint
                break


def drop_state(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """What led to it leads to no listed state any more."""
    state, _, _ = next(_entered(proof, random))
    _drop(proof, state)
    return True


def _drop(proof: ProofLines, state: State) -> None:
    gone = state["state"]
    proof.states.remove(state)
    for other in proof.states:
        other["state"] -= other["state"] > gone
        if other.get("routine") is not None:
            other["routine"] -= other["routine"] > gone
        kept = [h for h in other["steps"] if gone not in (h[1], *h[3:])]
        other["steps"] = [[a, t - (t > gone), s, *[_moved(n, gone) for n in more]] for a, t, s, *more in kept]
    proof.opening["starts"] = [t - (t > gone) for t in proof.opening["starts"] if t != gone]


def _moved(left: int | str, gone: int) -> int | str:
    return left - (left > gone) if isinstance(left, int) else left


def drop_hint(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """The step has nothing that covers what it leads to."""
    _, before, hint = next(_entered(proof, random))
    before["steps"].remove(hint)
    return True


def drop_event_of_state(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """As if an event could not strike there."""
    for _, before, hint in _entered(proof, random):
        if hint[0] != "execute":
            before["steps"] = [h for h in before["steps"] if h[0] != hint[0]]
            return True
    return False


def redirect_hint(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """To a state at another address."""
    state, _, hint = next(_entered(proof, random))
    hint[1] = random.choice([s["state"] for s in proof.states if s["at"] != state["at"]])
    return True


def other_control(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """What led to the state leads to another address, NMI block or count of events."""
    state, _, _ = next(_entered(proof, random))
    key = random.choice(["at", "nmi_blocked"] + [k for k in ("counts", "owed") if state[k]])
    if key == "at":
        state["at"] = random.choice([s["at"] for s in proof.states if s["at"] != state["at"]])
    elif key == "counts":
        state["counts"][random.randrange(len(state["counts"]))] += 1
    elif key == "owed":
        at = random.randrange(len(state["owed"]))
        state["owed"][at] = not state["owed"][at]
    else:
        state["nmi_blocked"] = not state["nmi_blocked"]
    return True


def other_value(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """A constant, or a value of the interrupted context, is taken for another: what led there had the one value."""
    for state, _, _ in _entered(proof, random):
        entries = [(state["cells"], cell, CELLS[cell]) for cell in state["cells"]]
        entries += [(word, 2, 64) for word in state["memory"]]
        for holder, key, width in random.sample(entries, len(entries)):
            op, *rest = proof.terms[holder[key]]
            if op == "const":
                holder[key] = proof.term("const", hex((int(rest[0], 16) + 1) % (1 << width)), width)
                return True
            if op in ("interrupted", "initial", "param") and width == 64:
                other = op if op == "param" else "interrupted"
                holder[key] = proof.term(other, "r15" if rest[0] != "r15" else "r14")
                return True
    return False


def impossible(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """An impossible condition: no machine state is in the set any more, and one has to be."""
    state, _, _ = next(_entered(proof, random))
    state["when"].append(proof.term("const", "0x0", 1))
    return True


def negate_literal(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """What led to the state made the condition true, so it is never false."""
    for state, _, _ in _entered(proof, random):
        if state["when"]:
            at = random.randrange(len(state["when"]))
            state["when"][at] = proof.term("not", state["when"][at])
            return True
    return False


def forget_cell(_lines: Lines, proof: ProofLines, random: Random, model: Model) -> bool:
    """A cell that a step neither reads nor writes, and that the target lists with a term without unknowns: it can be
    anything now before the step, and so after it."""
    for state, before, hint in _entered(proof, random):
        if hint[0] == "execute" and len(hint) == 3:
            kept = _kept(before, model)
            same = [
                c for c, term in state["cells"].items()
                if c in kept and before["cells"].get(c) == term and proof.is_fixed(term)
            ]  # fmt: skip
            if same:
                del before["cells"][random.choice(same)]
                return True
    return False


def loosen_cell(_lines: Lines, proof: ProofLines, random: Random, model: Model) -> bool:
    """The same, with an unknown of its own instead of nothing."""
    before = deepcopy(proof.states)
    if not forget_cell(_lines, proof, random, model):
        return False
    for old, new in zip(before, proof.states, strict=True):
        for cell in old["cells"].keys() - new["cells"].keys():
            new["cells"][cell] = proof.term("unknown", 9000, CELLS[cell])
    return True


def _kept(state: State, model: Model) -> set[str]:
    """The cells that the instruction at a state neither writes nor depends on, whatever becomes of it."""
    block = lift(model.machine.program.instructions[int(state["at"], 16)])
    if block.terminator.opcode not in ("next", "branch", "jump"):
        return set()
    used = {str(o.attr) for o in block if o.opcode in ("get", "put")}
    return set(CELLS) - used - {"rf", "tf", "inhibit"}


def drop_literal(_lines: Lines, proof: ProofLines, random: Random, model: Model) -> bool:
    """A condition that the target of a plain step asks for too, and that the others do not imply: now it can be false
    before the step, and so after it."""
    world = World(model.machine)
    solver, terms = Solver(backend("z3"), world.facts), TermReader(world, Malformed)
    for term in proof.terms:
        terms.add(term)
    for state, before, hint in _entered(proof, random):
        if hint[0] != "execute" or len(hint) != 3 or not _is_plain(before, model):
            continue
        first = proof.states[before["routine"]] if before.get("routine") is not None else before
        for number in set(before["when"]) & set(state["when"]):
            rest = [terms.get(n, 1) for n in before["when"] if n != number]
            rest += [terms.get(n, 1) for n in first["when"] if n != number or first is not before]
            rest += world.homes[before["context"]].axioms
            if proof.is_fixed(number) and not solver.implied(rest, terms.get(number, 1)):
                before["when"].remove(number)
                return True
    return False


def _is_plain(state: State, model: Model) -> bool:
    """Whether the instruction at a state goes on to the next one and decides nothing by itself."""
    block = lift(model.machine.program.instructions[int(state["at"], 16)])
    return block.terminator.opcode == "next" and all(o.opcode not in ("fault_if", "skip_if") for o in block)


def lower_rank(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Nothing is below rank 0."""
    if "progress" not in proof.opening["properties"]:
        return False
    states = [s for s in proof.states if s["at"] not in ("home", "leaving")]
    random.choice(states)["rank"] = 0
    return True


def drop_event(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """The specification allows it."""
    del proof.opening["events"][random.choice(list(proof.opening["events"]))]
    return True


def bound_event(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """The specification allows it more often, or not so often."""
    proof.opening["events"][random.choice(list(proof.opening["events"]))] = 7
    return True


def drop_outermost(_lines: Lines, proof: ProofLines, _random: Random, _model: Model) -> bool:
    proof.opening["outermost"].pop()
    return True


def other_schedule(_lines: Lines, proof: ProofLines, _random: Random, _model: Model) -> bool:
    proof.opening["during"] = None if proof.opening["during"] else ["nmi"]
    return True


def drop_starts(_lines: Lines, proof: ProofLines, _random: Random, _model: Model) -> bool:
    """Nothing covers what a run starts with."""
    proof.opening["starts"] = []
    return True


def drop_monitor(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Properties that speak of it cannot be judged; every state tells of it."""
    keys = [key for key in ("watches", "counted", "resumed") if proof.opening[key]]
    if not keys:
        return False
    proof.opening[random.choice(keys)].pop()
    return True


def return_elsewhere(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """A return goes to an address that is not said to be returned to."""
    if not proof.opening["returned_to"]:
        return False
    proof.opening["returned_to"].remove(random.choice(proof.opening["returned_to"]))
    return True


def claim_more(_lines: Lines, proof: ProofLines, _random: Random, model: Model) -> bool:
    """A property that is refuted, of the same runs."""
    if proof.opening["during"] is not None or model.property_named("wrong") is None:
        return False
    proof.opening["properties"].append("wrong")
    return True


def claim_unknown(_lines: Lines, proof: ProofLines, _random: Random, _model: Model) -> bool:
    proof.opening["properties"].append("no-such-property")
    return True


def other_text(lines: Lines, _proof: ProofLines, random: Random, _model: Model) -> bool:
    """The hash of a file."""
    lines.header["sha256"][random.choice(list(lines.header["sha256"]))] = "0" * 64
    return True


def assume_less(lines: Lines, _proof: ProofLines, random: Random, _model: Model) -> bool:
    lines.header["assumptions"].remove(random.choice(lines.header["assumptions"]))
    return True


def forget_stand(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """What an unknown of a state stands for, which some cell or word holds: it could be anything now."""
    for state, _, hint in _entered(proof, random):
        held = [*state["cells"].values(), *(word[2] for word in state["memory"])]
        for unknown, stand in enumerate(hint[2]):
            if stand is not None and any(proof.mentions(term, unknown) for term in held):
                hint[2][unknown] = None
                return True
    return False


def drop_exit(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Control that leaves a routine is in no listed state."""
    for state, _, _ in _entered(proof, random):
        if state["at"] == "leaving":
            _drop(proof, state)
            return True
    return False


def other_exit(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Control leaves a routine for another address, or at another CPL, than a step does."""
    for state, _, _ in _entered(proof, random):
        if state["at"] == "leaving":
            target, cpl = state["leaves"]
            elsewhere = [proof.term("param", "r15"), cpl], [target, cpl ^ 3], [proof.term("const", "0x1000", 64), cpl]
            state["leaves"] = random.choice(elsewhere)
            return True
    return False


def drop_return(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Nothing covers the context that a nested run leads back to."""
    return _change_hint(proof, random, lambda kind: isinstance(kind, int), lambda before, hint: before.remove(hint))


def drop_call(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """A nested run begins no routine."""
    return _change_hint(proof, random, lambda kind: kind == "call", lambda before, hint: before.remove(hint))


def no_call(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """A nested run goes on in a state of another routine, or of no context that waits."""
    return _change_hint(proof, random, lambda kind: kind == "call", lambda _, hint: hint.pop())


def _change_hint(
    proof: ProofLines, random: Random, wanted: Callable[[Any], bool], change: Callable[[list[Any], list[Any]], object]
) -> bool:
    for _, before, hint in _entered(proof, random):
        if any(wanted(kind) for kind in hint[3:]):
            change(before["steps"], hint)
            return True
    return False


def other_routine(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """A state is said to be in a routine that no step within it has begun, or in none."""
    for state, before, hint in _entered(proof, random):
        if len(hint) == 3 and before.get("routine") is not None:
            others = {s["routine"] for s in proof.states if s["routine"] not in (None, state["routine"])}
            state["routine"] = random.choice([None, *sorted(others)])
            return True
    return False


def assume_nothing(_lines: Lines, proof: ProofLines, random: Random, _model: Model) -> bool:
    """Nothing is said of the contexts that a routine stands for that is left by IRET, which asks for their CS."""
    for first in random.sample(proof.states, len(proof.states)):
        left = any(s["at"] == "leaving" and s["routine"] == first["state"] for s in proof.states if s.get("leaves"))
        if left and first["state"] in proof.reached():
            first["when"] = []
            return True
    return False


TAMPERS: tuple[Tamper, ...] = (
    forget_stand,
    drop_state,
    drop_hint,
    drop_event_of_state,
    redirect_hint,
    other_control,
    other_value,
    impossible,
    negate_literal,
    forget_cell,
    loosen_cell,
    drop_literal,
    lower_rank,
    drop_event,
    bound_event,
    drop_outermost,
    other_schedule,
    drop_starts,
    drop_monitor,
    return_elsewhere,
    claim_more,
    claim_unknown,
    other_text,
    assume_less,
)
#: Of proofs with routines.
OF_ROUTINES: tuple[Tamper, ...] = (
    drop_exit,
    other_exit,
    drop_return,
    drop_call,
    no_call,
    other_routine,
    assume_nothing,
)
