"""Files go through Globus, and Globus does all that it is known to do: they arrive, and no batch is submitted twice."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.network.globus_server import Collection, Globus, Refused, Task, Whims
from tests.network.pump import Pump

from goggles.contracts.peering import State
from goggles.errors import GogglesError
from goggles.librarian.managers.globus.credentials import RETRIES
from goggles.librarian.states import LIVE
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.testing.cluster import wait_until
from goggles.testing.network import PASSWORD, Network

AT_SOURCE = (
    "librarian.offer.before_call",
    "librarian.offer.after_call",
    "librarian.globus.before_submit",
    "librarian.globus.after_submit",
    "librarian.consume.before_commit",
    "librarian.arrived.before_call",
)


@dataclass
class Place:
    """Two sites, three collections: alice's is the librarian's own, bob's has another, carol's shows other paths."""

    network: Network
    globus: Globus
    alice: str
    bob: str
    carol: str

    def put(self, home: str, count: int = 4, store: str = "") -> dict[str, bytes]:
        """Write files at the source."""
        files = {f"{home}/{number}": os.urandom(5_000 + number) for number in range(count)}
        with self.network["source"].connect() as fs:
            fs.mkdir(home)
            for path, data in files.items():
                fs.write(path, data)
        self.network["source"].wait_settled()
        return files

    def send(self) -> int:
        return self.network.run("source", "send_clone")

    def check(self, files: dict[str, bytes]) -> None:
        """All of them arrive as they were."""
        self.network.wait_arrived("central", list(files))
        with self.network["central"].connect() as there:
            assert {path: b"".join(there.read(path)) for path in files} == files

    def tasks(self, files: dict[str, bytes] | list[str]) -> list[Task]:
        """The tasks that these files were in."""
        names = tuple(files)
        with self.globus.lock:
            found = list(self.globus.tasks.values())
        return [task for task in found if any(_source(item).endswith(names) for item in task.body["DATA"])]

    def troubles(self) -> str:
        database = Database.open(self.network["source"].database)
        try:
            with database.read() as connection:
                return "\n".join(connection.execute(select(peering.errors.c.message)).scalars())
        finally:
            database.close()

    def batches(self, state: str) -> list:
        database = Database.open(self.network["source"].database)
        try:
            with database.read() as connection:
                queue = peering.send_queue
                return list(connection.execute(select(queue).where(queue.c.state == state)).all())
        finally:
            database.close()

    def hurry(self) -> None:
        """Whatever is put off is due now."""
        database = Database.open(self.network["source"].database)
        try:
            with database.write() as connection:
                connection.execute(update(peering.send_queue).values(not_before=0.0))
        finally:
            database.close()

    def hurried_until(self, what: str, true) -> None:
        def done() -> bool:
            self.hurry()
            return true()

        wait_until(what, done, 60)

    def exist(self, files) -> bool:
        with self.network["central"].connect() as there:
            return all(there.exists(path) for path in files)


def _source(item: dict) -> str:
    return item["source_path"]


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("globus")
    alice, bob, carol = (str(uuid.uuid4()) for _ in range(3))
    sites = folder / "sites"
    collections = {alice: Collection(sites), bob: Collection(sites), carol: Collection(sites / "central" / "storages")}
    collections[alice] = collections[bob] = Collection(Path("/"))
    globus = Globus(collections)
    flags = [*globus.flags(folder, alice), "--loglevel", "debug", "--globus_patience", "1", "--heartbeat", "0.3"]
    try:
        names = {"source": ("alice", "bob"), "central": ("carol",)}
        with Network(sites, names, flags, globus.environment) as network:
            for site, name, ways in (
                ("source", "bob", ["--globus_endpoint", bob, "--globus_available", "no"]),
                ("central", "carol", ["--globus_endpoint", carol, "--globus_root", "/carol"]),
            ):
                network[site].storages[name].stop()
                network[site].start_storage(name, ways)
            for each in network.sites.values():
                each.wait_active(each.names)
            network.link("source", "central")
            network.admin("source", "remove_librarian", "central", True)
            authenticator = "source:" + PASSWORD.format("source", "central")
            port = network["central"].port
            network.admin("source", "add_librarian", "central", "localhost", port, authenticator, managers=("globus",))
            with Pump(network):
                yield Place(network, globus, alice, bob, carol)
    finally:
        globus.stop()


@pytest.fixture
def place(_place: Place) -> Iterator[Place]:
    _place.globus.whims = Whims()
    yield _place
    _place.globus.whims = Whims()
    _place.hurry()


# --- as it should go -------------------------------------------------------------------------


def test_a_batch_is_cut_by_collection_and_each_part_is_one_task(place: Place) -> None:
    files = place.put("/cut", 12)
    assert place.send() == 12
    place.check(files)
    tasks = place.tasks(files)
    assert Counter(task.body["source_endpoint"] for task in tasks) == {place.alice: 1, place.bob: 1}
    moved = [item["source_path"] for task in tasks for item in task.body["DATA"]]
    assert len(moved) == len(set(moved)) == 12
    for task in tasks:
        body = task.body
        assert body["encrypt_data"] and body["verify_checksum"] and body["deadline"] and body["submission_id"]
        assert body["destination_endpoint"] == place.carol
        assert all(item["destination_path"].startswith("/carol/.goggles/incoming/") for item in body["DATA"])


def test_faults_and_damage_on_the_way_are_left_to_globus(place: Place) -> None:
    place.globus.whims = Whims(faults=3, corrupt=2)
    files = place.put("/faults")
    place.send()
    place.check(files)
    assert max(task.faults for task in place.tasks(files)) >= 3
    assert len(place.tasks(files)) <= 2, "a fault was taken for a failure"


def test_bytes_that_nobody_else_has_checked_are_checked_here(place: Place) -> None:
    place.globus.whims = Whims(silent_corruption=True)
    files = place.put("/silent", 1)
    place.send()
    wait_until("a task", lambda: bool(place.tasks(files)) and place.tasks(files)[0].status == "SUCCEEDED", 30)
    log = place.network["central"].folder / "nameserver.log"
    wait_until("a refusal", lambda: "did not arrive as it was sent" in log.read_text(), 30)
    assert not place.exist(files)


def test_no_secret_reaches_a_log(place: Place) -> None:
    files = place.put("/secrets", 1)
    place.globus.revoke()
    place.send()
    place.check(files)
    log = (place.network["source"].folder / "nameserver.log").read_text()
    assert "globus_sdk" in log or "RenewingAuthorizer" in log, "the library was not even heard"
    for secret in (*place.globus.clients.values(), *place.globus.tokens, "access-"):
        assert secret not in log


# --- limits and lost answers -----------------------------------------------------------------


def test_too_many_tasks_mean_waiting_and_not_failing(place: Place) -> None:
    place.globus.whims = Whims(pending=0)
    files = place.put("/many")
    place.send()
    log = place.network["source"].folder / "nameserver.log"
    wait_until("a refusal", lambda: "as many tasks of this identity as it takes" in log.read_text(), 30)
    assert {row.tries for row in place.batches("waiting")} == {0}, "waiting was taken for a failure"
    place.globus.whims = Whims()
    place.hurried_until("everything there", lambda: place.exist(files))
    assert len(place.tasks(files)) <= 2


def test_tasks_of_others_with_the_same_identity_count(place: Place) -> None:
    place.globus.whims = Whims(hold=True)
    owner = next(iter(place.globus.clients))
    others = [Task(str(uuid.uuid1()), owner, {"DATA_TYPE": "transfer", "DATA": []}) for _ in range(100)]
    with place.globus.lock:
        place.globus.tasks.update({task.id: task for task in others})
        place.globus.called.clear()
    files = place.put("/others", 2)
    place.send()
    log = place.network["source"].folder / "nameserver.log"
    wait_until("a count", lambda: "has 100 tasks of this identity" in log.read_text(), 30)
    assert "POST /v0.10/transfer" not in place.globus.called
    with place.globus.lock:
        for task in others:
            del place.globus.tasks[task.id]
    place.globus.whims = Whims()
    place.hurried_until("everything there", lambda: place.exist(files))


@pytest.mark.slow
def test_an_answer_that_is_lost_for_good_leads_to_no_second_task(place: Place) -> None:
    place.globus.whims = Whims(drop_replies=RETRIES + 3, hold=True)  # more than the SDK tries
    files = place.put("/lost", 1)
    place.send()
    wait_until("the task", lambda: len(place.tasks(files)) == 1, 30)
    place.hurried_until("all lost answers", lambda: place.globus.whims.drop_replies == 0)
    place.globus.whims.hold = False
    place.hurried_until("everything there", lambda: place.exist(files))
    place.check(files)
    assert len(place.tasks(files)) == 1
    log = (place.network["source"].folder / "nameserver.log").read_text()
    assert "it is not known yet whether Globus took the task" in log


def test_a_server_in_trouble_and_a_limit_of_calls_are_waited_for(place: Place) -> None:
    place.globus.whims = Whims(rate=6)
    place.globus.whims.answers.extend(
        [Refused(503, "ServiceUnavailable"), Refused(429, "RateLimit", headers={"Retry-After": "1"})]
    )
    place.globus.whims.submissions.extend([Refused(500, "InternalError"), Refused(500, "InternalError")])
    files = place.put("/slow", 3)
    place.send()
    place.hurried_until("everything there", lambda: place.exist(files))
    place.check(files)
    assert len(place.tasks(files)) <= 2


# --- what people have to do ------------------------------------------------------------------


def test_a_suspended_task_is_told_and_goes_on(place: Place) -> None:
    place.globus.whims = Whims(inactive=True)
    files = place.put("/suspended", 1)
    place.send()
    wait_until("word of it", lambda: "has suspended" in place.troubles(), 30)
    assert "librarian globus-login" in place.troubles()
    assert not place.exist(files)
    place.globus.whims = Whims()
    place.check(files)
    assert len(place.tasks(files)) == 1


def test_an_application_gives_its_consent_by_itself(place: Place) -> None:
    place.globus.collections[place.carol].needs_consent = True
    try:
        files = place.put("/consent", 1)
        place.send()
        place.check(files)
    finally:
        place.globus.collections[place.carol].needs_consent = False


def test_what_a_session_lacks_is_said(place: Place) -> None:
    place.globus.collections[place.carol].session = {"session_required_single_domain": ["example.org"]}
    try:
        files = place.put("/session", 1)
        place.send()
        wait_until("word of it", lambda: "can not give what this collection asks" in place.troubles(), 30)
    finally:
        place.globus.collections[place.carol].session = None
    place.hurried_until("everything there", lambda: place.exist(files))
    assert len(place.tasks(files)) == 1


def test_transfers_are_disabled_and_enabled_while_a_task_runs(place: Place) -> None:
    place.globus.whims = Whims(hold=True)
    files = place.put("/switched", 1)
    place.send()
    wait_until("a task", lambda: len(place.tasks(files)) == 1, 30)
    place.network.admin("source", "set_librarian_transfer", "central", False)
    place.globus.whims = Whims()
    wait_until("its end at Globus", lambda: place.tasks(files)[0].status == "SUCCEEDED", 30)
    assert not place.exist(files)
    place.network.admin("source", "set_librarian_transfer", "central", True)
    place.check(files)
    assert len(place.tasks(files)) == 1


# --- tasks that fail -------------------------------------------------------------------------


def _real(place: Place, path: str) -> Path:
    roots = [place.network["source"].root(name) for name in ("alice", "bob")]
    return next(root / path[1:] for root in roots if (root / path[1:]).exists())


def test_a_missing_file_holds_up_no_other_and_is_sent_when_it_is_back(place: Place) -> None:
    files = place.put("/missing", 5)
    lost = next(iter(files))
    hidden = _real(place, lost)
    hidden.rename(hidden.with_name("hidden"))
    place.send()
    others = {path: data for path, data in files.items() if path != lost}
    place.check(others)
    assert not place.exist([lost])
    assert {task.status for task in place.tasks(files)} == {"SUCCEEDED"}, "it held up the others"
    hidden.with_name("hidden").rename(hidden)
    place.hurried_until("the last one", lambda: place.exist(files))
    place.check(files)


def test_what_arrived_of_a_failed_task_is_kept(place: Place) -> None:
    place.globus.whims = Whims(fail_after=1)
    files = place.put("/partly", 8)
    place.send()
    wait_until("a failure", lambda: any(task.status == "FAILED" for task in place.tasks(files)), 30)
    place.globus.whims = Whims()
    place.hurried_until("everything there", lambda: place.exist(files))
    place.check(files)
    counts = Counter(item["source_path"] for task in place.tasks(files) for item in task.body["DATA"])
    kept = [row["source_path"] for task in place.tasks(files) if task.status == "FAILED" for row in task.done]
    assert kept and {counts[path] for path in kept} == {1}, "what had arrived was sent again"


def test_a_task_that_somebody_cancels_is_submitted_anew(place: Place) -> None:
    place.globus.whims = Whims(hold=True)
    files = place.put("/cancelled", 1)
    place.send()
    wait_until("a task", lambda: len(place.tasks(files)) == 1, 30)
    place.tasks(files)[0].cancelled = True
    log = place.network["source"].folder / "nameserver.log"
    wait_until("word of it", lambda: "the Globus task was cancelled" in log.read_text(), 30)
    place.globus.whims = Whims()
    place.hurried_until("everything there", lambda: place.exist(files))
    assert len({task.body["submission_id"] for task in place.tasks(files)}) == 2


def test_a_task_that_gets_nowhere_is_cancelled_and_told(place: Place) -> None:
    place.globus.whims = Whims(code="QUOTA_EXCEEDED")
    files = place.put("/quota", 1)
    place.send()
    wait_until("an end", lambda: any(task.status == "FAILED" for task in place.tasks(files)), 30)
    assert "gets nowhere: QUOTA_EXCEEDED" in place.troubles()
    place.globus.whims = Whims()
    place.hurried_until("everything there", lambda: place.exist(files))


def test_a_task_that_nobody_waits_for_is_cancelled(place: Place) -> None:
    place.globus.whims = Whims(hold=True)
    files = place.put("/needless", 1)
    place.send()
    wait_until("a task under way", lambda: len(place.tasks(files)) == 1 and bool(place.batches("sent")), 30)
    database = Database.open(place.network["source"].database)
    with database.write() as connection:
        theirs = update(peering.outgoing).where(peering.outgoing.c.path == next(iter(files)))
        connection.execute(theirs.values(state=int(State.CANCELLED)))
    database.close()
    wait_until("its end", lambda: place.tasks(files)[0].status == "FAILED", 30)
    assert place.tasks(files)[0].events[0]["code"] == "CANCELED"


def test_globus_may_write_to_the_places_for_arrivals(place: Place) -> None:
    place.globus.whims = Whims(hold=True)
    files = place.put("/rights", 1)
    place.send()
    wait_until("a task", lambda: len(place.tasks(files)) == 1, 30)
    (item,) = place.tasks(files)[0].body["DATA"]
    folder = place.globus.collections[place.carol].real(item["destination_path"]).parent
    assert folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o700 == 0o700
    assert not any(folder.iterdir()), "something is there that Globus would have to overwrite"
    place.globus.whims = Whims()
    place.check(files)


# --- death at each step ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("point", AT_SOURCE)
def test_there_is_one_task_for_each_batch_where_the_sender_dies_at(place: Place, point: str) -> None:
    site = place.network["source"]
    files = place.put("/" + point.replace(".", "-"), 4)
    assert site.nameserver is not None
    site.nameserver.kill()
    dying = site.start_nameserver(environment={"GOGGLES_FAILPOINTS": f"{point}=crash@1"})
    site.wait_active(site.names)
    sender = threading.Thread(target=_try_to_send, args=(place,))
    sender.start()
    wait_until(f"a death at {point}", lambda: not dying.running, 30)
    sender.join()
    site.start_nameserver()
    site.wait_active(site.names)
    place.network.admin("central", "get_librarian_list", True)  # or it would be left alone for a while
    _try_to_send(place)
    place.hurried_until("everything there", lambda: _try_to_send(place) or place.exist(files))
    place.check(files)
    counts = Counter(item["source_path"] for task in place.tasks(files) for item in task.body["DATA"])
    assert set(counts.values()) == {1} and len(counts) == 4, "a file was in two tasks"
    wait_until("the source knows", lambda: not _states(place) & LIVE, 30)


def _try_to_send(place: Place) -> None:
    with contextlib.suppress(GogglesError):
        place.send()


def _states(place: Place) -> set[State]:
    database = Database.open(place.network["source"].database)
    try:
        with database.read() as connection:
            return {State(state) for state in connection.execute(select(peering.outgoing.c.state)).scalars()}
    finally:
        database.close()
