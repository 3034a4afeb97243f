"""What is fuzzed: every reader of what a user can hand over, begun from texts that are right."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from verifier import asm
from verifier.cli import main
from verifier.errors import UsageError, VerifierError
from verifier.lift import lift
from verifier.object import Patching, link, read_objects
from verifier.recheck import GaveUp, Refused, recheck
from verifier.recheck.errors import Malformed
from verifier.replay.replay import replay
from verifier.report.reading import read_traces, trace_of
from verifier.source import Span
from verifier.spec import load
from verifier.spec.grammar import parse_expression
from verifier.spec.names import Names

ROOT = Path(__file__).parents[2]
#: An object with something of everything.
OBJECT = """
	.globl nmi
	.type nmi, @function
nmi:	cld
771:	incq %gs:taken
772:	call helper
	lea table(%rip), %rax
	jmp *table+8
helper:	ret
	.size nmi, .-nmi
	.section .rodata
table:	.quad nmi, helper, nobody
	.data
	.globl count
count:	.quad 0
	.bss
	.skip 100
	.section .altinstructions, "a"
	.long 771b - ., 773f - .
	.word 7, 0
	.byte 772b-771b, 774f-773f
	.section .altinstr_replacement, "ax"
773:	call helper
774:
"""
SUBJECTS = ROOT / "tests" / "subjects"
#: Beyond this a message is no message any more.
LONGEST_MESSAGE = 3000


class Wrong(Exception):
    """An input was refused in a way that helps nobody."""


class Folder:
    """A tree of its own with a specification that is right; ``given`` is the file that the input becomes.

    Beside it lies a secret; links in the tree lead to it.
    """

    def __init__(self, path: Path) -> None:
        self.tree = path / "tree"
        self.tree.mkdir(parents=True)
        (path / "secret.h").write_text("SECRET = 1\n")
        (self.tree / "link.h").symlink_to(path / "secret.h")
        (self.tree / "out").symlink_to(path)
        (self.tree / "pyproject.toml").touch()
        (self.tree / "more.h").write_text("#define MORE 1\n\t.set more, 1\n")
        for name in ("ticket.S", "ticket.yaml"):
            (self.tree / name).write_text((SUBJECTS / name).read_text())
        self.spec = self.tree / "ticket.yaml"
        self.model = load(self.spec)

    def give(self, name: str, data: bytes) -> Path:
        path = self.tree / name
        path.write_bytes(data)
        return path


def assembly(folder: Folder, path: Path) -> None:
    for instruction in asm.assemble([path], root=folder.tree):
        lift(instruction)


def object_file(folder: Folder, path: Path) -> None:
    """Whatever names the file has for code is an entry; alternatives are patched in."""
    found = read_objects([path.resolve()], folder.tree.resolve())
    names = [s.name for s in found[0].symbols]
    program = link(found, text_base=None, externals={"taken": 0}, entries=names, patching=Patching(True, (7,)))
    for instruction in program:
        lift(instruction)


def specification(folder: Folder, path: Path) -> None:
    load(path)


def expression(folder: Folder, path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    program = folder.model.machine.program
    symbols = {name: symbol.value for name, symbol in program.symbols.items()}
    code = {name: value for name, value in symbols.items() if value in program.instructions}
    names = Names(symbols, code, {}, tuple(folder.model.machine.regions), ("nmi", "page_fault"))
    parse_expression(text, names, Span(path.name, 1, 1, 2, text))


def trace(folder: Folder, path: Path) -> None:
    for recorded in read_traces(path):
        replay(trace_of(recorded, folder.model), "interpreter")


def certificate(folder: Folder, path: Path) -> None:
    try:
        for _ in recheck(path, folder.spec):
            pass
    except (Refused, GaveUp) as refusal:
        if not str(refusal) and isinstance(refusal, Refused):
            raise Wrong("refused without a reason") from refusal


Reader = Callable[[Folder, Path], None]
#: The name of the file, and what reads it.
TARGETS: dict[str, tuple[str, Reader]] = {
    "assembler": ("given.s", assembly),
    "preprocessor": ("given.S", assembly),
    "object": ("given.o", object_file),
    "listing": ("given.lst", object_file),
    "specification": ("given.yaml", specification),
    "expression": ("given.txt", expression),
    "trace": ("given.json", trace),
    "certificate": ("given.cert", certificate),
}

#: What is said of a file as a whole, and of what was never said: these have no place.
PLACELESS = re.compile(
    r"(given|ticket)\.\w+(:|,|'s| )|.* (is larger than|has more than) |the certificate |.*: the run "
    r"|the symbol '.*twice|the (objects need|sections do not|replacement of)|control comes to code that is replaced"
)


def read(target: str, folder: Folder, path: Path) -> bool:
    """Whether the product takes the input. Raises Wrong for a message that is none, and whatever escapes."""
    try:
        TARGETS[target][1](folder, path)
    except VerifierError as error:
        _judge(error)
        return False
    return True


def _judge(error: VerifierError) -> None:
    text = error.render()
    if not error.message.strip() or len(text) > LONGEST_MESSAGE or "Traceback" in text or "SECRET" in text:
        raise Wrong(f"no message: {text[:500]!r}") from error
    if "\n" in error.message:
        raise Wrong(f"several lines: {text[:500]!r}") from error
    if error.span is None and not isinstance(error, (UsageError, Malformed)) and not PLACELESS.match(error.message):
        raise Wrong(f"no place: {text[:500]!r}") from error


def seeds(target: str, folder: Folder) -> list[bytes]:
    """Inputs that the product takes."""
    return [text for text in _seeds(target, folder) if len(text) < 60_000]


def _seeds(target: str, folder: Folder) -> Iterator[bytes]:
    if target in ("assembler", "preprocessor"):
        for pattern in ("asm/*.s", "asm/*.S", "tests/asm/accepted/*.s", "tests/subjects/*.S"):
            for path in sorted(ROOT.glob(pattern)):
                yield path.read_bytes()
    elif target in ("object", "listing"):
        yield from _objects(target, folder)
    elif target == "specification":
        for path in sorted([*ROOT.glob("specs/*.yaml"), *SUBJECTS.glob("*.yaml")]):
            yield re.sub(rb"(source: *)\S+\.[sS]\b", rb"\1ticket.S", path.read_bytes())
    elif target == "expression":
        for path in sorted(ROOT.glob("specs/*.yaml")):
            yield from re.findall(rb"that: *(.+)", path.read_bytes())
    elif target == "trace":
        whole = json.loads(_written(folder, "prove", "--json", "-o"))
        for result in whole["results"]:
            if result["trace"]:
                yield json.dumps(whole | {"results": [result]}).encode()
    else:
        yield _written(folder, "prove", "-p", "single-nmi", "-q", "--certificate")
        yield _written(folder, "prove", "-p", "context-restored", "-q", "--certificate")


def _objects(target: str, folder: Folder) -> Iterator[bytes]:
    """What GNU binutils make of a text: with debug information and without, linked and not."""
    source = folder.tree / "object.s"
    source.write_text(OBJECT)
    for n, options in enumerate(([], ["-g"], ["--gdwarf-2"], ["-g", "--compress-debug-sections=zlib"])):
        path = folder.tree / f"object{n}.o"
        subprocess.run(["as", *options, "-o", path, source], check=True)
        yield path.read_bytes() if target == "object" else _listed(path)
    linked = folder.tree / "object"
    names = ["--defsym=taken=0", "--defsym=nobody=0"]
    subprocess.run(["ld", "-Ttext=0xffffffff81000000", "-e", "0", *names, "-o", linked, path], check=True)
    yield linked.read_bytes() if target == "object" else _listed(linked)


def _listed(path: Path) -> bytes:
    return subprocess.run(["objdump", "-dr", path.name], cwd=path.parent, check=True, capture_output=True).stdout


def _written(folder: Folder, command: str, *options: str) -> bytes:
    path = folder.tree / "written"
    main([command, str(folder.spec), *options, str(path)])
    data = path.read_bytes()
    path.unlink()
    return data


def words(inputs: list[bytes]) -> list[bytes]:
    """The words that stand in some input, for mutations that make sense more often."""
    found = dict.fromkeys(word for text in inputs for word in re.findall(rb"[.%$#@\w]{2,40}", text))
    return [*found, *_EXTREME]


_EXTREME = [
    b"0xffffffffffffffff", b"18446744073709551616", b"-1", b"1<<63", b"9" * 60, b"0x8000000000000000", b"1e999",
    b".rept 99999", b".macro m", b".endm", b".endr", b".include \"more.h\"", b".include \"out/secret.h\"", b"\\@",
    b"#include \"link.h\"", b"#define m(x) x x", b"#if", b"#else", b"#endif", b"__LINE__", b"##", b"\\\n", b"/*", b"*/",
    b"((((((((((((((((", b"[[[[[[[[[[[[", b"{a: {a: {a: ", b"- - - - - - ", b"*a", b"&a", b"!!python/name:os.system ",
    b"<<: ", b"? ", b"|\n", b">\n", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\0", b"\xff\xfe", b"\x1b[2J",
    b"NaN", b"Infinity", b"null", b"true", b"{}", b"[]", b"\"\\ud800\"", b"\"\\u0000\"", b"/etc/passwd", b"../secret.h",
]  # fmt: skip
