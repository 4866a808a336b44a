"""The limits of the machine, measured in the same run as everything else: what no program can beat here."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1 << 20
TLS = "bare TLS 1.3, two processes"
ROUND_TRIPS = "round trips of 100 bytes over TLS"
DURABLE = "create, fsync, rename, fsync folder"


def median_of(runs: int, measure: Callable[[], float]) -> list[float]:
    """The figures of `runs` runs, sorted; the middle one is to be quoted."""
    return sorted(measure() for _ in range(runs))


def _send(port: int, ca: str, certificate: str, key: str, size: int) -> None:
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    block = memoryview(os.urandom(MIB))
    with socket.create_connection(("localhost", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            for _ in range(size // MIB):
                sock.sendall(block)


def bare_tls(ca: Path, certificate: Path, key: Path, size: int = 512 * MIB) -> float:
    """MB/s of TLS 1.3 between two Python processes on loopback, writes of 1 MiB, nothing done with the bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    buffer = memoryview(bytearray(MIB))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = (port, str(ca), str(certificate), str(key), size)
        sender = multiprocessing.get_context("spawn").Process(target=_send, args=arguments)
        sender.start()
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as sock:
            have, began = sock.recv_into(buffer), time.perf_counter()
            while have < size:
                count = sock.recv_into(buffer)
                if not count:
                    break
                have += count
            seconds = time.perf_counter() - began
        sender.join()
    return have / 1e6 / seconds


def _echo(port: int, ca: str, certificate: str, key: str, rounds: int, seconds: Any) -> None:
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    message, buffer = b"x" * 100, bytearray(100)
    with socket.create_connection(("localhost", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            began = time.perf_counter()
            for _ in range(rounds):
                sock.sendall(message)
                sock.recv_into(buffer)
            seconds.value = time.perf_counter() - began


def round_trips(ca: Path, certificate: Path, key: Path, rounds: int = 5_000) -> float:
    """Round trips/s of 100 bytes over one TLS 1.3 connection between two Python processes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    processes = multiprocessing.get_context("spawn")
    seconds, buffer = processes.Value("d", 0.0), bytearray(100)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        sender = processes.Process(target=_echo, args=(port, str(ca), str(certificate), str(key), rounds, seconds))
        sender.start()
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as sock:
            while count := sock.recv_into(buffer):
                sock.sendall(memoryview(buffer)[:count])
        sender.join()
    return rounds / seconds.value


def sqlite_commits(folder: Path, seconds: float = 1.0) -> float:
    """Commits/s of one row each into SQLite as it is used here: WAL, synchronous=FULL."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / f"{time.monotonic_ns()}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        connection.execute("INSERT INTO t (name) VALUES ('a name')")
        count += 1
    spent = time.perf_counter() - began
    connection.close()
    return count / spent


def sha256_rate(size: int = 256 * MIB) -> float:
    """MB/s of SHA-256 in one thread."""
    block, digest, began = os.urandom(MIB), hashlib.sha256(), time.perf_counter()
    for _ in range(size // MIB):
        digest.update(block)
    return size / 1e6 / (time.perf_counter() - began)


def durable_files(folder: Path, count: int = 200) -> float:
    """Files/s of create + write 4 KiB + fsync + rename + fsync(folder), one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    data, stamp = os.urandom(4096), time.monotonic_ns()
    directory = os.open(folder, os.O_RDONLY)
    began = time.perf_counter()
    for number in range(count):
        path = folder / f"{stamp}-{number}"
        with open(f"{path}.new", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)
        os.fsync(directory)
    seconds = time.perf_counter() - began
    os.close(directory)
    return count / seconds
