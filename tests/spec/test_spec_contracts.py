"""Contracts: every mistake has its message, place and hint; what is taken for granted is said."""

from __future__ import annotations

import pytest
from spec_project import ASM, SPEC, Project

from verifier.errors import VerifierError

HOLE = "may: [page_fault], keeps: [registers]}"
IDT = "page_fault: {entry: page_fault_handler, gate: trap}"
ASM_CALLS = ASM.replace("nmi_exit:\n", "\tcall helper\nnmi_exit:\n")
ABOUT = "a contract speaks of registers, flags, memory, names and regions"
TWO = "drop one of the two"

#: what is added to the hole's contract, the message, what the caret marks, the hint
ROWS = {
    "unknown power": ("may: [irett]", "unknown fault 'irett'", "irett", "did you mean 'iret'?"),
    "requires a list": ("requires: df == 0", "holes.regular_nmi_code.requires must be a list, not 'df == 0'", "df == 0",
                        "write it in brackets: [first, second]"),
    "requires unknown": ("requires: [dff == 0]", "unknown name 'dff'", "dff", "did you mean 'df'?"),
    "requires syntax": ("requires: [df =]", "unexpected '='", "=", "a comparison is written =="),
    "requires the past": ("requires: [interrupted.cs == 3]", "'interrupted.cs == 3' is about more than the state",
                          "interrupted.cs == 3", ABOUT),
    "requires runs": ("requires: [at_rest]", "'at_rest' is about more than the state", "at_rest", ABOUT),
    "requires rip": ("requires: [rip]", "'rip' is about more than the state", "rip", ABOUT),
    "gives rsp": ("gives: {rsp: rax}", "unknown register or flag that hidden code can change 'rsp'", "rsp",
                  "did you mean 'rsi'?"),
    "gives if": ("gives: {if: 1}", "IF is changed by what may change it", "if", "add 'change_if' to 'may'"),
    "gives a kept one": ("gives: {rax: 1}", "'registers' is kept, and 'gives' says what it is at the end", "registers",
                         TWO),
    "changes a kept one": ("changes: [rbx]", "'rbx' is both changed and kept", "rbx", TWO),
    "changes a base": ("changes: [gs_base]", "gs_base cannot hold anything, only what is canonical", "gs_base",
                       "'gives' can say what it is at the end"),
    "returns at times": ("returns: perhaps", "unknown way to return 'perhaps'", "perhaps", "known: never"),
    "never a fault": ("never: [page_fault]", "unknown asynchronous event 'page_fault'", "page_fault",
                      "known: nmi, machine_check, irq"),
    "writes the text": ("writes: [nmi]", "unknown name of data 'nmi'", "nmi", None),
    "writes no operand": ("writes: ['rax + 8']", "'rax + 8' is no memory operand", "'rax + 8'",
                          "an operand such as 8(%rdi)"),
    "writes unsized": ("writes: [{at: 0(%rdi)}]", "holes.regular_nmi_code.writes[0] has no 'size'", "{at: 0(%rdi)}",
                       "add 'size: …'"),
    "writes much": ("writes: [{at: 0(%rdi), size: 65000}, kernel_stack]", "hidden code that writes 73192 bytes",
                    "kernel_stack", "no more than 65536 in all"),
    "schedule keeps if": ("may: [schedule]", "'if' is kept, and schedule says that IF may change", "if", TWO),
    "abi of a hole": ("abi: none", "unknown key 'abi' in holes.regular_nmi_code", "abi", None),
}  # fmt: skip


def mistake(project: Project, text: str) -> VerifierError:
    with pytest.raises(VerifierError) as caught:
        project.load(text)
    return caught.value


def marked(error: VerifierError) -> str:
    assert error.span is not None
    assert error.span.file.endswith("small.yaml")
    return error.span.text[error.span.column - 1 : error.span.end - 1]


@pytest.mark.parametrize(("added", "message", "where", "hint"), ROWS.values(), ids=ROWS)
def test_a_mistake_in_a_contract(project: Project, added: str, message: str, where: str, hint: str | None) -> None:
    keeps = {"may: [schedule]": "keeps: [if], ", "changes: [rbx]": "keeps: [rbx], "}.get(added, "keeps: [registers], ")
    text = SPEC.replace(HOLE, f"{'' if added.startswith('may') else 'may: [page_fault], '}{keeps}{added}}}")
    error = mistake(project, text)
    assert error.message.startswith(message)
    assert marked(error) == where
    if hint is None:
        assert error.hint
    else:
        assert error.hint == hint


