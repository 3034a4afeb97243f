"""Code that is replaced while the system boots: tables of every layout, and what is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from object_build import assembled, listed, read

from verifier.cli import main
from verifier.errors import AsmError
from verifier.object import Patching

#: How a replacement is told of, by the layout of an entry, of which the number is the size.
ENTRY = {
    "24, word": ".quad 771b, {new}f\n.word {f}\n.byte 772b-771b, {new_end}f-{new}f\n.long 0",
    "24": ".quad 771b, {new}f\n.byte {f}, 772b-771b, {new_end}f-{new}f, 0\n.long 0",
    "12": ".long 771b - ., {new}f - .\n.word {f}\n.byte 772b-771b, {new_end}f-{new}f",
    "13": ".long 771b - ., {new}f - .\n.word {f}\n.byte 772b-771b, {new_end}f-{new}f, 1",
    "14, Xen": ".long 771b - ., {new}f - .\n.word {f}\n.byte 1, {new_end}f-{new}f, 772b-771b-1, 0",
    "14": ".long 771b - ., {new}f - .\n.word {f}, {flags}\n.byte 772b-771b, {new_end}f-{new}f",
}


def text(*alternatives: tuple[int, str], size: str = "14", flags: int = 0, original: str = "jmp there") -> str:
    """A handler with 16 bytes that are replaced, in the order given: feature, and by what."""
    lines = ["\t.globl nmi", "nmi: cld", f"771: {original}", ".skip 16-(.-771b), 0x90", "772: iretq", "there: ud2"]
    for n, (feature, _) in enumerate(alternatives):
        entry = ENTRY[size].format(f=feature, flags=flags, new=800 + 2 * n, new_end=801 + 2 * n)
        lines += ['.pushsection .altinstructions, "a"', entry, ".popsection"]
    lines.append('.section .altinstr_replacement, "ax"')
    for n, (_, code) in enumerate(alternatives):
        lines += [f"{800 + 2 * n}: {code}", f"{801 + 2 * n}:"]
    return "\n".join(lines) + "\n"


def shown(path: Path, **patching: object) -> list[str]:
    """The instructions between the first one and the IRETQ."""
    program = read(path, patching=Patching(**patching), externals={"other": 0x1000})  # type: ignore[arg-type]
    found = [program.instructions[program.symbols["nmi"].value + 1]]
    while found[-1].mnemonic not in ("iret", "jmp"):
        found.append(program.instructions[found[-1].next_address])
    return [" ".join(i.text.split()) for i in found if i.mnemonic != "iret"]


@pytest.mark.parametrize("size", ENTRY)
def test_each_layout_is_told_by_itself(size: str, tmp_path: Path) -> None:
    path = assembled(text((7, "push %rax; pop %rax"), (9, "push %rcx; pop %rcx"), size=size), tmp_path)
    nops = ["nopl (%rax,%rax)"] * 1
    assert shown(path, decided=True, features=(7,))[:2] == ["push %rax", "pop %rax"]
    assert shown(path, decided=True, features=(9,))[:2] == ["push %rcx", "pop %rcx"]
    assert shown(path, decided=True, features=(7, 9))[:2] == ["push %rcx", "pop %rcx"]
    assert len(shown(path, decided=True, features=(7,))) == 2 + 2 * len(nops)
    original = shown(path, decided=True)
    assert original[0].startswith("jmp")
    assert original == shown(path, decided=True, features=()) == shown(path, decided=True, features=(8,))


def test_features_that_every_processor_has(tmp_path: Path) -> None:
    path = assembled(text((3 * 32 + 21, "push %rax; pop %rax")), tmp_path)
    assert shown(path, decided=True, features=())[0] == "push %rax"
    assert shown(path, decided=True)[0].startswith("jmp")


@pytest.mark.parametrize(("size", "feature", "flags"), [("14", 7, 1), ("12", 7 | 1 << 15, 0), ("13", 7 | 1 << 15, 0)])
def test_without_a_feature(size: str, feature: int, flags: int, tmp_path: Path) -> None:
    path = assembled(text((feature, "push %rax"), (31, "push %rdx"), size=size, flags=flags), tmp_path)
    assert shown(path, decided=True, features=(31,) if flags else ())[0] == "push %rax"
    assert shown(path, decided=True, features=(7, 31))[0] == ("jmp" if flags else "push %rdx") or flags


def test_branches_and_addresses_mean_what_they_meant(tmp_path: Path) -> None:
    """Those that lead out of the replacement; one within it stays as it is."""
    code = "jmp there"
    path = assembled(text((7, code), original="nop"), tmp_path)
    assert shown(path, decided=True, features=(7,))[0].endswith("<there>")
    path = assembled(text((7, "lea there(%rip), %rax; call there"), original="nop"), tmp_path)
    found = shown(path, decided=True, features=(7,))
    assert [f.rsplit(" ", 1)[1] for f in found[:2]] == ["<there>", "<there>"]
    path = assembled(text((7, "1: jmp 1b"), original="nop"), tmp_path)
    assert shown(path, decided=True, features=(7,)) == ["jmp 0xffffffff81000001 <nmi+0x1>"]


def test_symbols_that_nobody_defines_move_too(tmp_path: Path) -> None:
    path = assembled(text((7, "call nowhere"), original="nop") + ".text\ncall nobody\n", tmp_path)
    with pytest.raises(AsmError, match="'nowhere' is not defined") as caught:
        shown(path, decided=True, features=(7,))
    assert "nmi+0x1" in caught.value.render()
    assert shown(path, decided=True)[0] == "nop"


def test_one_place_in_two_entries_is_as_long_as_the_longer(tmp_path: Path) -> None:
    """An alternative within another's padding."""
    original = "nop; nop; nop; nop; jmp there"
    inner = text((7, "push %rax"), (8, "push %rcx; push %rcx; push %rcx"), original=original)
    short = inner.replace(".byte 772b-771b, 801f-800f", ".byte 4, 801f-800f")
    path = assembled(short, tmp_path)
    found = shown(path, decided=True, features=(7,))
    assert found[0] == "push %rax"
    assert not any(f.startswith("jmp") for f in found)


