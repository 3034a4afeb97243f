"""Random NMI handlers of a few instructions, with machines, events and properties to try them on.

Each is a row of gadgets. Most make two runs differ in one thing only (a register, a flag, a word, a copy of the frame,
what is masked), let them meet again at the same instruction, the shorter way usually first, and let the thing matter a
few instructions later, or to a property, or to an event, or never. Others are what entry code does: tests of saved rip,
cs and rsp, counters and flags against nesting, frames copied, changed and returned through in several ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REGISTERS = ("rax", "rcx", "rdx")
OTHERS = ("rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
LOW = {"%rax": "%al", "%rcx": "%cl", "%rdx": "%dl"}
CONDITIONS = ("e", "ne", "e", "ne", "b", "s")


#: One of two ways to go for each value, and what makes the difference matter.
Thing = tuple["Callable[[str], list[str]]", list[str]]


@dataclass(frozen=True)
class Theme:
    """``events``: how many of which, in one handler or another; ``properties``: those that it is most about."""

    events: tuple[dict[str, int], ...]
    properties: tuple[str, ...]


_ONE, _TWO = {"nmi": 1}, {"nmi": 2}
_IRQ, _FAULT = {"nmi": 1, "irq": 1}, {"nmi": 1, "page_fault": 1}
THEMES = {
    "memory": Theme((_ONE, _ONE, _IRQ, _FAULT), ("here", "at_return", "rest", "some")),
    "unknown": Theme((_ONE, _ONE, _ONE, _FAULT), ("here", "at_return")),
    "masks": Theme((_IRQ, _IRQ, {"nmi": 1, "irq": 2}), ("rest", "counted", "reached", "handled", "resumed", "some")),
    "frame": Theme((_ONE, _IRQ, _TWO), ("intact", "restored", "frame", "progress")),
    "block": Theme((_TWO, _TWO, {"nmi": 2, "page_fault": 1}), ("counted", "handled", "intact", "resumed")),
    "faults": Theme((_FAULT, {"nmi": 2, "page_fault": 1}), ("handled", "resumed", "restored", "counted")),
    "resume": Theme((_IRQ, _TWO, _FAULT, {"nmi": 2, "irq": 1}), ("resumed", "resumed", "progress")),
    "any": Theme((_ONE, _IRQ, _TWO, _FAULT, {"nmi": 1, "machine_check": 1}), ("always", "at_return")),
}


@dataclass
class Handler:
    """A random program, and what `explore_models.write_model` wants besides."""

    seed: int
    program: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def events(self, times: Mapping[str, int | str]) -> str:
        """The environment's events. In a quarter of the handlers page faults strike in the text too."""
        place = Random(f"places {self.seed}").choice(("memory", "anywhere", *[""] * 6))
        at = {"page_fault": f", at: {place}"} if place else {}
        return ", ".join(f"{name}: {{times: {n}{at.get(name, '')}}}" for name, n in times.items())


