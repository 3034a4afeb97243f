"""The reference of the format is complete, and its example loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from spec_project import Project

from verifier.prove import Prover
from verifier.spec import schema
from verifier.spec.names import FUNCTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "spec.md").read_text("utf-8")


def _block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)[number]


def _keys(part: Any) -> set[str]:
    """Every key of the format that a schema, or a part of one, names."""
    if not isinstance(part, dict):
        return set()
    own = part.get("properties", {})
    parts = [*own.values(), part.get("additionalProperties"), *part.get("$defs", {}).values()]
    return set(own).union(*map(_keys, parts))


def test_the_example_loads(project: Project) -> None:
    (project.root / "asm" / "count.s").write_text(_block("asm"))
    model = project.load(_block("yaml"))
    assert [p.name for p in model.properties] == ["context-restored", "nested"]


def test_the_example_of_contracts_has_the_verdicts_that_it_says(project: Project) -> None:
    (project.root / "asm" / "count.s").write_text(_block("asm", 1))
    model = project.load(next(b for b in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "calls:" in b))
    verdicts = {r.property.name: (r.verdict, r.reason) for r in Prover(model).results(model.properties)}
    assert {p.name: p.expect for p in model.properties} == {name: verdict for name, (verdict, _) in verdicts.items()}


def test_every_key_and_function_is_described() -> None:
    words = set(re.findall(r"[a-z_0-9]+", "".join(re.findall(r"`[^`]+`", TEXT.replace("```", "")))))
    keys = _keys(schema())
    assert keys >= {"source", "dpl", "during", "fixed"}
    assert keys - words - {"title"} == set()
    assert set(FUNCTIONS) - words == set()
