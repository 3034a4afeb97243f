"""Little-endian fields of a byte string, one after another."""

from __future__ import annotations


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
        text = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text