class Writer:
    """Writes one handler. ``depth``: bytes pushed below the frame so far; ``theme``: what it is about, in `THEMES`."""

    def __init__(self, random: Random, theme: str, events: Mapping[str, int]) -> None:
        self.random = random
        self.theme = theme
        self.events = events
        self.lines: list[str] = []
        self.depth = 0
        self.labels = 0
        self.holes: dict[str, str] = {}
        self.calls: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self.tests: list[str] = []
        self.places: list[str] = []
        self.frame = True

    def emit(self, *lines: str) -> None:
        self.lines += lines

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def place(self) -> None:
        """A label that properties can name."""
        self.places.append(self.label())
        self.emit(f"{self.places[-1]}:")

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def pick(self, *options: str) -> str:
        return self.random.choice(options)

    def pads(self, most: int = 3) -> None:
        self.emit(*["nop"] * self.random.randrange(most + 1))

    def thing(self) -> Thing:
        """A way to give something one of several values, and a way to make it matter."""
        register = "%" + self.pick(*REGISTERS)
        word, byte = self.pick("%gs:word", "%gs:second"), self.pick("%gs:flag", "%gs:other")
        below = f"-{8 * self.random.randrange(1, 9)}(%rsp)"
        slot = f"{8 * self.random.randrange(self.depth // 8)}(%rsp)" if self.depth else below
        saved = self.depth + self.random.choice((0, 8, 16, 16, 24, 32))
        number, rip = self.number(), f"{self.depth}(%rsp)"
        masks = self.random.choice((["nop", "cli"], ["nop", "nop", "cli"], ["nop"]))
        things: list[tuple[str, Thing]] = [
            ("memory", (lambda v: [f"movq {v},{register}"], [f"cmpq {number},{register}"])),
            ("memory", (lambda v: [f"movq {v},{register}"], [f"movq {register},{word}"])),
            ("memory", (lambda v: [f"movq {v},{word}"], [f"cmpq {number},{word}"])),
            ("memory", (lambda v: [f"movb {LOW.get(v, v)},{byte}"], [f"cmpb $0,{byte}"])),
            ("memory", (lambda v: [f"movq {v},{slot}"], [f"cmpq {number},{slot}"])),
            ("memory", (lambda v: [f"movq {v},{below}"], [f"testq {below},{register}"])),
            ("memory", (lambda v: ["clc" if v in ("$0", "%rax") else "stc"], ["nop"])),
            ("memory", (lambda v: ["cld" if v in ("$0", "%rcx") else "std"], ["pushfq", f"popq {word}"])),
            ("masks", (lambda v: ["cli" if v in ("$0", "%rdx") else "sti"], masks)),
            ("masks", (lambda v: [f"orq $0x200,{self.depth + 16}(%rsp)"] if v == "$0" else [], [])),
            ("block", (lambda v: self.unblocking() if v in ("$0", "%rcx") else ["nop"], ["nop"])),
            ("unknown", (lambda v: ["movq %rax,%rcx"] if v == "$0" else ["movq %rdx,%rcx"], ["cmpq %rax,%rcx"])),
            ("unknown", (lambda v: [f"movq {register},{word}"] if v == "$0" else [], [f"cmpq {register},{word}"])),
            ("frame", (lambda v: [f"movq {saved}(%rsp),%rcx"] if v == "$0" else [], [f"movq %rcx,{word}"])),
            ("frame", (lambda v: [f"movq {saved}(%rsp),%rcx"] if v == "$0" else [], [f"movq $0,{saved}(%rsp)"])),
            ("frame", (lambda v: [f"movq {register},{saved}(%rsp)"] if v == "$1" else [], [])),
            ("frame", (lambda v: [f"movq $l1,{rip}"] if v == "$1" and self.labels else ["nop"], [])),
            ("frame", (lambda v: [f"movw $0,{self.depth + 8}(%rsp)"] if v == "$1" else ["nop"], [])),
        ]
        wanted = [t for kind, t in things if kind == self.theme or (self.theme in ("any", "faults", "resume") and kind)]
        return self.random.choice(wanted)

    def number(self) -> str:
        return f"${self.random.choice((0, 0, 0, 1, 1, 1, 5))}"

    def differ(self) -> None:
        """Two ways that meet again, alike but for one thing; then, perhaps, that thing is looked at."""
        make, use = self.thing()
        other, meet = self.label(), self.label()
        one, two = self.random.choice((("$0", "$1"), ("$1", "$0"), ("$0", "%rax"), ("%rcx", "%rdx"), ("$1", "")))
        self.test()
        self.emit(f"j{self.pick(*CONDITIONS)} {other}")
        self.emit(*make(one))
        if two or self.chance(0.5):
            self.emit(f"jmp {meet}", f"{other}:")
            self.pads()
            self.emit(*(make(two) if two else ()))
            self.emit(f"{meet}:")
        else:
            self.emit(f"{other}:")
        self.pads(2)
        if self.chance(0.3):
            self.gadget()
        if self.chance(0.85):
            self.emit(*use)
            self.matter()

    def three_ways(self) -> None:
        """Two of three ways meet first: what is learned where all meet has to come back to where two of them met."""
        make, use = self.thing()
        last, two, meet = self.label(), self.label(), self.label()
        self.test()
        self.emit(f"j{self.pick(*CONDITIONS)} {last}", *make(self.pick("$0", "$1")), f"jmp {meet}", f"{last}:")
        self.pads()
        self.test()
        self.emit(f"j{self.pick(*CONDITIONS)} {two}")
        self.pads()
        self.emit(*make(self.pick("$0", "$1")), f"{two}:")
        self.pads()
        self.emit(f"{meet}:")
        self.pads(2)
        self.emit(*use)
        self.matter()

    def relate(self) -> None:
        """What is known of one thing is known of another that was found equal to it."""
        one, two = self.random.sample(REGISTERS, 2)
        out, short, over = self.label(), self.label(), self.label()
        number = self.pick("$1", "$5")
        self.emit(f"cmpq %{one},%{two}", f"jne {out}", f"cmpq {number},%{one}", f"j{self.pick('b', 'e', 'ne')} {short}")
        self.pads()
        self.emit(f"{short}:", *([f"xorl %e{one[1:]},%e{one[1:]}"] if self.chance(0.7) else []))
        self.emit(f"cmpq {number},%{two}", f"j{self.pick('b', 'e', 'ne')} {over}", "jmp bad", f"{over}:", f"{out}:")

    def matter(self) -> None:
        """The flags decide something."""
        over = self.label()
        self.emit(f"j{self.pick('e', 'ne', 'ne', 'c')} {over}")
        self.emit(self.pick("jmp bad", "jmp bad", "jmp bad", "movb $1,%gs:flag", "movq $7,%gs:word", "xorl %ecx,%ecx"))
        self.emit(f"{over}:")

    def test(self) -> None:
        """A question about what is not known; often one that was asked before."""
        if self.tests and self.chance(0.3):
            self.emit(self.random.choice(self.tests))
            return
        register, depth = "%" + self.pick(*REGISTERS), self.depth
        line = self.pick(
            "testb $1,%gs:other",
            "testb $2,%gs:other",
            "testb $1,%gs:other",
            "cmpb $0,%gs:flag",
            f"cmpq {self.number()},%gs:word",
            f"cmpq %gs:second,{register}",
            f"cmpq {self.number()},{register}",
            "cmpq %rcx,%rdx",
            f"testq {register},{register}",
            f"cmpq $nmi_exit,{depth}(%rsp)",
            f"cmpw $0x10,{depth + 8}(%rsp)",
            f"testl $0x200,{depth + 16}(%rsp)",
            f"btq $9,{depth + 16}(%rsp)",
            f"testl $1,{depth + 16}(%rsp)",
        )
        self.tests.append(line)
        self.emit(line)

    # what entry code does

    def push(self) -> None:
        self.emit("push " + self.pick("%rax", "%rcx", "%gs:word", f"{self.depth + 16}(%rsp)", "$1"))
        self.depth += 8

    def pop(self) -> None:
        if self.depth:
            self.emit("pop " + self.pick("%rax", "%rcx", "%rdx", "%gs:word"))
            self.depth -= 8

    def move(self) -> None:
        self.emit(
            self.pick(
                "movq %rax,%rcx",
                "movq %gs:word,%rax",
                "movq %rdx,%gs:second",
                "movb $1,%gs:flag",
                "movb $0,%gs:flag",
                "incb %gs:other",
                f"movq {self.depth}(%rsp),%rdx",
                f"movq {self.depth + 24}(%rsp),%rax",
                "xorl %ecx,%ecx",
                "addq $1,%rdx",
            )
        )

    def masks(self) -> None:
        if self.chance(0.3):
            over = self.label()
            self.emit(f"testl $0x200,{self.depth + 16}(%rsp)", f"je {over}", "sti", f"{over}:")
        else:
            self.emit(*self.random.choice((("sti", "nop"), ("sti", "cli"), ("sti", "nop", "cli"), ("cli",))))

    def flags_word(self) -> None:
        if self.chance(0.5):
            self.emit("pushfq", *(["andq $~0x200,(%rsp)"] if self.chance(0.3) else []), "popfq")
        else:
            self.emit(f"pushq {16 + self.depth}(%rsp)", "popfq")

    def unblock(self) -> None:
        self.emit(*self.unblocking())

    def unblocking(self) -> list[str]:
        """An IRET to the next instruction: NMIs can strike from there on."""
        on, selector = self.label(), self.pick("$0x18", "$0x18", "$0")
        frame = [f"pushq {selector}", "pushq %rax", "pushfq", "pushq $0x10", f"pushq ${on}"]
        return ["movq %rsp,%rax", *frame, "iretq", f"{on}:"]

    def within(self) -> None:
        """Is the interrupted rsp on this stack? A nested entry would be."""
        over = self.label()
        self.emit(f"movq {self.depth + 24}(%rsp),%rdx", "subq %rsp,%rdx", "cmpq $256,%rdx", f"ja {over}")
        self.emit(self.pick("movb $1,%gs:other", "nop", "jmp bad"), f"{over}:")

    def hole(self) -> None:
        if self.holes:
            return
        r = self.random
        may = ["page_fault"] if "page_fault" in self.events else []
        may += ["change_if"] if self.chance(0.4) else []
        keeps = [*OTHERS, *(f"{n}" for n in REGISTERS if self.chance(0.6))]
        saves = [f"{n}" for n in REGISTERS if n not in keeps and self.chance(0.4)]
        more = f", saves: [{', '.join(saves)}]" if saves else ""
        more += self.pick("", "", ", writes: [other]", ", stack: 8")
        self.holes["hole"] = f"may: [{', '.join(may)}], keeps: [{', '.join(keeps)}]{more}"
        self.emit("hole:", "...")
        if r.random() < 0.4:
            self.matter()

    def gadget(self) -> None:
        gadgets: list[tuple[Callable[[], None], int]] = [
            (self.push, 3),
            (self.pop, 3),
            (self.move, 5),
            (self.masks, 3 if "irq" in self.events else 0),
            (self.flags_word, 1),
            (self.unblock, 3 if self.events["nmi"] > 1 else 1),
            (self.within, 1),
            (self.hole, 4 if "page_fault" in self.events else 1),
            (self.place, 1),
        ]
        self.random.choices([g for g, _ in gadgets], [w for _, w in gadgets])[0]()

    def level(self) -> None:
        if self.depth:
            self.emit(f"addq ${self.depth},%rsp")
            self.depth = 0

    def touches(self) -> tuple[str, ...]:
        """What the handler of another event may do."""
        return (
            "",
            "incb %gs:other\n",
            "movb $1,%gs:other\n",
            "movb $1,%gs:flag\n",
            "movb $0,%gs:flag\n",
            "pushq %rax\nmovq %gs:word,%rax\npopq %rax\n",
            "stc\n",
        )

    # ways back

    def leave(self) -> None:
        self.level()
        if self.chance(0.6):
            self.emit("movb $0,%gs:flag")
        way = self.random.random()
        if way < 0.2:
            self.emit("subq $64,%rsp", *["pushq 96(%rsp)"] * 5, "nmi_exit:", "iretq")
        elif way < 0.3:
            self.emit("movq 24(%rsp),%rax", "movq 16(%rsp),%rcx", "movq (%rsp),%rdx", "subq $16,%rax")
            self.emit("movq %rcx,(%rax)", "movq %rdx,8(%rax)", "movq %rax,%rsp", "popfq", "nmi_exit:", "ret")
        elif way < 0.36:
            self.emit("nmi_exit:", self.pick("iretl", "iretw"))
        else:
            self.emit("nmi_exit:", "iretq")


