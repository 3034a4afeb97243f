"""Small programs that each make one thing matter, judged by both engines, with the verdict that is right.

Where random handlers come upon a thing too seldom to notice that it is broken, one of these is about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from explore_models import by_enumeration, by_fixpoint, write_model

from verifier.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verifier.prove.verdict import Result
    from verifier.spec.model import Model


@dataclass(frozen=True, slots=True)
class Case:
    """``that``: the property, and perhaps where; ``counts``: how many of each event (None: one); ``more`` goes to
    `explore_models.write_model`."""

    name: str
    program: str
    that: str
    expect: str
    more: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] | None = None


def differs(case: Case, folder: Path) -> str:
    """What the engines say of a case if it is not what is right, or not the same; empty if all is well."""
    model = write_model(folder, case.program, {"p": f"that: {case.that}"}, **case.more)
    counts = case.counts or dict.fromkeys(model.environment.events, 1)
    costs = set()
    try:
        for judged in _three_times(model, counts):
            result = judged["p"]
            if result.verdict != case.expect:
                return f"{result.verdict}, and {case.expect} is right: {result.reason}"
            costs.add(result.violation.cost if result.violation is not None else None)
    except (InternalError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if len(costs) == 1 else f"runs that cost different: {costs}"


def _three_times(model: Model, counts: dict[str, int]) -> Iterator[dict[str, Result]]:
    """Path by path, to a fixpoint with as many events, and with as many as the case allows."""
    yield by_enumeration(model, counts)
    yield by_fixpoint(model, counts)
    yield by_fixpoint(model)


_IRQ = {"irq": "entry: irq, gate: interrupt"}
_WITH_IRQS = {"events": "nmi: any, irq: any", "idt": _IRQ}
#: IRET to ``on``: NMIs can strike from there.
_UNBLOCK = "movq %rsp,%rax\npushq $0x18\npushq %rax\npushfq\npushq $0x10\npushq $on\niretq\n"

CASES = (
    Case(
        "same unknown",
        # two words hold the same unknown, or two unknowns
        """
nmi:
hole: ...
    testb $1,%gs:other
    jne 1f
    movq %rax,%rcx
    jmp 2f
1:  nop
    nop
    movq %rdx,%rcx
2:  cmpq %rax,%rcx
    jne bad
    iretq
bad: jmp bad
""",
        "unreachable(bad)",
        "refuted",
        {"holes": {"hole": "keeps: [rcx]"}},
    ),
    Case(
        "unknown",
        # an unknown is 1, or is not
        """
nmi:
hole: ...
    cmpq $1,%rax
    jne 1f
    jmp 2f
1:  nop
    nop
2:  cmpq $1,%rax
    jne bad
    iretq
bad: jmp bad
""",
        "unreachable(bad)",
        "refuted",
        {"holes": {"hole": "keeps: [rcx]"}},
    ),
    Case(
        "counted",
        # an IRQ came, or did not
        "nmi:\n" + _UNBLOCK + "on:\nsti\nnop\ncli\niretq\nirq:\niretq\n",
        "'count(irq) == 0', at: outermost-return",
        "refuted",
        _WITH_IRQS,
    ),
    Case(
        "only copy",
        # a copy of the saved rip is in memory, or nowhere, when the frame loses it
        """
nmi:
    testb $1,%gs:other
    jne 1f
    movq (%rsp),%rcx
    movq %rcx,-64(%rsp)
    xorl %ecx,%ecx
    jmp 2f
1:  nop
    nop
    nop
    nop
    xorl %ecx,%ecx
