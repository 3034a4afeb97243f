"""Random ``.S`` texts: the programs of `random_programs` behind definitions, conditionals, includes, continuations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from random_parts import BLANKS
from random_programs import Writer

if TYPE_CHECKING:
    from random import Random

#: What ``#include "inc.h"`` brings: a guard, macros of both processors.
HEADER = """\
#ifndef INC_H
#define INC_H /* once */
#define INCLUDED(x) ((x) & 0xf) // low
# define PAIR(a, b) a, b
#define REGISTER(name) %r ## name
#define BOTH(first, ...) .byte first ; .byte __VA_ARGS__
\t#define TEXT(x) #x
.macro included a
.byte \\a
.endm
#endif
"""
_C_BINARY = ("*", "/", "%", "+", "-", "<<", ">>", "<", ">", "<=", ">=", "==", "!=", "&", "^", "|", "&&", "||")
_C_NUMBERS = ("0", "1", "2u", "3L", "0x10", "017", "7UL", "0xffffffffffffffff", "'a'", "255", "0b11", "64", "-1")


class PreprocessedWriter(Writer):
    """``defined`` are the object-like macros of numbers by now."""

    def __init__(self, random: Random, size: int) -> None:
        super().__init__(random, size)
        self.lines.append('#include "inc.h"')
        self.defined: dict[str, None] = {}

    def piece(self) -> None:
        write, *_ = self.random.choices(
            (super().piece, self.define, self.function, self.undefine, self.choice, self.use), (12, 2, 1, 1, 2, 3)
        )
        write()

    def define(self) -> None:
        name = f"N{len(self.defined) + 10 * self.random.randint(1, 9)}"
        if name in self.defined:
            return
        body = self.random.choice(("3", "(1 + 2)", "0x1f", "INCLUDED(5)", "2 /* two */ + 1", "7 // seven", "'b'",
                                   "( \\\n  4 )", *(f"({other} | 1)" for other in self.defined)))  # fmt: skip
        self.lines.append(f"{self.random.choice(('#define', '# define', '  #define', '#  define'))} {name} {body}")
        self.defined[name] = None
        self.names = (*self.names, name)

    def function(self) -> None:
        name = f"F{self.serial()}"
        body = self.random.choice(("(x)", "((x) + 1)", "(x*x)", "INCLUDED(x)", "(-x)"))
        self.lines.append(f"#define {name}(x) {body}")
        self.names = (*self.names, f"{name}({self.random.choice(('1', ' 2 ', '(1)', '5'))})")

    def undefine(self) -> None:
        if self.defined and self.random.random() < 0.5:
            name = self.random.choice(list(self.defined))
            self.lines += [f"#undef {name}", f"#ifdef {name}", "foo", "#endif", f"{name} = 5"]
            del self.defined[name]
        else:
            self.lines.append("#undef nobody")

    def choice(self) -> None:
        """``#if`` and its kin around a line each."""
        name = self.random.choice((*self.defined, "nobody", "__x86_64__"))
        self.lines.append(self.random.choice((
            f"#if {self.condition()}", f"#if {self.condition()}", f"#ifdef {name}", f"#ifndef {name}",
            f"#if defined {name} && !defined(nobody)", f"# if {self.condition()} /* c */",
        )))  # fmt: skip
        self.line()
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.lines.append(f"#elif {self.condition()}")
            self.line()
        if self.random.random() < 0.5:
            self.lines.append(self.random.choice(("#else", "# else", "#else // c")))
            self.line()
        self.lines.append("#endif")

    def condition(self, depth: int = 3) -> str:
        roll = self.random.random()
        if depth == 0 or roll < 0.2:
            return self.random.choice((*_C_NUMBERS, *self.defined, "nobody", "INCLUDED(21)"))
        if roll < 0.35:
            return self.random.choice(("-", "~", "!", "+", "- ")) + " " + self.condition(depth - 1)
        if roll < 0.5:
            return f"({self.condition(depth - 1)})"
        if roll < 0.55:
            parts = [self.condition(depth - 1) for _ in range(3)]
            return f"({parts[0]} ? {parts[1]} : {parts[2]})"
        operator = self.random.choice(_C_BINARY)
        left, right = self.condition(depth - 1), self.condition(depth - 1)
        if operator in "/%":
            right = f"(({right}) | 1)"
        if operator in ("<<", ">>"):
            right = f"(({right}) & 31)"
        return f"{left} {operator}{self.random.choice(BLANKS)} {right}"

    def use(self) -> None:
        """Lines that only the preprocessor's macros make into assembly."""
        number = self.random.choice((*self.defined, "4", "INCLUDED(9)"))
        self.lines.append(self.random.choice((
            f".byte PAIR({number}, 2)", f"mov REGISTER(ax), {number}(REGISTER(bx))", f"BOTH(1, 2, {number})",
            f".ascii TEXT(a {number} \"q\")", f".asciz TEXT({number}), TEXT( x  y )", f"included {number}",
            "mov PAIR(%rax,%rcx)", f"push ${number}",
            "BOTH( 1 , 2 , (3) ) ; BOTH(4,5)", ".byte PAIR(PAIR(1, 2), PAIR(3,4))", "lea PAIR (8(%rax), %rdx)",
        )))  # fmt: skip

    def dressed(self) -> list[str]:
        """Also lines that go on after a backslash."""
        return [self.continued(line.removesuffix("\\")) for line in super().dressed()]

    def continued(self, line: str) -> str:
        parts = line.split(", ")
        if self.random.random() > 0.1 or len(parts) < 2 or any(c in line for c in "\"'#\\\n"):
            return line
        return ", \\\n".join(parts)
