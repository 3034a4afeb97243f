"""GNU as and ld as the other opinion: bytes of every section and addresses of every symbol."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from verifier.asm import Program

#: Where ld puts the code of a text that only GNU as took.
_ANYWHERE = f'"code" {TEXT_BASE:#x} : {{ *(.text*) }}\n'
_NOBITS = 8
_SYMBOLS = 2
_SECTION_SYMBOL, _FILE_SYMBOL = 3, 4


class Refused(Exception):
    """What GNU as or ld said of a text that it does not take."""


@dataclass(frozen=True)
class Linked:
    """``contents``: bytes by section; ``symbols``: values of those that ``as`` puts into the object."""

    contents: dict[str, bytes]
    symbols: dict[str, int]


def accepts(text: str, folder: Path) -> bool:
    """Whether GNU as assembles the text."""
    try:
        _as(text, folder, ".s")
    except Refused:
        return False
    return True


def link(
    text: str,
    program: Program | None,
    folder: Path,
    externals: Mapping[str, int] | None = None,
    suffix: str = ".s",
) -> Linked:
    """The text as GNU as and ld make it when the sections lie where ``program`` has them; else `Refused`.

    ``.S`` goes through the C preprocessor first. Without ``program`` only whether they take it is of interest.
    """
    _as(text, folder, suffix)
    places = _ANYWHERE if program is None else "".join(_places(program))
    (folder / "script.ld").write_text(f"SECTIONS {{\n{places}/DISCARD/ : {{ *(.text .data .bss .note*) }}\n}}\n")
    defined = [f"--defsym={name}={value:#x}" for name, value in (externals or {}).items()]
    _run(["ld", "-T", "script.ld", "-e", "0", "--no-warn-rwx-segments", *defined, "-o", "linked", "a.o"], folder)
    return _read((folder / "linked").read_bytes())


def _places(program: Program) -> Iterator[str]:
    for section in program.sections:
        name = f'"{section.name}"'
        yield f"{name} {section.address:#x} : SUBALIGN(1) {{ KEEP(*({name})) }}\n"


def _as(text: str, folder: Path, suffix: str) -> None:
    (folder / f"a{suffix}").write_text(text)
    if suffix == ".S":
        (folder / "a.s").write_text(_run(["cpp", "-x", "assembler-with-cpp", "a.S"], folder))
    _run(["as", "--64", "-o", "a.o", "a.s"], folder)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def _read(image: bytes) -> Linked:
    """Sections and symbols of an ELF file of 64 bits, little endian."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    count, names = struct.unpack_from("<HH", image, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, table + 64 * i) for i in range(count)]

    def data(header: tuple[int, ...]) -> bytes:
        offset, size = header[4], header[5]
        return bytes(size) if header[1] == _NOBITS else image[offset : offset + size]

    contents = {_string(data(headers[names]), h[0]): data(h) for h in headers}
    symbols: dict[str, int] = {}
    for header in headers:
        if header[1] == _SYMBOLS:
            strings = data(headers[header[6]])
            for name, info, _, _, value, _ in struct.iter_unpack("<IBBHQQ", data(header)):
                if name and info & 15 not in (_SECTION_SYMBOL, _FILE_SYMBOL):
                    symbols[_string(strings, name)] = value
    return Linked(contents, symbols)


def _string(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode("utf-8", "replace")
