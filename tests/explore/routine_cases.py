"""Programs that are wrong in one context only of those that a routine could stand for, and ways to break routines on
purpose that miss it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verifier.explore import nested, recognise
from verifier.explore.routine import Routine

if TYPE_CHECKING:
    from collections.abc import Callable

#: What an interrupt handler does with rcx if something is as it should not be; rcx is what is judged.
_BAD = "movq $5,%rcx\n"
_HANDLER = "irq:\npushq %rdx\npushq %rbx\n{body}out:\npopq %rbx\npopq %rdx\niretq\n"
_OTHER_WAY = "movq $1,%rdx\ntestq %rbx,%rbx\nje spot\nmovq $2,%rdx\nspot:\n"
_AFTER_NMI = "cmpb $1,%gs:flag\njne out\ncmpq ${wrong},%rdx\njne out\n" + _BAD


def _program(body: str, nmi: str) -> str:
    return _HANDLER.format(body=body) + f"nmi:\n{nmi}iretq\n"


#: name -> a program that does not restore rcx.
CASES = {
    "one place": _program("nop\nspot: nop\n", f"cmpq $spot,(%rsp)\njne 1f\n{_BAD}1:\n"),
    "one flag": _program(
        f"{_OTHER_WAY}movq %rdx,%gs:word\nnop\nmovq $0,%gs:word\n", f"cmpq $2,%gs:word\njne 1f\n{_BAD}1:\n"
    ),
    "one time": _program(
        f"movb $0,%gs:flag\nspot: nop\ncmpb $1,%gs:flag\njne out\n{_BAD}", "movb $1,%gs:flag\n"
    ),
    "read after": _program(
        _OTHER_WAY + "movb $0,%gs:flag\nnop\n" + _AFTER_NMI.format(wrong=2), "movb $1,%gs:flag\n"
    ),
    "changed": _program(
        _OTHER_WAY + "movb $0,%gs:flag\nnop\n" + _AFTER_NMI.format(wrong=3), "movb $1,%gs:flag\nleaq 1(%rdx),%rdx\n"
    ),
    "made inside": _program(
        "movb $0,%gs:flag\nmovq $0,%rdx\n" + _AFTER_NMI.format(wrong=2),
        "movb $1,%gs:flag\nmovq $1,%rdx\ntestq %rsi,%rsi\nje 1f\nmovq $2,%rdx\n1:\n",
    ),
    "two unknowns": _program(
        "movq $0,%rbx\nmovq $0,%rdx\nspot: nop\nmovq %rdx,%rbx\nnop\ntestq %rbx,%rbx\nje out\ntestq %rdx,%rdx\n"
        f"je out\ncmpq %rbx,%rdx\nje out\n{_BAD}",
        "work:\n...\n",
    ),
}


#: Those where NMIs may strike any number of times; in the others two.
UNBOUNDED = ("two unknowns",)


@dataclass(frozen=True, slots=True)
class Sabotage:
    """``where.name`` is replaced by what ``by`` makes of it; ``missed``: the case whose violation is then not found."""

    title: str
    missed: str
    where: Any
    name: str
    by: Callable[[Any], Any]


def _only_founder(way_back: Any) -> Any:
    def by(self: Any, call: Any, left: Any) -> None:
        if call is left.state.frame.founder:
            way_back(self, call, left)

    return by


def _same_names(renaming: Any) -> Any:
    return lambda put, given, names: lambda t: t if t.op == "havoc" else put(t)


SABOTAGES = (
    Sabotage("what is excluded is not asked of callers", "one place", Routine, "stands_for", lambda f: lambda *_: True),
    Sabotage("only the founder is returned to", "one time", nested.Nested, "_return", _only_founder),
    Sabotage(
        "what comes after matters to no routine", "made inside", recognise, "_sources", lambda f: lambda n: f(n)[:1]
    ),
    Sabotage("unknowns keep their names", "two unknowns", nested, "_renaming", _same_names),
)  # fmt: skip
