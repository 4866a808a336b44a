"""The nameserver as a whole: takes the lease, loads the site, opens the port, stops cleanly.

Law: nothing is served before the lease is held and the schema is current; when the lease is lost, the program
ends at once, because another nameserver may decide from then on.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from goggles import failpoints
from goggles.clock import Clock, SystemClock
from goggles.errors import CertificateError, GogglesError, SettingsError
from goggles.meta.database import Database
from goggles.nameserver import treejson
from goggles.nameserver.accounts import Accounts
from goggles.nameserver.attach import Attachment
from goggles.nameserver.balancing import Balancing
from goggles.nameserver.courier import Courier
from goggles.nameserver.forgetting import Forgetting
from goggles.nameserver.namespace import Namespace
from goggles.nameserver.quarantining import Quarantining
from goggles.nameserver.reading import Reading
from goggles.nameserver.repair import Repair
from goggles.nameserver.scrubbing import Scrubbing
from goggles.nameserver.service import NameserverService, Owners
from goggles.nameserver.site import Policy, Site
from goggles.nameserver.verifying import Verifying
from goggles.nameserver.writing import Writing
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.settings import NameserverSettings
from goggles.wire.admission import Gate, connections_for
from goggles.wire.dial import Dialer
from goggles.wire.server import Doors, Limits, Server
from goggles.wire.service import Caller, Service

log = logging.getLogger(__name__)
VISITORS = frozenset({Role.LIBRARIAN})  # who may come from other sites
ServiceMaker = Callable[[Caller, Owners], Service]


class Companion(Protocol):
    """What runs beside the nameserver in its process; `start` after it serves, `stop` before it leaves."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Nameserver:
    """One running nameserver; `start`, then `stop`.  `port` is where it listens.

    Before the start, `service` may be replaced by one with more doors, and `companions` added."""

    def __init__(self, settings: NameserverSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._stopped = threading.Event()
        self.trouble = False  # something could not be done at the stop
        self._contexts = Contexts(
            PkiFiles(settings.ca_cert, settings.certfile, settings.keyfile, peer_ca=settings.peer_ca)
        )
        _check_role(self._contexts.identity)
        _check_places(settings)
        self._database = Database.open(settings.database, durable=settings.durability == "disk")
        try:
            self._lease = self._database.lease(wait=settings.standby, stop=self._stopped)
            self._begin()
        except BaseException:
            self._database.close()
            raise

    def _begin(self) -> None:
        settings = self._settings
        self._database.prepare(settings.site_name, self._clock.now())
        self._import()
        site_id, name = self._database.site()
        policy = Policy(
            settings.copies,
            settings.grace,
            settings.heartbeat,
            settings.lease,
            settings.repair_streams,
            settings.repair_rate,
            settings.resumable,
        )
        failpoints.hit("nameserver.start.before_epoch")
        epoch = self._database.begin_epoch(self._clock)
        self.site = Site(self._database, epoch, site_id, name, Dialer(self._contexts), self._clock, policy)
        self.site.decisions.load()
        self._build()

    def _build(self) -> None:
        site = self.site
        writing = Writing(site)
        courier = Courier(
            site.dialer,
            lambda session, why: attachment.lost(session, why),
            lambda node, order, message: repair.order_failed(node, order, message),
        )
        attachment = Attachment(site, writing, courier)
        repair = Repair(site, writing, attachment)
        accounts = Accounts(site)
        attachment.load()
        verifying = Verifying(site, repair)
        owners = Owners(
            site=site,
            namespace=Namespace(site),
            writing=writing,
            reading=Reading(site),
            attachment=attachment,
            repair=repair,
            accounts=accounts,
            verifying=verifying,
            scrubbing=Scrubbing(site, verifying),
            balancing=Balancing(site, repair),
            forgetting=Forgetting(site),
            quarantining=Quarantining(site),
            export=self.export_tree,
            gate=Gate(self._settings.max_requests),
        )
        self.owners = owners
        self._server = self._listener(owners)
        self.service: ServiceMaker = NameserverService
        self.companions: list[Companion] = []
        self._threads = [
            threading.Thread(target=repair.run, name="repair", daemon=True),
            threading.Thread(target=self._guard_lease, name="lease", daemon=True),
        ]

    def _listener(self, owners: Owners) -> Server:
        settings = self._settings
        doors = Doors(lambda caller: self.service(caller, owners), owners.accounts.level, visitors=VISITORS)
        limits = Limits(connections=connections_for(settings.max_connections, Limits().beyond))
        return Server(settings.listen, settings.port, self._contexts, doors, limits)

    @property
    def port(self) -> int:
        return self._server.port

    def need_administrator(self, show: Callable[[str, str], None]) -> None:
        """Make the first administrator of a new site; see Accounts.first.  For when nothing is left that could keep it
        from starting."""
        self.owners.accounts.first(show)

    def start(self) -> None:
        self._server.start()
        self.site.story.start()
        for thread in self._threads:
            thread.start()
        for companion in self.companions:
            companion.start()
        log.info("nameserver of site %s serves on port %d, epoch %d", self.site.name, self.port, self.site.epoch.number)
        if not self._contexts.is_for(self._settings.hostname):
            log.warning(
                "the certificate of this nameserver is not for --hostname %s; whoever calls it so will refuse it",
                self._settings.hostname,
            )
        if self._contexts.expires_soon(self._clock.now()):
            log.warning("the certificate of this nameserver expires in less than 30 days; renew it (vg-certs renew)")

    def stop(self, drain: float = 5.0) -> None:
        """Finish what is under way, write the tree.json, and leave."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        for companion in self.companions:
            companion.stop()
        self.site.stopping.set()
        self.site.wake_repair.set()
        self._server.stop(drain)
        for thread in self._threads:
            thread.join(5.0)
        self.site.story.stop()
        try:
            self.export_tree()
        except GogglesError as error:
            self.trouble = True
            log.error("the tree could not be exported: %s", error)
        self._lease.release()
        self._database.close()
        log.info("nameserver stopped")

    def export_tree(self) -> Path | None:
        """Write the tree to the --treejson file, where one is set."""
        target = self._settings.treejson
        if target is not None:
            with self._database.read() as connection:
                treejson.export_file(connection, Path(target))
            log.info("tree exported to %s", target)
        return target

    def _import(self) -> None:
        source = self._settings.treejson
        if source is None or not Path(source).exists() or Path(source).stat().st_size == 0:
            return
        with self._database.write() as connection:
            count = treejson.import_file(connection, Path(source), self._clock.now(), self._settings.copies)
            failpoints.hit("nameserver.import.before_commit")
        if count:
            log.info("%d entries imported from %s", count, source)

    def _guard_lease(self) -> None:
        while not self._stopped.wait(1.0):
            if self._lease.lost():
                log.critical("the lease on the database is lost: another nameserver may take over; ending at once")
                os._exit(1)


def _check_places(settings: NameserverSettings) -> None:
    """What will be written at the end must be possible now."""
    target = settings.treejson
    if target is not None and not Path(target).absolute().parent.is_dir():
        raise SettingsError(f"there is no folder for --treejson {target}", "make it first")


def _check_role(identity: Identity) -> None:
    if identity.role is not Role.NAMESERVER:
        raise CertificateError(
            f"the nameserver was given the certificate of {identity}",
            "issue one: make -C certs peer NAME=nameserver ROLE=nameserver HOSTS=...",
        )
