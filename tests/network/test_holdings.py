"""Who holds what: the states of a file, validation, letting go, calling back, repair from elsewhere, chains."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goggles.errors import BadRequest, Conflict, GogglesError, NotFound, Shared, Unavailable
from goggles.roles import Role
from goggles.testing.cluster import wait_until
from goggles.testing.network import Network

FLAGS = ("--heartbeat", "0.5", "--grace", "2")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """source pushes to central, central to a and b; source knows nothing of a and b."""
    sites = {"source": ("s1", "s2"), "central": ("c1",), "a": ("a1",), "b": ("b1",)}
    with Network(tmp_path_factory.mktemp("chain"), sites, FLAGS) as made:
        made.link("source", "central")
        made.admin("source", "update_user", "central", level="READAPPEND")  # so that it may push back
        made.link("central", "a")
        made.link("central", "b")
        yield made


def send(network: Network, path: str, data: bytes, *way: str) -> None:
    """Write a file at the first site and have it pushed along the way."""
    fs = network[way[0]].connect()
    fs.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
    fs.write(path, data)
    for here, there in itertools.pairwise(way):
        network.run(here, "send_clone")
        network.wait_arrived(there, [path])
        wait_until(
            f"{there} is known at {here}", lambda here=here, there=there: there in holders(network, here, path), 30
        )


def holders(network: Network, site: str, path: str) -> set[str]:
    with network[site].connect() as fs:
        return {librarian for librarian, _ in fs.stat(path).elsewhere}


def found(network: Network, site: str, **query: Any) -> list[dict[str, Any]]:
    records, _ = network.admin(site, "search_files", tuple(query.items()))
    return [dict(record) for record in records]


def copies(network: Network, site: str, path: str) -> list[dict[str, Any]]:
    answer = network.admin(site, "validate_file", path, 20.0, timeout=90.0)
    return [dict(pairs) for pairs in answer]


def on_disk(network: Network, site: str, path: str) -> list[Path]:
    cluster = network[site]
    return [cluster.root(name) / path[1:] for name in cluster.names if (cluster.root(name) / path[1:]).exists()]


def rot(network: Network, site: str, path: str) -> None:
    """Other bytes under the same size and times."""
    wait_until(f"{path} is published", lambda: on_disk(network, site, path) != [], 20)
    (file,) = on_disk(network, site, path)
    before = os.stat(file)
    data = bytearray(file.read_bytes())
    data[0] ^= 0xFF
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_goes_along_a_chain_and_each_knows_its_neighbours_alone(network: Network) -> None:
    data = os.urandom(100_000)
    send(network, "/chain/file", data, "source", "central", "a")
    network.run("central", "send_clone")
    network.wait_arrived("b", ["/chain/file"])
    wait_until("both known", lambda: holders(network, "central", "/chain/file") >= {"a", "b"}, 30)
    assert holders(network, "source", "/chain/file") == {"central"}
    assert holders(network, "a", "/chain/file") <= {"central"}
    for site in ("central", "a", "b"):
        with network[site].connect() as fs:
            assert b"".join(fs.read("/chain/file")) == data
            assert fs.stat("/chain/file").source == network["source"].connect().stat("/chain/file").source


def test_all_five_states_exist_and_are_shown(network: Network) -> None:
    fs = network["source"].connect()
    fs.mkdir("/states", exist_ok=True)
    fs.write("/states/one", b"1")
    fs.write("/states/many", b"2")
    fs.setrep("/states/many", 2)
    send(network, "/states/everywhere", b"3", "source", "central")
    send(network, "/states/away", b"4", "source", "central")
    network.admin("source", "evict", "/states/away")
    network["source"].wait_whole(30)
    fs.write("/states/gone", b"5")
    wait_until("published", lambda: on_disk(network, "source", "/states/gone") != [], 20)
    for file in on_disk(network, "source", "/states/gone"):
        file.unlink()
    network.admin("source", "verify", "/states/gone")
    wait_until("gone", lambda: fs.stat("/states/gone").held == "nowhere", 20)
    shown = {entry.path.rpartition("/")[2]: (entry.held, len(entry.storages)) for entry in fs.ls("/states")}
    assert shown == {
        "one": ("here and elsewhere" if holders(network, "source", "/states/one") else "here", 1),
        "many": ("here and elsewhere" if holders(network, "source", "/states/many") else "here", 2),
        "everywhere": ("here and elsewhere", 1),
        "away": ("offsite", 0),
        "gone": ("nowhere", 0),
    }
    assert fs.stat("/states/away").offsite
    by_name = {record["path"]: record for record in found(network, "source", name="/states/*")}
    assert [one["available"] for one in by_name["/states/away"]["instances"] for one in [dict(one)]] == [False]
    assert [dict(one)["librarian"] for one in by_name["/states/away"]["remote_instances"]] == ["central"]
    assert by_name["/states/gone"]["instances"] == ()
    fs.rm("/states/gone")


def test_an_evicted_file_is_listed_and_comes_back_when_it_is_called(network: Network) -> None:
    data = os.urandom(300_000)
    fs = network["source"].connect()
    send(network, "/evict/file", data, "source", "central")
    fs.setrep("/evict/file", 2)
    network["source"].wait_whole(30)
    assert dict(network.admin("source", "evict", "/evict/file"))["copies"] == 2
    wait_until("removed", lambda: not on_disk(network, "source", "/evict/file"), 20)
    info = fs.stat("/evict/file")
    assert (info.held, info.copies, info.unavailable, info.hash) == ("offsite", 0, ("s1", "s2"), info.hash)
    with pytest.raises(GogglesError):
        b"".join(fs.read("/evict/file"))
    with pytest.raises(Shared):
        fs.write("/evict/file", b"other bytes")
    network.admin("source", "update_user", "central", level="CALLBACK")
    with pytest.raises(Unavailable, match=r"its account here has CALLBACK, and needs READAPPEND.*update-user"):
        network.admin("source", "recall", "/evict/file")
    network.admin("source", "update_user", "central", level="READAPPEND")
    assert dict(network.admin("source", "recall", "/evict/file"))["librarian"] == "central"
    wait_until("back", lambda: fs.stat("/evict/file").held == "here and elsewhere", 30)
    network["source"].wait_whole(30)
    assert b"".join(fs.read("/evict/file")) == data
    info = fs.stat("/evict/file")
    assert (info.copies, len(info.storages), info.unavailable) == (2, 2, ())


def test_nothing_is_let_go_that_no_other_holds_in_good_health(network: Network) -> None:
    fs = network["source"].connect()
    fs.mkdir("/keep")
    fs.write("/keep/alone", b"only here")
    with pytest.raises(Conflict, match="0 good copies elsewhere"):
        network.admin("source", "evict", "/keep/alone")
    send(network, "/keep/rotten", b"will rot there", "source", "central")
    with pytest.raises(Conflict, match="1 good copies elsewhere, 2 are needed"):
        network.admin("source", "evict", "/keep/rotten", 2)
    rot(network, "central", "/keep/rotten")
    with pytest.raises(Conflict, match="0 good copies elsewhere"):
        network.admin("source", "evict", "/keep/rotten")
    with pytest.raises(BadRequest):
        network.admin("source", "evict", "/keep/rotten", 0)
    with pytest.raises(NotFound):
        network.admin("source", "evict", "/keep/nothing")
    assert b"".join(fs.read("/keep/alone")) == b"only here"
    assert b"".join(fs.read("/keep/rotten")) == b"will rot there"


def test_two_that_let_go_at_once_do_not_rely_on_each_other(network: Network) -> None:
    """Each would find the other's copy good, were it not for the word that it is going to be let go."""
    send(network, "/both/file", b"precious", "source", "central")
    network.admin("central", "run_task", "send_clone")
    results: list[object] = []

    def evict(site: str) -> None:
        try:
            results.append(network.admin(site, "evict", "/both/file"))
        except GogglesError as error:
            results.append(error)

    threads = [threading.Thread(target=evict, args=(site,)) for site in ("source", "central")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [site for site in ("source", "central", "a", "b") if on_disk(network, site, "/both/file")]
    assert left, results


def test_validation_reads_every_copy_wherever_it_is_and_says_which_is_bad(network: Network) -> None:
    send(network, "/valid/file", b"good bytes", "source", "central", "a")
    network.run("central", "send_clone")
    network.wait_arrived("b", ["/valid/file"])
    wait_until("both known", lambda: holders(network, "central", "/valid/file") >= {"a", "b"}, 30)
    rot(network, "a", "/valid/file")
    told = {(one["librarian"], one["store"]): one for one in copies(network, "source", "/valid/file")}
    here = {key for key in told if key[0] == "source"}
    assert set(told) - here == {("central", "c1"), ("a", "a1"), ("b", "b1")}
    assert {key[0] for key, one in told.items() if not one["computed_same_checksum"]} == {"a"}
    bad = told["a", "a1"]
    assert bad["current_checksum"] != bad["original_checksum"] == told["b", "b1"]["current_checksum"]
    assert bad["current_size"] == bad["original_size"] == 10


def test_a_librarian_that_is_down_is_listed_as_such(network: Network) -> None:
    send(network, "/down/file", b"x", "source", "central", "a")
    process = network["a"].nameserver
    assert process is not None
    process.stop()
    try:
        told = {one["librarian"]: one for one in copies(network, "source", "/down/file")}
    finally:
        network["a"].start_nameserver()
        network["a"].wait_active(("a1",))
    assert told["central"]["computed_same_checksum"]
    assert "nobody answers" in told["a"]["error"]


def test_a_copy_that_rotted_at_the_end_of_the_chain_is_sent_again_from_above(network: Network) -> None:
    data = os.urandom(50_000)
    send(network, "/rot/file", data, "source", "central", "a")
    rot(network, "a", "/rot/file")
    assert network.run("a", "check_integrity") >= 0
    network.admin("a", "verify", "/rot/file")
    with network["a"].connect() as fs:
        wait_until("noticed", lambda: fs.stat("/rot/file").held == "nowhere", 20)
        network.run("a", "corruption_fixer")
        wait_until("healed", lambda: fs.stat("/rot/file").held == "here", 60)
        assert b"".join(fs.read("/rot/file")) == data
        network.run("a", "corruption_fixer")


def test_what_the_scrub_finds_to_be_the_last_copy_here_is_said_and_sent_again(network: Network) -> None:
    data, site = os.urandom(50_000), network["a"]
    send(network, "/scrubbed/file", data, "source", "central", "a")
    rot(network, "a", "/scrubbed/file")
    site.storages["a1"].stop()
    site.start_storage("a1", ["--scrub_days", "0.00002", "--scrub_rate", "0"])
    site.wait_active(["a1"])
    with site.connect() as fs:
        wait_until("the scrub has noticed", lambda: fs.stat("/scrubbed/file").held == "nowhere", 60)
        with pytest.raises(Unavailable, match="no storage that is up holds"):
            b"".join(fs.read("/scrubbed/file"))

        def said() -> set[str]:
            return {dict(one)["message"] for one in network.admin("a", "search_errors", ())}

        wait_until(
            "it is said", lambda: "the last copy of /scrubbed/file here is lost: storage a1 had it" in said(), 20
        )
        network.run("a", "corruption_fixer")
        wait_until("healed", lambda: fs.stat("/scrubbed/file").held == "here", 60)
        assert b"".join(fs.read("/scrubbed/file")) == data
    site.storages["a1"].stop()
    site.start_storage("a1")
    site.wait_active(["a1"])


def test_rolling_deletion_lets_go_only_what_may_go_and_others_have(network: Network) -> None:
    fs = network["source"].connect()
    send(network, "/roll/may", b"may go", "source", "central")
    send(network, "/roll/stay", b"must stay", "source", "central")
    fs.mkdir("/roll/alone")
    fs.write("/roll/alone/file", b"nobody else has it")
    for path in ("/roll/may", "/roll/alone/file"):
        network.admin("source", "set_deletion", path, True)
    plan = (("age_in_days", 0.0), ("number_of_remote_copies", 1))
    assert network.admin("source", "run_plan", "rolling_deletion", plan, "roll") == 1
    assert fs.stat("/roll/may").held == "offsite"
    assert fs.stat("/roll/stay").storages
    assert fs.stat("/roll/alone/file").storages
    assert b"".join(network["central"].connect().read("/roll/may")) == b"may go"


def test_a_holder_that_removed_its_copy_is_struck(network: Network) -> None:
    send(network, "/struck/file", b"x", "source", "central")
    network["central"].connect().rm("/struck/file")
    assert network.run("source", "duplicate_remote_instance_hypervisor") >= 1
    assert holders(network, "source", "/struck/file") == set()
    with pytest.raises(Conflict, match="0 good copies elsewhere"):
        network.admin("source", "evict", "/struck/file")


def test_search_finds_by_name_time_uploader_and_source_and_pages(network: Network) -> None:
    fs = network["b"].connect()
    fs.mkdir("/search/sub", parents=True)
    for number in range(7):
        fs.write(f"/search/sub/f{number}.dat", b"x")
    everything = {record["path"] for record in found(network, "b", name="*.dat")}
    assert everything == {f"/search/sub/f{number}.dat" for number in range(7)}
    assert [record["path"] for record in found(network, "b", name="f3.dat")] == ["/search/sub/f3.dat"]
    assert [record["path"] for record in found(network, "b", name="/search/sub/f4.dat")] == ["/search/sub/f4.dat"]
    assert found(network, "b", name="/search/sub/f4") == []
    uploader = fs.stat("/search/sub/f1.dat").uploader
    assert len(found(network, "b", name="/search/*", uploader=uploader)) == 7
    assert found(network, "b", name="/search/*", uploader="nobody") == []
    made = fs.stat("/search/sub/f6.dat").created
    assert [r["path"] for r in found(network, "b", name="*.dat", create_time_start=made)][-1:] == ["/search/sub/f6.dat"]
    assert found(network, "b", name="*.dat", create_time_end=made - 1000) == []
    pages, after = [], 0
    while after >= 0:
        records, after = network.admin("b", "search_files", (("name", "*.dat"), ("max_results", 3), ("after", after)))
        pages.append(len(records))
    assert sum(pages) == 7
    assert max(pages) == 3
    for wrong in ({"max_results": 0}, {"name": 3}, {"colour": "red"}, {"create_time_start": "yesterday"}):
        with pytest.raises(BadRequest):
            found(network, "b", **wrong)


def test_the_shell_validates_lets_go_and_calls_back(network: Network) -> None:
    send(network, "/shell/file", b"precious", "source", "central")

    site = network["source"]
    flags = ["--ns_port", str(site.port), *site.certificates.flags("admin", Role.ADMIN)]

    def shell(line: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "goggles.cli.client", *flags, "-c", line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = shell("validate /shell/file")
    assert code == 0
    assert text.count("good") == 2
    assert shell("evict --copies 1 /shell/file")[0] == 0
    assert "offsite" in shell("ls -l /shell")[1]
    assert shell("evict /shell/file")[0] == 1
    assert "librarian central sends it" in shell("recall /shell/file")[1]
    with network["source"].connect() as fs:
        wait_until("back", lambda: fs.stat("/shell/file").storages != (), 30)
    rot(network, "central", "/shell/file")
    code, text = shell("validate /shell/file")
    assert code == 1
    assert "BAD" in text
