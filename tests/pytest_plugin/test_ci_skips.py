"""In CI nothing may be skipped, wherever the skip is said; an expected failure is no skip."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parent.parent / "conftest.py").read_text()
IN_TEST = "import pytest\ndef test(): pytest.skip('no tool')\n"
IN_MARK = "import pytest\n@pytest.mark.skipif(True, reason='no tool')\ndef test(): pass\n"
IN_MODULE = "import pytest\npytest.importorskip('no_such_module')\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test(): assert False\n"


@pytest.mark.parametrize("ci", ["true", ""])
@pytest.mark.parametrize(
    ("code", "outcome"),
    [(IN_TEST, {"failed": 1}), (IN_MARK, {"errors": 1}), (IN_MODULE, {"errors": 1}), (EXPECTED, {"xfailed": 1})],
)
def test_skips(
    code: str, outcome: dict[str, int], ci: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(code)
    expected = outcome if ci or "xfailed" in outcome else {"skipped": 1}
    pytester.runpytest_inprocess().assert_outcomes(**expected)


def test_skips_in_workers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(IN_TEST)
    result = pytester.runpytest_subprocess("-n", "2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*skipped, which is a failure in CI: *no tool*"])
