"""Code that is not shown: what its contract lets it do (docs/spec.md, "Code that is not shown")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.ir.ops import Access
from verifier.machine.events import BROKEN_CONTRACT, NO_RETURN
from verifier.recheck.expression import Expr, const, extract, offset, operation, zext
from verifier.recheck.step import Fault, Mishap, Step, Undecided

if TYPE_CHECKING:
    from verifier.ir.formula import Formula
    from verifier.ir.ops import Operation
    from verifier.machine.config import Contract
    from verifier.recheck.world import Word

_STACK = Access(stack=True)


def run_on(step: Step, contract: Contract) -> None:
    """Hidden code runs for a while: what its contract lets it change can be anything."""
    if contract.irets and step.nmi_blocked:
        step.nmi_blocked = not step.decide(step.choose(1))
    for cell in contract.clobbers:
        step.put(cell, step.choose(CELLS[cell]))
    if contract.stack:
        rsp = step.get("rsp")
        place = step.world.find(rsp, contract.stack)
        if place is None and not step.world.is_anchored(rsp):
            raise Undecided(f"{contract.name} uses a stack whose place is not known")
        if place is None or not step.world.machine.regions[place[0]].writable:
            raise Mishap("wild-write", f"the stack of {contract.name}")
        for i in range(0, contract.stack, 8):
            step.write((place[0], place[1] + i), step.choose(64))
    for name in contract.writes:
        found = step.world.machine.datum(name)
        assert found is not None, name
        step.write((found[0].name, found[1].offset), step.choose(8 * found[1].size))
    for name in contract.regions:
        _overwrite(step, (name, 0), step.world.machine.regions[name].size)
    first = len(contract.saves) + len(contract.gives)
    for operand, at in zip(contract.operands, _slots(step, contract)[first:], strict=True):
        _overwrite(step, _reached(step, contract, at, operand.size), operand.size)


def _reached(step: Step, contract: Contract, slot: Expr, size: int) -> Word:
    try:
        place = step.reach(step.load(slot, 8, _STACK), size, Access(), write=True)
    except Fault:
        raise Mishap("wild-write", f"what {contract.name} writes") from None
    assert place is not None
    return place


def _overwrite(step: Step, place: Word, size: int) -> None:
    region, start = place
    for done in range(0, size, 8):
        step.write((region, start + done), step.choose(8 * min(8, size - done)))


def _slots(step: Step, contract: Contract) -> list[Expr]:
    """Where it keeps what it puts back or needs later, while it runs: registers, results, addresses."""
    count = (contract.depth - contract.stack) // 8
    return [offset(step.get("rsp"), contract.stack + 8 * i) for i in range(count)]


def enter(step: Step, contract: Contract) -> None:
    """Control comes to hidden code. Raises Mishap where what it requires does not hold."""
    for formula in contract.requires:
        if not step.decide(_value(step, formula)):
            raise Mishap(BROKEN_CONTRACT, f"{contract.name} requires {formula.text}")
    kept = [step.get(cell) for cell in contract.saves]
    kept += [zext(_value(step, formula), 64) for formula in contract.notes]
    step.put("rsp", offset(step.get("rsp"), -contract.depth))
    for address, value in zip(_slots(step, contract), kept, strict=True):
        step.store(address, value, _STACK)


def leave(step: Step, contract: Contract) -> None:
    """Control leaves hidden code, if it ever does."""
    if contract.returns == "never" or (contract.returns == "maybe" and step.decide(step.choose(1))):
        raise Mishap(NO_RETURN, contract.name)
    run_on(step, contract)
    cells = (*contract.saves, *(cell for cell, _ in contract.gives))
    for address, cell in zip(_slots(step, contract), cells, strict=False):
        step.put(cell, extract(step.load(address, 8, _STACK), CELLS[cell] - 1, 0))
    step.put("rsp", offset(step.get("rsp"), contract.depth))


def _value(step: Step, formula: Formula) -> Expr:
    """What a formula is worth in the state that control enters in. Raises Undecided if it cannot be read."""
    values: list[Expr] = []
    for o in formula.operations:
        try:
            values.append(_result(step, o, tuple([values[a.index] for a in o.args])))
        except (Fault, Mishap):
            raise Undecided(f"a contract reads memory that is not there: {formula.text}") from None
    return values[-1]


def _result(step: Step, o: Operation, args: tuple[Expr, ...]) -> Expr:
    assert o.result is not None
    width = o.result.width
    match o.opcode, o.attr:
        case "const", int(value):
            return const(value, width)
        case "get", "nmi_blocked":
            return const(int(step.nmi_blocked), 1)
        case "get", str(name):
            return step.get(name)
        case "base", str(region):
            return step.world.bases[region]
        case "top", str(region):
            return step.world.top(region)
        case "load", Access() as access:
            return step.load(args[0], width // 8, access)
        case opcode, (int(high), int(low)):
            return operation(opcode, args, width, (high, low))
        case opcode, _:
            return operation(opcode, args, width)