def write(seed: int) -> Handler:
    """The handler of a seed: always the same. Every fifth is about contracts."""
    from random_contracts import ContractWriter  # whose writer is one of these

    r = Random(seed)
    theme = r.choice(list(THEMES))
    handler = Handler(seed, counts=r.choice(THEMES[theme].events))
    w = (ContractWriter if seed % 5 == 4 else Writer)(r, theme, handler.counts)
    nested = handler.counts["nmi"] > 1 and w.chance(0.6)
    if nested:
        w.emit("cmpb $0,%gs:flag", "jne nested", "movb $1,%gs:flag")
    if theme == "unknown" or w.chance(0.5 if "page_fault" in handler.counts else 0.1):
        w.hole()
    for _ in range(r.choice((1, 1, 2))):
        for _ in range(r.randrange(2)):
            w.gadget()
        r.choices((w.differ, w.three_ways, w.relate), (6, 2, 6 if theme == "unknown" else 1))[0]()
    if w.chance(0.3):
        w.gadget()
    if "page_fault" in handler.counts:
        w.hole()
    w.leave()
    if nested:
        w.emit("nested:")
        if w.chance(0.5):
            w.gadget()
        w.level()
        w.emit("iretq")
    handler.program = "nmi:\n" + "\n".join(w.lines) + "\nbad: jmp bad\n" + _others(w)
    handler.model = _model(w, handler)
    found = _properties(w)
    most = [name for name in THEMES[theme].properties if name in found]
    drawn = [*r.sample(most, min(2, len(most))), *r.sample(list(found), 3)]
    handler.properties = {name: found[name] for name in ["bad", *drawn][:3]}
    return handler


