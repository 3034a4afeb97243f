"""The ``program`` part: which files are assembled, and with which definitions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE
from verifier.errors import UsageError, nearest
from verifier.spec.document import integer_from

if TYPE_CHECKING:
    from verifier.spec.document import Fields, Value

KERNEL_HALF = 0xFFFF_8000_0000_0000
#: Leaves room for data above the text.
LAST_TEXT = 0xFFFF_FFFF_E000_0000
PROJECT_MARKS = ("pyproject.toml", ".git")


@dataclass(frozen=True, slots=True)
class Sources:
    """The files, in order, and what the preprocessor is told."""

    files: tuple[Path, ...]
    defines: dict[str, str | int]
    text_base: int


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
    files = tuple(_source(value, spec, root) for value in program["source"].one_or_more())
    if not files:
        raise program["source"].error("program.source names no file")
    base = program.get("text", lambda v: v.integer(KERNEL_HALF, LAST_TEXT, 16), TEXT_BASE)
    defines = {k.identifier("a macro name"): _definition(v) for k, v in program.entries("define")}
    return Sources(files, defines, base)


def _definition(value: Value) -> str | int:
    if value.is_plain and not value.node.value:
        return ""
    text = value.text("a word or an integer")
    number = integer_from(text) if value.is_plain else None
    return text if number is None else number


def _source(value: Value, spec: Path, root: Path) -> Path:
    name = value.text("the name of an assembly file")
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
