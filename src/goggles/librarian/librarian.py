"""The librarian of a site, put together: it runs inside the nameserver's process.

Law: without a certificate of the role librarian it knows nobody and nobody knows it, and the site works as before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from goggles.errors import SettingsError
from goggles.librarian import schedule
from goggles.librarian.doors import Desks
from goggles.librarian.evicting import Evicting
from goggles.librarian.figures import Reader
from goggles.librarian.holdingdoors import HoldingDoors, Holdings
from goggles.librarian.inbox import Inbox
from goggles.librarian.keeping import Keeping
from goggles.librarian.keyring import Keyring
from goggles.librarian.managers import Managers, TransferManager
from goggles.librarian.managers.pushing import GogglesManager, LocalManager, Reports, RsyncManager
from goggles.librarian.mandc import Mandc
from goggles.librarian.metrics import Metrics
from goggles.librarian.outbox import Outbox
from goggles.librarian.peers import Peers
from goggles.librarian.purging import Purging
from goggles.librarian.searching import Searching
from goggles.librarian.sneakernet import SneakerNet
from goggles.librarian.tasks import Tasks
from goggles.librarian.troubles import Troubles
from goggles.librarian.underway import UnderWay
from goggles.librarian.validating import Validating
from goggles.meta.peering import marks, peers
from goggles.nameserver.doors import Owners
from goggles.nameserver.program import Companion, Nameserver
from goggles.nameserver.service import NameserverService
from goggles.nameserver.site import Site
from goggles.pki.context import Contexts, PkiFiles
from goggles.settings import OFF, NameserverSettings
from goggles.wire.dial import Dialer
from goggles.wire.service import Caller

log = logging.getLogger(__name__)


class LibrarianService(HoldingDoors, NameserverService):
    """All doors of a nameserver that is a librarian."""


class Librarian:
    """Joins a nameserver before it starts."""

    def __init__(self, nameserver: Nameserver, settings: NameserverSettings, plans: Sequence[schedule.Plan]) -> None:
        site, reports = nameserver.site, Reports()
        self.troubles = Troubles(site, settings.webhook)
        self.peers = Peers(site, _dialer(settings), Keyring(settings.encryption_key_file))
        inbox = Inbox(site, self.peers)
        inbox.load()
        self.managers = _managers(site, self.peers, reports, settings)
        self.underway = UnderWay(site, self.peers, self.managers)
        outbox = Outbox(site, self.peers, self.managers, settings.offer_again)
        owners = nameserver.owners
        validating = Validating(site, self.peers, owners.verifying)
        evicting = Evicting(site, self.peers, validating)
        keeping = Keeping(site, self.peers, owners.repair, owners.verifying, evicting)
        self.desks = Desks(self.peers, inbox, outbox, reports, validating, self.underway)
        self.holdings = Holdings(
            Searching(site, owners.namespace), evicting, keeping, SneakerNet(site, self.peers, keeping)
        )
        purging = Purging(site, settings.offer_again)
        self.tasks = Tasks(site, self.peers, inbox, outbox, keeping, evicting, purging, plans)
        site.linked = _is_linked(site)
        nameserver.service = self.service
        nameserver.companions += [self, *self._watchers(site, settings)]

    def _watchers(self, site: Site, settings: NameserverSettings) -> list[Companion]:
        """Those that tell others how the site is."""
        reader, made = Reader(site, self.peers, self.tasks, self.underway), list[Companion]()
        if settings.report_to_mandc:
            made.append(Mandc(site, reader))
        if settings.metrics_port:
            made.append(Metrics(reader, site.name, settings.metrics_listen, settings.metrics_port))
        return made

    def service(self, caller: Caller, owners: Owners) -> LibrarianService:
        return LibrarianService(caller, owners, self.desks, self.tasks, self.troubles, self.holdings)

    def start(self) -> None:
        self.troubles.start()
        self.tasks.start()

    def stop(self) -> None:
        self.tasks.begin_no_more()
        self.peers.close()  # so that no task waits for an answer
        self.managers.close()
        self.tasks.stop()
        self.troubles.stop()


def _managers(site: Site, peers: Peers, reports: Reports, settings: NameserverSettings) -> Managers:
    makers = (GogglesManager, LocalManager, RsyncManager)
    found: list[TransferManager] = [make(site, peers, reports, settings.push_rate) for make in makers]
    if settings.globus_enable:
        try:
            from goggles.librarian.managers.globus.manager import GlobusManager  # its library may be missing
        except ModuleNotFoundError as error:
            raise SettingsError(
                "Globus is enabled, and globus-sdk is not installed", "install it: pip install globus-sdk"
            ) from error
        found.append(GlobusManager.of(site, peers, settings))
    return Managers(found)


def planned(settings: NameserverSettings) -> tuple[schedule.Plan, ...]:
    """The schedule; none where another process has it."""
    if settings.background == OFF:
        return ()
    return schedule.DEFAULT if settings.background is None else schedule.load(settings.background)


def _is_linked(site: Site) -> bool:
    """Whether files of this site may be elsewhere."""
    with site.database.read() as connection:
        return any(connection.execute(select(table).limit(1)).first() is not None for table in (peers, marks))


def _dialer(settings: NameserverSettings) -> Dialer | None:
    """With the librarian's own certificate; None where there is none."""
    beside = settings.certfile.parent.parent / "librarian" / "librarian.crt"
    certificate = settings.librarian_certfile or (beside if beside.exists() else None)
    if certificate is None:
        return None
    key = settings.librarian_keyfile or Path(certificate).with_suffix(".key")
    files = PkiFiles(settings.ca_cert, Path(certificate), key, peer_ca=settings.peer_ca)
    return Dialer(Contexts(files))