def _others(w: Writer) -> str:
    touch = w.pick(*w.touches())
    odd = w.pick("", "", "", "", "xorl %ecx,%ecx\n", "orq $1,16(%rsp)\n", "btrq $9,16(%rsp)\n")
    fix = w.pick("hlt", "movq 24(%rsp),%rax\nmovw $0x10,8(%rax)\niretq", "iretq")
    return (
        f"irq:\n{touch}{odd}iretq\npage_fault:\naddq $8,%rsp\n{odd}iretq\nmachine_check:\n{odd}iretq\n"
        f"gp:\nmovb $0,%gs:other\naddq $8,%rsp\n{fix}\n"
    )


def _model(w: Writer, handler: Handler) -> dict[str, object]:
    ist = w.chance(0.7)
    return {
        "events": handler.events(dict.fromkeys(handler.counts, "any")),
        "idt": {
            "irq": f"entry: irq, gate: {w.pick('interrupt', 'trap')}",
            "page_fault": "entry: page_fault, gate: interrupt",
            "machine_check": "entry: machine_check, gate: interrupt",
            "general_protection": "entry: gp, gate: interrupt",
            **w.hidden,
        },
        "holes": w.holes,
        "calls": w.calls,
        "interrupted": w.pick("user: {gs: kernel}", "kernel", "user: {gs: kernel}, kernel") if ist else "kernel",
        "gate": w.pick("interrupt", "interrupt", "trap"),
        "ist": ist,
    }


