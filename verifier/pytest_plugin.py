"""pytest collects specifications: one test a property, which fails with the run that breaks it.

Collected are YAML files that look like specifications, below a folder ``specs`` or named on the command line.
Everything heavy is imported when the first of them is collected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from verifier.api import Outcome, Specification
    from verifier.spec.model import Property

_MAX_BYTES = 1_000_000
_KEYS = tuple(re.compile(rb"^%b[ \t]*:" % key, re.MULTILINE) for key in (b"format", b"properties"))
_MARKERS = {
    "verifier": "a property of a specification, judged by the verifier",
    "expect_proved": "a property that must be proved",
    "expect_refuted": "a property that must be refuted",
    "expect_unknown": "a property whose verdict must be unknown",
    "expect_vacuous": "a property that must be vacuous",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, about in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {about}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    wanted = "specs" in file_path.parts[:-1] or parent.session.isinitpath(file_path)
    return SpecFile.from_parent(parent, path=file_path) if wanted and looks_like_spec(file_path) else None


def looks_like_spec(path: Path) -> bool:
    """Whether a file has the top-level keys of a specification; one that cannot be read has not."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
    except OSError:
        return False
    return all(pattern.search(text) for pattern in _KEYS)


class Unexpected(Exception):
    """A verdict that is not the expected one; its text is the whole failure."""


class SpecFile(pytest.File):
    """One specification. Its properties share a search, as far as they can."""

    _spec: Specification
    _outcomes: dict[str, Outcome]

    def collect(self) -> Iterable[PropertyItem]:
        from verifier.api import load
        from verifier.errors import InternalError, VerifierError

        try:
            self._spec = load(self.path)
        except VerifierError as error:
            raise self.CollectError(error.render()) from None
        except InternalError as error:
            raise self.CollectError(f"{self.path}: internal error: {error}") from None
        self._outcomes = {}
        for p in self._spec.properties:
            yield PropertyItem.from_parent(self, name=p.name, judged=p)

    def outcome(self, item: PropertyItem) -> Outcome:
        """The outcome of one item; a search for it judges all selected properties that can share it."""
        if item.name not in self._outcomes:
            for outcome in self._spec.outcomes(self._together(item)):
                self._outcomes[outcome.name] = outcome
        return self._outcomes[item.name]

    def _together(self, item: PropertyItem) -> list[str]:
        if item.judged.during is not None:
            return [item.name]
        selected = [i for i in self.session.items if isinstance(i, PropertyItem) and i.parent is self]
        return [i.name for i in selected if i.judged.during is None] or [item.name]


class PropertyItem(pytest.Item):
    """One property: passes if its verdict is the expected one (without ``expect:``, if it is proved)."""

    parent: SpecFile

    def __init__(self, *, judged: Property, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.judged = judged
        self.expected = judged.expect or "proved"
        self.add_marker("verifier")
        self.add_marker(f"expect_{self.expected}")

    def runtest(self) -> None:
        outcome = self.parent.outcome(self)
        self.user_properties.append(("verdict", outcome.verdict))
        self.user_properties.append(("states", outcome.result.states))
        if outcome.verdict != self.expected:
            raise Unexpected(f"expected: {self.expected}\n\n{outcome.text}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from verifier.errors import InternalError, VerifierError

        if isinstance(excinfo.value, InternalError):
            return f"internal error: {excinfo.value}"
        if isinstance(excinfo.value, (Unexpected, VerifierError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.judged.span.line - 1, f"{self.path.stem}: {self.name}"
