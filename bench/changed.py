"""Runs pytest with the code of one module replaced: `python -m bench.changed CODE MODULE ARGUMENTS`.

CODE: a file of marshalled code; MODULE: the path of the module that is loaded from it. Here what a module does when it
is loaded can be changed: its tables, and all that others make of them.

Pytest would rewrite the assertions of a package that has a plugin, and load its modules itself: so ``--assert=plain``.
"""

from __future__ import annotations

import marshal
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import CodeType

ROOT = Path(__file__).parents[1]


def main() -> int:
    code, module = marshal.loads(Path(sys.argv[1]).read_bytes()), str(ROOT / sys.argv[2])
    as_it_is = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        return code if self.path == module else as_it_is(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    return int(pytest.main(["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[3:]]))


if __name__ == "__main__":
    sys.exit(main())
