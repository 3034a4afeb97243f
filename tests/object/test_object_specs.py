"""Specifications of objects, from end to end: the same verdicts as of the text, certificates, replay, lift."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from object_build import assembled, listed, with_placeholders

import verifier
from verifier.cli import main

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("VERIFIER_FULL") == "1"
SPECS = ("nested_nmi_2010", *(("nested_nmi_repaired_machine_check", "nested_nmi_repaired") if FULL else ()))


def with_calls(name: str, folder: Path) -> dict:
    """A shipped specification whose hidden code is called; its text is ``a.s`` and ``a.o``, the listing ``a.lst``."""
    spec = yaml.safe_load((ROOT / "specs" / f"{name}.yaml").read_text())
    bodies = {label: f"call {label}_body" for label in spec["holes"]}
    text = ""
    for source in spec["program"]["source"]:
        text += with_placeholders((ROOT / "specs" / source).resolve().read_text(), bodies)
    for word, value in spec["program"]["define"].items():
        text = re.sub(rf"\b{word}\b", str(value), text)
    listed(assembled(text, folder))
    spec["calls"] = {f"{label}_body": {"abi": "none", "stack": 0} | c for label, c in spec.pop("holes").items()}
    text = json.dumps({k: v for k, v in spec.items() if k not in ("holes", "program")})
    return json.loads(re.sub(r" in (\w+)", lambda m: f" in {m[1]}{'_body' * (m[1] in bodies)}", text))


@pytest.mark.parametrize("name", SPECS)
def test_the_same_verdicts_from_the_same_states(name: str, tmp_path: Path) -> None:
    """Of a text, of the object that GNU as makes of it, and of the listing of that."""
    (tmp_path / "pyproject.toml").touch()
    spec = with_calls(name, tmp_path)
    found = []
    for program in ({"source": "a.s"}, {"object": "a.o"}, {"object": "a.lst"}):
        path = tmp_path / "a.yaml"
        path.write_text(yaml.safe_dump(spec | {"program": program}, sort_keys=False))
        outcomes = sorted(verifier.load(path).outcomes(), key=lambda o: o.name)
        found.append([(o.name, o.verdict, o.result.states, o.trace and len(o.trace.steps)) for o in outcomes])
    assert found[0] == found[1] == found[2]
    assert all(states > 50 and verdict in ("proved", "refuted") for _, verdict, states, _ in found[0])


HANDLER = """
	.globl nmi, page_fault
	.section .rodata
ways:	.quad one, two
	.text
nmi:	push %rax
	jmp *ways+8
one:	nop
	jmp out
two:	movq $1, %gs:taken
out:	pop %rax
	iretq
page_fault:
	add $8, %rsp
	iretq
"""
SPEC = """
format: 1
program: {object: a.o}
machine:
  stacks: {nmi_ist: {size: 4096}}
  idt:
    nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}
    page_fault: {entry: page_fault, gate: interrupt}
  percpu: {taken: {size: 8}, other: {size: 8}}
environment:
  interrupted: [kernel]
  events: {nmi: any, page_fault: {times: 1, at: PLACE}}
  outermost: [nmi]
properties:
  home: {that: "restored(rip, cs, rflags, rsp, ss, registers)"}
  fault-there: {that: "restored(rip)", during: [nmi, page_fault at two]}
"""


@pytest.mark.parametrize("place", ["memory", "anywhere", "[in two]", "[two]"])
def test_faults_strike_in_code_that_only_data_lead_to(place: str, tmp_path: Path) -> None:
    """No direct jump leads to ``two``: it is not known before the search comes there."""
    (tmp_path / "pyproject.toml").touch()
    assembled(HANDLER, tmp_path)
    (tmp_path / "a.yaml").write_text(SPEC.replace("PLACE", place))
    found = {o.name: o for o in verifier.load(tmp_path / "a.yaml").outcomes()}
    assert [found[name].verdict for name in found] == ["proved", "proved"]
    struck = found["home"].result.coverage.events["page_fault"]
    assert found["fault-there"].result.coverage.events["page_fault"][1] > 0
    assert struck[1] > 0


def test_certificates_replay_and_lift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate names the bytes of the object; the interpreter follows a run; ``lift`` shows SSA of an object."""
    (tmp_path / "pyproject.toml").touch()
    path = assembled(HANDLER, tmp_path)
    spec = tmp_path / "a.yaml"
    spec.write_text(SPEC.replace("PLACE", "memory"))
    assert main(["prove", str(spec), "-p", "home", "-q", "--certificate", str(tmp_path / "c")]) == 0
    assert main(["recheck", str(tmp_path / "c"), "--spec", str(spec)]) == 0
    path.write_bytes(path.read_bytes() + b"\0")
    assert main(["recheck", str(tmp_path / "c"), "--spec", str(spec)]) == 1
    spec.write_text(spec.read_text().replace("restored(rip, cs", "restored(rip, cr2, cs"))
    assert main(["replay", str(spec), "-p", "home", "--on", "interpreter"]) == 0
    capsys.readouterr()
    assert main(["prove", str(spec), "-p", "home", "--json"]) == 1
    steps = json.loads(capsys.readouterr().out)["results"][0]["trace"]["steps"]
    assert {(s["file"], s["line"]) for s in steps if s["at"]} >= {("a.o(nmi)", None)}
    assert main(["lift", str(path), "--entry", "nmi", "--extern", "taken=0"]) == 0
    assert "nmi" in capsys.readouterr().out
    assert main(["lift", str(listed(path)), "--entry", "nmi", "--extern", "taken=0"]) == 2
    assert "the symbol '.rodata' is not defined" in capsys.readouterr().err
