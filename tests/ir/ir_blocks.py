"""Small hand-made instructions and blocks, and random graphs of them, for the tests of ``verifier.ir``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Instruction, Program, Section, Symbol
from verifier.ir import Access, Block, Builder
from verifier.source import Span

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

CELLS_USED = ("rax", "rbx", "zf")


def instruction(address: int, text: str = "op", mnemonic: str | None = None, length: int = 1) -> Instruction:
    span = Span("a.s", address % 1000 + 1, 1, len(text) + 1, text)
    return Instruction(address, bytes(length), mnemonic or text.split(maxsplit=1)[0], (), 64, text, span)


def make(address: int, *writes: Callable[[Builder], None], text: str = "op", **more: object) -> Block:
    """One instruction whose block the functions write, in order."""
    builder = Builder(instruction(address, text, **more))  # type: ignore[arg-type]
    for write in writes:
        write(builder)
    return builder.build()


def laid_out(blocks: dict[int, Block], base: int = 0, **labels: int) -> Program:
    """A `Program` around the blocks, with these labels."""
    size = max(b.instruction.next_address for b in blocks.values()) - base
    symbols = {name: Symbol(name, value, ".text", None) for name, value in labels.items()}
    section = Section(".text", base, bytes(size), executable=True, writable=False)
    return Program({a: b.instruction for a, b in blocks.items()}, symbols, (section,))


# What instructions do, as functions that write to a builder.


def end(opcode: str, attr: int | None = None) -> Callable[[Builder], None]:
    """``branch`` tests zf, ``jump_indirect`` goes where rbx says."""

    def write(b: Builder) -> None:
        args = {"branch": ("zf",), "jump_indirect": ("rbx",)}.get(opcode, ())
        b.end(opcode, *(b.get(a) for a in args), attr=attr)

    return write


def copy(source: str, target: str) -> Callable[[Builder], None]:
    """Set ``target`` from ``source``, a test for zero where their widths differ that way."""

    def write(b: Builder) -> None:
        value = b.get(source)
        if source != "zf" and target == "zf":
            value = b.binary("eq", value, b.const(0, 64))
        elif source == "zf" and target != "zf":
            value = b.zext(value, 64)
        b.put(target, value)

    return write


def clear(cell: str) -> Callable[[Builder], None]:
    return lambda b: b.put(cell, b.const(0, 1 if cell == "zf" else 64))


def add_rsp(amount: int) -> Callable[[Builder], None]:
    return lambda b: b.put("rsp", b.binary("add", b.get("rsp"), b.const(amount, 64)))


def store(offset: int, width: int = 64) -> Callable[[Builder], None]:
    def write(b: Builder) -> None:
        address = b.binary("add", b.get("rsp"), b.const(offset, 64))
        b.store(address, b.const(7, width), Access(stack=True))

    return write


def load(offset: int, target: str = "rax") -> Callable[[Builder], None]:
    def write(b: Builder) -> None:
        address = b.binary("sub", b.get("rsp"), b.const(-offset, 64))
        b.put(target, b.load(address, 64, Access(stack=True)))

    return write


def skip(b: Builder) -> None:
    """Nothing at all if zf is set, like REP with a count of 0."""
    b.skip_if(b.get("zf"))


def load_at(cell: str, segment: str | None = None) -> Callable[[Builder], None]:
    return lambda b: b.put("rax", b.load(b.get(cell), 64, Access(segment=segment)))


def random_blocks(random: Random, count: int, skips: bool = False) -> dict[int, Block]:
    """``count`` one-byte instructions, each doing a thing or two and then going somewhere, maybe outside."""
    blocks = {}
    for a in range(count):
        first = [skip] if skips and random.random() < 0.3 else []
        blocks[a] = make(a, *first, *_random_writes(random), _random_end(random, count))
    return blocks


def _random_writes(random: Random) -> list[Callable[[Builder], None]]:
    def one() -> Callable[[Builder], None]:
        cell, other = random.choice(CELLS_USED), random.choice(CELLS_USED)
        offset = random.choice((-16, -12, -8, 0, 4, 8))
        return random.choice(
            (
                copy(cell, other),
                copy(cell, other),
                clear(cell),
                clear(cell),
                add_rsp(random.choice((-8, 8, 4))),
                store(offset, random.choice((8, 32, 64))),
                store(offset),
                load(offset),
                load_at("rbx") if random.random() < 0.3 else clear("rax"),
                copy("rax", "rsp") if random.random() < 0.2 else store(offset),
            )
        )

    return [one() for _ in range(random.randrange(3))]


def _random_end(random: Random, count: int) -> Callable[[Builder], None]:
    target = random.randrange(count + 1)
    kinds = [end("next")] * 4 + [end("jump", target)] * 2 + [end("branch", target)] * 4
    rare = [end("iret", 64), end("jump_indirect"), end("hole_body"), end("jump", target)]
    return random.choice([*kinds, random.choice(rare)])
