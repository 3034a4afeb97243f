"""Random assembly texts that GNU as takes: sections, labels, jumps, macros, repeats, conditionals, expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from random_parts import COMMENTS, comma, expression, instruction, integers, spread, strings

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

CONSTANTS = ("K0", "K1", "K2", "k_3", "K$4")
FUTURE = ("forward", "forward_small", "forward_minus")
SHORT = ("loop", "jrcxz", "loopne", "jecxz")
JUMPS = ("jmp", "je", "jne", "jnae", "jg", "js", "call", "jmp", "jno", "callq")
SECTIONS = (
    ".text", ".text", ".text", ".data", ".bss", '.section .rodata', '.section .rodata,"a"',
    '.section .entry.text,"ax"', '.section ".entry.text", "ax", @progbits', ".section .data.x",
    '.section .fixup,"ax",%progbits', '.section .noted,"aw",@nobits', ".section .text.cold",
)  # fmt: skip
DATA_SECTIONS = (".data", ".section .rodata", '.section .meta,"aw"', ".section .data.x", '.section .tab,"a",@progbits')
NO_EFFECT = (
    ".globl start", ".global L0", ".local L1", ".hidden start", '.ident "x"', ".type start,@function",
    ".type L0, %object", ".size start, .-start", ".cfi_sections .debug_frame", '.file "a.c"', ".extern nobody",
    ".type start STT_FUNC", ".code64", ".att_syntax", ".weak L2",
)  # fmt: skip


class Writer:
    """Writes one program. ``names`` are constants with a value by now; ``labels`` must all be placed once."""

    def __init__(self, random: Random, size: int) -> None:
        self.random = random
        self.lines: list[str] = []
        self.names: tuple[str, ...] = ()
        self.labels = [f"L{i}" for i in range(random.randint(2, 6))]
        self.unplaced = list(self.labels)
        self.macros: list[Callable[[], str]] = []
        self.count = 0
        self.size = size

    def text(self) -> str:
        """The whole program, ending in a newline."""
        self.lines += ["start:", "nop"]
        for _ in range(self.size):
            self.piece()
        self.lines.append(".text")
        for label in self.unplaced:
            self.lines.append(f"{label}: ret")
        self.lines += ["1: 2: 3:", "end:"]
        self.lines += [".set forward,0x1234", "forward_small = 8", ".equ forward_minus, -2"]
        return "\n".join(self.dressed()) + "\n"

    def piece(self) -> None:
        kinds = (
            (self.code, 8), (self.jump, 5), (self.data, 3), (self.constant, 3), (self.label, 4), (self.macro, 2),
            (self.call, 4), (self.repeat, 3), (self.conditional, 3), (self.align, 3), (self.elsewhere, 3),
            (self.short, 1), (self.space, 2), (self.nothing, 1), (self.differences, 2),
        )  # fmt: skip
        write, *_ = self.random.choices([k for k, _ in kinds], [w for _, w in kinds])
        write()

    # --- pieces that stand in executable sections ---

    def code(self) -> None:
        self.lines.append(spread(self.random, instruction(self.random)))

    def jump(self) -> None:
        target = self.random.choice((*self.labels, *self.labels, "1f", "2f", "3f", "start", ".", "end"))
        offset = self.random.choice(("", "", "", "+1", " - 2", "+(2*3)", f"+(({self.number()})&3)"))
        self.lines.append(f"{self.random.choice(JUMPS)} {target}{offset}")

    def short(self) -> None:
        number = self.random.randint(4, 12)
        self.lines += [f"{number}: nop", f"{self.random.choice(SHORT)} {number}b"]
        if self.random.random() < 0.5:
            self.lines += [f"jmp {number}f", "ret", f"{number}:"]

    def label(self) -> None:
        if self.unplaced and self.random.random() < 0.6:
            self.lines.append(self.unplaced.pop() + self.random.choice((":", ": ", " :", ": nop")))
        else:
            self.lines.append(f"{self.random.randint(1, 3)}:{self.random.choice(('', ' nop', ' ret'))}")

    def differences(self) -> None:
        """Distances between labels: known at once, or only when jumps have their sizes."""
        first = self.random.choice(self.labels)
        self.lines += self.random.choice((
            [f"20: {instruction(self.random)}", "21:", f".long 21b-20b, {first}-."],
            [f"20: jmp {first}", "21:", ".long 21b-20b", "movl $(21b-20b)*2,%eax"],
            [f".quad {first}", f"lea {first}(%rip),%rax", f"movq ${first},%rcx"],
            ["20: nop; nop", ".if . - 20b == 2", "hlt", ".else", "ret", ".endif"],
            [f"movl $ {first}-start, %ecx", f"cmpl $end-{first},8(%rax)"],
            ["30:", f".skip ({self.number()}) & 3", "31: .byte 31b-30b"],
            ["40: nop", f"41: jmp {first}", "42:", ".skip (42b-41b)*2-3,0x90"],
        ))  # fmt: skip

    # --- pieces for any section ---

    def data(self) -> None:
        write = self.random.choice((integers, integers, integers, strings))
        self.lines.append(write(self.random, self.names) if write is integers else strings(self.random))

    def space(self) -> None:
        few, size = self.random.randint(0, 9), self.random.choice((0, 1, 2, 3, 4, 7, 8, 9))
        self.lines.append(self.random.choice((
            f".skip {few}", f".space {few},({self.number()})&0x7f", f".zero {few}",
            f".fill {few},{size},{self.number()}",
            f".fill {few},{size}", f".fill {few}", f".skip {self.random.randint(60, 140)}",
            f".org . + {few}", f".org .+{few}, 0x1f", f". = . + {few}",
            f".lcomm c{self.serial()},{few + 1}", f".skip {few},'x'",
        )))  # fmt: skip

    def align(self) -> None:
        power, limit = self.random.randint(0, 6), self.random.randint(0, 20)
        fill = self.random.choice(("", "", "0", "0x90", "0xcc", "-1", "K0&0x7f" if "K0" in self.names else "1"))
        directive = self.random.choice((".p2align {0}", ".balign {1}", ".align {1}", ".p2align {0}"))
        rest = self.random.choice(("", f",{fill}", f",{fill},{limit}", f" , {fill} , {limit}"))
        self.lines.append(directive.format(power, 1 << power) + (rest if rest.strip(" ,") else ""))

    def constant(self) -> None:
        name = self.random.choice(CONSTANTS)
        value = expression(self.random, self.names)
        form = self.random.choice((".set {}, {}", ".equ {},{}", "{} = {}", "{}={}"))
        self.lines.append(form.format(name, value))
        self.names = tuple(dict.fromkeys((*self.names, name)))

    def nothing(self) -> None:
        self.lines.append(self.random.choice(NO_EFFECT))

    def elsewhere(self) -> None:
        """Data in another section, and back: by name, by ``.previous``, by a stack, by subsections."""
        section = self.random.choice(DATA_SECTIONS)
        back = self.random.choice((".text", ".previous", ".popsection"))
        if back == ".popsection":
            section = f".pushsection {section.removeprefix('.section ')}"
        self.lines.append(section)
        for _ in range(self.random.randint(0, 3)):
            self.random.choice((self.data, self.data, self.space, self.align, self.constant))()
        self.lines.append(back)

    # --- control ---

    def repeat(self) -> None:
        opening, uses = self.random.choice((
            (f".rept {self.random.randint(0, 4)}", ""),
            (f".rept ({self.number()})&3", ""),
            (f".irp v,{self.items()}", "v"),
            (f".irp v {self.items()}", "v"),
            (f".irpc v,{self.random.choice(('123', '0', '', ' 4 5', '78'))}", "v"),
        ))  # fmt: skip
        self.lines.append(opening)
        self.body(uses)
        self.lines.append(".endr")

    def items(self) -> str:
        values = [self.random.choice(("1", "2+3", "K0" if "K0" in self.names else "4", "(5)", '"6"', "7 + 1"))
                  for _ in range(self.random.randint(0, 4))]  # fmt: skip
        return comma(self.random).join(values)

    def body(self, *parameters: str) -> None:
        """One to three lines that use the parameters as numbers."""
        for _ in range(self.random.randint(1, 3)):
            use = "\\" + self.random.choice(parameters) if parameters and parameters[0] else "9"
            self.lines.append(self.random.choice((
                f".byte {use}+0", f".ascii \"{use}\"", f"movl $1+{use}+0,%ecx",
                f".long {use}+0, 1", "nop", f".if {use}+0 > 3", f".skip ({use}+0)&7", f"lea ({use}+0)*2(%rax),%rdx",
            )))  # fmt: skip
            if self.lines[-1].startswith(".if "):
                self.lines += ["nop", self.random.choice((".else", ".elseif 1")), "ret", ".endif"]

    def conditional(self) -> None:
        opening = self.random.choice((
            f".if {self.number()}", f".if {self.number()} {self.random.choice(('<', '==', '>=', '!='))} 3",
            f".ifdef {self.random.choice((*CONSTANTS, 'start', 'nobody'))}",
            f".ifndef {self.random.choice((*CONSTANTS, 'end', 'forward'))}",
            f".ifnotdef {self.random.choice(CONSTANTS)}",
            f".ifc {self.random.choice(('a,a', 'a b , a b', 'a,b', ',', 'a,'))}", ".ifnc x,y",
            f".ifb {self.random.choice(('', 'x'))}", f".ifnb {self.random.choice(('', 'x'))}",
            '.ifeqs "a","a"', '.ifeqs "a","b"', '.ifnes "a","a"',
            f".ifeq {self.number()}", f".ifne {self.number()}", f".ifgt {self.number()}", f".ifge {self.number()}",
            f".iflt {self.number()}", f".ifle {self.number()}",
        ))  # fmt: skip
        self.lines.append(opening)
        self.line()
        if self.random.random() < 0.3:
            self.lines.append(f".elseif {self.number()}")
            self.line()
        if self.random.random() < 0.5:
            self.lines.append(".else")
            self.line()
        if self.random.random() < 0.2:
            self.conditional()
        self.lines.append(".endif")

    def line(self) -> None:
        self.random.choice((self.code, self.data, self.jump, self.space))()

    def macro(self) -> None:
        """A macro of one of several shapes, and how it is called."""
        name, random = f"m{self.serial()}", self.random
        shape = random.choice((self.plain_macro, self.vararg_macro, self.recursive_macro, self.nested_macro,
                               self.operand_macro, self.label_macro))  # fmt: skip
        self.macros.append(shape(name))
        if random.random() < 0.1:
            self.macros.pop()
            self.lines += [f".purgem {name}", f".macro {name} x=1 y z", ".byte \\x+0", ".endm"]

    def plain_macro(self, name: str) -> Callable[[], str]:
        head = self.random.choice(("{} a, b=5, c=0", "{} a b=5 c", "{} a:req, b = 5, c=(1+2)", "{}, a, b=5, c"))
        self.lines.append(".macro " + head.format(name))
        self.body("a", "b", "c")
        self.lines.append(self.random.choice((".endm", ".endm", f".endm {name}"[:5])))
        return lambda: self.filled(name, (
            "{},{}", "{}", "{} {} {}", "b={}, a={}", "a={}", "{},,{}", "( {} )&7", "{} , c={}"))  # fmt: skip

    def vararg_macro(self, name: str) -> Callable[[], str]:
        use = self.random.choice((f"{name} \\rest", ".byte \\rest", '.ascii "\\rest"'))
        self.lines += [f".macro {name} first, rest:vararg", ".byte \\first", ".ifnb \\rest", use, ".endif", ".endm"]
        return lambda: self.filled(name, ("{}", "{},{}", "{}, {} ,{}", "{},{},{},{}"))

    def recursive_macro(self, name: str) -> Callable[[], str]:
        stop = self.random.choice(([".if \\n", f"{name} \\n-1", ".endif"],
                                   [".if \\n == 0", ".exitm", ".endif", f"{name} (\\n - 1)"]))  # fmt: skip
        self.lines += [f".macro {name} n", ".byte (\\n)&0x7f, \\@ & 0x7f", *stop, ".endm"]
        return lambda: f"{name} {self.random.randint(0, 4)}"

    def nested_macro(self, name: str) -> Callable[[], str]:
        inner = f"{name}i\\x"
        self.lines += [f".macro {name} x y=3", f".ifndef done_{name}\\x", f"done_{name}\\x = 1", f".macro {inner} z",
                       ".byte \\x+\\z", ".endm", ".endif", f"{inner} \\y", ".endm"]  # fmt: skip
        return lambda: f"{name} {self.random.randint(0, 9)} {self.random.randint(0, 9)}"

    def operand_macro(self, name: str) -> Callable[[], str]:
        self.lines += [f".macro {name} op:req from to=%rax", "\\op \\from, \\to", ".endm"]
        operands = ("%rbx", "%rcx %rdx", "8(%rsp)", "$5", "$1+2, %rsi", "-8(%rbp,%rax,2) %r9")
        operations = ("mov", "add", "cmpq", "xorq")
        return lambda: f"{name} {self.random.choice(operations)} {self.random.choice(operands)}"

    def label_macro(self, name: str) -> Callable[[], str]:
        self.lines += [f".macro {name} x", f".L{name}\\@\\x: jmp .L{name}\\@\\x", f"{name}_\\x\\()_\\@: nop",
                       f"jmp {name}_\\x\\()_\\@", ".endm"]  # fmt: skip
        return lambda: f"{name} {self.random.choice(('a', 'b', '1'))}"

    def call(self) -> None:
        if self.macros:
            self.lines.append(self.random.choice(self.macros)())
        else:
            self.macro()

    def filled(self, name: str, forms: tuple[str, ...]) -> str:
        """A call with small numbers in the places of one of the forms."""
        form = self.random.choice(forms)
        return f"{name} {form.format(*(self.small() for _ in range(form.count('{}'))))}"

    # --- small things ---

    def serial(self) -> int:
        self.count += 1
        return self.count

    def number(self) -> str:
        return expression(self.random, self.names, 2)

    def small(self) -> str:
        return self.random.choice(("1", "2", "0x3", "4+1", "(2 * 3)", "K0" if "K0" in self.names else "6", "-7"))

    def dressed(self) -> list[str]:
        """The lines with comments, blanks, and several statements on a line."""
        dressed: list[str] = []
        for line in self.lines:
            roll = self.random.random()
            if line.lstrip().startswith("#"):
                dressed.append(line)
            elif roll < 0.1 and '"' not in line:
                dressed.append(f"{line} {self.random.choice(COMMENTS)}")
            elif roll < 0.13:
                dressed += [f"{self.random.choice(COMMENTS)}", line]
            elif roll < 0.15:
                dressed.append(f"/* a\n # b\n*/ {line}")
            elif roll < 0.22 and dressed and "#" not in dressed[-1] and "//" not in dressed[-1]:
                dressed[-1] += self.random.choice((";", " ; ", ";;")) + line
            else:
                dressed.append(line)
        return dressed
