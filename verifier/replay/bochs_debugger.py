"""The built-in debugger of Bochs, spoken to over pipes.

Commands go in through ``-rc /dev/stdin``, which the debugger reads without a prompt or an echo; what it prints comes
out on standard output, unbuffered. A ``calc`` of a number never used before ends each batch, and its answer ends the
answer to the batch. When the pipe closes, because this process was killed, say, Bochs quits.

There is no BIOS and no boot disk: the RAM is loaded from a file, and the processor is put at its first instruction
with ``restore``, which sets any part of the processor's state from a file of names and values.

The one display that Debian's package ``bochs`` can show without a screen is VNC (``rfb``), on the first free TCP port
from 5900. Nothing connects to it.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.replay.machine import MachineError
from verifier.replay.stub import tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

    #: Parameters of the processor: a value, or those of a part (``CS``: ``selector``).
    Parameters: TypeAlias = Mapping[str, int | bool | Mapping[str, int | bool]]

_CONFIGURATION = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
memory: guest={megabytes}, host={megabytes}
romimage: file=bios, options=none
vgaromimage: file=vga
optramimage1: file=ram, address={address:#x}
cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
log: log
panic: action=fatal, cpu0=report
error: action=ignore
info: action=ignore
debug: action=ignore
plugin_ctrl: unmapped=0, biosdev=0, speaker=0, extfpuirq=0, parallel=0, serial=0, iodebug=0
"""
#: Sixteen pages of HLT where a BIOS would be, and an empty VGA BIOS: Bochs will not start without.
_BIOS = b"\xf4" * 0x10000
_VGA_BIOS = bytes(512)
#: Two instances that start at the same moment can both bind a port, and then one cannot listen on it.
_PORT_TAKEN = "could not bind any port"
_STARTS = 5

_REGISTER = re.compile(r"^(r\w+) ?: ([0-9a-f]{8})_([0-9a-f]{8})$", re.MULTILINE)
_FLAGS = re.compile(r"^eflags 0x([0-9a-f]{8}):", re.MULTILINE)
_PARAMETER = re.compile(r"^show param name: <([\w.]+)>\n\w+ = (0x[0-9a-f]+|[0-9]+)$", re.MULTILINE)
_PAGE = re.compile(r"maps to physical page 0x([0-9a-f]+)$", re.MULTILINE)