def test_tables_that_make_no_sense(tmp_path: Path) -> None:
    broken = text((7, "push %rax")).replace(".byte 772b-771b", ".byte 0")
    with pytest.raises(AsmError, match="make no sense"):
        read(assembled(broken, tmp_path))


def test_a_call_of_what_a_pointer_holds_is_an_error_where_control_comes_to_it(tmp_path: Path) -> None:
    path = assembled(text((7, "push %rax"), flags=2), tmp_path)
    with pytest.raises(AsmError, match="with feature 7, by a call of what a pointer holds then") as caught:
        shown(path, decided=True, features=(7,))
    assert "nmi" in caught.value.render()
    assert shown(path, decided=True)[0].startswith("jmp")


def test_and_none_where_something_else_replaces_it(tmp_path: Path) -> None:
    both = text((7, "push %rax"), (8, "pop %rax"), flags=2)
    first, second = both.split(".word 8, 2")
    assert shown(assembled(f"{first}.word 8, 0{second}", tmp_path), decided=True, features=(7, 8))[0] == "pop %rax"


SPEC = """
format: 1
program: {{object: a.o{more}}}
machine:
  stacks: {{nmi_ist: {{size: 4096}}}}
  idt: {{nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}}}
environment: {{interrupted: [kernel], events: {{nmi: 1}}}}
properties: {{home: {{that: restored(rip)}}}}
"""


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ("", 2, r"nmi\+0x1.*replaced while the system boots, on processors with feature 7.*program"),
        (", alternatives: original", 1, "none of its 1 alternatives is patched in.*static branches \\(__jump_table\\)"),
        (", alternatives: [7]", 0, "with these features and no others: 7"),
        (", alternatives: [7], alternatives_entry: 14", 0, "no others: 7"),
        (", alternatives: [7], alternatives_entry: 12", 2, "make no sense"),
    ],
)
def test_what_the_specification_says(
    more: str, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing: an error, where control comes there. What it says is printed with the verdict."""
    table = '\t.section __jump_table, "aw"\n\t.quad 0\n'
    assembled(text((7, "nop")) + table, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a.yaml").write_text(SPEC.format(more=more))
    assert main(["prove", str(tmp_path / "a.yaml")]) == code
    said = capsys.readouterr()
    assert re.search(message, " ".join((said.out + said.err).split()), re.DOTALL), said


def test_a_listing_has_no_table(tmp_path: Path) -> None:
    """Nor does it say that code is replaced: `docs/objects.md` tells so."""
    path = listed(assembled(text((7, "push %rax"), original="nop"), tmp_path))
    assert shown(path)[0] == "nop"
