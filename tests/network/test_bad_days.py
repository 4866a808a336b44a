"""Bad days between sites: no room, two who want one path, removals, long absences, old databases, wrong clocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from tests.network.campaign import left_over, live_transfers, schedule

from goggles.errors import GogglesError, NotFound, Shared
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.network import PASSWORD, Network

FLAGS = ("--heartbeat", "0.3", "--grace", "2", "--offer_again", "1")
KIB = 1 << 10
LATER = """
import datetime
import time

now = time.time
time.time = lambda: now() + 3600.0


class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


datetime.datetime = Later
"""


@contextmanager
def linked(
    folder: Path, flags: tuple[str, ...] = (), capacity: int = 8 << 30, *, push: bool = True
) -> Iterator[Network]:
    """source pushes to central; both have schedules of short times, the source none where not `push`."""
    made = Network(folder, {"source": ("alice",), "central": ("carol",)}, FLAGS)
    made["central"].capacity = capacity
    for name, peers in (("source", ["central"]), ("central", [])):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(schedule(peers)))
        made[name]._nameserver_flags += ["--background", str(file) if push or name == "central" else "off"]
    made["source"]._nameserver_flags += flags
    with made as network:
        network.link("source", "central")
        yield network


def write(site: Cluster, home: str, number: int, size: int) -> dict[str, bytes]:
    """Files in a directory of their own."""
    files = {f"{home}/{index}": os.urandom(size) for index in range(number)}
    with site.connect() as fs:
        fs.mkdir(home, parents=True, exist_ok=True)
        for path, data in files.items():
            fs.write(path, data)
    return files


def there(site: Cluster, files: dict[str, bytes]) -> dict[str, bytes]:
    """Those of these files that a site has, as it has them."""
    with site.connect() as fs:
        return {path: b"".join(fs.read(path)) for path in files if fs.exists(path)}


def come_to_rest(network: Network, seconds: float = 60.0) -> None:
    """Return when nothing is under way and nothing is left behind; then tree and disks agree."""

    def unrest() -> list[str]:
        return [line for site in network.sites.values() for line in (*live_transfers(site.database), *left_over(site))]

    try:
        wait_until("the network at rest", lambda: not unrest(), seconds)
    except GogglesError as error:
        pytest.fail(f"{error}: {unrest()}")
    for site in network.sites.values():
        site.wait_settled()
        assert fsck(site.database, {name: site.root(name) for name in site.names}) == []


def errors_of(site: Cluster) -> list[str]:
    """What went wrong with the transfers that a site sends."""
    database = Database.open(site.database)
    try:
        with database.read() as connection:
            return [text for text in connection.execute(select(peering.outgoing.c.error)).scalars() if text]
    finally:
        database.close()


@pytest.mark.slow
def test_what_finds_no_room_waits_until_there_is(tmp_path: Path) -> None:
    with linked(tmp_path, capacity=1200 * KIB) as network:
        files = write(network["source"], "/many", 10, 300 * KIB)
        wait_until("what fits there", lambda: len(there(network["central"], files)) == 4, 60)
        time.sleep(4)  # more offers are made, and refused
        here = there(network["central"], files)
        assert len(here) == 4
        assert {path: files[path] for path in here} == here
        assert any("room" in why for why in errors_of(network["source"]))
        network["central"].storages["carol"].stop()
        network["central"].capacity = 8 << 20
        network["central"].start_storage("carol")
        network.wait_arrived("central", list(files), 60)
        assert there(network["central"], files) == files
        come_to_rest(network)


def test_one_path_from_two_sources_is_one_file(tmp_path: Path) -> None:
    sites = {"first": ("f1",), "second": ("s1",), "central": ("carol",)}
    made = Network(tmp_path, sites, FLAGS)
    for name in ("first", "second"):
        made[name]._nameserver_flags += ["--background", "off"]
    with made as network:
        for name in ("first", "second"):
            network.link(name, "central")
            with network[name].connect() as fs:
                fs.write("/same", name.encode())
        assert network.run("first", "send_clone") == 1
        assert network.run("second", "send_clone") == 0
        assert any("on its way here" in why for why in errors_of(network["second"]))

        def sent() -> bool:
            network.run("first", "consume_queue")
            network.run("first", "check_consumed_queue")
            return bool(there(network["central"], {"/same": b""}))

        wait_until("the first", sent, 30)
        time.sleep(1.1)
        assert network.run("second", "send_clone") == 0
        assert any("something else stands at /same" in why for why in errors_of(network["second"]))
        assert there(network["central"], {"/same": b""}) == {"/same": b"first"}
        assert there(network["second"], {"/same": b""}) == {"/same": b"second"}
        come_to_rest(network)


def test_what_is_shared_is_fixed_from_the_offer_on(tmp_path: Path) -> None:
    with linked(tmp_path, push=False) as network, network["source"].connect() as fs:
        fs.mkdir("/above")
        fs.write("/above/file", b"1")
        network.run("source", "send_clone")
        for change in (
            lambda: fs.write("/above/file", b"2"),
            lambda: fs.mv("/above/file", "/above/other"),
            lambda: fs.mv("/above", "/below"),
        ):
            with pytest.raises(Shared):
                change()
        fs.rm("/above/file")
        network.run("source", "consume_queue")
        fs.mv("/above", "/below")
        come_to_rest(network)


def test_what_is_removed_before_it_is_sent_is_cancelled(tmp_path: Path) -> None:
    with linked(tmp_path, push=False) as network, network["source"].connect() as fs:
        fs.write("/gone", b"soon")
        fs.write("/stays", b"here")
        network.run("source", "send_clone")
        fs.rm("/gone")
        network.run("source", "consume_queue")

        def arrived() -> bool:
            network.run("source", "check_consumed_queue")
            return there(network["central"], {"/stays": b"", "/gone": b""}) == {"/stays": b"here"}

        wait_until("the other", arrived, 30)
        come_to_rest(network)
        assert there(network["central"], {"/gone": b""}) == {}


def test_what_is_removed_while_it_is_sent_is_cancelled(tmp_path: Path) -> None:
    with linked(tmp_path, ("--push_rate", "200000")) as network, network["source"].connect() as fs:
        fs.write("/large", os.urandom(4 << 20))
        incoming = network["central"].root("carol") / ".goggles" / "incoming"
        wait_until("some of it", lambda: any(path.stat().st_size for path in incoming.glob("*/data")), 30)
        fs.rm("/large")
        come_to_rest(network, 15)
        assert there(network["central"], {"/large": b""}) == {}


@pytest.mark.slow
def test_a_peer_that_is_away_for_long_costs_little(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        central, source = network["central"], network["source"]
        assert central.nameserver is not None
        assert source.nameserver is not None
        first = write(source, "/first", 40, 10)
        network.wait_arrived("central", list(first))
        come_to_rest(network)
        central.nameserver.kill()
        central.storages["carol"].kill()
        files = write(source, "/away", 300, 10)
        time.sleep(5)
        process, log = psutil.Process(source.nameserver.pid), source.folder / "nameserver.log"
        spent, said = sum(process.cpu_times()[:2]), len(log.read_bytes())
        time.sleep(20)
        spent, said = sum(process.cpu_times()[:2]) - spent, len(log.read_bytes()) - said
        print(f"{spent:.2f} s of CPU and {said} bytes of log in 20 s")
        assert spent < 4
        assert said < 2_000
        central.start_nameserver()
        central.start_storage("carol")
        network.wait_arrived("central", list(files), 60)
        come_to_rest(network)


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["source", "central"])
def test_an_older_database_loses_nothing(tmp_path: Path, name: str) -> None:
    with linked(tmp_path, ("--push_rate", "100000")) as network:
        site, storage = network[name], network[name].names[0]
        files = write(network["source"], "/before", 30, 20 * KIB)
        wait_until("some of them there", lambda: len(there(network["central"], files)) > 2, 30)
        assert site.nameserver is not None
        site.nameserver.stop()
        copy = tmp_path / "copy.db"
        shutil.copy(site.database, copy)
        site.start_nameserver()
        site.wait_active(site.names)
        files |= write(network["source"], "/after", 30, 20 * KIB)
        wait_until("some of those there", lambda: len(there(network["central"], files)) > 35, 60)
        site.nameserver.kill()
        for old in Path(site.database).parent.glob("goggles.db*"):
            if not old.name.endswith(".lock"):
                old.unlink()
        shutil.copy(copy, site.database)
        site.start_nameserver()
        wait_until("its storage is back", lambda: site.states().get(storage) in ("held", "active"), 30)
        if site.states()[storage] == "held":
            network.admin(name, "restoretree", storage)
        site.wait_active(site.names)
        network.wait_arrived("central", list(files), 90)
        assert there(network["central"], files) == files
        assert there(network["source"], files) == files
        come_to_rest(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["source", "central"])
def test_clocks_an_hour_apart_do_no_harm(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LATER)
    made = Network(tmp_path, {"source": ("alice",), "central": ("carol",)}, FLAGS)
    made[name]._environment["PYTHONPATH"] += f"{os.pathsep}{folder}"
    for site, peers in (("source", ["central"]), ("central", [])):
        (tmp_path / f"{site}.json").write_text(json.dumps(schedule(peers)))
        made[site]._nameserver_flags += ["--background", str(tmp_path / f"{site}.json")]
    with made as network:
        network.link("source", "central")
        files = write(network["source"], "/hour", 20, 30 * KIB)
        network.wait_arrived("central", list(files), 60)
        assert there(network["central"], files) == files
        with network["source"].connect() as here, network["central"].connect() as fs:
            apart = fs.stat("/hour/0").created - time.time()
            assert here.stat("/hour/0").created == fs.stat("/hour/0").created
            assert abs(apart - (3600 if name == "source" else 0)) < 300
        come_to_rest(network)


def test_a_peer_of_another_name_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with linked(tmp_path, push=False) as network:
        network.admin("source", "remove_librarian", "central", True)
        authenticator = f"source:{PASSWORD.format('source', 'central')}"
        network.admin("source", "add_librarian", "zentral", "localhost", network["central"].port, authenticator, False)
        files = write(network["source"], "/names", 3, 10)
        for task in ("send_clone", "consume_queue", "outgoing_transfer_hypervisor"):
            assert network.run("source", task) == 0
        (peer,) = (dict(peer) for peer in network.admin("source", "get_librarian_list", True))
        assert "is called central, here it is known as zentral" in peer["why_not"]
        network.admin("source", "remove_librarian", "zentral", True)
        network.admin("source", "add_librarian", "central", "localhost", network["central"].port, authenticator)
        network.run("source", "send_clone")

        def arrived() -> bool:
            for task in ("consume_queue", "check_consumed_queue"):
                network.run("source", task)
            return there(network["central"], files) == files

        wait_until("all of them", arrived, 30)
        come_to_rest(network)
        with pytest.raises(NotFound):
            network.admin("source", "remove_librarian", "zentral")


@pytest.mark.slow
def test_what_was_promised_a_storage_that_died_goes_to_another(tmp_path: Path) -> None:
    made = Network(tmp_path, {"source": ("alice",), "central": ("carol", "dave")}, FLAGS)
    made["source"]._nameserver_flags += ["--background", "off"]
    with made as network:
        network.link("source", "central")
        source, central = network["source"], network["central"]
        files = write(source, "/promised", 5, 10)
        assert source.nameserver is not None
        source.nameserver.kill()
        source.start_nameserver(environment={"GOGGLES_FAILPOINTS": "librarian.offer.after_call=crash@1"})
        source.wait_active(source.names)
        with contextlib.suppress(GogglesError):
            network.run("source", "send_clone")
        source.nameserver.wait()
        (dead,) = {line.split()[-1] for line in left_over(central)}
        central.storages[dead].kill()
        wait_until("its absence is noticed", lambda: central.states().get(dead) != "active", 20)
        source.start_nameserver()
        source.wait_active(source.names)
        assert network.run("source", "send_clone") == len(files)

        def arrived() -> bool:
            for task in ("consume_queue", "check_consumed_queue"):
                network.run("source", task)
            return there(central, files) == files

        wait_until("all of them", arrived, 30)
        central.start_storage(dead)
        central.wait_active(central.names)
        come_to_rest(network, 20)
