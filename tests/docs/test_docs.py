"""The documents are true: what they quote, the tool says; the verdicts they name, it reaches; what they link, exists.

A quotation is a block ```` ```console ```` whose first line is a command. Its lines stand in the command's output
in the same order, side by side but for a line ``[...]``, which stands for any others. Counts of states and queries,
seconds, and the values that the tool invents for what a run leaves open may differ.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import verifier
from verifier.cli.arguments import parse
from verifier.ir.cells import CELLS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STORY = ROOT / "docs" / "the-2010-sketch.md"
STORIES = (STORY, ROOT / "docs" / "nmi-on-the-stack.md")
PROPERTIES = ROOT / "docs" / "properties.md"
ELLIPSIS = "[...]"
VARIES = (
    (r"0xbad[0-9a-f]+", "0xbad"),
    (r"\b\d+ (states|queries)\b", r"N \1"),
    (r"\b\d+ of N states", "N of N states"),
    (r"\d+\.\d+ s$", "N s"),
    (r" +\d+ +\d+\.\d+$", ""),
    (r"(read of \d+ bytes at|reads) 0x[0-9a-f]+", r"\1 0x"),
)
VERDICT = re.compile(r"\*\*(proved|refuted|unknown|vacuous)\*\*(?:\s+\(`(\w+)`,\s+`([\w-]+)`\))?")


def _quotations() -> list[tuple[str, str, list[str]]]:
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
            command, *lines = block.splitlines()
            found.append((document.name, command.removeprefix("$ "), lines))
    return found


def _settled(line: str) -> str:
    line = line.rstrip()
    for pattern, instead in VARIES:
        line = re.sub(pattern, instead, line)
    return line


@cache
def _output(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[0] == "verifier"
    call = [sys.executable, "-m", "verifier", *words[1:]]
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    return [_settled(line) for line in ended.stdout.splitlines()]


def _pieces(lines: list[str]) -> list[list[str]]:
    pieces: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == ELLIPSIS:
            pieces.append([])
        else:
            pieces[-1].append(_settled(line))
    return [p for p in pieces if p]


def _missing(pieces: list[list[str]], output: list[str]) -> str:
    """The first piece that does not follow those before it; empty if all do."""
    at = 0
    for piece in pieces:
        size = len(piece)
        places = [i for i in range(at, len(output) - size + 1) if output[i : i + size] == piece]
        if not places:
            return "\n".join(piece)
        at = places[0] + size
    return ""


@pytest.mark.parametrize(("document", "command", "lines"), _quotations(), ids=lambda x: x if isinstance(x, str) else "")
def test_the_tool_says_what_is_quoted(document: str, command: str, lines: list[str]) -> None:
    assert lines, f"{document}: nothing is quoted"
    missing = _missing(_pieces(lines), _output(command))
    assert not missing, f"{document}: not in the output of '{command}', or not in this place:\n{missing}"


@pytest.mark.parametrize(
    ("quoted", "missing"),
    [
        (["a", "b"], ""),
        (["a", ELLIPSIS, "d"], ""),
        (["a", "c"], "a\nc"),
        (["c", ELLIPSIS, "a"], "a"),
        (["d", "e"], "d\ne"),
        (["x"], "x"),
    ],
)
def test_a_quotation_is_found_only_in_its_place(quoted: list[str], missing: str) -> None:
    assert _missing(_pieces(quoted), ["a", "b", "c", "d"]) == missing


def test_there_are_quotations() -> None:
    assert sum(document == STORY.name for document, _, _ in _quotations()) >= 10


# verdicts


@cache
def _specification(name: str) -> verifier.Specification:
    return verifier.load(ROOT / "specs" / f"{name}.yaml")


@cache
def _verdict(spec: str, name: str) -> str:
    """From a table that the story quotes, if it has the property; else from a search of its own."""
    for _, command, _ in _quotations():
        if command.startswith("verifier check"):
            for row in map(str.split, _output(command)):
                if row[:2] == [spec, name]:
                    return row[2]
    return _specification(spec).prove(name).verdict


def _claims() -> list[tuple[str, str, str]]:
    return sorted({m.groups() for story in STORIES for m in VERDICT.finditer(story.read_text("utf-8")) if m[2]})


def test_every_verdict_names_its_property() -> None:
    bare = [m[0] for story in STORIES for m in VERDICT.finditer(story.read_text("utf-8")) if not m[2]]
    assert bare == []
    assert len(_claims()) >= 10


@pytest.mark.parametrize(("verdict", "spec", "name"), _claims())
def test_the_tool_reaches_the_verdict_that_is_named(verdict: str, spec: str, name: str) -> None:
    assert _verdict(spec, name) == verdict


# names, links, commands


def _words(document: Path) -> set[str]:
    """What stands in single backquotes outside of blocks."""
    prose = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`([^`]+)`", prose))


def test_every_property_in_the_story_exists() -> None:
    known = {
        p.name for path in (ROOT / "specs").glob("*.yaml") for p in _specification(path.stem).properties
    }
    named = {w for w in _words(STORY) if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", w)}
    assert named
    assert named <= known


def _links() -> list[tuple[str, str]]:
    return [
        (document.relative_to(ROOT).as_posix(), target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text("utf-8"))
        if not re.match(r"https?:", target)
    ]


@pytest.mark.parametrize(("document", "target"), _links())
def test_every_link_leads_somewhere(document: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    assert file.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", [STORY, ROOT / "docs" / "architecture.md", PROPERTIES], ids=lambda d: d.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    suffixes = r"(?:\.(?:py|yaml|s|S|md|json)|/)"
    named = {w for w in _words(document) if re.fullmatch(rf"[\w./-]+{suffixes}", w)}
    missing = [w for w in named if not any((base / w).exists() for base in (ROOT, ROOT / "verifier", ROOT / "docs"))]
    assert missing == []


def _readme_commands() -> list[str]:
    words = _words(ROOT / "README.md")
    return sorted(w for w in words if re.match(r"(verifier|make|pytest|\./dev) ", w))


def test_every_command_in_the_readme_exists() -> None:
    """Each is understood by the command line, the makefile or the script, and what it names is there."""
    text = (ROOT / "README.md").read_text("utf-8")
    scripts = re.findall(r"^\./dev (\w+)", text, re.MULTILINE)
    commands = _readme_commands()
    assert scripts
    assert commands
    for name in [*scripts, *(c.split()[1] for c in commands if c.startswith("./dev "))]:
        assert re.search(rf"^{name}\)$", (ROOT / "dev").read_text(), re.MULTILINE), name
    for command in commands:
        first, *rest = shlex.split(command.replace("[", "").replace("]", ""))
        if first == "verifier":
            assert parse(rest, "").command == rest[0]
        elif first == "make":
            assert re.search(rf"^(\w+ )*{rest[0]}( \w+)*:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        else:
            assert all((ROOT / word).exists() for word in rest if word.endswith("/")), command


# the examples of docs/properties.md


def _examples() -> list[tuple[str, str, str]]:
    """Each heading that has an example, with the YAML of it and the part of the page that it is in."""
    parts = re.split(r"^# ", PROPERTIES.read_text("utf-8"), flags=re.MULTILINE)[1:]
    heading = re.compile(r"^## (.*?)\n(?:(?!^## ).)*?```yaml\n(.*?)```", re.MULTILINE | re.DOTALL)
    return [(title, yaml, part) for part in parts for title, yaml in heading.findall(part)]


def test_every_built_in_property_has_an_example() -> None:
    from verifier.spec.names import FUNCTIONS

    examples = "".join(yaml for _, yaml, _ in _examples())
    assert [f for f in FUNCTIONS if f"that: {f}" not in examples and f"{f}(" not in examples] == []


@pytest.mark.parametrize(("heading", "example", "part"), _examples(), ids=lambda x: x.split("\n")[0][:40])
def test_the_example_of_a_property_comes_out_as_it_says(
    heading: str, example: str, part: str, tmp_path: Path
) -> None:
    """Each example is a list of properties for the handler at the head of its part of the page."""
    (asm,) = re.findall(r"```asm\n(.*?)```", part, re.DOTALL)
    (head,) = re.findall(r"```yaml\n(format: 1.*?)```", part, re.DOTALL)
    (source,) = re.findall(r"source: (\w+\.s)", head)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / source).write_text(asm)
    spec = tmp_path / "example.yaml"
    spec.write_text(f"{head}properties:\n{example}")
    for outcome in verifier.load(spec).prove():
        assert outcome.result.as_expected, f"{heading}: {outcome.name} is {outcome.verdict}"


def test_cells_are_what_the_architecture_says() -> None:
    assert f"{len(CELLS)} cells" in (ROOT / "docs" / "architecture.md").read_text("utf-8")
