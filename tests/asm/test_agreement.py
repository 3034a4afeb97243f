"""Whole random programs against GNU as, ld and a decoder; the differences meant are those of ``docs/assembler.md``.

VERIFIER_FULL=1 compares 5,000 programs and 10,000 with a mistake in them; VERIFIER_SEED is the first seed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from agreement import AGREED, BOTH_REFUSE, DIFFERENT, STRICTER, Verdict, judge
from encode_lines import FORWARD, assemble
from random_mutants import mutant, wrong_operands
from random_parts import instructions
from random_preprocessed import HEADER, PreprocessedWriter
from random_programs import Writer

from verifier.asm import assemble_text
from verifier.errors import AsmError

FULL = os.environ.get("VERIFIER_FULL") == "1"
FIRST = int(os.environ.get("VERIFIER_SEED", "0"))
PROGRAMS = 5000 if FULL else 120
PARTS = 8
SUFFIX = {Writer: ".s", PreprocessedWriter: ".S"}
FUTURE = "".join(f".set {name},{value}\n" for name, value in FORWARD.items())
DOCUMENT = (Path(__file__).parents[2] / "docs" / "assembler.md").read_text("utf-8")
#: Example, part of our message.
MEANT = re.findall(r"^\| [^|]+ \| `` (.*?) `` \| `` (.*?) `` \|", DOCUMENT, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inc.h").write_text(HEADER)
    return tmp_path


def meant(message: str) -> bool:
    """Whether a message of ours tells of a documented difference."""
    return message == "the text has no instruction" or any(part in message for _, part in MEANT)


def allowed(verdict: Verdict) -> bool:
    return verdict.kind not in (DIFFERENT, STRICTER) or (verdict.kind == STRICTER and meant(verdict.reason))


@pytest.mark.parametrize("writer", [Writer, PreprocessedWriter])
def test_random_programs_agree(writer: type[Writer], folder: Path) -> None:
    """Few of the programs are beyond one of the two, for a value that does not fit, say."""
    counts: Counter[str] = Counter()
    seed = FIRST
    while counts[AGREED] < PROGRAMS // 2:
        random = Random(seed)
        text = writer(random, random.randint(3, 25)).text()
        verdict = judge(text, folder, SUFFIX[writer])
        assert allowed(verdict), f"{seed}: {verdict}\n{text}"
        counts[verdict.kind] += 1
        seed += 1
    print(dict(counts))
    assert counts[BOTH_REFUSE] + counts[STRICTER] < counts[AGREED] // 3


@pytest.mark.parametrize("writer", [Writer, PreprocessedWriter])
def test_random_mistakes(writer: type[Writer], folder: Path) -> None:
    """What GNU as refuses is refused; where both still take the text they agree on it."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(FIRST, FIRST + PROGRAMS):
        random = Random(seed)
        text = mutant(random, writer(random, random.randint(1, 4)).text())
        verdict = judge(text, folder, SUFFIX[writer])
        if not allowed(verdict):
            wrong.append(f"{seed}: {verdict}\n{text}")
        counts[verdict.kind] += 1
    print(dict(counts))
    assert wrong == []
    assert counts[BOTH_REFUSE] > PROGRAMS // 4
    assert counts[AGREED] > PROGRAMS // 8


def test_random_operands(folder: Path) -> None:
    """Mnemonics with operands of others, line by line."""
    random = Random(FIRST)
    lines = [wrong_operands(random) for _ in range(10 * PROGRAMS)]
    taken, _ = assemble(lines)
    wrong = []
    for n, line in enumerate(lines):
        message = ""
        try:
            assemble_text(f"start: {line}\nend:\n{FUTURE}")
        except AsmError as error:
            message = error.message
        if bool(message) == (n in taken) and not meant(message):
            wrong.append(f"{line}: {message}")
    print(len(taken), "of", len(lines), "lines taken")
    assert wrong == []


@pytest.mark.parametrize("part", range(PARTS))
def test_every_form_through_the_parser(part: int, folder: Path) -> None:
    """All operand forms of all instructions as parts of one program: bytes, operands, addresses."""
    lines = [line for some in instructions().values() for line in some][part :: PARTS if FULL else 4 * PARTS]
    text = "\n".join(("start:", *lines, "end:", FUTURE))
    print(len(lines), "lines")
    assert judge(text, folder) == Verdict(AGREED)


@pytest.mark.parametrize(("example", "part"), MEANT)
def test_what_only_we_refuse(example: str, part: str, folder: Path) -> None:
    text = f"nop\n{example.replace('⏎', chr(10))}\n"
    verdict = judge(text, folder, ".S" if "\n#if" in text else ".s")
    assert (verdict.kind, part in verdict.reason) == (STRICTER, True), verdict


def test_what_compilers_define(folder: Path) -> None:
    """Each is defined here too, or an error where a condition asks for it."""
    command = ["cpp", "-x", "assembler-with-cpp", "-dM", "/dev/null"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in [*re.findall(r"#define (\w+)", listing), "__COUNTER__", "__LINE__", "__has_include"]:
        try:
            found = [i.mnemonic for i in assemble_text(f"#ifdef {name}\nnop\n#endif\n", "a.S", root=folder)]
        except AsmError as error:
            found = ["nop"] if "depends on the compiler" in error.message else [error.message]
        assert found == ["nop"], name


#: Of the preprocessor; what both refuse, and texts where it is easily wrong.
PREPROCESSED = (
    "#if 1lul\n#endif", "#define A ##x", "#define A x ##", "#if 08\n#endif", "#define A(x,x) x",
    "#define A(x) #y\nA(1)",
    "#if defined A || defined(B)\nret\n#else\nhlt\n#endif", "#define A(x) x\n#if A(1)\nret\n#endif", "linux: nop",
    "#if 0\nfoo \"bar\n'\n#endif\nret", "#define EMPTY\n#define A(x) x\n.byte A EMPTY (1)\nA=2", "nop # c \\\nret",
    "#define A(x) #x\n.ascii A(a\"b\"c), A(  a   b  )", "#define f(x) x+f\nf=3\n.byte f(1)", ".long 1 /* a\n*/ + 2",
    "#define N nop ; ret\nN ; N", "it's a comment", "nop # it's", "# it's", ".byte 1 # it's \"",
    "#ifdef __ELF__\nret\n#endif", "#if linux && unix\nret\n#endif",
)  # fmt: skip


@pytest.mark.parametrize("text", PREPROCESSED)
def test_preprocessed(text: str, folder: Path) -> None:
    assert judge(f"nop\n{text}\n", folder, ".S").kind in (AGREED, BOTH_REFUSE)
