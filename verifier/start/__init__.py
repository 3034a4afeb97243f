"""A starting specification for objects: everything that can be read off them, and comments on what cannot."""

from verifier.start.survey import Survey, survey
from verifier.start.write import specification

__all__ = ["Survey", "specification", "survey"]