2:  movq $0,(%rsp)
3:  jmp 3b
""",
        "intact(frame)",
        "refuted",
        {"events": "nmi: 1"},
    ),
    Case(
        "blocked",
        # NMIs are blocked, or are not, where two ways meet
        "nmi:\ncmpb $0,%gs:flag\njne bad\nmovb $1,%gs:flag\ntestb $1,%gs:other\nje on\n"
        + _UNBLOCK
        + "on:\nmovb $0,%gs:flag\niretq\nbad: jmp bad\n",
        "unreachable(bad)",
        "refuted",
        {},
        {"nmi": 2},
    ),
    Case(
        "dearer",
        # what an IRQ does for one event more, the program does itself
        "nmi:\nsti\nnop\ncli\n" + "pushq $0\n" * 6 + "jmp irq\nirq:\nnop\nbad: jmp bad\n",
        "unreachable(bad)",
        "refuted",
        _WITH_IRQS,
    ),
    Case(
        "second",
        # a second IRQ after the first has returned
        "nmi:\nmovb $0,%gs:flag\nsti\nnop\nnop\nnop\ncli\niretq\n"
        "irq:\nincb %gs:flag\ncmpb $2,%gs:flag\nje bad\niretq\nbad: jmp bad\n",
        "unreachable(bad)",
        "refuted",
        _WITH_IRQS,
        {"nmi": 1, "irq": 2},
    ),
    Case(
        "owed",
        # an IRQ is owed its body, and a machine check comes between
        "nmi:\nsti\nnop\ncli\niretq\nirq:\nmovb $0,%gs:flag\nnop\ncmpb $1,%gs:flag\nje 1f\nbody: nop\n1: iretq\n"
        "machine_check:\nmovb $1,%gs:flag\niretq\n",
        "'handled(irq, body)'",
        "refuted",
        {
            "events": "nmi: any, irq: any, machine_check: any",
            "idt": {**_IRQ, "machine_check": "entry: machine_check, gate: interrupt"},
        },
    ),
    Case(
        "irq blocks",
        # an IRQ blocks no NMI
        "nmi:\n" + _UNBLOCK + "on:\nsti\nnop\ncli\niretq\nirq:\niretq\n",
        "'nmi_blocked == 1', at: irq",
        "refuted",
        _WITH_IRQS,
    ),
    Case(
        "hidden",
        # hidden code has changed a register when it faults
        "nmi:\nmovl $1,%ecx\nhole: ...\niretq\npage_fault:\naddq $8,%rsp\niretq\n",
        "'rcx == 1', at: page_fault",
        "refuted",
        {
            "events": "nmi: any, page_fault: any",
            "idt": {"page_fault": "entry: page_fault, gate: interrupt"},
            "holes": {"hole": "may: [page_fault], keeps: [rax]"},
        },
    ),
    Case(
        "hidden iret",
        # hidden code lets the next NMI in: it does not come back where its frame was
        "nmi:\nhole: ...\niretq\n",
        "intact(frame)",
        "refuted",
        {"holes": {"hole": "may: [iret], keeps: [registers, status_flags]"}},
        {"nmi": 2},
    ),
    Case(
        "hidden iret or none",
        # hidden code that may let the next NMI in need not
        "nmi:\nhole: ...\nafter: iretq\n",
        "'nmi_blocked == 0', at: after",
        "refuted",
        {"events": "nmi: 1", "holes": {"hole": "may: [iret], keeps: [registers, status_flags]"}},
    ),
    Case(
        "away",
        # behind hidden code that may stay away there is no way home
        "nmi:\nhole: ...\n1: jmp 1b\n",
        "progress",
        "refuted",
        {"events": "nmi: 1", "holes": {"hole": "may: [not_return], keeps: [registers]"}},
    ),
    Case(
        "away for ever",
        "nmi:\nhole: ...\n1: jmp 1b\n",
        "progress",
        "proved",
        {"events": "nmi: 1", "holes": {"hole": "returns: never, keeps: [registers]"}},
    ),
    Case(
        "required",
        # what is required hangs on what was interrupted: the way on where it holds is no way out of it
        "nmi:\ncmpq $5,%rax\nje 1f\n1:\nhole: ...\niretq\n",
        "progress",
        "refuted",
        {"events": "nmi: 1", "holes": {"hole": "requires: ['rax != 5'], keeps: [registers]"}},
    ),
    Case(
        "given",
        # what hidden code gives is of when it was entered
        "nmi:\npushq %rcx\nhole: ...\nmovq %rcx,%rdx\npopq %rcx\nafter: iretq\n",
        "'rdx == interrupted.rbx + 1', at: after",
        "proved",
        {"events": "nmi: 1", "holes": {"hole": "gives: {rcx: rbx + 1}, stack: 8"}},
    ),
    Case(
        "iret faults",
        # an iret that faults unblocks NMIs
        "nmi:\nmovq $0,8(%rsp)\niretq\ngp:\nnop\n1: jmp 1b\n",
        "'nmi_blocked == 0', at: gp",
        "proved",
        {"events": "nmi: 1", "idt": {"general_protection": "entry: gp, gate: interrupt"}},
    ),
    Case("loop", "nmi:\n1: jmp 1b\n", "progress", "refuted"),
    Case(
        "loop ended",
        # a loop that only an event ends
        "nmi:\nmovb $0,%gs:flag\nsti\n1: cmpb $0,%gs:flag\nje 1b\ncli\niretq\nirq:\nmovb $1,%gs:flag\niretq\n",
        "progress",
        "refuted",
        _WITH_IRQS,
    ),
    Case("no gate", "nmi:\nud2\nbad: iretq\n", "unreachable(bad)", "refuted"),
    Case(
        "late",
        # the first return to a place is after the strike there
        "nmi:\nsti\nnop\ncli\niretq\nirq:\nxorl %ecx,%ecx\niretq\n",
        "'resumed(rcx)'",
        "refuted",
        _WITH_IRQS,
    ),
    Case(
        "watched",
        # contexts struck at one place had different values
        """
nmi:
    testb $1,%gs:other
    jne 1f
    movl $1,%ecx
    jmp 2f
1:  nop
    nop
    movl $2,%ecx
2:  sti
    nop
    cli
    iretq
irq:
    movl $1,%ecx
    iretq
""",
        "'resumed(rcx)'",
        "refuted",
        _WITH_IRQS,
    ),
)
