"""Programs that are wrong in one context only of those that a routine could stand for, and ways to break routines on
purpose that miss it: the certificate of what is proved then is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifier.explore import nested, recognise
from verifier.explore.routine import Routine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SPECS = Path(__file__).parents[2] / "specs"
#: What an interrupt handler does with rcx if something is as it should not be; rcx is what is judged.
_BAD = "movq $5,%rcx\n"
_HANDLER = "irq:\npushq %rdx\npushq %rbx\n{body}out:\npopq %rbx\npopq %rdx\niretq\n"
_OTHER_WAY = "movq $1,%rdx\ntestq %rbx,%rbx\nje spot\nmovq $2,%rdx\nspot: xorl %ebx,%ebx\n"
_AFTER_NMI = "cmpb $1,%gs:flag\njne out\ncmpq ${wrong},%rdx\njne out\n" + _BAD
_KEPT = "keeps: [rax, rbx, rcx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15]"


@dataclass(frozen=True, slots=True)
class Case:
    """A program, whose property `restored` does not hold, and what may strike it."""

    program: str
    events: str = "nmi: 2, irq: 1"
    holes: Mapping[str, str] = field(default_factory=dict)
    restored: str = "that: restored(rcx)"
    more: Mapping[str, str] = field(default_factory=dict)


def _program(body: str, nmi: str) -> str:
    return _HANDLER.format(body=body) + f"nmi:\n{nmi}iretq\n"


CASES = {
    "one place": Case(_program("nop\nspot: nop\n", f"cmpq $spot,(%rsp)\njne 1f\n{_BAD}1:\n")),
    "one flag": Case(
        _program(f"{_OTHER_WAY}movq %rdx,%gs:word\nnop\nmovq $0,%gs:word\n", f"cmpq $2,%gs:word\njne 1f\n{_BAD}1:\n")
    ),
    "one time": Case(
        _program(f"movb $0,%gs:flag\nspot: nop\ncmpb $1,%gs:flag\njne out\n{_BAD}", "movb $1,%gs:flag\n")
    ),
    "read after": Case(
        _program(_OTHER_WAY + "movb $0,%gs:flag\nnop\n" + _AFTER_NMI.format(wrong=2), "movb $1,%gs:flag\n")
    ),
    "changed": Case(
        _program(
            _OTHER_WAY + "movb $0,%gs:flag\nnop\n" + _AFTER_NMI.format(wrong=3), "movb $1,%gs:flag\nleaq 1(%rdx),%rdx\n"
        )
    ),
    "copied": Case(
        _program(
            "movq $1,%rdx\nmovb $0,%gs:flag\nnop\nmovb $2,%gs:flag\nnop\nmovq $0,%rdx\ncmpb $1,%gs:flag\njne out\n"
            f"cmpq $2,%rbx\njne out\n{_BAD}",
            "cmpb $0,%gs:flag\njne 1f\nmovq $2,%rdx\niretq\n1: movb $1,%gs:flag\nmovq %rdx,%rbx\n",
        ),
        "nmi: any, irq: 1",
    ),
    "made inside": Case(
        _program(
            "movb $0,%gs:flag\nmovq $0,%rdx\n" + _AFTER_NMI.format(wrong=2),
            "movb $1,%gs:flag\nmovq $1,%rdx\ntestq %rsi,%rsi\nje 1f\nmovq $2,%rdx\n1:\n",
        )
    ),
    "decided inside": Case(
        _program(
            f"movb $0,%gs:flag\nnop\ncmpb $1,%gs:flag\njne out\ntestq $1,32(%rsp)\njne out\n{_BAD}",
            "pushq %rdx\nmovb $1,%gs:flag\nmovq 32(%rsp),%rdx\ntestq $1,32(%rdx)\nje 1f\nnop\n1: popq %rdx\n",
        ),
        "nmi: 1, irq: 1",
        more={"intact": "that: intact(frame)"},
    ),
    "two unknowns": Case(
        _program(
            "movq $0,%rbx\nmovq $0,%rdx\nspot: nop\nmovq %rdx,%rbx\nnop\ntestq %rbx,%rbx\nje out\ntestq %rdx,%rdx\n"
            f"je out\ncmpq %rbx,%rdx\nje out\n{_BAD}",
            "work:\n...\n",
        ),
        "nmi: any, irq: 1",
        {"work": _KEPT},
    ),
    # left at CPL 3, where nothing is, by one of two ways to the same address
    "to user": Case(
        _program("nop\nnop\n", "testq %rsi,%rsi\njne 1f\nmovq $0x33,8(%rsp)\nmovq $0x2b,32(%rsp)\n1:\n"),
        "nmi: 1, irq: 1",
    ),
    "counted inside": Case(
        "irq:\nnop\niretq\nnmi:\nsti\nnop\nnop\ncli\niretq\n",
        "nmi: 1, irq: 2",
        restored="that: count(irq) <= 1, at: outermost-return",
    ),
}


@dataclass(frozen=True, slots=True)
class Sabotage:
    """``where.name`` is replaced by what ``by`` makes of it; ``missed``: the case whose violation is then not found, or
    a shipped specification; what is proved of it has a certificate that is refused."""

    title: str
    missed: str
    where: Any
    name: str
    by: Callable[[Any], Any]

    @property
    def specification(self) -> Path | None:
        """The specification, if it is a shipped one."""
        return None if self.missed in CASES else _SPECS / f"{self.missed}.yaml"


def _constant(value: object) -> Callable[[Any], Any]:
    return lambda _: lambda *_, **__: value


def _only_founder(way_back: Any) -> Any:
    def by(self: Any, call: Any, left: Any) -> None:
        if call is left.state.frame.founder:
            way_back(self, call, left)

    return by


def _known_so_far(settle: Any) -> Any:
    def by(self: Any) -> None:
        for routine, call in self.recogniser.attached:
            if call is not routine.founder:
                self._done |= {(call, left) for left in routine.exits}
        settle(self)

    return by


def _first_exit(leave: Any) -> Any:
    def by(self: Any, node: Any) -> None:
        node.expanded = True
        if not node.state.frame.exits:
            leave(self, node)

    return by


def _same_names(renaming: Any) -> Any:
    return lambda put, given, names: lambda t: t if t.op == "havoc" else put(t)


def _put_back_with(**kept: str) -> Callable[[Any], Any]:
    """Parts of the state are still what the context had when it was struck."""

    def by(put_back: Any) -> Any:
        def changed(self: Any, call: Any, left: Any, routine: Any) -> Any:
            back = put_back(self, call, left, routine)
            old = {name: getattr(call.full, source) for name, source in kept.items()}
            return back and replace(back, state=replace(back.state, **old))

        return changed

    return by


def _ghost_of_beginning(back: Any) -> Any:
    def by(self: Any, call: Any, left: Any, *rest: Any) -> None:
        ghost, left.ghost = left.ghost, call.entry.ghost
        back(self, call, left, *rest)
        left.ghost = ghost

    return by


def _impossible(possible: Any) -> Any:
    return lambda solver, frame, path, t: possible(solver, frame, path, t) if t.is_const else "unsat"


def _called_only(sources: Any) -> Any:
    return lambda node: sources(node)[:1]


def _begun_anyhow(before: Any) -> Any:
    return lambda node, edge, live: set() if node.call is not None else before(node, edge, live)


def _from_nothing(flow: Any) -> Any:
    return lambda call, changed: (flow(call, changed)[0], {})


_NESTED, _NOTHING = nested.Nested, (set[object](), set[object]())
_REPAIR, _FAULTS = "nested_nmi_repair_3_gp_window", "nmi_on_stack_faults"
SABOTAGES = (
    # who is returned to, with what
    Sabotage("only the founder is returned to", "one time", _NESTED, "_return", _only_founder),
    Sabotage("only callers known by then are returned to", "two unknowns", _NESTED, "_settle", _known_so_far),
    Sabotage("a routine is left in one way only", "one flag", _NESTED, "_leave", _first_exit),
    Sabotage("what depends on the context is impossible in it", "made inside", nested, "possible", _impossible),
    Sabotage("memory is not put back", "one time", _NESTED, "_put_back", _put_back_with(memory="memory")),
    Sabotage("NMIs stay blocked", "two unknowns", _NESTED, "_put_back", _put_back_with(nmi_blocked="nmi_blocked")),
    Sabotage("events in a nested run are forgotten", "counted inside", _NESTED, "_back", _ghost_of_beginning),
    Sabotage("unknowns keep their names", "two unknowns", nested, "_renaming", _same_names),
    # what is taken for like
    Sabotage("what is excluded is not asked of callers", "one place", Routine, "stands_for", _constant(True)),
    Sabotage("ends at two CPLs are one", "to user", recognise, "_nested", lambda f: lambda n: (f(n)[0], None)),
    # what matters
    Sabotage("what comes after matters to no routine", "made inside", recognise, "_sources", _called_only),
    Sabotage("what is decided inside matters nowhere", "decided inside", recognise, "_outside", _constant(_NOTHING)),
    Sabotage("what a routine is begun with does not matter", "decided inside", recognise, "_before", _begun_anyhow),
    Sabotage("what a routine makes its values from does not matter", "copied", nested, "_flow", _from_nothing),
    Sabotage("what is excluded does not matter", _REPAIR, _NESTED, "_learn_excluded", _constant(None)),
    Sabotage("what is asked of contexts does not matter", _FAULTS, _NESTED, "_learn_literals", _constant(None)),
)
