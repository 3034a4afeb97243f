"""Several calls of the command line in one process: lists of arguments in; code, stdout and stderr of each out."""

from __future__ import annotations

import contextlib
import io
import json
import sys

from verifier.cli import main


def call(arguments: list[str]) -> tuple[int, str, str]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    out.flush()
    err.flush()
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


if __name__ == "__main__":
    json.dump([call(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
