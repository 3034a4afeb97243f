"""The plugin in pytest sessions of its own: what is collected, what fails and how that reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from verifier.api import Specification

SUBJECTS = Path(__file__).parent.parent / "subjects"


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder ``specs`` with one specification in it."""
    specs = pytester.mkdir("specs")
    for name in ("ticket.S", "ticket.yaml"):
        shutil.copy(SUBJECTS / name, specs)
    return pytester


def edit(session: pytest.Pytester, old: str, new: str) -> None:
    path = session.path / "specs" / "ticket.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def run(session: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return session.runpytest_inprocess("--strict-markers", "-p", "no:randomly", *arguments)


def test_one_test_a_property(session: pytest.Pytester) -> None:
    run(session, "specs", "-v").assert_outcomes(passed=6)


def test_names_select(session: pytest.Pytester) -> None:
    run(session, "specs", "-k", "frame-intact").assert_outcomes(passed=1, deselected=5)


def test_only_selected_properties_are_judged(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    outcomes = Specification.outcomes

    def spy(self: Specification, names: list[str]):
        asked.append(list(names))
        return outcomes(self, names)

    monkeypatch.setattr(Specification, "outcomes", spy)
    run(session, "specs", "-k", "context-restored or frame-intact or single-nmi").assert_outcomes(
        passed=3, deselected=3
    )
    assert asked == [["context-restored", "frame-intact"], ["single-nmi"]]


@pytest.mark.parametrize(
    ("mark", "passed"), [("verifier", 6), ("expect_proved", 3), ("expect_refuted", 2), ("expect_vacuous", 1)]
)
def test_marks_select(session: pytest.Pytester, mark: str, passed: int) -> None:
    run(session, "specs", "-m", mark).assert_outcomes(passed=passed, deselected=6 - passed)


def test_a_wrong_verdict_fails_with_the_run(session: pytest.Pytester) -> None:
    edit(session, "that: intact(frame)\n    expect: refuted", "that: intact(frame)\n    expect: proved")
    result = run(session, "specs")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        ["*ticket: frame-intact*", "expected: proved", "*nmi in the interrupted context*", "*broken: *"]
    )
    assert "Traceback" not in result.stdout.str()


def test_without_expectation_a_property_must_be_proved(session: pytest.Pytester) -> None:
    edit(session, "that: progress\n    expect: refuted", "that: progress")
    run(session, "specs", "-k", "comes-home").assert_outcomes(failed=1, deselected=5)


def test_a_broken_specification_is_a_collection_error(session: pytest.Pytester) -> None:
    edit(session, "entry: page_fault,", "entry: page_fautl,")
    result = run(session, "specs")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ticket.yaml:9:*error: *page_fautl*", "*did you mean 'page_fault'*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "", "format: 2\nother: 1\n", "\0\xff"])
def test_other_yaml_is_left_alone(session: pytest.Pytester, text: str) -> None:
    (session.path / "specs" / "other.yaml").write_text(text, encoding="latin-1")
    run(session, "specs").assert_outcomes(passed=6)


def test_outside_specs_a_file_must_be_named(session: pytest.Pytester) -> None:
    (session.path / "specs").rename(session.path / "elsewhere")
    run(session, "elsewhere").assert_outcomes()
    run(session, "elsewhere/ticket.yaml").assert_outcomes(passed=6)


def test_one_property_can_be_named(session: pytest.Pytester) -> None:
    run(session, "specs/ticket.yaml::single-nmi").assert_outcomes(passed=1)


def test_junit_has_the_verdict(session: pytest.Pytester) -> None:
    run(session, "specs", "-k", "never-busy", "--junitxml=out.xml")
    case = ET.parse(session.path / "out.xml").find(".//testcase")
    assert case is not None
    assert case.get("name") == "never-busy"
    assert {p.get("name"): p.get("value") for p in case.iter("property")}["verdict"] == "vacuous"


def test_two_workers(session: pytest.Pytester) -> None:
    session.runpytest_subprocess("specs", "-n", "2").assert_outcomes(passed=6)


def test_it_costs_nothing_without_specifications() -> None:
    code = "import sys, verifier.pytest_plugin; print(*{'z3', 'yaml', 'lark'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
