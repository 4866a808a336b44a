"""How a storage attaches itself to its nameserver: upgrade, self-check, heartbeat; and again when that breaks.

Law: the storage decides nothing about its files.  It tells what it has and carries out what it is told; what it is
not told to remove stays.  It comes back by itself, with growing pauses, for as long as it runs.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from goggles import failpoints, version
from goggles.clock import Clock
from goggles.contracts import inventory
from goggles.contracts.orders import Held, StorageHello, Welcome
from goggles.errors import ConnectionLost, GogglesError, Stale
from goggles.roles import Role
from goggles.storage.stream import OrderStream
from goggles.storage.vault import Vault
from goggles.wire.dial import Address, Dialer, Peer

log = logging.getLogger(__name__)
PATIENCE = 120.0  # seconds for a step of the self-check
SILENCE, LEAST_SILENCE = 5.0, 10.0  # heartbeats, and at least so many seconds, without an answer
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
SOON = 20  # tries with the first pause: a nameserver that was only restarted is back within seconds
RECHECK_PAUSE = 1.0
MAX_PUT_OFF = 1_000_000  # things that a self-check carries out at its end; another one finds the rest


@dataclass(frozen=True, slots=True)
class Place:
    """How this storage presents itself.  `capacity` in bytes."""

    name: str
    host: str
    port: int
    capacity: int
    zone: str
    facilities: str = "{}"
    ingestable: bool = True


class Attachment:
    """Keeps the storage attached, in threads of its own, from `start` to `stop`."""

    def __init__(
        self,
        place: Place,
        nameserver: Address,
        dialer: Dialer,
        vault: Vault,
        orders: OrderStream,
        active: Callable[[], tuple[str, ...]],
        clock: Clock,
    ) -> None:
        self._place = place
        self._nameserver = nameserver
        self._dialer = dialer
        self._vault = vault
        self._orders = orders
        self._active = active
        self._clock = clock
        self._stopping = threading.Event()
        self._again = threading.Event()
        self._keys: tuple[bytes, ...] = ()
        self._settled = -1  # change of the tree up to which all orders were carried out, as the nameserver says
        self.session = ""
        self.state = "connecting"
        self._talking = threading.Lock()
        self._talker: Peer | None = None  # guarded by _talking
        self._thread = threading.Thread(target=self._run, name="attachment", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._again.set()
        self._thread.join(5.0)
        if self._talker is not None:
            self._talker.close()

    def keys(self) -> tuple[bytes, ...]:
        """The keys with which grants are checked: this session's and the one before."""
        return self._keys

    def recheck(self) -> None:
        """The nameserver wants the self-check again."""
        self._settled = -1
        self._again.set()

    def connect(self) -> Peer:
        """A connection to the nameserver."""
        return self._dialer.rpc(self._nameserver, Role.NAMESERVER)

    def report(self, method: str, *args: object) -> None:
        """Say something about this session to the nameserver, once; what is lost will be asked for again."""
        try:
            self.say(method, *args)
        except GogglesError as error:
            log.warning("%s could not be told: %s", method, error)

    def say(self, method: str, *args: object) -> Any:
        """The nameserver's answer to something about this session; raises where it could not be told.

        Where the connection breaks it is said again over another one: it may come twice."""
        try:
            return self._talk().call(method, self.session, *args)
        except ConnectionLost:
            return self._talk().call(method, self.session, *args)

    def _talk(self) -> Peer:
        """The connection for what is said beside the attachment."""
        with self._talking:
            if self._talker is None or self._talker.closed:
                self._talker = self.connect()
            return self._talker

    @property
    def counts(self) -> bool:
        """Whether the nameserver gives orders, and hears of what becomes of the files."""
        return self.state in ("active", "draining", "held")

    def _run(self) -> None:
        pause, tries, said = FIRST_PAUSE, 0, ""
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            try:
                self._attach()
            except GogglesError as error:
                again = str(error) == said
                log.log(logging.DEBUG if again else logging.WARNING, "not attached to %s: %s", self._nameserver, error)
                said = str(error)
            except Exception:
                log.exception("attachment to the nameserver failed")
            self.state = "connecting"
            tries += 1
            if self._clock.monotonic() - began > 10 * LONGEST_PAUSE:
                pause, tries, said = FIRST_PAUSE, 0, ""
            elif tries > SOON:
                pause = min(LONGEST_PAUSE, 2 * pause)
            self._clock.wait(self._stopping, pause * random.uniform(0.5, 1.0))

    def _attach(self) -> None:
        """One attachment, from upgrade until the connection breaks or a new self-check is due."""
        self._again.clear()
        self._vault.need_folder()
        peer = self.connect()
        try:
            welcome = Welcome.from_wire(peer.call("upgrade", self._hello().to_wire(), timeout=PATIENCE))
            self._welcomed(welcome)
            checker = threading.Thread(target=self._self_check, args=(welcome,), name="self-check", daemon=True)
            checker.start()
            self._beat(peer, welcome)
        finally:
            peer.close()
            self._orders.begin("")

    def _welcomed(self, welcome: Welcome) -> None:
        # The epoch is believed once this nameserver has let the storage become active: until then, what it does not
        # know is held against it.
        known = self._vault.site
        self._vault.adopt(welcome.site_id, welcome.storage_id, known.epoch, known.epoch_token)
        self._keys = (welcome.grant_key, *[key for key in self._keys if key != welcome.grant_key])[:2]
        self.session = welcome.session
        self._orders.begin(welcome.session)
        self.state = "checking"

    def _hello(self) -> StorageHello:
        site = self._vault.site
        return StorageHello(
            name=self._place.name,
            host=self._place.host,
            port=self._place.port,
            capacity=self._place.capacity,
            zone=self._place.zone,
            storage_id=site.storage_id,
            site_id=site.site_id,
            epoch=site.epoch,
            epoch_token=site.epoch_token,
            disk_free=self._vault.disk_free,
            program=version.__version__,
            certificate_expires=self._dialer.contexts.expires_at,
            facilities=self._place.facilities,
            ingestable=self._place.ingestable,
            settled=self._settled,
        )

    def _sign(self, peer: Peer, welcome: Welcome) -> None:
        """A sign of life.  Whoever does not answer it is taken for gone, as a storage that gives none is."""
        patience = max(LEAST_SILENCE, SILENCE * welcome.heartbeat)
        heard = (welcome.session, self._vault.disk_free, self._active(), True)
        state, change = peer.call("heartbeat", *heard, timeout=patience)
        if change >= 0:
            self._settled = change
        if state != self.state:
            self.state = state
            log.info("the nameserver has this storage as %s", state)

    def _beat(self, peer: Peer, welcome: Welcome) -> None:
        while not self._again.is_set():
            self._vault.need_folder()
            self._sign(peer, welcome)
            self._clock.wait(self._again, welcome.heartbeat)
        if not self._stopping.is_set():
            log.info("the nameserver asks for a new self-check")
            self._clock.wait(self._stopping, RECHECK_PAUSE)

    # --- self-check ------------------------------------------------------------------------

    def _self_check(self, welcome: Welcome) -> None:
        """Steps 2 to 4 (see the seeds): inventory, directories, activate."""
        try:
            peer = self.connect()
            try:
                self._check(peer, welcome)
            finally:
                peer.close()
        except Stale as error:
            log.info("self-check given up: %s", error)
        except GogglesError as error:
            log.warning("self-check failed: %s; it begins again", error)
            self._again.set()
        except Exception:
            log.exception("self-check failed; it begins again")
            self._again.set()

    def _check(self, peer: Peer, welcome: Welcome) -> None:
        session, verdict = welcome.session, "again"
        while verdict == "again":
            put_off, found = self._inventory(peer, session, welcome.unchanged)
            failpoints.hit("storage.selfcheck.before_verdict")
            verdict, why = peer.call("verdict", session, self._vault.counted.left_out, timeout=PATIENCE)
        if verdict == "held":
            log.warning("held in safe mode: %s; an administrator decides (accept, or restoretree)", why)
            return
        for batch in _pages(put_off[:MAX_PUT_OFF]):
            failpoints.hit("storage.selfcheck.before_condemned")
            peer.call("condemned", session, inventory.pack(batch), timeout=PATIENCE)
        if not welcome.unchanged:
            self._walk_tree(peer, session)
        failpoints.hit("storage.selfcheck.before_activate")
        peer.call("activate", session, timeout=PATIENCE)
        failpoints.hit("storage.selfcheck.after_activate")
        self._sign(peer, welcome)
        self._vault.adopt(welcome.site_id, welcome.storage_id, welcome.epoch, welcome.epoch_token)
        log.info("self-check done: %d things found, %d of them out of place, unknown or replaced", found, len(put_off))
        if len(put_off) > MAX_PUT_OFF:
            self.recheck()

    def _walk_tree(self, peer: Peer, session: str) -> None:
        after = 0
        while after >= 0:
            after = peer.call("walk_tree", session, after, timeout=PATIENCE)

    def _inventory(self, peer: Peer, session: str, staged: bool) -> tuple[list[Held], int]:
        """What the nameserver puts off until its verdict, and how many things there are; `staged`: of those alone."""
        put_off: list[Held] = []
        found = 0
        for batch in _ahead(self._vault.walk_staged(inventory.PAGE) if staged else self._vault.walk(inventory.PAGE)):
            if self._again.is_set():
                raise Stale("the attachment ended")
            failpoints.hit("storage.selfcheck.before_inventory")
            places = peer.call("inventory", session, inventory.pack(batch), timeout=PATIENCE)
            found += len(batch)
            if len(put_off) <= MAX_PUT_OFF:
                put_off += [batch[place] for place in places]
        return put_off, found


def _ahead(batches: Iterator[list[Held]]) -> Iterator[list[Held]]:
    """The same; while one is told, the next is looked for."""
    with ThreadPoolExecutor(1, "inventory") as walker:
        coming = walker.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = walker.submit(next, batches, None)
            yield batch


def _pages(items: list[Held]) -> Iterator[list[Held]]:
    for start in range(0, len(items), inventory.PAGE):
        yield items[start : start + inventory.PAGE]
