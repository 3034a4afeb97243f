"""``recheck``: checks a certificate and returns an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verifier.cli import codes
from verifier.cli.terminal import Progress
from verifier.recheck import GaveUp, Refused
from verifier.recheck import recheck as check_certificate

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from verifier.cli.terminal import Terminal
    from verifier.recheck import Checked


def recheck(arguments: Namespace, terminal: Terminal, _tool: Mapping[str, str]) -> int:
    spec = None if arguments.spec is None else Path(arguments.spec)
    left = False
    try:
        with Progress(arguments.certificate, arguments.quiet) as progress:
            for proof in check_certificate(Path(arguments.certificate), spec, arguments.solver, progress):
                progress.pause()
                terminal.say(_text(proof, arguments.solver, arguments.quiet))
                left = left or bool(proof.left)
    except Refused as reason:
        terminal.say(f"refused: {reason}")
        return codes.REFUSED
    except GaveUp as where:
        terminal.say(f"unknown: {arguments.solver} gave up at {where}")
        return codes.UNKNOWN
    return codes.NOT_COVERED if left else codes.OK


def _text(proof: Checked, solver: str, quiet: bool) -> str:
    grounds = f" ({proof.states} states, {proof.queries} questions to {solver}; judged {{}} times)"
    lines = [f"{name}: rechecked{'' if quiet else grounds.format(n)}" for name, n in proof.judged.items()]
    return "\n".join(lines + [f"{name}: not rechecked: {reason}" for name, reason in proof.left.items()])
