"""Control-flow graph and dominators: by hand, and against brute force on random graphs."""

from __future__ import annotations

from random import Random

import pytest
from ir_blocks import add_rsp, clear, copy, end, make, random_blocks

from verifier.errors import InternalError
from verifier.ir import Exit, build, stack_offsets
from verifier.ir.dominance import dominates, dominators, frontiers
from verifier.ir.effects import may_skip


@pytest.mark.parametrize(
    ("last", "mnemonic", "exits", "resumes"),
    [
        (end("next"), "op", (), None),
        (end("jump", 1), "jmp", (), None),
        (end("jump", 77), "jmp", (Exit(0, "leaves", 77),), None),
        (end("branch", 77), "jcc", (Exit(0, "leaves", 77),), None),
        (end("jump", 1), "call", (), 1),
        (end("jump", 77), "call", (Exit(0, "leaves", 77),), 1),
        (end("jump_indirect"), "call", (Exit(0, "indirect"),), 1),
        (end("jump_indirect"), "jmp", (Exit(0, "indirect"),), None),
        (end("jump_indirect"), "ret", (Exit(0, "ret"),), None),
        (end("iret", 64), "iret", (Exit(0, "iret"),), None),
        (end("sysret", 64), "sysret", (Exit(0, "sysret"),), None),
        (end("lret", 64), "lret", (Exit(0, "lret"),), None),
        (end("syscall"), "syscall", (Exit(0, "syscall"),), 1),
        (end("interrupt", 3), "int3", (Exit(0, "interrupt"),), 1),
        (end("exception", 6), "ud2", (Exit(0, "exception"),), None),
        (end("halt"), "hlt", (Exit(0, "halt"),), 1),
        (end("hole_enter"), "hole_enter", (Exit(0, "hole"),), 1),
        (end("hole_body"), "hole_body", (Exit(0, "hole"),), 1),
    ],
)
def test_ways_out(last, mnemonic, exits, resumes) -> None:  # type: ignore[no-untyped-def]
    blocks = {0: make(0, last, text=mnemonic), 1: make(1, end("iret", 64))}
    cfg = build(blocks, [0])
    assert tuple(e for e in cfg.exits if e.address == 0) == exits
    assert cfg.blocks[0].resumes == resumes
    assert cfg.roots == ((0,) if resumes is None else (0, 1))


def test_running_off_the_end_is_an_exit() -> None:
    assert build({0: make(0)}, [0]).exits == (Exit(0, "leaves", 1),)
    call = {0: make(0, end("jump", 0), text="call")}
    assert build(call, [0]).exits == (Exit(0, "leaves", 1),)


def test_an_entry_must_be_an_instruction() -> None:
    with pytest.raises(InternalError, match="0x5 is no instruction"):
        build({0: make(0)}, [5])


def test_runs_are_maximal() -> None:
    """A loop: 0 1 | 2 3 | 4 5 where 3 goes back to 2; 6 is never reached."""
    blocks = {a: make(a) for a in range(7)}
    blocks[3] = make(3, end("branch", 2))
    blocks[5] = make(5, end("iret", 64))
    cfg = build(blocks, [0])
    assert {a: len(b.blocks) for a, b in cfg.blocks.items()} == {0: 2, 2: 2, 4: 2}
    assert cfg.blocks[2].predecessors == (0, 2)
    assert cfg.blocks[2].successors == (4, 2)
    assert cfg.immediate_dominators() == {0: None, 2: 0, 4: 2}
    assert cfg.order() == [0, 2, 4]


def test_overlapping_instructions_join_where_they_end() -> None:
    """Three bytes at 0 and, jumped into, two bytes at 1: both run on at 3."""
    blocks = {0: make(0, length=3), 1: make(1, length=2), 3: make(3, end("iret", 64))}
    cfg = build(blocks, [0, 1])
    assert {a: len(b.blocks) for a, b in cfg.blocks.items()} == {0: 1, 1: 1, 3: 1}
    assert cfg.blocks[3].predecessors == (0, 1)


@pytest.mark.parametrize("seed", range(60))
def test_the_graph_has_the_instructions_edges(seed: int) -> None:
    """Successors read off the terminators, here, are those of the graph; runs are straight."""
    blocks = random_blocks(Random(seed), 9, skips=seed % 2 == 1)
    cfg = build(blocks, [0, 3])
    inside = {}
    for leader, basic in cfg.blocks.items():
        addresses = [b.address for b in basic.blocks]
        assert addresses == list(range(leader, leader + len(addresses)))
        inside.update({a: {a + 1} for a in addresses[:-1]})
        inside[addresses[-1]] = set(basic.successors)
        for successor in basic.successors:
            assert leader in cfg.blocks[successor].predecessors
    reached: set[int] = set()
    todo = [0, 3]
    while todo:
        at = todo.pop()
        if at in reached:
            continue
        reached.add(at)
        kind, target = blocks[at].terminator.opcode, blocks[at].terminator.attr
        goes = {"next": {at + 1}, "jump": {target}, "branch": {target, at + 1}}.get(kind, set())
        goes = goes | ({at + 1} if may_skip(blocks[at]) else set())
        assert inside[at] == goes & blocks.keys()
        todo += inside[at] | ({at + 1} & blocks.keys() if kind == "hole_body" else set())
    assert inside.keys() == reached


def _reachable(edges: dict[int, tuple[int, ...]], without: int | None) -> set[int]:
    found: set[int] = set()
    todo = [0]
    while todo:
        node = todo.pop()
        if node != without and node not in found:
            found.add(node)
            todo += edges[node]
    return found


@pytest.mark.parametrize("seed", range(80))
def test_dominators_against_removal(seed: int) -> None:
    """``a`` dominates ``b`` when ``b`` cannot be reached without ``a``; frontiers by their definition."""
    random = Random(seed)
    size = random.randrange(2, 10)
    edges = {n: tuple(random.sample(range(1, size), min(size - 1, random.choice((0, 1, 2, 2, 3)))))
             for n in range(size)}  # fmt: skip
    nodes = _reachable(edges, None)
    idom = dominators(edges, 0)
    assert idom.keys() == nodes
    truth = {a: nodes - _reachable(edges, a) for a in nodes}
    for a in nodes:
        for b in nodes:
            assert dominates(idom, a, b) == (b in truth[a]), (a, b)
    border = frontiers(edges, idom)
    for a in nodes:
        meets = {y for x in truth[a] for y in edges[x] if y not in truth[a] - {a}}
        assert border[a] == meets


def test_where_rsp_stands() -> None:
    """Equal offsets stay known at a join, unequal ones do not, and a value from elsewhere is unknown."""
    blocks = {
        0: make(0, add_rsp(-8), end("branch", 2)),
        1: make(1, add_rsp(-8), add_rsp(-8), end("next")),
        2: make(2, clear("rax")),
        3: make(3, copy("rax", "rsp"), end("next")),
        4: make(4, end("hole_body")),
        5: make(5, end("iret", 64)),
    }
    assert stack_offsets(build(blocks, [0])) == {0: 0, 1: -8, 2: None, 3: None, 4: None, 5: 0}
    blocks[1] = make(1, add_rsp(-8), add_rsp(0), end("next"))
    assert stack_offsets(build(blocks, [0])) == {0: 0, 1: -8, 2: -8, 3: -8, 4: None, 5: 0}