@pytest.mark.parametrize("cell", ["rsp", "cs", "ss", "cpl", "inhibit", "rf", "tf", "vm", "rip"])
@pytest.mark.parametrize("added", ["changes: [{}]", "gives: {{{}: 0}}"])
def test_hidden_code_does_not_say_where_control_is(project: Project, cell: str, added: str) -> None:
    error = mistake(project, SPEC.replace(HOLE, f"keeps: [registers], {added.format(cell)}}}"))
    assert error.message == f"unknown register or flag that hidden code can change '{cell}'"


CALLS = {
    "never called": ("helpre: {}", "nothing in the program calls 'helpre'", "helpre", "did you mean 'helper'?"),
    "defined": ("helper: {}, nmi: {}",
                "'nmi' is no code outside the program: it stands at asm/small.s:2:1", "nmi", None),
    "no name": ("helper: {}, 4x: {}",
                "'4x' cannot be a function's name", "4x", "letters, digits and _, no digit first"),
    "other abi": ("helper: {abi: fastcall}", "unknown ABI 'fastcall'", "fastcall", "known: psabi, none"),
    "twice": ("helper: {}, page_fault_handler: {}",
              "'page_fault_handler' is no code outside the program: it stands at asm/small.s:16:1",
              "page_fault_handler", None),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "message", "where", "hint"), CALLS.values(), ids=CALLS)
def test_a_mistake_in_calls(project: Project, calls: str, message: str, where: str, hint: str | None) -> None:
    project.asm(ASM_CALLS)
    error = mistake(project, SPEC.replace("holes:\n", f"calls: {{{calls}}}\nholes:\n"))
    assert (error.message, marked(error), error.hint) == (message, where, hint)


GATES = {
    "taken": ("contract: {}", "'page_fault_handler' is no code outside the program", "page_fault",
              "write 'entry: page_fault_handler', or give the handler another 'name'"),
    "both": ("contract: {}, entry: nmi, name: fault", "unknown key 'entry' in machine.idt.page_fault", "entry", None),
    "bad name": ("contract: {}, name: 5", "'5' cannot be a handler's name", "5", None),
    "no contract": ("contract: 7, name: fault", "machine.idt.page_fault.contract must be a mapping", "7", None),
}


@pytest.mark.parametrize(("gate", "message", "where", "hint"), GATES.values(), ids=GATES)
def test_a_mistake_in_a_hidden_handler(
    project: Project, gate: str, message: str, where: str, hint: str | None
) -> None:
    error = mistake(project, SPEC.replace("entry: page_fault_handler", gate))
    assert error.message.startswith(message)
    assert marked(error) == where
    assert hint is None or error.hint == hint


def test_all_that_a_contract_says_is_among_the_assumptions(project: Project) -> None:
    project.asm(ASM_CALLS)
    contract = (
        "{may: [page_fault, schedule, not_return], keeps: [rdx], changes: [cr2], stack: 32,"
        " requires: ['%gs:nmi_stack_ptr != 0'],"
        " gives: {rax: rdi + 1}, writes: [some_flag, kernel_stack, {at: 8(%rdi), size: 12}], never: [machine_check]}"
    )
    model = project.load(SPEC.replace("holes:\n", f"calls: {{helper: {contract}}}\nholes:\n"))
    sentence = next(a for a in model.assumptions if a.startswith("the function helper"))
    for part in (
        "may raise page_fault any number of times", "may change IF",
        "may change the status flags, rcx, rsi, rdi, r8, r9, r10, r11, cr2",
        "saves and restores rbx, rbp, r12, r13, r14, r15 on its stack", "uses 96 bytes of stack",
        "writes some_flag, all of kernel_stack, 12 bytes at 8(%rdi) (where it is entered)",
        "requires, where it is entered, df == 0 and nmi_blocked == 0 and %gs:nmi_stack_ptr != 0",
        "at its end rax is rdi + 1 (where it is entered)", "it may schedule", "may execute an IRET at any moment",
        "it need not return", "no machine_check strikes inside it",
    ):  # fmt: skip
        assert part in sentence, part
