"""Why a recheck stops without a confirmation."""

from __future__ import annotations

from verifier.errors import VerifierError


class Malformed(VerifierError):
    """The file is no certificate that this version can read."""


class Refused(Exception):
    """The certificate does not prove what it says: one sentence that names the state, the event, the cell."""
