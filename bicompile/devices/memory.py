"""Buffers of the emulated machine, placed against guard pages."""

from dataclasses import dataclass
from typing import Literal

Placement = Literal["start", "end"]

PAGE = 4096
_NEAR = 1 << 20


@dataclass(frozen=True)
class Buffer:
    """`size` bytes at `start`, inside the mapped pages that begin at `base`."""

    name: str
    base: int
    start: int
    size: int
    mapped: int

    @property
    def end(self) -> int:
        """The first address past it."""
        return self.start + self.size

    def distance(self, address: int) -> int:
        """Bytes between an address and the buffer; 0 inside."""
        return max(self.start - address, address - self.end + 1, 0)

    def relation(self, address: int) -> str:
        """Where an address lies, seen from this buffer."""
        if self.distance(address) > _NEAR:
            return "near no buffer"
        if address < self.start:
            return f"{self.start - address} bytes before the start of {self.name}"
        if address < self.end:
            return f"at byte {address - self.start} of {self.name}, which cannot be written"
        past = "right" if address == self.end else f"{address - self.end} bytes"
        return f"{past} past the end of {self.name} ({self.size} bytes)"


def place(name: str, base: int, size: int, align: int, placement: Placement) -> Buffer:
    """A buffer that starts or ends with its pages, as far as `align` (bytes) allows."""
    mapped = max(-(-size // PAGE), 1) * PAGE
    slack = (mapped - size) // align * align if placement == "end" else 0
    return Buffer(name, base, base + slack, size, mapped)