def _properties(w: Writer) -> dict[str, str]:
    places = ["nmi_exit", "bad", "irq", *w.places]
    conditions = (
        "%gs:word == 0",
        "%gs:word != %gs:second",
        "%gs:flag == 0 or %gs:other == 0",
        "rax == rcx",
        "if == 0",
        "zf == 0",
        "rcx == interrupted.rcx",
        "qword -8(%rsp) == 1",
        "rsp >= nmi_ist.top - 40",
        f"count({w.pick(*w.events)}) == 1",
    )
    last = list(w.events)[-1]
    found = {
        "restored": "that: 'restored(rip, cs, rflags, rsp, ss, rax, rcx, rdx)'",
        "some": f"that: 'restored({w.pick('rip', 'rsp', 'if', 'cf', 'df', 'rcx', 'rdx', 'memory')})'",
        "intact": "that: intact(frame)",
        "rest": "that: at_rest",
        "progress": "that: progress",
        "bad": "that: unreachable(bad)",
        "reached": f"that: unreachable({w.pick(*places, last if last == 'irq' else 'bad')})",
        "here": f"that: '{w.pick(*conditions)}', at: {w.pick(*places)}",
        "always": f"that: '{w.pick(*conditions[:3], 'count(nmi) < 2', 'nmi_blocked == 1 or cpl == 0')}'",
        "at_return": f"that: '{w.pick(*conditions)}', at: outermost-return",
        "counted": f"that: 'count({last}) {w.pick('== 0', '< 2')}', at: outermost-return",
        "handled": f"that: 'handled({w.pick(*w.events)}, {w.pick(*places)})'",
    }
    if w.events != _ONE:
        found["resumed"] = f"that: 'resumed({w.pick('registers, flags', 'flags', 'rcx', 'if', 'cf, rax')})'"
    if w.chance(0.3):
        found["frame"] = "that: intact(frame at nmi_ist.top - 40), at: nmi_exit"
    return found
