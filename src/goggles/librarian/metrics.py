"""The figures of a site in the format of Prometheus, on a port of their own.

Law: whoever reaches the port may read the figures, and nothing else: there are numbers and names of storages, peers and
tasks, no paths.  So it listens on this host alone unless told otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from goggles import version
from goggles.contracts.peering import State
from goggles.errors import GogglesError, SettingsError
from goggles.librarian.figures import Figures, Reader
from goggles.nameserver.states import NodeState

log = logging.getLogger(__name__)
STORAGE_STATES = (*(state.value for state in NodeState), "draining")
DIRECTIONS = ("incoming", "outgoing")


class Metrics:
    """The port; `start` after the site serves, `stop` before it leaves."""

    def __init__(self, reader: Reader, site: str, listen: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(reader, site))
        try:
            self._server = make_server(listen, port, make_wsgi_app(registry), WSGIServer, _Quiet)
        except OSError as error:
            raise SettingsError(
                f"figures can not be served on {listen} port {port}: {error.strerror or error}",
                "choose another --metrics_port or --metrics_listen",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds that a silent caller may keep others waiting

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base
        log.debug("metrics: %s", format % args)


class _Collector(Collector):
    def __init__(self, reader: Reader, site: str) -> None:
        self._reader = reader
        self._site = site

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._reader.read()
        except GogglesError as error:
            log.warning("figures could not be read: %s", error)
            yield _gauge("goggles_up", "Whether figures could be read", {(): 0.0})
            return
        yield from families(figures, self._site)


def families(figures: Figures, site: str) -> Iterator[GaugeMetricFamily]:
    """All that is served of `figures`; `site` is the name of the site."""
    yield _gauge("goggles_up", "Whether figures could be read", {(): 1.0})
    yield _gauge("goggles_site_info", "The site and its program", {(site, version.__version__): 1.0}, "site", "version")
    for part in (_site, _storages, _librarian, _under_way, _tasks):
        yield from part(figures)


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    """One family; its values by their labels."""
    made = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        made.add_metric(key, value)
    return made


def _site(figures: Figures) -> Iterator[GaugeMetricFamily]:
    for name, text, value in (
        ("files", "Files in the tree", figures.files),
        ("directories", "Directories in the tree", figures.directories),
        ("size_bytes", "Bytes of all files, each counted once", figures.size),
        ("owed_files", "Files that have fewer copies than they should", figures.owed),
        ("uploads", "Uploads in flight", figures.uploads),
        ("uptime_seconds", "Seconds since the nameserver started", figures.uptime),
    ):
        yield _gauge(f"goggles_{name}", text, {(): value})
    if figures.since_upload is not None:
        text = "Seconds since the last new file came into the tree"
        yield _gauge("goggles_last_upload_age_seconds", text, {(): figures.since_upload})


def _storages(figures: Figures) -> Iterator[GaugeMetricFamily]:
    for key in ("free", "used", "reserved", "capacity"):
        sizes = {(info.name,): float(getattr(info, key)) for info in figures.storages}
        yield _gauge(f"goggles_storage_{key}_bytes", f"Bytes {key} on a storage", sizes, "storage")
    files = {(info.name,): float(info.files) for info in figures.storages}
    yield _gauge("goggles_storage_files", "Copies of files on a storage", files, "storage")
    states = {(i.name, state): float(i.state == state) for i in figures.storages for state in STORAGE_STATES}
    yield _gauge("goggles_storage_state", "1 for the state that a storage is in", states, "storage", "state")
    yield from _scrubs(figures)
    ends = {("storage", info.name): info.certificate_expires for info in figures.storages if info.certificate_expires}
    ends["nameserver", "nameserver"] = figures.certificate_expires
    text = "When the certificate of a server runs out"
    yield _gauge("goggles_certificate_expires_timestamp_seconds", text, ends, "role", "name")


def _scrubs(figures: Figures) -> Iterator[GaugeMetricFamily]:
    on = [info for info in figures.storages if info.scrub_days]
    for key, name, text in (
        ("scrub_files", "files", "Files that a storage has read again since the round of its scrub began"),
        ("scrub_size", "size_bytes", "Bytes of them"),
        ("scrub_bad", "bad_files", "Of them were not what they should be"),
        ("scrub_days", "days", "Days in which a storage is to read all its files again"),
    ):
        values = {(info.name,): float(getattr(info, key)) for info in on}
        yield _gauge(f"goggles_storage_scrub_{name}", text, values, "storage")
    ended = {(info.name,): info.scrub_ended for info in on if info.scrub_ended}
    text = "When a storage had last read all its files again"
    yield _gauge("goggles_storage_scrub_ended_timestamp_seconds", text, ended, "storage")


def _librarian(figures: Figures) -> Iterator[GaugeMetricFamily]:
    pairs = [(direction, state) for direction in DIRECTIONS for state in State]
    moved = {(way, state.name.lower()): figures.transfers.get((way, state), 0) for way, state in pairs}
    yield _gauge("goggles_transfers", "Transfers between librarians", moved, "direction", "state")
    peers = figures.peers
    queued = {(peer.name,): figures.queued.get(peer.id, 0) for peer in peers}
    yield _gauge("goggles_peer_queue_batches", "Batches that wait for a peer or are under way", queued, "peer")
    seen = {(peer.name,): peer.last_seen for peer in peers}
    yield _gauge("goggles_peer_last_seen_timestamp_seconds", "When a peer last answered us", seen, "peer")
    heard = {(peer.name,): peer.last_heard for peer in peers}
    yield _gauge("goggles_peer_last_heard_timestamp_seconds", "When a peer last called us", heard, "peer")
    enabled = {(peer.name,): float(peer.enabled) for peer in peers}
    yield _gauge("goggles_peer_enabled", "Whether files are pushed to a peer", enabled, "peer")
    standing = {key: float(count) for key, count in figures.errors.items()}
    yield _gauge("goggles_errors", "Errors that nobody has cleared", standing, "severity", "category")


def _under_way(figures: Figures) -> Iterator[GaugeMetricFamily]:
    pairs = sorted({(flight.peer, flight.manager) for flight in figures.flights})
    for name, key, text in (
        ("files", "files", "Files of the batches that are on their way"),
        ("files_done", "files_done", "Files of them that have come through"),
        ("size_bytes", "size", "Bytes of the batches that are on their way"),
        ("size_done_bytes", "size_done", "Bytes of them that have come through"),
        ("rate_bytes_per_second", "rate", "Bytes a second of the batches that are on their way"),
    ):
        found = {
            pair: float(
                sum(getattr(flight, key) for flight in figures.flights if (flight.peer, flight.manager) == pair)
            )
            for pair in pairs
        }
        yield _gauge(f"goggles_underway_{name}", text, found, "peer", "manager")


def _tasks(figures: Figures) -> Iterator[GaugeMetricFamily]:
    ran = [(plan, run) for plan, run, _ in figures.tasks if run.ended]
    ended = {(plan.name, plan.kind): run.ended for plan, run in ran}
    yield _gauge("goggles_task_last_end_timestamp_seconds", "When a task last ended", ended, "task", "kind")
    good = {(plan.name, plan.kind): float(run.result != "failed") for plan, run in ran}
    yield _gauge("goggles_task_last_success", "Whether a task went well the last time", good, "task", "kind")
