"""``new``: a starting specification from an object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.cli import codes
from verifier.errors import UsageError
from verifier.object import read_objects
from verifier.spec import project_root
from verifier.start import specification, survey

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from verifier.cli.terminal import Terminal


def new(arguments: Namespace, terminal: Terminal, _tool: Mapping[str, str]) -> int:
    files = [_found(name) for name in arguments.object]
    target = Path(arguments.output) if arguments.output else Path.cwd() / "new.yaml"
    root = project_root(target)
    for path in files:
        if not path.is_relative_to(root):
            hint = "an empty file pyproject.toml in a folder above both makes them one tree"
            what = f"note: {path.name} lies outside {root}, so the specification cannot name it"
            terminal.complain(f"{what}\nhint: {hint}")
    found = survey(read_objects(files, Path(files[0].anchor)), arguments.entry)
    folder = target.resolve().parent
    terminal.say(specification(found, [Path(os.path.relpath(f, folder)).as_posix() for f in files]).rstrip("\n"))
    return codes.OK


def _found(name: str) -> Path:
    try:
        path = Path(name).resolve()
        if not path.is_file():
            raise UsageError(f"{name}: no such file" if not path.exists() else f"{name}: not a regular file")
    except (OSError, RuntimeError, ValueError):
        raise UsageError(f"{name}: cannot be looked up") from None
    return path
