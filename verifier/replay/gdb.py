"""A client of the gdb remote serial protocol, as far as driving one processor needs it.

Protocol: the GDB manual, appendix "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from verifier.replay.machine import MachineError

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds to wait for any one answer: a step takes well below a millisecond, a boot a quarter of a second.
PATIENCE = 30.0
#: Bytes of memory in one packet.
_PART = 1024


class Gdb:
    """One connection. Every method raises MachineError if the answer is an error, or does not come."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._received = b""
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def ask(self, packet: str) -> str:
        """Send a packet, and return the answer to it."""
        data = packet.encode("ascii")
        try:
            self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
            return self._answer()
        except OSError as error:
            raise MachineError(f"no answer to '{packet[:40]}': {error}") from None

    def command(self, packet: str) -> None:
        """A packet that is answered by OK."""
        answer = self.ask(packet)
        if answer != "OK":
            raise MachineError(f"'{packet[:40]}' is answered by '{answer[:40]}'")

    def _answer(self) -> str:
        while (match := re.search(rb"\$([^#]*)#..", self._received)) is None:
            more = self._socket.recv(65536)
            if not more:
                raise OSError("the connection is closed")
            self._received += more
        self._received = self._received[match.end() :]
        if not match[1].startswith(b"W"):  # the other side exits right after that, and does not wait
            self._socket.sendall(b"+")
        return _expanded(match[1]).decode("latin-1")

    def read_memory(self, address: int, size: int) -> bytes:
        found = b""
        while len(found) < size:
            at, part = address + len(found), min(_PART, size - len(found))
            answer = self.ask(f"m{at:x},{part:x}")
            if answer.startswith("E"):
                raise MachineError(f"no memory at {at:#x}")
            found += bytes.fromhex(answer)
        return found

    def write_memory(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), _PART):
            part = data[at : at + _PART]
            self.command(f"M{address + at:x},{len(part):x}:{part.hex()}")

    def features(self) -> str:
        """The description of the target: every XML document, one after the other, without comments."""
        self.ask("qSupported:xmlRegisters=i386")
        whole = self._document("target.xml")
        for name in re.findall(r'<xi:include href="([^"]+)"', whole):
            whole += self._document(name)
        return whole

    def _document(self, name: str) -> str:
        text, last = "", False
        while not last:
            answer = self.ask(f"qXfer:features:read:{name}:{len(text):x},fff")
            if answer[:1] not in ("m", "l"):
                raise MachineError(f"no register description: '{answer[:40]}'")
            text, last = text + answer[1:], answer[0] == "l"
        return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _expanded(data: bytes) -> bytes:
    """Undo run-length encoding and escapes."""
    plain = re.sub(rb"\}(.)", lambda m: bytes([m[1][0] ^ 0x20]), data, flags=re.DOTALL)
    return re.sub(rb"(.)\*(.)", lambda m: m[1] * (m[2][0] - 28), plain, flags=re.DOTALL)
