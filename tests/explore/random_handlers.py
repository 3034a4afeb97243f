"""Random NMI handlers of a few instructions, with the machine and the properties to try them on.

They are written so that runs meet again where they differ a little: in a flag, a register, a word of memory or a copy
of the frame that matters only later, or never.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTERS = ("rax", "rcx", "rdx")
LOW = {"rax": "al", "rcx": "cl", "rdx": "dl"}
CONDITIONS = ("e", "ne", "e", "ne", "b", "s", "l")


@dataclass
class Handler:
    """A random program, and what `explore_models.write_model` wants besides."""

    seed: int
    program: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    model: dict[str, object] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Writer:
    """Writes one handler. ``depth``: bytes pushed below the frame so far."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lines: list[str] = []
        self.depth = 0
        self.labels = 0
        self.holes: dict[str, str] = {}
        self.tests: list[str] = []

    def emit(self, *lines: str) -> None:
        self.lines += lines

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def register(self) -> str:
        return "%" + self.random.choice(REGISTERS)

    def slot(self) -> str:
        """A word of the stack: something pushed, or a word of the frame."""
        return f"{8 * self.random.randrange(self.depth // 8 + 5)}(%rsp)"

    def datum(self) -> str:
        return self.random.choice(("%gs:word", "%gs:word", "%gs:second"))

    def byte(self) -> str:
        return self.random.choice(("%gs:flag", "%gs:other"))

    def number(self) -> str:
        return f"${self.random.choice((0, 0, 1, 1, 5, 0x200, 0x10, 0x18))}"

    def push(self) -> None:
        r = self.random
        self.emit("push " + r.choice((self.register(), self.register(), self.slot(), self.datum(), self.number())))
        self.depth += 8

    def pop(self) -> None:
        if self.depth:
            target = self.register() if self.random.random() < 0.8 else self.datum()
            self.emit(f"pop {target}")
            self.depth -= 8

    def move(self) -> None:
        r, register = self.random, self.register()
        source = r.choice((self.register(), self.slot(), self.datum(), self.number()))
        if r.random() < 0.6:
            self.emit(f"movq {source},{register}")
        elif r.random() < 0.7:
            self.emit(f"movq {r.choice((register, self.number()))},{self.datum()}")
        else:
            word = r.randrange(self.depth // 8 + 1) - r.randrange(4)
            self.emit(f"movq {r.choice((register, self.number()))},{8 * word}(%rsp)")

    def flag(self) -> None:
        self.emit(f"movb ${self.random.choice((0, 1))},{self.byte()}")

    def compute(self) -> None:
        what = self.random.choice(("addq", "xorq", "andq", "subq"))
        self.emit(f"{what} {self.random.choice((self.register(), self.number()))},{self.register()}")

    def stack(self) -> None:
        if self.depth and self.random.random() < 0.5:
            self.emit("addq $8,%rsp")
            self.depth -= 8
        else:
            self.emit("subq $8,%rsp")
            self.depth += 8

    def interrupts(self) -> None:
        self.emit(self.random.choice(("cli", "sti", "sti", "nop")))

    def flags_word(self) -> None:
        if self.random.random() < 0.5:
            self.emit("pushfq")
            self.depth += 8
        else:
            self.emit(f"pushq {16 + self.depth}(%rsp)", "popfq")

    def hole(self) -> None:
        name = f"hole{len(self.holes)}"
        r = self.random
        may = [m for m in ("page_fault", "change_if") if r.random() < 0.5]
        keeps = [f"r{n}" for n in ("ax", "cx", "dx") if r.random() < 0.5]
        keeps += ["rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
        writes = ", writes: [other]" if r.random() < 0.2 else ""
        self.holes[name] = f"may: [{', '.join(may)}], keeps: [{', '.join(keeps)}]{writes}"
        self.emit(f"{name}:", "...")

    def test(self) -> None:
        r = self.random
        if self.tests and r.random() < 0.5:  # decided before: what was decided then matters again
            self.emit(r.choice(self.tests))
            return
        self.tests.append(
            r.choice(
                (
                    f"testb $1,{self.byte()}",
                    f"cmpb $0,{self.byte()}",
                    f"cmpq {self.number()},{self.register()}",
                    f"cmpq {self.register()},{self.register()}",
                    f"cmpq {self.slot()},{self.register()}",
                    f"cmpq {self.datum()},{self.register()}",
                    f"testq {self.register()},{self.register()}",
                    f"cmpq $nmi_exit,{self.depth}(%rsp)",
                    f"cmpq $nmi_entry,{self.depth}(%rsp)",
                    f"testq $0x200,{self.depth + 16}(%rsp)",
                    f"btq $9,{self.depth + 16}(%rsp)",
                    f"cmpw $0x10,{self.depth + 8}(%rsp)",
                )
            )
        )
        self.emit(self.tests[-1])

    def branch(self, budget: int) -> None:
        """A test, and one or two ways that meet again (or do not)."""
        r = self.random
        other, end = self.label(), self.label()
        depth = self.depth
        self.test()
        self.emit(f"j{r.choice(CONDITIONS)} {other}")
        self.block(r.randrange(max(1, budget // 2)) + 1)
        self.level(depth)
        if r.random() < 0.5:
            self.emit(f"jmp {end}", f"{other}:")
            self.block(r.randrange(max(1, budget // 2)))
            self.level(depth)
            self.emit(f"{end}:")
        else:
            self.emit(f"{other}:")
            if r.random() < 0.3:
                self.emit("nop")

    def level(self, depth: int) -> None:
        if self.depth != depth:
            self.emit(f"addq ${self.depth - depth},%rsp" if self.depth > depth else f"subq ${depth - self.depth},%rsp")
            self.depth = depth

    def block(self, budget: int) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self.push, 3),
            (self.pop, 2),
            (self.move, 6),
            (self.flag, 2),
            (self.compute, 2),
            (self.stack, 1),
            (self.interrupts, 2),
            (self.flags_word, 1),
        ]
        while budget > 0:
            start = len(self.lines)
            if budget > 3 and self.random.random() < 0.45:
                self.branch(budget)
            elif len(self.holes) < 1 and self.random.random() < 0.06:
                self.hole()
            else:
                self.random.choices([s for s, _ in steps], [w for _, w in steps])[0]()
            budget -= max(1, len(self.lines) - start)

    def leave(self) -> None:
        """Back to the interrupted context, more or less."""
        r = self.random
        self.level(0)
        if r.random() < 0.5:
            self.emit("movb $0,%gs:flag")
        way = r.random()
        if way < 0.25:
            self.emit("subq $64,%rsp", *["pushq 96(%rsp)"] * 5)
        elif way < 0.35:
            self.emit("movq 24(%rsp),%rax", "movq 16(%rsp),%rcx", "movq (%rsp),%rdx")
            self.emit("subq $16,%rax", "movq %rcx,(%rax)", "movq %rdx,8(%rax)", "movq %rax,%rsp", "popfq", "ret")
            return
        self.emit("nmi_exit:", "iretq")


def write(seed: int) -> Handler:
    """The handler of a seed: always the same."""
    r = Random(seed)
    w = Writer(r)
    nested = r.random() < 0.4
    w.emit("testq $1,%gs:word", "testq $1,%gs:second")
    if nested:
        w.emit("cmpb $0,%gs:flag", "jne nested", "movb $1,%gs:flag")
    w.block(r.randrange(6, 14))
    w.leave()
    if nested:
        w.depth = 0
        w.emit("nested:")
        w.block(r.randrange(4))
        w.level(0)
        w.emit("iretq")
    if "nmi_exit:" not in w.lines:
        w.emit("nmi_exit:", "hlt")
    handler = Handler(seed)
    handler.program = "nmi:\nnmi_entry:\n" + "\n".join(w.lines) + "\n" + _others(r)
    faults = any("page_fault" in h for h in w.holes.values())
    irqs = r.random() < 0.6
    handler.counts = {"nmi": r.choice((1, 1, 2))}
    handler.counts |= {event: 1 for event, wanted in (("irq", irqs), ("page_fault", faults)) if wanted}
    handler.model = {
        "events": ", ".join(f"{e}: any" for e in handler.counts),
        "idt": {
            "irq": f"entry: irq, gate: {r.choice(('interrupt', 'trap'))}",
            "page_fault": "entry: page_fault, gate: interrupt",
            "general_protection": "entry: gp, gate: interrupt",
        },
        "holes": w.holes,
        "interrupted": "kernel",
        "gate": r.choice(("interrupt", "interrupt", "trap")),
        "ist": r.random() < 0.7,
    }
    if handler.model["ist"] and r.random() < 0.3:
        handler.model["interrupted"] = "user, kernel"
    handler.properties = _properties(r, w)
    return handler


def _others(r: Random) -> str:
    touch = r.choice(("", "movb $1,%gs:other\n", "movb $0,%gs:flag\n", "pushq %rax\nmovq %gs:word,%rax\npopq %rax\n"))
    return f"irq:\n{touch}iretq\npage_fault:\naddq $8,%rsp\niretq\ngp:\nmovb $0,%gs:other\naddq $8,%rsp\nhlt\nud: ud2\n"


def _properties(r: Random, w: Writer) -> dict[str, str]:
    own = [name[:-1] for name in w.lines if name.endswith(":")]
    place = r.choice(own)
    words = ("%gs:word == 0", "%gs:word != %gs:second", "%gs:flag == 0 or %gs:other == 0")
    data = r.choice((*words, "rax == rcx", "if == 0"))
    return {
        "restored": "that: 'restored(rip, cs, rflags, rsp, ss, rax, rcx)'",
        "intact": "that: intact(frame)",
        "rest": "that: at_rest",
        "progress": "that: progress",
        "unreachable": f"that: unreachable({place})",
        "here": f"that: '{data}', at: {r.choice(own)}",
        "at_return": f"that: '{data}', at: outermost-return",
        "below": "that: '%gs:word == 0 -> rsp == interrupted.rsp', at: outermost-return",
    }
