"""In CI a skipped test is a failed one: nothing may be left out because a tool is missing."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["pytester"]


def _failed_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {why}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    _failed_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _failed_if_skipped(report)
    return report
