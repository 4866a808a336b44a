"""Files go through Globus: each batch is one task for each collection that it comes from, also where the sender dies.

An application is logged in, and two storages send that are in collections of their own.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter

import pytest
from sqlalchemy import select
from tests.network.globus.sites import Place

from goggles.librarian.states import LIVE
from goggles.meta import peering

AT_SOURCE = (
    "librarian.offer.before_call",
    "librarian.offer.after_call",
    "librarian.globus.before_submit",
    "librarian.globus.after_submit",
    "librarian.consume.before_commit",
    "librarian.arrived.before_call",
)


NATIVE = False  # of the application that logs in, for the fixture `place`


def test_a_batch_is_cut_by_collection_and_each_part_is_one_task(place: Place) -> None:
    files = place.put("/cut", 12)
    assert place.network.run("source", "send_clone") == 12
    place.arrive(files)
    tasks = place.tasks(files)
    sources = [task.document["source_endpoint"] for task in tasks]
    assert len(sources) == 2 and place.here.id in sources and len(set(sources)) == 2
    moved = [item["source_path"] for task in tasks for item in task.document["DATA"]]
    assert len(moved) == len(set(moved)) == 12
    for task in tasks:
        document = task.document
        assert document["encrypt_data"] and document["verify_checksum"] and document["deadline"]
        assert document["destination_endpoint"] == place.there.id
        assert all(item["destination_path"].startswith("/carol/.goggles/incoming/") for item in document["DATA"])
    assert {each.status for each in place.globus.asked} <= {200, 202}, "it asked what the service does not take"


def test_an_application_gives_its_consent_by_itself(place: Place) -> None:
    place.there.consent = True
    files = place.sent("/consent", count=1)
    place.arrive(files)
    assert 403 in [each.status for each in place.globus.asked], "it was not even asked for"


def test_what_an_application_can_not_give_is_said(place: Place) -> None:
    place.there.session = {"session_required_single_domain": ["example.org"]}
    files = place.sent("/session", count=1)
    place.waits("word of it", lambda: "can not give what this collection asks" in place.troubles())
    place.there.session = None
    place.arrive(files)
    assert len(place.tasks(files)) == 1


def test_no_secret_of_an_application_is_anywhere_else(place: Place) -> None:
    place.globus.auth.expire_all()
    files = place.sent("/secrets", count=1)
    place.arrive(files)
    assert "globus_sdk" in place.log(), "the library was not even heard"
    assert not place.leaks()


# --- death -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("point", AT_SOURCE)
def test_there_is_one_task_for_each_batch_where_the_sender_dies_at(place: Place, point: str) -> None:
    site = place.network["source"]
    files = place.put("/" + point.replace(".", "-"), 4)
    site.nameserver.kill()
    dying = site.start_nameserver(environment={"GOGGLES_FAILPOINTS": f"{point}=crash@1"})
    site.wait_active(site.names)
    sender = threading.Thread(target=place.send)
    sender.start()
    place.waits(f"a death at {point}", lambda: not dying.running)
    sender.join()
    site.start_nameserver()
    site.wait_active(site.names)
    place.network.admin("central", "get_librarian_list", True)  # or it would be left alone for a while
    place.arrive(files, 60.0)
    moved = Counter(item["source_path"] for task in place.tasks(files) for item in task.document["DATA"])
    assert set(moved.values()) == {1} and len(moved) == 4, "a file was in two tasks"
    place.waits(
        "the source knows",
        lambda: not place.sql(select(peering.outgoing.c.id).where(peering.outgoing.c.state.in_(LIVE))),
    )


@pytest.mark.slow
def test_deaths_in_a_row_while_globus_loses_answers_leave_one_task_for_each_batch(place: Place) -> None:
    """kill -9 at moments that nobody chose, again and again, and each second submission loses its answer."""
    site = place.network["source"]
    files: dict[str, bytes] = {}
    for turn in range(4):
        place.globus.trip("POST /v0.10/transfer", "reset-after", times=1)
        files |= place.put(f"/deaths-{turn}", 3)
        sender = threading.Thread(target=place.send)
        sender.start()
        time.sleep(0.05 + 0.12 * turn)
        site.nameserver.kill()
        sender.join()
        site.start_nameserver()
        site.wait_active(site.names)
    place.arrive(files, 60.0)
    moved = Counter(item["source_path"] for task in place.tasks(files) for item in task.document["DATA"])
    assert set(moved.values()) == {1}, "a batch was submitted twice"
    assert not re.search("Traceback", place.log())
