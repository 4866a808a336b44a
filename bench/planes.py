"""Two ways to move file bytes over one port: rpyc calls of 1 MiB, several in flight, and the raw data plane.

`python bench/planes.py` prints both beside bare TLS, all measured now; docs/decisions/0002 rests on it."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

import limits  # noqa: E402

from goggles.pki.context import Contexts, PkiFiles  # noqa: E402
from goggles.roles import Level, Role  # noqa: E402
from goggles.testing.cluster import Certificates  # noqa: E402
from goggles.wire.data import Buffer, DataLink, Kind  # noqa: E402
from goggles.wire.dial import Address, Dialer  # noqa: E402
from goggles.wire.server import Doors, Server  # noqa: E402
from goggles.wire.service import Service, exposed  # noqa: E402

MIB = 1 << 20
CHUNKS = 512


class Bytes(Service):
    """Gives a chunk for each call."""

    chunk = bytes(MIB)

    @exposed(Role.CLIENT)
    def get(self, place: int) -> bytes:
        return self.chunk


def stream(link: DataLink, caller: object) -> None:
    """Gives all chunks for one request."""
    buffer = Buffer()
    buffer.used = MIB
    while link.readable(30):
        link.receive()
        for _ in range(CHUNKS):
            link.send_data(buffer)
        link.send_value(Kind.END, ())


def serve(files: tuple[str, str, str], port: Any) -> None:
    contexts = Contexts(PkiFiles(*map(Path, files)))
    server = Server("127.0.0.1", 0, contexts, Doors(Bytes, lambda _: Level.ADMIN, stream))
    server.start()
    port.value = server.port
    time.sleep(600)


def calls(dialer: Dialer, address: Address) -> float:
    peer = dialer.rpc(address, Role.NAMESERVER)
    began = time.perf_counter()
    got = sum(len(chunk) for chunk in peer.call_each("get", [(n,) for n in range(CHUNKS)], window=4))
    seconds = time.perf_counter() - began
    peer.close()
    return got / 1e6 / seconds


def raw(dialer: Dialer, address: Address) -> float:
    link = dialer.data(address, Role.NAMESERVER)
    buffer, got, began = Buffer(), 0, time.perf_counter()
    link.send_value(Kind.REQUEST, ())
    while link.receive(buffer)[0] is Kind.DATA:
        got += buffer.used
    seconds = time.perf_counter() - began
    link.close()
    return got / 1e6 / seconds


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates(Path(folder))
        ours = certificates.files("nameserver", Role.NAMESERVER)
        theirs = certificates.files("client", Role.CLIENT)
        files = (str(certificates.ca), *map(str, ours))
        spawn = multiprocessing.get_context("spawn")
        port = spawn.Value("i", 0)
        server = spawn.Process(target=serve, args=(files, port), daemon=True)
        server.start()
        while not port.value:
            time.sleep(0.01)
        dialer, address = Dialer(Contexts(PkiFiles(certificates.ca, *theirs))), Address("localhost", port.value)
        figures = {
            "bare TLS 1.3": limits.median_of(5, lambda: limits.bare_tls(certificates.ca, *ours)),
            "rpyc calls of 1 MiB, 4 in flight": limits.median_of(5, lambda: calls(dialer, address)),
            "raw data plane, frames of 1 MiB": limits.median_of(5, lambda: raw(dialer, address)),
        }
        server.terminate()
    bare = limits.middle(figures["bare TLS 1.3"])
    for name, found in figures.items():
        middle = limits.middle(found)
        print(f"{name:<34} {middle:7.0f} MB/s  ({found[0]:.0f} to {found[-1]:.0f})  {middle / bare:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
