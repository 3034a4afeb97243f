"""The shipped JSON Schema and the loader agree on structure, judged by the jsonschema library."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from spec_mistakes import MISTAKES
from spec_project import SPEC, Project

from verifier.machine.events import EVENTS
from verifier.spec import schema
from verifier.spec.contracts import POWERS
from verifier.spec.gates import RAISABLE
from verifier.spec.segments import NAMED

#: Mistakes that a schema cannot see: they need the program, another part of the file, or the text itself.
BEYOND_STRUCTURE = {
    "duplicate key",
    "initially too large",
    "initially of an odd size",
    "initially of a narrow address",
    "initially not constant",
    "initially with a typo",
    "name in percpu and data",
    "data over text",
    "datum without size",
    "region named as another",
    "entry unknown",
    "stack named as data",
    "data named as a region",
    "text too high",
    "entry is data",
    "stack unknown",
    "rsp0 unknown",
    "vector of nmi",
    "vector taken",
    "selector rpl",
    "selectors equal",
    "hole unknown",
    "keeps unknown",
    "keeps if and changes it",
    "hole writes unknown",
    "context unknown",
    "context twice",
    "context selector",
    "context stack",
    "context fixes cs",
    "context fixes a wide flag",
    "context fixes a typo",
    "event nobody raises",
    "event without gate",
    "event whose gate is gone",
    "hole's event not listed",
    "outermost fault",
    "outermost fault with RF clear",
    "place of an asynchronous event",
    "place that is none",
    "place in hidden code",
    "register in restored",
    "typo in expression",
    "at unknown",
    "at of a whole property",
    "during label",
    "during event",
    "during syntax",
    "during star at",
    "source missing",
    "anchor",
    "alias",
    "tag",
    "depth",
    "second document",
    "control character",
    "escaped control character",
    "octal",
    "nothing",
    "NUL",
}

ACCEPTED = {
    "the base": SPEC,
    "no title": SPEC.replace("title: A small NMI handler\n", ""),
    "a list of sources": SPEC.replace("../asm/small.s", "[../asm/small.s]"),
    "definitions": SPEC.replace("  source", "  define: {A: 1, B: x, C: no, D: }\n  source"),
    "text base": SPEC.replace("  source", "  text: 0xffffffff82000000\n  source"),
    "own context": SPEC.replace(
        "[user: {gs: kernel}, kernel]", "[kernel, gap: {cpl: 0, stack: none, fixed: {if: 1, nt: any}}]"
    ),
    "pointer": SPEC.replace("{size: 8}", "{size: 8, initially: nmi_ist.top - 8}"),
    "segments": SPEC.replace("  percpu:", "  segments: {kernel_cs: 0x8}\n  percpu:"),
    "interrupted stack": SPEC.replace(
        "  percpu:", "  interrupted_stack: {size: 8192, alignment: 16}\n  percpu:"
    ),
    "places": SPEC.replace("at: regular_nmi_code", "at: [nmi, nmi_exit]"),
}


def errors(text: str) -> list[Any]:
    return list(jsonschema.Draft202012Validator(schema()).iter_errors(yaml.safe_load(text)))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_both_accept(project: Project, text: str) -> None:
    project.load(text)
    assert errors(text) == []


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in BEYOND_STRUCTURE])
def test_both_refuse(name: str) -> None:
    old, new, *_ = MISTAKES[name]
    assert errors(SPEC.replace(old, new, 1))


def test_what_the_schema_lets_through_is_listed_rightly() -> None:
    """A name leaves the list when the schema learns to see it."""
    assert set(MISTAKES) >= BEYOND_STRUCTURE
    unreadable = {
        "duplicate key",
        "alias",
        "tag",
        "depth",
        "second document",
        "control character",
        "NUL",
        "anchor",
    }
    for name in BEYOND_STRUCTURE - unreadable - {"octal", "nothing"}:
        old, new, *_ = MISTAKES[name]
        assert errors(SPEC.replace(old, new, 1)) == [], name


def _described(part: dict[str, Any], path: str) -> list[str]:
    """Paths of keys without a description."""
    missing = []
    for name, value in part.get("properties", {}).items():
        target = schema()["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
        if "description" not in value and "description" not in target:
            missing.append(f"{path}.{name}")
        missing += _described(target, f"{path}.{name}")
    for key in ("additionalProperties", "items"):
        if isinstance(part.get(key), dict):
            missing += _described(part[key], path)
    return missing


def test_every_key_has_a_description() -> None:
    assert _described(schema(), "") == []
    assert _described(schema()["$defs"]["context"], "context") == []
    assert _described(schema()["$defs"]["contract"], "contract") == []


def test_enumerations_follow_the_tables() -> None:
    parts = schema()["properties"]
    assert set(schema()["$defs"]["event"]["enum"]) == set(EVENTS)
    may = schema()["$defs"]["contract"]["properties"]["may"]["items"]["enum"]
    assert set(may) == {*RAISABLE, *POWERS}
    assert set(parts["machine"]["properties"]["segments"]["properties"]) == {*NAMED, "others"}
