"""Hidden code on symbolic data: what it may change, when an event strikes inside it and when control passes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.ir.ops import Access
from verifier.machine.execution import Mishap, Unresolved
from verifier.terms import Term, add, const

if TYPE_CHECKING:
    from verifier.ir.ops import Block
    from verifier.machine.config import Contract
    from verifier.machine.execution import Execution
    from verifier.machine.layout import Place

_STACK = Access(stack=True)


def run_hole(x: Execution, contract: Contract) -> None:
    """The hidden code runs for a while: what it may touch can hold anything."""
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


def _hidden_stack(x: Execution, contract: Contract) -> Place:
    rsp = x.get("rsp")
    place = x.layout.locate(rsp, contract.stack)
    if place is None and not x.layout.is_region_address(rsp):
        raise Unresolved(f"{contract.name} uses the stack at {x.describe(rsp)}, whose region is not known")
    if place is None or not x.layout.regions[place.region].writable:
        raise Mishap("wild-write", f"the stack of {contract.name} at {x.describe(rsp)}")
    return place


def pass_hole(x: Execution, block: Block) -> None:
    """The stack that hidden code uses is below RSP while control is inside."""
    contract = x.layout.machine.contracts[str(block.instruction.hole)]
    if block.terminator.opcode == "hole_enter":
        x.put("rsp", add(x.get("rsp"), const(-contract.depth, 64)))
        for address, cell in _saved(x, contract):
            x.store(address, x.get(cell), _STACK)
    else:
        run_hole(x, contract)
        for address, cell in _saved(x, contract):
            x.put(cell, x.load(address, 64, _STACK))
        x.put("rsp", add(x.get("rsp"), const(contract.depth, 64)))


def _saved(x: Execution, contract: Contract) -> list[tuple[Term, str]]:
    """Where hidden code keeps the registers that it saves, while it runs."""
    rsp = x.get("rsp")
    return [(add(rsp, const(contract.stack + 8 * i, 64)), cell) for i, cell in enumerate(contract.saves)]
