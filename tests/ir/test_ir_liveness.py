"""Liveness of cells and words: by hand, and against paths followed forwards on random graphs."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from ir_blocks import CELLS_USED, add_rsp, clear, copy, end, load, load_at, make, random_blocks, store

from verifier.ir import Block, Builder, build, liveness
from verifier.ir.effects import may_skip
from verifier.ir.liveness import ALL, OVERWRITTEN, SAVED, live_cells
from verifier.ir.words import WINDOW, StackEffect, stack_effect

if TYPE_CHECKING:
    from collections.abc import Callable


def _spread(block: Block, tainted: frozenset[str]) -> frozenset[str] | None:
    """Run one block with some cells tainted: the cells tainted after it, or None if the taint showed."""
    values: list[bool] = []
    after = set(tainted)
    for operation in block:
        dirty = any(values[a.index] for a in operation.args)
        if operation.opcode in ("load", "store", "skip_if") and dirty:
            return None
        if operation.opcode == "put":
            (after.add if dirty else after.discard)(operation.attr)
        if operation.result is not None:
            values.append(operation.attr in tainted if operation.opcode == "get" else dirty)
    if any(values[a.index] for a in block.terminator.args):
        return None
    return frozenset(after)


def _ways(blocks: dict[int, Block], address: int) -> tuple[list[int], bool]:
    """Where control goes from an instruction, and whether it may leave."""
    kind, target = blocks[address].terminator.opcode, blocks[address].terminator.attr
    goes = {"next": [address + 1], "jump": [target], "branch": [target, address + 1]}.get(kind)
    if goes is None:
        return [], True
    return [a for a in goes if a in blocks], any(a not in blocks for a in goes)


def _shows(blocks: dict[int, Block], address: int, cell: str) -> bool:
    """Whether on some path from the address a change of the cell can be noticed."""
    seen = set()
    todo = [(address, frozenset((cell,)))]
    while todo:
        state = todo.pop()
        if state in seen or not state[1]:
            continue
        seen.add(state)
        at, tainted = state
        after = _spread(blocks[at], tainted)
        if after is None:
            return True
        ways, leaves = _ways(blocks, at)
        if leaves and after - OVERWRITTEN.get(blocks[at].terminator.opcode, frozenset()):
            return True
        todo += [(way, after) for way in ways]
        if may_skip(blocks[at]):
            if at + 1 not in blocks:
                return True
            todo.append((at + 1, tainted))
    return False


@pytest.mark.parametrize("seed", range(150))
def test_cells_against_taint_on_every_path(seed: int) -> None:
    blocks = random_blocks(Random(seed), 8)
    live = liveness(build(blocks, range(8)))
    for address in blocks:
        for cell in CELLS_USED:
            assert (cell in live.before(address)) == _shows(blocks, address, cell), (address, cell)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_that_shows_is_dead_where_instructions_may_be_skipped(seed: int) -> None:
    blocks = random_blocks(Random(seed), 8, skips=True)
    live = liveness(build(blocks, range(8)))
    effects = {a: stack_effect(b) for a, b in blocks.items()}
    for address in blocks:
        for cell in CELLS_USED:
            assert cell in live.before(address) or not _shows(blocks, address, cell), (address, cell)
        for offset in range(-20, 20):
            assert not (live.is_dead(address, offset, 1) and _is_read(blocks, effects, address, offset))


def _is_read(blocks: dict[int, Block], effects: dict[int, StackEffect], address: int, offset: int) -> bool:
    """Whether on some path the byte at RSP + offset may be read before it is overwritten."""
    seen = set()
    todo = [(address, offset)]
    while todo:
        at, where = todo.pop()
        if (at, where) in seen:
            continue
        seen.add((at, where))
        if not -WINDOW <= where < WINDOW:
            return True
        effect = effects[at]
        if may_skip(blocks[at]) and at + 1 not in blocks:
            return True
        todo += [(at + 1, where)] if may_skip(blocks[at]) else []
        for access in effect.accesses:
            hit = access.offset is None or access.offset <= where < access.offset + access.size
            if hit and not access.is_store:
                return True
            if hit and access.offset is not None:
                break
        else:
            ways, leaves = _ways(blocks, at)
            if leaves or effect.shift is None:
                return True
            todo += [(way, where - effect.shift) for way in ways]
    return False


@pytest.mark.parametrize("seed", range(100))
def test_words_against_every_path(seed: int) -> None:
    blocks = random_blocks(Random(1000 + seed), 7)
    live = liveness(build(blocks, range(7)))
    effects = {a: stack_effect(b) for a, b in blocks.items()}
    for address in blocks:
        for offset in range(-20, 20):
            assert live.is_dead(address, offset, 1) != _is_read(blocks, effects, address, offset), (
                address,
                offset,
            )


IRET = end("iret", 64)


def _straight(*steps, last=IRET):  # type: ignore[no-untyped-def]
    blocks = {a: make(a, step) for a, step in enumerate(steps)}
    blocks[len(steps)] = make(len(steps), last)
    return build(blocks, [0])


def test_everything_is_live_at_an_exit_but_what_it_overwrites() -> None:
    assert liveness(_straight(last=end("jump_indirect"))).before(0) == ALL
    assert liveness(_straight(last=end("hole_body"))).before(0) == ALL
    iret = liveness(_straight(last=end("iret", 64))).before(0)
    assert {"cf", "zf", "of", "df", "cs", "ss"}.isdisjoint(iret)
    assert {"rsp", "if", "iopl", "nt", "cpl", "gs_base", "rax", "inhibit"} <= iret
    syscall = liveness(_straight(last=end("syscall"))).before(0)
    assert {"rcx", "r11"}.isdisjoint(syscall)
    assert {"rsp", "zf", "gs_base"} <= syscall


def test_an_unknown_address_has_everything_live() -> None:
    live = liveness(_straight())
    assert live.before(99) == ALL
    assert live.dead_words(99) == ()


def test_a_loop_without_way_out_reads_nothing() -> None:
    live = liveness(build({0: make(0, end("jump", 0))}, [0]))
    assert live.before(0) == frozenset()
    assert live.is_dead(0, 0)


def test_boundaries_keep_what_delivery_reads() -> None:
    cfg = _straight(clear("zf"), clear("rax"))
    plain, events = liveness(cfg), liveness(cfg, boundaries=True)
    assert {"zf", "rax"}.isdisjoint(plain.before(0))
    for address in range(3):
        assert events.before(address) == plain.before(address) | SAVED


def test_a_read_that_ends_in_a_dead_cell_is_none() -> None:
    cfg = _straight(copy("rbx", "rax"), clear("rax"), clear("rbx"))
    assert "rbx" not in liveness(cfg).before(0)
    assert "rbx" in live_cells(cfg, strong=False)[0]


def test_an_access_depends_on_paging_and_protection() -> None:
    """STAC, an access, CLAC: AC matters to the access although no operation names it."""

    def set_ac(value: int) -> Callable[[Builder], None]:
        return lambda b: b.put("ac", b.const(value, 1))

    assert "ac" in liveness(_straight(load_at("rbx"), set_ac(0))).before(0)
    assert "ac" not in liveness(_straight(clear("rax"), set_ac(0))).before(0)


def test_a_partly_kept_flag_is_live() -> None:
    """What a shift by a variable count does: zf = count == 0 ? zf : new."""

    def shift(b: Builder) -> None:
        b.put("zf", b.ite(b.binary("eq", b.get("rcx"), b.const(0, 64)), b.get("zf"), b.const(1, 1)))

    live = liveness(_straight(shift, last=end("jump_indirect")))
    assert {"zf", "rcx"} <= live.before(0)
    cleared = liveness(_straight(shift, clear("zf"), clear("rcx"), last=end("jump_indirect")))
    assert {"zf", "rcx"}.isdisjoint(cleared.before(0))


@pytest.mark.parametrize(
    ("steps", "dead"),
    [
        ([store(-8)], (-8,)),
        ([load(-8), store(-8)], ()),
        ([store(-8), load(-8)], (-8,)),
        ([store(-8, 32)], ()),
        ([store(-8, 32), store(-4, 32)], (-8,)),
        ([add_rsp(-8), store(0)], (-8,)),
        ([add_rsp(-24), store(8), store(0), add_rsp(8)], (-24, -16)),
        ([load_at("rbx"), store(-8)], ()),
        ([load_at("rbx", "gs"), store(-8)], (-8,)),
        ([copy("rax", "rsp"), store(-8)], ()),
        ([store(16), copy("rax", "rsp")], (16,)),
        ([store(WINDOW)], ()),
        ([store(-(1 << 62))], ()),
        ([add_rsp(1 << 40), store(-(1 << 40))], ()),
    ],
)
def test_words(steps, dead) -> None:  # type: ignore[no-untyped-def]
    live = liveness(_straight(*steps), apart=["gs"])
    assert live.dead_words(0) == dead
    assert liveness(_straight(*steps), boundaries=True, apart=["gs"]).dead_words(0) == dead


def test_without_a_promise_any_segment_may_read_the_stack() -> None:
    assert liveness(_straight(load_at("rbx", "gs"), store(-8))).dead_words(0) == ()
