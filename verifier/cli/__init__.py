"""The command line: ``verifier prove|refute|check|lift|schema``."""

from verifier.cli.main import main

__all__ = ["main"]
