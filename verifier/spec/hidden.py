"""What a contract takes for granted, as a sentence: printed with every proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import FLAGS, STATUS_FLAGS
from verifier.spec.names import GENERAL_BUT_RSP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from verifier.machine.config import Contract

_WHO = {"hole": "", "function": "the function ", "handler": "the handler "}
_GROUPS = {
    "the general registers but rsp": GENERAL_BUT_RSP,
    "the flags": FLAGS,
    "the status flags": STATUS_FLAGS,
}


def sentence(contract: Contract) -> str:
    """All that code which is not shown may do, and what it needs."""
    given = {cell for cell, _ in contract.gives}
    aside = {"if", "rf", *contract.saves, *given}
    raised = f"{_list(contract.may_raise)} any number of times" if contract.may_raise else "nothing"
    may_if = "may" if "if" in contract.clobbers else "may not"
    saved = f"saves and restores {_grouped(contract.saves)} on its stack, " if contract.saves else ""
    return (
        f"{_WHO[contract.kind]}{contract.name} may raise {raised}, {may_if} change IF, "
        f"may change {_grouped(c for c in contract.clobbers if c not in aside)}, {saved}"
        f"leaves all other registers and flags but RF alone throughout, uses {contract.depth} bytes of stack"
        f", {_writes(contract)}{''.join(_more(contract))}"
    )


def _writes(contract: Contract) -> str:
    places = [*contract.writes, *(f"all of {name}" for name in contract.regions)]
    places += [f"{o.size} bytes at {o.address.text} (where it is entered)" for o in contract.operands]
    return f"writes {', '.join(places)}" if places else "writes no named data"


def _more(contract: Contract) -> Iterator[str]:
    if contract.requires:
        yield f"; it requires, where it is entered, {' and '.join(f.text for f in contract.requires)}"
    for cell, formula in contract.gives:
        yield f"; at its end {cell} is {formula.text} (where it is entered)"
    if contract.schedules:
        yield "; it may schedule"
    if contract.irets:
        yield "; it may execute an IRET at any moment, which unblocks NMIs"
    if contract.returns != "always":
        yield "; it never returns" if contract.returns == "never" else "; it need not return"
    if contract.never:
        yield f"; no {' or '.join(contract.never)} strikes inside it"


def _grouped(cells: Iterable[str]) -> str:
    """Cells by name, whole groups by the name of the group."""
    left = list(cells)
    words = []
    for name, group in _GROUPS.items():
        if set(group) <= set(left):
            words.append(name)
            left = [c for c in left if c not in group]
    return _list(words + left)


def _list(words: Iterable[str], nothing: str = "nothing") -> str:
    return ", ".join(words) or nothing
