"""Hidden code on symbolic data: what it may change, when an event strikes inside it and when control passes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.ir.ops import Access
from verifier.machine.events import BROKEN_CONTRACT, NO_RETURN
from verifier.machine.execution import Fault, Mishap, Unresolved
from verifier.machine.formula import value_of
from verifier.terms import Term, add, const, extract, zext

if TYPE_CHECKING:
    from verifier.ir.ops import Block
    from verifier.machine.config import Contract
    from verifier.machine.execution import Execution
    from verifier.machine.layout import Place

_STACK, _DATA = Access(stack=True), Access()


def run_hole(x: Execution, contract: Contract) -> None:
    """The hidden code runs for a while: what it may touch can hold anything."""
    if contract.irets and x.nmi_blocked and x.either("hole.iret"):
        x.nmi_blocked = False
    for cell in contract.clobbers:
        x.put(cell, x.choose(f"hole.{cell}", CELLS[cell]))
    if contract.stack:
        place = _hidden_stack(x, contract)
        for offset in range(0, contract.stack, 8):
            x.write_at(place.region, place.offset + offset, x.choose("hole.memory", 64))
    for name in contract.writes:
        found = x.layout.machine.datum(name)
        assert found is not None, name
        region, datum = found
        value = x.choose("hole.memory", datum.size * 8)
        x.write_at(x.layout.number[region.name], datum.offset, value)
    for name in contract.regions:
        _fill(x, x.layout.number[name], 0, x.layout.machine.regions[name].size)
    for operand, note in zip(contract.operands, _noted(x, contract)[len(contract.gives) :], strict=True):
        _write_operand(x, contract, note, operand.size)


def _hidden_stack(x: Execution, contract: Contract) -> Place:
    rsp = x.get("rsp")
    place = x.layout.locate(rsp, contract.stack)
    if place is None and not x.layout.is_region_address(rsp):
        raise Unresolved(f"{contract.name} uses the stack at {x.describe(rsp)}, whose region is not known")
    if place is None or not x.layout.regions[place.region].writable:
        raise Mishap("wild-write", f"the stack of {contract.name} at {x.describe(rsp)}")
    return place


def _write_operand(x: Execution, contract: Contract, note: Term, size: int) -> None:
    """``note``: where the address stands that it writes at."""
    try:
        place = x.place(x.load(note, 64, _STACK), size, _DATA, write=True)
    except Fault:
        raise Mishap("wild-write", f"what {contract.name} writes, at an address that is not canonical") from None
    assert place is not None
    _fill(x, place.region, place.offset, size)


def _fill(x: Execution, region: int, offset: int, size: int) -> None:
    """Any bytes, in pieces of eight."""
    for done in range(0, size, 8):
        x.write_at(region, offset + done, x.choose("hole.memory", 8 * min(8, size - done)))


def pass_hole(x: Execution, block: Block) -> None:
    """The stack that hidden code uses is below RSP while control is inside."""
    contract = x.layout.machine.contracts[str(block.instruction.hole)]
    if block.terminator.opcode == "hole_enter":
        _enter(x, contract)
    else:
        _leave(x, contract)


def _enter(x: Execution, contract: Contract) -> None:
    for wanted in contract.requires:
        if not x.decide(value_of(x, wanted, contract.name)):
            raise Mishap(BROKEN_CONTRACT, f"{contract.name} requires {wanted.text}")
    notes = [zext(value_of(x, formula, contract.name), 64) for formula in contract.notes]
    x.put("rsp", add(x.get("rsp"), const(-contract.depth, 64)))
    for address, cell in _saved(x, contract):
        x.store(address, x.get(cell), _STACK)
    for address, value in zip(_noted(x, contract), notes, strict=True):
        x.store(address, value, _STACK)


def _leave(x: Execution, contract: Contract) -> None:
    if contract.returns == "never" or (contract.returns == "maybe" and x.either("hole.ends")):
        raise Mishap(NO_RETURN, f"{contract.name} does not return")
    run_hole(x, contract)
    for address, cell in _saved(x, contract):
        x.put(cell, x.load(address, 64, _STACK))
    for address, (cell, _) in zip(_noted(x, contract), contract.gives, strict=False):
        x.put(cell, extract(x.load(address, 64, _STACK), CELLS[cell] - 1, 0))
    x.put("rsp", add(x.get("rsp"), const(contract.depth, 64)))


def _saved(x: Execution, contract: Contract) -> list[tuple[Term, str]]:
    """Where hidden code keeps the registers that it saves, while it runs."""
    rsp = x.get("rsp")
    return [(add(rsp, const(contract.stack + 8 * i, 64)), cell) for i, cell in enumerate(contract.saves)]


def _noted(x: Execution, contract: Contract) -> list[Term]:
    """Where it keeps what it has worked out when control entered: results, then addresses that it writes at."""
    first = contract.stack + 8 * len(contract.saves)
    return [add(x.get("rsp"), const(first + 8 * i, 64)) for i in range(len(contract.notes))]
