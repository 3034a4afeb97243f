"""Object files, executables and listings of them to a `Program`."""

from verifier.object.code import Code
from verifier.object.files import is_object, read_objects
from verifier.object.link import link
from verifier.object.patched import Patching

__all__ = ["Code", "Patching", "is_object", "link", "read_objects"]
