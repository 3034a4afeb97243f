"""A real refuted run as timeline and as JSON."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from report_subject import outcomes

from verifier.cli.terminal import plain
from verifier.errors import AsmError, InternalError, SpecError
from verifier.report.changes import changes
from verifier.report.document import document, error_document, result_entry
from verifier.report.names import Names, flags_text
from verifier.report.table import table
from verifier.report.timeline import timeline
from verifier.source import Span

TOOL = {"name": "verifier", "version": "0", "z3": "0", "python": "0"}


def trace_of(name: str):
    trace = outcomes()[name].trace
    assert trace is not None
    return trace


def columns(text: str) -> list[str]:
    """The rows of a timeline without the source lines' column."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:2] == ["line", "IF"])
    rows = lines[first + 1 :]
    return rows[: rows.index("")]


def test_every_step_has_its_row_and_depth() -> None:
    rows = columns(timeline(trace_of("frame-intact")))
    shown = [f"{row[10:13].strip()} {row[15:].split('  ')[0]}".strip() for row in rows]
    assert [text for text in shown if text.strip("│ ")] == [
        "- ↯ nmi in the interrupted context",
        "│ frame at nmi_ist+0xfd8: rip 0x401000",
        "│ nmi:",
        "B │ pushq %rax",
        "B │ movb $1, %gs:busy",
        "│ work:",
        "B │ ...",
        "B │ ↯ page_fault inside work",
        "│ │ frame at nmi_ist+0xfa8: rip work+0x1",
        "│ │ page_fault:",
        "B │ │ addq $8, %rsp",
        "│ │ page_fault_exit:",
        "B │ │ iretq",
        "│ ↩ back in the nmi handler at work+0x1",
        "- │ ↯ nmi inside work",
        "│ │ frame at nmi_ist+0xfd8: rip work+0x1",
    ]


@pytest.mark.parametrize(
    "expected",
    [
        "interrupted: user code at 0x401000  rsp 0x7fffffffe000",
        "events: nmi in the interrupted context; page_fault at work+0x1; nmi at work+0x1",
        "at the start: busy=0x0",
        "rsp=nmi_ist+0xfd0",
        "[busy]=0x1",
        "NMIs unblocked",
        "the interrupted context, by nmi, at nmi_ist+0xfd8: rip 0x401000",
        "before: as saved\n    after:  rip is work+0x1",
        "rip    0x401000\n    before: nmi_ist+0xfd8\n    after:  nowhere",
    ],
)
def test_the_timeline_says(expected: str) -> None:
    assert expected in timeline(trace_of("frame-intact"))


def test_it_ends_in_what_broke() -> None:
    assert timeline(trace_of("frame-intact")).splitlines()[-1].startswith("broken: the last copy of")


def test_a_run_that_leads_nowhere_shows_where_events_end() -> None:
    rows = columns(timeline(trace_of("comes-home")))
    quiet = next(i for i, row in enumerate(rows) if "without any further event" in row)
    assert not any("↯" in row for row in rows[quiet:])
    assert any("↯" in row for row in rows[:quiet])


def test_lines_stay_short() -> None:
    assert max(map(len, timeline(trace_of("frame-intact")).splitlines())) <= 125


def test_the_document_fits_its_schema() -> None:
    schema = json.loads(files("verifier.report").joinpath("results.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    entries = [result_entry(o.result, o.trace) for o in outcomes().values()]
    span = Span("a.S", 3, 1, 2, "text")
    for whole in (
        document(TOOL, entries),
        document(TOOL, entries, [error_document(TOOL, SpecError("wrong"))["error"]]),
        error_document(TOOL, AsmError("wrong", span, "right")),
        error_document(TOOL, InternalError("differs")),
    ):
        validator.validate(json.loads(json.dumps(whole)))
    assert not validator.is_valid({"format": 1, "tool": TOOL})
    assert not validator.is_valid(document(TOOL, [entries[0] | {"verdict": "maybe"}]))


def test_the_steps_lead_from_the_start_to_the_end() -> None:
    trace = trace_of("comes-home")
    whole = result_entry(outcomes()["comes-home"].result, trace)["trace"]
    cells, memory, rip = dict(whole["initial"]["cells"]), {}, whole["initial"]["rip"]
    for part in (whole["initial"], *whole["steps"]):
        cells |= part["cells"]
        rip = part["rip"]
        for stretch in part["memory"]:
            first = int(stretch["address"], 16)
            memory |= {first + i: b for i, b in enumerate(bytes.fromhex(stretch["bytes"]))}
    last = trace.steps[-1].after
    assert int(rip, 16) == last.rip
    assert {name: int(value, 16) for name, value in cells.items()} == last.cells
    assert {a: b for a, b in memory.items() if b} == {a: b for a, b in last.memory.items() if b}


def test_the_schedule() -> None:
    whole = result_entry(outcomes()["frame-intact"].result, trace_of("frame-intact"))
    assert whole["trace"]["schedule"] == [
        {"event": "nmi", "at": None, "occurrence": 1},
        {"event": "page_fault", "at": "work+0x1", "occurrence": 1},
        {"event": "nmi", "at": "work+0x1", "occurrence": 2},
    ]


def test_names_of_addresses() -> None:
    trace = trace_of("frame-intact")
    names, ist = Names(trace), trace.start.bases["nmi_ist"]
    percpu = trace.start.bases["percpu"]
    exit_ = trace.model.machine.program.address_of("nmi_exit")
    assert exit_ is not None
    table_ = {ist: "nmi_ist", ist + 0x10: "nmi_ist+0x10", ist + 4096: "nmi_ist.top", percpu: "busy", 7: "0x7"}
    assert {address: names.value(address) for address in table_} == table_
    assert names.value(exit_) == "nmi_exit"
    assert names.code(None) == "the interrupted context"


def test_a_delivery_lists_no_change_that_its_marks_show() -> None:
    step = trace_of("frame-intact").steps[0]
    assert step.move.action == "nmi"
    assert changes(step, Names(trace_of("frame-intact"))) == []


@pytest.mark.parametrize(
    ("image", "text"), [(2, "0x2 []"), (0x246, "0x246 [PF ZF IF]"), (0x3002, "0x3002 [IOPL]")]
)
def test_flags(image: int, text: str) -> None:
    assert flags_text(image) == text


def test_tables_align() -> None:
    lines = table(("spec", "states"), [("a", "5"), ("longer", "12345", "remark")])
    assert lines == ["spec    states", "------  ------", "a            5", "longer   12345  remark"]


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("│ ↯ ↩", "utf-8", "│ ↯ ↩"),
        ("│ ↯ ↩", "ascii", "| ! <-"),
        ("│ ü", "latin-1", "| ü"),
        ("ü", "ascii", "\\xfc"),
        ("a\x1b[31mb\tc\n", "utf-8", "a\ufffd[31mb\tc\n"),
    ],
)
def test_what_a_terminal_is_given(text: str, encoding: str, shown: str) -> None:
    assert plain(text, encoding) == shown
