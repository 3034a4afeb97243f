"""The same text through our assembler, and through GNU as and the object reader: the same program."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from random import Random

import pytest
import yaml
from object_build import assembled, difference, listed, read, run, with_placeholders

sys.path.insert(0, str(Path(__file__).parents[1] / "asm"))

from agreement import AGREED, judge
from random_programs import Writer

from verifier.asm import assemble_text
from verifier.spec import load

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
PROGRAMS = 1000 if os.environ.get("VERIFIER_FULL") == "1" else 40


def source_of(spec: Path, folder: Path) -> str:
    """The texts of a specification as one that GNU as takes: preprocessed, with placeholders for holes."""
    part = yaml.safe_load(spec.read_text())["program"]
    defines = {name: "" if value is None else str(value) for name, value in part.get("define", {}).items()}
    files = [part["source"]] if isinstance(part["source"], str) else part["source"]
    texts = []
    for name in files:
        path = (spec.parent / name).resolve()
        text = path.read_text()
        if path.suffix == ".S":
            options = [f"-D{name}={value}" for name, value in defines.items()]
            text = run("cpp", "-P", "-x", "assembler-with-cpp", *options, str(path), folder=folder)
        for word, value in defines.items():
            text = re.sub(rf"\b{word}\b", value, text)
        texts.append(with_placeholders(text))
    return "\n".join(texts)


@pytest.mark.parametrize("debug", [(), ("-g",)], ids=["bare", "dwarf"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_shipped_subjects(spec: Path, debug: tuple[str, ...], tmp_path: Path) -> None:
    """Every instruction but those of hidden code, from an object and from the listing of one."""
    ours = load(spec).machine.program
    path = assembled(source_of(spec, tmp_path), tmp_path, options=debug)
    externals = {s.name: s.value for s in ours.symbols.values() if s.section in (None, ".elsewhere")}
    shown = [i for i in ours if i.hole is None and i.span.file != "<elsewhere>"]
    own = {i.address for i in shown}
    for file in (path, listed(path)):
        theirs = read(file, externals=externals, entries=[s.name for s in ours.symbols.values() if s.value in own])
        assert [difference(i, theirs.instructions[i.address]) for i in shown] == [""] * len(shown)
        holes = {i.address for i in ours if i.hole}
        assert set(theirs.instructions) - holes <= own
        for name, symbol in theirs.symbols.items():
            assert ours.symbols[name].value == symbol.value, name


def test_random_programs(tmp_path: Path) -> None:
    """What ld makes of them, whose sections lie where our assembler puts them, and the listing of that."""
    agreed, seed = 0, int(os.environ.get("VERIFIER_SEED", "0"))
    while agreed < PROGRAMS:
        seed += 1
        random = Random(seed)
        text = Writer(random, random.randint(3, 25)).text()
        if judge(text, tmp_path).kind != AGREED:
            continue
        agreed += 1
        ours = assemble_text(text, "a.s", root=tmp_path)
        for file in (tmp_path / "linked", listed(tmp_path / "linked")):
            theirs = read(file)
            found = [difference(i, theirs.instructions[i.address]) for i in ours]
            assert [f for f in found if f] == [], f"seed {seed}, {file.name}"
