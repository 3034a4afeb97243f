"""The ``program`` part: which files are assembled, and with which definitions, or which objects are linked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE
from verifier.errors import UsageError, nearest
from verifier.object import Patching
from verifier.object.alternatives import SIZES
from verifier.spec.document import integer_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.spec.document import Fields, Value

KERNEL_HALF = 0xFFFF_8000_0000_0000
#: Leaves room for data above the text.
LAST_TEXT = 0xFFFF_FFFF_E000_0000
LAST_FEATURE = 64 * 32 - 1
PROJECT_MARKS = ("pyproject.toml", ".git")


@dataclass(frozen=True, slots=True)
class Sources:
    """The files, in order, and what the preprocessor is told; or the objects, and labels that control starts from.

    ``text``: the address of the first instruction, if the specification gives it; ``patching``: what is replaced of
    the objects' code.
    """

    files: tuple[Path, ...]
    defines: Mapping[str, str | int]
    text: int | None
    objects: tuple[Path, ...] = ()
    entries: tuple[Value, ...] = ()
    patching: Patching = field(default_factory=Patching)

    @property
    def text_base(self) -> int:
        return TEXT_BASE if self.text is None else self.text


def project_root(spec: Path) -> Path:
    """The folder tree that files named in ``spec`` must lie in.

    The nearest folder above it (symbolic links resolved) that holds ``pyproject.toml`` or ``.git``; else its
    own. UsageError for a path that leads nowhere.
    """
    try:
        folder = spec.resolve().parent
    except (OSError, RuntimeError, ValueError):  # a loop of symbolic links, a working folder that is gone
        raise UsageError(f"{spec}: cannot be looked up") from None
    marked = (f for f in (folder, *folder.parents) if any((f / mark).exists() for mark in PROJECT_MARKS))
    return next(marked, folder)


def read_sources(program: Fields, spec: Path, root: Path) -> Sources:
    """SpecError for a file that is missing or lies outside ``root``, and for definitions that are none."""
    if ("source" in program) == ("object" in program):
        hint = "source: assembly text; object: an ELF file, or what objdump -dr prints"
        raise program.whole.error("program wants either 'source' or 'object'", hint)
    text = program.get("text", lambda v: v.integer(KERNEL_HALF, LAST_TEXT, 16), None)
    if "object" in program:
        _refuse(program, ("define",), "object")
        entries = tuple(program.items("entry"))
        return Sources((), {}, text, _files(program["object"], spec, root, "object file"), entries, _patching(program))
    _refuse(program, ("entry", "alternatives", "alternatives_entry"), "source")
    defines = {k.identifier("a macro name"): _definition(v) for k, v in program.entries("define")}
    return Sources(_files(program["source"], spec, root, "assembly file"), defines, text)


def _patching(program: Fields) -> Patching:
    entry = program.get("alternatives_entry", _entry_size, None)
    if "alternatives" not in program:
        return Patching(entry=entry)
    value = program["alternatives"]
    if value.is_sequence:
        features = tuple(dict.fromkeys(v.integer(0, LAST_FEATURE) for v in value.items()))
        return Patching(True, features, entry)
    if value.text("'original' or a list of feature numbers") != "original":
        raise value.error("alternatives are 'original', or a list of feature numbers", "a number is word * 32 + bit")
    return Patching(True, None, entry)


def _entry_size(value: Value) -> int:
    if value.integer(0, 1000) not in SIZES:
        known = ", ".join(map(str, SIZES))
        raise value.error(f"no entries with {value.node.value} bytes are known", f"known are {known}")
    return value.integer(0, 1000)


def _refuse(program: Fields, keys: tuple[str, ...], beside: str) -> None:
    for key in keys:
        if key in program:
            raise program[key].error(f"'{key}' has no meaning beside '{beside}'", f"leave '{key}' out")


def _files(names: Value, spec: Path, root: Path, what: str) -> tuple[Path, ...]:
    files = tuple(_source(value, spec, root, what) for value in names.one_or_more())
    if not files:
        raise names.error(f"{names.path} names no file")
    return files


def _definition(value: Value) -> str | int:
    if value.is_plain and not value.node.value:
        return ""
    text = value.text("a word or an integer")
    number = integer_from(text) if value.is_plain else None
    return text if number is None else number


def _source(value: Value, spec: Path, root: Path, what: str) -> Path:
    name = value.text(f"the name of an {what}")
    try:
        path = (spec.resolve().parent / name).resolve()
        found = path.is_file()
    except (OSError, RuntimeError):  # a name too long, a loop of symbolic links
        raise value.error(f"'{name}' cannot be looked up") from None
    if not path.is_relative_to(root):
        hint = f"files must lie below {root}"
        raise value.error(f"'{name}' lies outside the tree of this specification", hint)
    if not found:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise value.error(f"no such file: '{name}'", nearest(path.name, siblings))
    return path
