"""One refuted run for the tests of reports, and steps written by hand for what no run of it shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from verifier.api import Outcome, load
from verifier.asm import assemble_text
from verifier.asm.program import Program
from verifier.ir import CELL_NAMES
from verifier.trace.run import ConcreteState, Move
from verifier.trace.trace import Step

TICKET = Path(__file__).parent.parent / "subjects" / "ticket.yaml"
STACK = 0xFFFF_C900_0000_1000


@cache
def outcomes() -> dict[str, Outcome]:
    return {o.name: o for o in load(TICKET).prove()}


@cache
def program() -> Program:
    """Code with one instruction of each kind that can leave for a saved rip."""
    lines = ("start: nop", "far: iretq", "near: ret", "through: jmp *%rax", "direct: jmp start", "last: nop")
    return assemble_text("\n".join(lines) + "\n")


def at(label: str) -> int:
    address = program().address_of(label)
    assert address is not None
    return address


def state(rip: int, rsp: int, words: dict[int, int] | None = None) -> ConcreteState:
    memory = {a + i: w >> 8 * i & 0xFF for a, w in (words or {}).items() for i in range(8)}
    return ConcreteState(rip, dict.fromkeys(CELL_NAMES, 0) | {"rsp": rsp}, memory)


def delivery(event: str, rip: int, rsp: int, frame: int, error_code: bool = False) -> Step:
    """``event`` strikes at ``rip`` and pushes its frame, whose lowest word lies at ``frame``."""
    words = {frame: rip, frame + 8: 0x10, frame + 16: 2, frame + 24: rsp, frame + 32: 0}
    after = state(at("start"), frame - 8 * error_code, words)
    return Step(rip, Move(event), state(rip, rsp), after, (event,))


def transfer(label: str, rip: int, rsp: int) -> Step:
    """The instruction at a label goes to ``rip`` with ``rsp``."""
    return Step(at(label), Move("execute"), state(at(label), STACK), state(rip, rsp))