class Debugger:
    """Bochs, stopped at an instruction boundary; a fresh one stands at the reset vector.

    ``ram``: the contents of memory at a physical ``address``. ``size``: bytes of RAM, rounded up to megabytes.
    ``seconds``: how long any one batch of commands may take. Raises MissingTool, MachineError.
    """

    def __init__(self, ram: bytes, address: int, size: int, seconds: float = 30) -> None:
        program = tool("bochs", "bochs")
        self._seconds = seconds
        self._number = 1 << 32
        self._folder = tempfile.TemporaryDirectory(prefix="verifier-bochs-")
        self._path = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._prepare(ram, address, size)
            self._start(program, ram, address)
        except BaseException:
            self.close()
            raise

    def _prepare(self, ram: bytes, address: int, size: int) -> None:
        megabytes = max(2, -(-size // (1 << 20)))
        self._path.joinpath("bochsrc").write_text(_CONFIGURATION.format(megabytes=megabytes, address=address))
        self._path.joinpath("bios").write_bytes(_BIOS)
        self._path.joinpath("vga").write_bytes(_VGA_BIOS)
        self._path.joinpath("ram").write_bytes(ram)

    def _start(self, program: str, ram: bytes, address: int) -> None:
        for attempt in range(1, _STARTS + 1):
            self._process = subprocess.Popen(
                [program, "-q", "-f", "bochsrc", "-rc", "/dev/stdin"],
                cwd=self._path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                self._begin(ram, address)
                break
            except MachineError as error:
                self._end()
                if _PORT_TAKEN not in str(error) or attempt == _STARTS:
                    raise
                time.sleep(0.1 * attempt)

    def _begin(self, ram: bytes, address: int) -> None:
        self.command("set u off")
        # Bochs reads the file as one piece of its own memory, and gives each 128 KB of that an address when it is first
        # used: so use them in order. The processor is in real mode: addresses are physical.
        if self.load(address, len(ram)) != ram:
            raise MachineError("Bochs does not load the image as it is")

    # The dialogue

    def command(self, *lines: str) -> str:
        """What the debugger prints for some commands. MachineError if it dies or takes too long; a command that it
        does not understand ends it."""
        process = self._process
        if process is None or process.stdin is None:
            raise MachineError("Bochs has been closed")
        self._number += 1
        batch = "".join(f"{line}\n" for line in (*lines, f"calc {self._number}"))
        try:
            process.stdin.write(batch.encode())
            process.stdin.flush()
        except OSError:
            raise self._died("") from None
        end = f"{self._number:#x} {self._number}\n"
        return self._answer(process, end).removesuffix(end)

    def _answer(self, process: subprocess.Popen[bytes], end: str) -> str:
        """What comes out up to and with a line."""
        assert process.stdout is not None
        deadline = time.monotonic() + self._seconds
        out = b""
        while not out.endswith(end.encode()):
            ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise MachineError(f"Bochs did not answer within {self._seconds:g} seconds")
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._died(out.decode(errors="replace"))
            out += data
        return out.decode(errors="replace")

    def _died(self, out: str) -> MachineError:
        """The error to raise when Bochs has gone: its last words."""
        self._end()
        try:
            log = self._path.joinpath("log").read_text(errors="replace")
        except OSError:
            log = ""
        panics = [line.split("]", 1)[-1].strip() for line in log.splitlines() if line.startswith(tuple("0123456789"))]
        said = [*out.splitlines(), *panics][-3:]
        return MachineError("Bochs has died" + (f": {' | '.join(said)}" if said else ""))

    # The processor

    @staticmethod
    def show(names: Iterable[str]) -> list[str]:
        """The commands that print parameters of the processor (``CS.selector``), for `parse`."""
        return [f'show "{name}"' for name in names]

    @staticmethod
    def parse(answer: str) -> dict[str, int]:
        """Values by name in an answer to ``r`` and `show`: registers in small letters, parameters as they are named."""
        values = {name: int(high + low, 16) for name, high, low in _REGISTER.findall(answer)}
        values |= {name: int(value, 0) for name, value in _PARAMETER.findall(answer)}
        flags = _FLAGS.search(answer)
        if flags:
            values["rflags"] = int(flags[1], 16)
        return values

    def restore(self, parameters: Parameters, *commands: str) -> str:
        """Set parts of the processor's state, as they are, and drop all that it remembers of page tables.

        What is printed for some commands after that.
        """
        self._path.joinpath("cpu0").write_text("\n".join(["cpu0 = {", *_lines(parameters), "}", ""]))
        answer = self.command('restore "cpu0" "."', *commands)
        if "Error" in answer:
            raise MachineError(f"Bochs does not restore a state: {answer.strip()}")
        return answer

    # Memory

    def physical(self, address: int) -> int:
        """The physical address behind a linear one, by the page tables as they are. MachineError if there is none."""
        found = _PAGE.search(self.command(f"page {address:#x}"))
        if found is None:
            raise MachineError(f"no page is mapped at {address:#x}")
        return int(found[1], 16) | address & 0xFFF

    def load(self, address: int, size: int) -> bytes:
        """Bytes at a linear address."""
        answer = self.command(f'writemem "dump" {address:#x} {size}')
        data = self._path.joinpath("dump").read_bytes()
        if len(data) != size:
            raise MachineError(f"memory at {address:#x} cannot be read: {answer.strip()}")
        return data

    def store(self, address: int, data: bytes) -> None:
        """Set bytes at a physical address: words where they are aligned."""
        commands = []
        while data:
            size = 4 if address % 4 == 0 and len(data) >= 4 else 1
            commands.append(f"setpmem {address:#x} {size} {int.from_bytes(data[:size], 'little'):#x}")
            address, data = address + size, data[size:]
        if "Error" in self.command(*commands):
            raise MachineError(f"memory at physical {address:#x} cannot be set")

    # The end

    def close(self) -> None:
        """End the process and remove its files. May be called twice."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not written yet: nobody reads it any more
                    continue
        process.wait()


def _lines(parameters: Parameters) -> Iterable[str]:
    for name, value in parameters.items():
        if isinstance(value, bool):
            yield f"{name} = {str(value).lower()}"
        elif isinstance(value, int):
            yield f"{name} = {value:#x}"
        else:
            yield f"{name} = {{"
            yield from _lines(value)
            yield "}"
