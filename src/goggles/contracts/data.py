"""What is said around the bytes: who may write or read which version where, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from goggles.contracts.records import Record

DEFAULT_COPIES = 2
MAX_COPIES = 16
COMING_BACK = "coming back"  # stands in an Unavailable where waiting a little may help
MAX_BATCH = 1_000
MAX_SIZE = 1 << 60  # bytes of a file
MAX_HOPS = 16  # storages further on in one request of the data plane
MAX_TOGETHER = 256  # small files in one request of the data plane
SMALL = 64 << 10  # bytes; such files travel together, or at least in one piece
LARGE = 16 << 20  # bytes; what has come of such files when they are interrupted is kept, to go on with
STEP = 1 << 20  # bytes; who goes on does so at a multiple of it
SLOWEST = 20e6  # bytes in a second that a disk gives at least when bytes are read again
Next = tuple[str, str, int, bytes, int]  # a hop on the data plane: name, host, port, grant, after


def reading(size: int) -> float:
    """Seconds that a storage may take to read again so many bytes, beside what it may take to answer at all."""
    return 60.0 + size / SLOWEST


@dataclass(frozen=True, slots=True)
class Hop(Record):
    """One storage of a chain, or one that can be read from.

    `grant` is opaque to the client and proves to that storage that the nameserver allowed this.
    `after` is the number of the last order that the storage must have carried out first."""

    name: str
    host: str
    port: int
    grant: bytes
    after: int


@dataclass(frozen=True, slots=True)
class WriteTicket(Record):
    """The answer to `open_write`: send the bytes to the first hop, which passes them on to the next."""

    upload: str
    size: int
    copies: int  # copies wanted; there may be fewer hops
    chain: tuple[Hop, ...]
    resumed: bool = False  # an earlier upload of this source: its storages may have part of the bytes

    @property
    def route(self) -> tuple[Next, ...]:
        """The chain as it goes over the data plane."""
        return tuple((hop.name, hop.host, hop.port, hop.grant, hop.after) for hop in self.chain)

    def to_wire(self) -> tuple[tuple[str, object], ...]:
        return (
            ("upload", self.upload),
            ("size", self.size),
            ("copies", self.copies),
            ("chain", tuple(hop.to_wire() for hop in self.chain)),
            *((("resumed", True),) if self.resumed else ()),  # older clients do not know the word, and do not ask
        )

    @classmethod
    def from_wire(cls, pairs: tuple[tuple[str, object], ...]) -> WriteTicket:
        known: dict[str, Any] = dict(pairs)
        known["chain"] = tuple(Hop.from_wire(hop) for hop in known["chain"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ReadTicket(Record):
    """The answer to `open_read`: these very bytes, and where they are, best first."""

    path: str
    size: int
    hash: str
    generation: int
    version: str
    modified: float
    hops: tuple[Hop, ...]

    def to_wire(self) -> tuple[tuple[str, object], ...]:
        own = tuple((key, getattr(self, key)) for key in ("path", "size", "hash", "generation", "version", "modified"))
        return (*own, ("hops", tuple(hop.to_wire() for hop in self.hops)))

    @classmethod
    def from_wire(cls, pairs: tuple[tuple[str, object], ...]) -> ReadTicket:
        known: dict[str, Any] = dict(pairs)
        known["hops"] = tuple(Hop.from_wire(hop) for hop in known["hops"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Stored(Record):
    """What one storage of a chain says of an upload: staged and durable (`code` empty), or why not."""

    name: str
    size: int
    hash: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Committed(Record):
    """The answer to `commit`: the file is there, with `copies` durable copies and `owed` still to be made."""

    path: str
    generation: int
    version: str
    copies: int
    owed: int
