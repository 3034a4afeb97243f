"""The checker accepts what the builder builds, and names what is wrong with anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ir_blocks import clear, copy, end, instruction, make

from verifier.errors import InternalError
from verifier.ir import Access, Block, Builder, Name, Operation, Phi, Value, build, check_block, to_ssa
from verifier.ir.check import SHAPES, TERMINATOR_SHAPES, check_function
from verifier.ir.ops import BINARY, COMPARE, OPCODES, TERMINATORS, UNARY

A, B1, WIDE = Value(0, 64), Value(1, 1), Value(2, 64)
#: Two values to refer to: %0 of 64 bits, %1 of one bit.
BASE = (Operation("get", (), "rax", A), Operation("get", (), "zf", B1))


def test_every_opcode_and_terminator_has_a_shape() -> None:
    assert SHAPES.keys() == OPCODES
    assert TERMINATOR_SHAPES.keys() == TERMINATORS


def test_all_that_the_builder_builds_is_well_formed() -> None:
    b = Builder(instruction(0))
    rax, zf, index = b.get("rax"), b.get("zf"), b.const(7, 32)
    for opcode in sorted(BINARY | COMPARE):
        b.binary(opcode, rax, b.const(-1, 64))
    for opcode in sorted(UNARY):
        b.unary(opcode, b.undef(16))
    byte = b.extract(rax, 15, 8)
    b.put("rbx", b.concat(b.zext(byte, 32), b.sext(byte, 32)))
    b.store(rax, b.ite(zf, rax, b.load(rax, 64, Access(stack=True))), Access(segment="gs"))
    b.fault_if(zf, 13)
    b.skip_if(zf)
    b.wrmsr(index, b.rdmsr(index))
    b.put("rcx", b.zext(b.tsc_aux(), 64))
    b.put("zf", b.extract(b.descriptor("lsl", b.extract(rax, 15, 0)), 32, 32))
    b.end("branch", zf, attr=0xFFFF_FFFF_8100_0000)
    block = b.build()
    check_block(block)
    assert {o.opcode for o in block} == OPCODES


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (Operation("add", (A, WIDE), None, Value(2, 64)), "uses %2 before its definition"),
        (Operation("add", (A, Value(9, 64)), None, WIDE), "uses %9 before its definition"),
        (Operation("add", (A, Value(-1, 64)), None, WIDE), "uses %-1 before its definition"),
        (Operation("not", (Value(0, 32),), None, Value(2, 32)), "uses %0 as 32 bits, defined as 64"),
        (Operation("not", (A,), None, Value(3, 64)), "defines %3 where %2 is due"),
        (Operation("not", (A,), None, A), "defines %0 where %2 is due"),
        (Operation("add", (A, B1), None, WIDE), "a width of 1 bits where 64 are due"),
        (Operation("add", (A, A), None, Value(2, 32)), "a width of 32 bits where 64 are due"),
        (Operation("eq", (A, A), None, WIDE), "a width of 64 bits where 1 are due"),
        (Operation("ite", (A, A, A), None, WIDE), "a width of 64 bits where 1 are due"),
        (Operation("ite", (B1, A, B1), None, WIDE), "a width of 1 bits where 64 are due"),
        (Operation("concat", (A, B1), None, WIDE), "a width of 64 bits where 65 are due"),
        (Operation("extract", (A,), (64, 0), Value(2, 65)), "bits 64..0 do not lie in 64 bits"),
        (Operation("extract", (A,), (0, 1), Value(2, 1)), "bits 0..1 do not lie in 64 bits"),
        (Operation("extract", (A,), (7, 0), Value(2, 7)), "a width of 7 bits where 8 are due"),
        (Operation("extract", (A,), None, Value(2, 7)), "its attribute None is no range"),
        (Operation("zext", (A,), None, WIDE), "a result of 64 bits is not wider than 64"),
        (Operation("sext", (A,), None, Value(2, 8)), "a result of 8 bits is not wider than 64"),
        (Operation("const", (), 2, Value(2, 1)), "the constant does not fit 1 bits"),
        (Operation("const", (), -1, WIDE), "the constant does not fit 64 bits"),
        (Operation("const", (), True, Value(2, 1)), "its attribute True is no value"),
        (Operation("undef", (), None, Value(2, 0)), "a width of 0 bits"),
        (Operation("get", (), "eax", Value(2, 32)), "its attribute 'eax' is no cell"),
        (Operation("get", (), "cs", WIDE), "a width of 64 bits where 16 are due"),
        (Operation("put", (A,), "zf"), "a width of 64 bits where 1 are due"),
        (Operation("put", (A,), "rax", WIDE), "cannot have a result"),
        (Operation("not", (A,)), "has no result"),
        (Operation("not", (A, A), None, WIDE), "2 arguments, not 1"),
        (Operation("load", (A,), None, WIDE), "its attribute None is no access"),
        (Operation("load", (A,), Access(), Value(2, 12)), "12 bits are no whole bytes"),
        (Operation("load", (B1,), Access(), WIDE), "a width of 1 bits where 64 are due"),
        (Operation("store", (A, B1), Access()), "1 bits are no whole bytes"),
        (Operation("fault_if", (B1, A), 13), "a width of 64 bits where 32 are due"),
        (Operation("rdmsr", (A,), None, WIDE), "a width of 64 bits where 32 are due"),
        (Operation("descriptor", (A, A), "ltr", WIDE), "its attribute 'ltr' is no query"),
        (Operation("frobnicate", (), None, WIDE), "unknown opcode"),
        (Operation("next", ()), "unknown opcode"),
        (Operation("not", [A], None, WIDE), "the arguments are no tuple"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_operation_is_named(operation: Operation, problem: str) -> None:
    block = Block(instruction(0x40, "mov %eax,%ebx"), (*BASE, operation), Operation("next", ()))
    with pytest.raises(InternalError) as error:
        check_block(block)
    assert problem in str(error.value)
    assert "0x40 'mov %eax,%ebx'" in str(error.value)
    assert f"operation '{operation.opcode}" in str(error.value)


@pytest.mark.parametrize(
    ("terminator", "problem"),
    [
        (Operation("jump", ()), "its attribute None is no address"),
        (Operation("jump", (), 1 << 64), "is no address"),
        (Operation("jump", (), -2), "is no address"),
        (Operation("branch", (A,), 4), "a width of 64 bits where 1 are due"),
        (Operation("branch", (), 4), "0 arguments, not 1"),
        (Operation("branch", (Value(7, 1),), 4), "uses %7 before its definition"),
        (Operation("jump_indirect", (B1,)), "a width of 1 bits where 64 are due"),
        (Operation("iret", (), 8), "its attribute 8 is no size"),
        (Operation("iret", ()), "its attribute None is no size"),
        (Operation("interrupt", (), 256), "its attribute 256 is no vector"),
        (Operation("next", (), 1), "its attribute 1 is no none"),
        (Operation("next", (), None, WIDE), "cannot have a result"),
        (Operation("add", (A, A)), "unknown opcode"),
    ],
)
def test_a_malformed_terminator_is_named(terminator: Operation, problem: str) -> None:
    with pytest.raises(InternalError, match="malformed block") as error:
        check_block(Block(instruction(0x40), BASE, terminator))
    assert problem in str(error.value)


def test_the_operations_must_be_immutable() -> None:
    block = Block(instruction(0), list(BASE), Operation("next", ()))  # type: ignore[arg-type]
    with pytest.raises(InternalError, match="the operations are no tuple"):
        check_block(block)


# Function-level SSA: a diamond that sets rax on both sides and reads it below, made wrong in one place each.

DIAMOND = {
    b.address: b
    for b in (
        make(0, end("branch", 2)),
        make(1, clear("rax"), end("jump", 3)),
        make(2, clear("rax")),
        make(3, copy("rax", "rbx")),
        make(4, end("iret", 64)),
    )
}


def _spoiled(change: str):  # type: ignore[no-untyped-def]
    function = to_ssa(build(DIAMOND, [0]))
    join = function.blocks[3]
    phi = join.phis[0]
    step = join.instructions[0].steps[0]
    if change == "argument missing":
        new = replace(join, phis=(Phi(phi.result, phi.args[:1]), *join.phis[1:]))
    elif change == "arguments swapped":
        (p, a), (q, b) = phi.args
        new = replace(join, phis=(Phi(phi.result, ((p, b), (q, a))), *join.phis[1:]))
    elif change == "no phi":
        new = replace(join, phis=())
    elif change == "one side only":
        first = join.instructions[0]
        other = replace(step, uses=(phi.args[0][1],))
        new = replace(join, instructions=(replace(first, steps=(other, *first.steps[1:])),))
    elif change == "defined by its own use":
        first = join.instructions[0]
        put = first.steps[-1]
        other = replace(put, uses=put.defines)
        new = replace(join, instructions=(replace(first, steps=(*first.steps[:-1], other)),))
    elif change == "defined twice":
        new = replace(join, inputs=(phi.result,))
    else:
        new = replace(join, out={**join.out, "rax": Name("rax", 99)})
    return replace(function, blocks={**function.blocks, 3: new})


def test_the_diamond_is_right_as_it_is() -> None:
    function = to_ssa(build(DIAMOND, [0]))
    check_function(function)
    assert [str(phi.result) for phi in function.blocks[3].phis] == ["rax.2"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("argument missing", "rax.2 needs one argument per way in"),
        ("arguments swapped", "does not reach rax.2"),
        ("no phi", "rax.2 is used and never defined"),
        ("one side only", "does not dominate a use"),
        ("defined by its own use", "does not dominate a use"),
        ("defined twice", "rax.2 is defined twice"),
        ("unknown name", "rax.99 is used and never defined"),
    ],
)
def test_wrong_ssa_is_found(change: str, problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        check_function(_spoiled(change))
