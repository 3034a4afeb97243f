"""Little-endian fields of a byte string, one after another."""

from __future__ import annotations


def name_of(data: bytes) -> str:
    """A name as messages can show it, on one line."""
    text = data.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


class Fields:
    """Reads on from ``at`` to ``end``. Raises ValueError where a field does not fit."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else min(end, len(data))

    def __bool__(self) -> bool:
        return self.at < self.end

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.end - self.at:
            raise ValueError("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def leb(self, *, signed: bool = False) -> int:
        """A LEB128 number (DWARF 5, 7.6) of at most ten bytes."""
        value = shift = 0
        while shift < 70:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value
        raise ValueError("a number that is too long")

    def string(self) -> str:
        """Up to a NUL byte."""
        end = self.data.find(b"\0", self.at, self.end)
        if end < 0:
            raise ValueError("a string without an end")
        text = name_of(self.data[self.at : end])
        self.at = end + 1
        return text
