"""The storage as a whole: opens its folder, its port, and attaches itself to the nameserver.

Law: the port is open before the nameserver is told of it; at a stop the port closes first, so that nothing is
promised that will not be kept.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from typing import Any

from goggles.clock import Clock, SystemClock
from goggles.contracts import inventory
from goggles.contracts.orders import Held, Order, ScrubState
from goggles.errors import CertificateError, Unavailable
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import DEFAULT, Level, Role
from goggles.settings import StorageSettings
from goggles.storage.attachment import Attachment, Place
from goggles.storage.containment import to_disk
from goggles.storage.dataserver import DataServer
from goggles.storage.notifier import Notifier
from goggles.storage.pacing import Pace
from goggles.storage.pushing import Pusher
from goggles.storage.scripting import Scripting
from goggles.storage.scrubbing import Scrubber
from goggles.storage.service import StorageService
from goggles.storage.staging import leave_to_system
from goggles.storage.stream import OrderStream
from goggles.storage.transfers import Transfers
from goggles.storage.vault import Vault
from goggles.storage.workers import Workers
from goggles.wire.admission import connections_for
from goggles.wire.dial import Address, Dialer
from goggles.wire.links import Links
from goggles.wire.server import Doors, Limits, Server

log = logging.getLogger(__name__)
FILES = 4  # that a connection may need: itself, the file, its folder, the next storage


class Storage:
    """One running storage; `start`, then `stop`.  `port` is where it listens."""

    def __init__(self, settings: StorageSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stopped = False
        self.trouble = False
        self._stopping = threading.Event()
        self._contexts = Contexts(
            PkiFiles(settings.ca_cert, settings.certfile, settings.keyfile, peer_ca=settings.peer_ca)
        )
        _check_name(settings.name, self._contexts.identity)
        fsync = to_disk if settings.durability == "disk" else leave_to_system
        self.vault = Vault.open(settings.rootpath, settings.capacity, self._clock, fsync)
        try:
            self._build()
        except BaseException:
            self.vault.close()
            raise

    def _build(self) -> None:
        settings, dialer = self._settings, Dialer(self._contexts)
        self._links = Links(dialer)
        orders = OrderStream(self.vault, self._aside)
        self._notifier = Notifier(lambda: self.attachment.connect(), lambda: self.attachment.session)
        data = DataServer(
            settings.name,
            self.vault,
            orders,
            self._links,
            lambda: self.attachment.keys(),
            self._notifier,
            self._clock,
        )
        scripting = Scripting(
            settings.name, self.vault, orders, self._links, lambda: self.attachment.connect(), self._notifier.notify
        )
        doors = Doors(
            lambda caller: StorageService(caller, orders, scripting, self.vault.quarantine, self._health),
            _level,
            data.serve,
            takes_objects=True,
            data_visitors=frozenset({Role.STORAGE}),
        )
        limits = Limits()
        limits.connections = connections_for(limits.connections, limits.beyond, FILES)
        self._server = Server(settings.listen, settings.port, self._contexts, doors, limits)
        self.attachment = Attachment(
            _place(settings, self._server.port),
            Address(settings.ns_hostname, settings.ns_port),
            dialer,
            self.vault,
            orders,
            lambda: (*data.active(), *self._workers.active(), *self._transfers.active()),
            self._clock,
        )
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._build_workers(dialer, data)

    def _build_workers(self, dialer: Dialer, data: DataServer) -> None:
        """What works beside the doors."""
        settings = self._settings
        self._workers = Workers(
            self.vault,
            self._links,
            self._notifier.notify,
            self.attachment.report,
            self.attachment.recheck,
            Pace(self._clock, self._stopping),
        )
        pusher = Pusher(self.vault, dialer, settings.push_local, settings.ssh_command, self._clock, self._stopping)
        self._transfers = Transfers(self.vault, pusher, self.attachment.report)
        self._scrubber = Scrubber(
            self.vault,
            settings.scrub_days,
            settings.scrub_rate,
            self._scrubbed,
            lambda: data.busy or bool(self._workers.active()),
            self._clock,
        )

    def _scrubbed(self, batch: Sequence[Held], state: ScrubState) -> Sequence[int]:
        if not self.attachment.counts:
            raise Unavailable("the nameserver does not count on this storage now")
        told: Sequence[int] = self.attachment.say("scrubbed", inventory.pack(batch), state.to_wire())
        return told

    def _aside(self, order: Order) -> None:
        """Orders that take long."""
        if order[0] in ("push", "ingest"):
            self._transfers.take(order)
        else:
            self._workers.aside(order)

    def _keep(self) -> None:
        """Once in an hour, let go of what has been in quarantine for long enough."""
        while True:
            self.vault.quarantine.prune(self._settings.quarantine_days * 86_400)
            if self._clock.wait(self._stopping, 3_600):
                return

    def _health(self) -> tuple[str, str]:
        state = self.attachment.state
        if state == "connecting":
            return "ill", "it has no nameserver"
        return "well" if state in ("active", "draining") else "ill", f"the nameserver has it as {state}"

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> None:
        self._server.start()
        self._workers.start()
        self._transfers.start()
        self._notifier.start()
        self.attachment.start()
        self._keeper.start()
        self._scrubber.start()
        log.info("storage %s serves on port %d, %d bytes", self._settings.name, self.port, self._settings.capacity)
        if self._contexts.expires_soon(self._clock.now()):
            log.warning("the certificate of storage %s expires in less than 30 days; renew it", self._settings.name)

    def stop(self, drain: float = 5.0) -> None:
        """Finish what is under way, and leave."""
        if self._stopped:
            return
        self._stopped = True
        self._stopping.set()
        self._server.stop(drain)
        self._scrubber.stop()
        self.attachment.stop()
        self._workers.stop()
        self._transfers.stop()
        self._notifier.stop()
        self._links.close()
        self.vault.close()
        log.info("storage %s stopped", self._settings.name)


def _place(settings: StorageSettings, port: int) -> Place:
    """How this storage presents itself."""
    facilities = json.dumps(facilities_of(settings))
    return Place(
        settings.name, settings.hostname, port, settings.capacity, settings.zone, facilities, settings.ingestable
    )


def facilities_of(settings: StorageSettings) -> dict[str, dict[str, Any]]:
    """How storages of other sites reach the folder, by manager; what is not `available` is for our own site."""
    found: dict[str, dict[str, Any]] = {"goggles": {}, "globus": _globus(settings)}
    if settings.shared_root:
        found["local"] = {"root": settings.shared_root}
    if settings.ssh_host:
        found["rsync"] = {"ssh_host": settings.ssh_host, "root": settings.ssh_root or str(settings.rootpath.resolve())}
    return found


def _globus(settings: StorageSettings) -> dict[str, Any]:
    """Also a storage that names no collection says where its folder is: it may be a source."""
    known = (settings.asynchronous_transfer_manager_data or {}).get("globus", {})
    endpoint = settings.globus_endpoint or known.get("destination_endpoint", "")
    root = settings.globus_root or known.get("root") or str(settings.rootpath.resolve())
    available = bool(endpoint) and settings.globus_available and known.get("available", True)
    return {"available": available, "destination_endpoint": endpoint, "root": root}


def _check_name(name: str, identity: Identity) -> None:
    if identity.role is not Role.STORAGE or identity.name != name:
        raise CertificateError(
            f"storage {name!r} was given the certificate of {identity}",
            f"issue one: make -C certs peer NAME={name} ROLE=storage HOSTS=...",
        )


def _level(identity: Identity) -> Level:
    """What accounts allow is the nameserver's business; it is asked on each use."""
    return DEFAULT[identity.role]
