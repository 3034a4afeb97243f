"""Runs one command and turns everything that can go wrong into a message and an exit code."""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, TextIO

from verifier import __version__
from verifier.cli import codes
from verifier.cli.arguments import parse
from verifier.cli.terminal import OutputError, Terminal
from verifier.errors import VerifierError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

_PLEASE = "Please report this, with the specification and the assembly text: it is a fault of the verifier."


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of one call (see ``docs/using.md``). Nothing is raised."""
    words = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    try:
        code = _guarded(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\nverifier: interrupted\n")
        code = codes.INTERRUPTED
    except BrokenPipeError:
        _discard(sys.stdout)
        code = codes.BROKEN_PIPE
    except OutputError as error:
        _discard(sys.stdout)
        with suppress(OSError):
            sys.stderr.write(f"error: {error}\n")
            sys.stderr.flush()
        code = codes.USAGE
    return code


def _open_streams() -> None:
    """A stream that is closed leads nowhere; the exit code still tells."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _discard(stream: TextIO) -> None:
    """Nothing more can be said; without this Python complains of it while it shuts down."""
    with suppress(OSError):  # a stream that is no file of the system's
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tool() -> dict[str, str]:
    """Name and versions, as reports show them."""
    return {
        "name": "verifier",
        "version": __version__,
        "z3": _installed("z3-solver"),
        "python": platform.python_version(),
    }


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "unknown"


def _guarded(words: list[str]) -> int:
    arguments: Namespace | None = None
    try:
        arguments = parse(words, "{name} {version} (z3 {z3}, Python {python})".format(**tool()))
        return _run(arguments)
    except (KeyboardInterrupt, BrokenPipeError, OutputError):
        raise
    except VerifierError as error:
        _failed(arguments, words, error, error.render())
        return codes.USAGE
    except (MemoryError, RecursionError) as error:
        what = "memory" if isinstance(error, MemoryError) else "Python's stack"
        _failed(arguments, words, error, f"unknown: ran out of {what}; no verdict was reached")
        return codes.UNKNOWN
    except Exception as error:  # whatever else gets here is our fault, and a user is to see no traceback
        if "-v" in words or "--verbose" in words:
            traceback.print_exc()
        _failed(arguments, words, error, f"internal error: {_named(error)}\n{_PLEASE}")
        return codes.INTERNAL


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _run(arguments: Namespace) -> int:
    # imported here, so that --help and --version do not wait for z3
    from verifier.cli.check import check
    from verifier.cli.commands import lift, prove, refute, schema
    from verifier.cli.new import new
    from verifier.cli.recheck import recheck
    from verifier.cli.replay import replay_command

    command = {
        "prove": prove,
        "refute": refute,
        "check": check,
        "recheck": recheck,
        "replay": replay_command,
        "lift": lift,
        "new": new,
        "schema": schema,
    }
    terminal = Terminal(arguments.color, arguments.output)
    code = command[arguments.command](arguments, terminal, tool())
    terminal.close()
    return code


def _failed(arguments: Namespace | None, words: list[str], error: Exception, message: str) -> None:
    as_json = "--json" in words if arguments is None else getattr(arguments, "json", False)
    if as_json:
        from verifier.report.document import error_document

        terminal = Terminal("never", None if arguments is None else arguments.output)
        terminal.say(json.dumps(error_document(tool(), error), indent=1))
        terminal.close()
    Terminal("auto" if arguments is None else arguments.color).complain(message)
