"""The client of the gdb protocol against a server that behaves as told."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from verifier.replay.gdb import Gdb
from verifier.replay.machine import MachineError


def client(tmp_path: Path, answer: bytes) -> Gdb:
    """Connected to a server that reads one packet, answers, and is gone."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "gdb"))
    server.listen()
    gone = threading.Event()

    def serve() -> None:
        link, _ = server.accept()
        link.recv(100)
        link.sendall(answer)
        link.close()
        server.close()
        gone.set()

    threading.Thread(target=serve).start()
    gdb = Gdb(tmp_path / "gdb")
    receive = gdb._answer
    gdb._answer = lambda: gone.wait(10) and receive()  # type: ignore[method-assign, return-value]
    return gdb


def test_a_processor_that_shuts_down_need_not_hear_that_it_was_heard(tmp_path: Path) -> None:
    assert client(tmp_path, b"$W00#b7").ask("s") == "W00"


@pytest.mark.parametrize("answer", [b"", b"$T05thr"])
def test_a_server_that_goes_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(MachineError, match="no answer to 's'"):
        client(tmp_path, answer).ask("s")
