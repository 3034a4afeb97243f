"""Function-level SSA: along random walks every name holds the very value that its cell holds."""

from __future__ import annotations

from random import Random

import pytest
from ir_blocks import clear, copy, end, load, make, random_blocks, store

from verifier.ir import Builder, build, check_block, check_function, to_ssa
from verifier.ir.effects import MSR_CELLS, defines, may_skip, uses
from verifier.ir.liveness import live_cells


def _walk(function, random: Random, steps: int) -> int:  # type: ignore[no-untyped-def]
    """Follow one random path with a token for every value; count the names that were compared."""
    tokens = iter(range(10**9))
    cells: dict[str, int] = {}
    names: dict[object, int] = {}
    came_from, at, compared = None, random.choice(function.cfg.roots), 0
    for _ in range(steps):
        block, basic = function.blocks[at], function.cfg.blocks[at]
        if came_from is None:
            cells = {name.base: next(tokens) for name in block.inputs}
            names = {name: cells[name.base] for name in block.inputs}
        arriving = [(phi.result, names[dict(phi.args)[came_from]]) for phi in block.phis]
        names.update(arriving)
        for instruction in block.instructions:
            before = dict(cells)
            for step in instruction.steps:
                for name in step.uses:
                    held = before if step.operation.opcode in ("get", "put") else cells
                    assert names[name] == held[name.base], name
                    compared += 1
                for name in step.defines:
                    cells[name.base] = names[name] = next(tokens)
                if step.operation.opcode == "put" and not step.defines:
                    cells[step.operation.attr] = next(tokens)
        for base, name in block.out.items():
            assert names[name] == cells[base], name
        came_from, at = (at, random.choice(basic.successors)) if basic.successors else (None, None)
        if at is None:
            at = random.choice(function.cfg.roots)
    return compared


@pytest.mark.parametrize("seed", range(80))
def test_names_hold_what_the_cells_hold(seed: int) -> None:
    random = Random(seed)
    blocks = random_blocks(random, 9, skips=seed % 4 == 0)
    for block in blocks.values():
        check_block(block)
    function = to_ssa(build(blocks, sorted({0, random.randrange(9)})))
    check_function(function)
    for _ in range(5):
        _walk(function, random, 30)


@pytest.mark.parametrize("seed", range(40))
def test_phis_are_needed(seed: int) -> None:
    """A phi's arguments differ, and its cell is live where it stands."""
    cfg = build(random_blocks(Random(seed), 9), [0])
    live = live_cells(cfg, strong=False)
    for address, block in to_ssa(cfg).blocks.items():
        for phi in block.phis:
            assert phi.result.base in live[address] | {"mem"}
            assert len(phi.args) > 1


def test_a_walk_compares_something() -> None:
    blocks = {0: make(0, copy("rax", "rbx")), 1: make(1, copy("rbx", "rax"), end("jump", 0))}
    assert _walk(to_ssa(build(blocks, [0])), Random(0), 10) > 10


def test_reads_are_of_the_state_before_the_instruction() -> None:
    """xchg: both gets see the old names, although a put stands between them."""
    blocks = {0: make(0, copy("rax", "rbx"), copy("rbx", "rax"), end("iret", 64))}
    steps = to_ssa(build(blocks, [0])).blocks[0].steps()
    assert [str(n) for s in steps for n in (*s.uses, *s.defines)] == ["rax.0", "rbx.1", "rbx.0", "rax.1"]


def test_the_last_put_wins() -> None:
    blocks = {0: make(0, clear("rax"), copy("rbx", "rax"), end("iret", 64))}
    steps = to_ssa(build(blocks, [0])).blocks[0].steps()
    assert [str(n) for s in steps for n in s.defines] == ["rax.0"]


def test_memory_is_threaded_through_stores() -> None:
    blocks = {0: make(0, store(0), load(0), store(8)), 1: make(1, load(8), end("iret", 64))}
    steps = to_ssa(build(blocks, [0])).blocks[0].steps()
    seen = [
        (s.operation.opcode, *map(str, (*s.uses, *s.defines)))
        for s in steps
        if s.operation.opcode in ("load", "store")
    ]
    assert seen == [
        ("store", "mem.0", "mem.1"),
        ("load", "mem.1"),
        ("store", "mem.1", "mem.2"),
        ("load", "mem.2"),
    ]


def test_wrmsr_may_change_the_bases() -> None:
    def write(b: Builder) -> None:
        index = b.const(0xC000_0101, 32)
        b.wrmsr(index, b.rdmsr(index))

    block = make(0, write, end("iret", 64))
    read, written = block.operations[-2], block.operations[-1]
    assert set(uses(read)) == set(uses(written)) == set(defines(written)) == {"msr", *MSR_CELLS}
    assert [str(n) for n in to_ssa(build({0: block}, [0])).blocks[0].out.values()] == [
        "fs_base.1",
        "gs_base.1",
        "kernel_gs_base.1",
        "msr.1",
    ]


def test_code_that_is_not_followed_makes_every_name_new() -> None:
    """After a call nothing is known of rax, although nothing here writes it."""
    blocks = {
        0: make(0, copy("rax", "rbx"), end("jump", 9), text="call f"),
        1: make(1, copy("rax", "rbx"), end("iret", 64)),
    }
    function = to_ssa(build(blocks, [0]))
    assert str(function.blocks[0].out["rax"]) == "rax.0"
    assert str(function.blocks[1].out["rax"]) == "rax.1"


def test_a_skipped_put_stands_for_the_old_value() -> None:
    def repeated(b: Builder) -> None:
        b.skip_if(b.get("zf"))
        b.put("rax", b.const(0, 64))

    block = make(0, repeated)
    assert may_skip(block)
    function = to_ssa(build({0: block, 1: make(1, end("iret", 64))}, [0]))
    put = function.blocks[0].steps()[-1]
    assert [str(n) for n in (*put.uses, *put.defines)] == ["rax.0", "rax.1"]
