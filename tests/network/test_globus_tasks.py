"""What becomes of files while a Globus task misbehaves: what it calls done is looked at, what arrived is kept, the rest
is sent again, and who looks sees how far it is.

A person has logged in, and the refresh token changes at each use.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from sqlalchemy import update
from tests.network.globus.sites import Place
from tests.network.globus.tasks import Mood

from goggles.contracts.peering import State
from goggles.meta import peering

NATIVE = True  # of the application that logs in, for the fixture `place`


# --- bytes -----------------------------------------------------------------------------------


def test_what_globus_calls_done_and_is_not_never_becomes_a_file(place: Place) -> None:
    wrong = dict(enumerate(("bytes", "short", "long", "late", "nothing")))
    files = place.sent("/wrong", Mood(wrong=wrong), count=7)
    place.arrive(files)
    items = [item["source_path"] for task in place.tasks(files) for item in task.document["DATA"]]
    moved, (first, *_) = Counter(items), place.tasks(files)
    good = [item["source_path"] for item in first.document["DATA"][len(wrong) :]]
    assert {path for path, count in moved.items() if count == 1} == set(good), "what was good was sent again, or else"
    assert set(moved.values()) == {1, 2}


def test_order_and_files_that_nobody_asked_for_do_no_harm(place: Place) -> None:
    files = place.sent("/extra", Mood(shuffle=True, extra=True), count=6)
    place.arrive(files)
    arrivals = place.network["central"].root("carol") / ".goggles" / "incoming"
    place.waits("clean places", lambda: not list(arrivals.rglob("*extra")))


def test_globus_may_write_to_the_places_for_arrivals(place: Place) -> None:
    files = place.sent("/rights", Mood(hold=True), count=1)
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    (item,) = place.tasks(files)[0].document["DATA"]
    folder = place.there.place(item["destination_path"]).parent
    assert folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o700 == 0o700
    assert not any(folder.iterdir()), "something is there that Globus would have to overwrite"
    place.globus.resume()
    place.arrive(files)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_of_a_collection_does_not_become_that_of_the_storage(place: Place, umask: int) -> None:
    place.there.umask = umask
    files = place.sent(f"/umask-{umask:03o}", count=1)
    place.arrive(files)
    root = place.network["central"].root("carol")
    for path in files:
        assert not (root / path[1:]).stat().st_mode & 0o022, "others may change the file"


# --- tasks that go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "mood", [Mood(after=1, fail="ENDPOINT_ERROR"), Mood(after=2, expire=True), Mood(after=1, cancel="no more of this")]
)
def test_what_arrived_is_kept_of_a_task_that_ends_early(place: Place, mood: Mood) -> None:
    place.globus.lists_break = True
    name = "fail" if mood.fail else "expire" if mood.expire else "cancel"
    files = place.sent(f"/early-{name}", mood, count=5)
    place.arrive(files)
    moved = Counter(item["source_path"] for task in place.tasks(files) for item in task.document["DATA"])
    assert sorted(moved.values()) == [1] * mood.after + [2] * (5 - mood.after)
    said = {"fail": "the Globus task failed: ENDPOINT_ERROR", "expire": "not done before its deadline"}
    assert said.get(name, "cancelled by its administrator (no more of this)") in place.log()


def test_many_missing_files_are_left_out_and_told_page_by_page(place: Place) -> None:
    place.globus.lists_break = True
    files = place.put("/gone", 7)
    root = place.network["source"].root("alice")
    lost = list(files)[:5]
    for path in lost:
        (root / path[1:]).rename(root / (path[1:] + ".away"))
    place.send()
    rest = {path: data for path, data in files.items() if path not in lost}
    place.waits("the others", lambda: place.exist(rest))
    place.waits("word of it", lambda: "could not read it at the source: FILE_NOT_FOUND" in place.log())
    assert not any(place.exist([path]) for path in lost)
    assert {task.status for task in place.tasks(rest)} == {"SUCCEEDED"}, "they held up the others"
    for path in lost:
        (root / (path[1:] + ".away")).rename(root / path[1:])
    place.arrive(files)


def test_faults_that_come_and_go_and_damage_that_globus_notices_are_none_of_our_business(place: Place) -> None:
    codes = ("CONNECTION_RESET", "TIMEOUT", "ENDPOINT_TOO_BUSY")
    files = place.sent("/faults", Mood(after=1, faults=codes, damaged=2))
    place.arrive(files)
    assert [task.faults for task in place.tasks(files)] == [5], "a fault was taken for a failure"


def test_a_suspended_task_is_told_and_goes_on_as_the_same(place: Place) -> None:
    files = place.sent("/inactive", Mood(after=1, inactive=True))
    place.waits("word of it", lambda: "Globus has suspended what goes to librarian central" in place.troubles())
    assert "librarian globus-login" in place.troubles()
    assert place.tasks(files)[0].status == "INACTIVE" and not place.exist(files)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1


def test_a_task_that_can_not_go_on_is_cancelled_also_where_that_takes_a_while(place: Place) -> None:
    place.globus.cancel_takes = 1.0
    files = place.sent("/stuck", Mood(after=1, stuck="PERMISSION_DENIED"))
    place.waits("its end", lambda: [task.status for task in place.tasks(files)][:1] == ["FAILED"])
    place.arrive(files)
    assert "gets nowhere: PERMISSION_DENIED" in place.troubles()
    kept = place.tasks(files)[0].done[0]["source_path"]
    again = [item["source_path"] for task in place.tasks(files)[1:] for item in task.document["DATA"]]
    assert kept not in again


def test_a_task_that_globus_calls_well_and_that_gets_nowhere_is_noticed(place: Place) -> None:
    files = place.sent("/mute", Mood(stuck="FILE_NOT_FOUND", mute=True), count=1)
    place.waits("its end", lambda: [task.status for task in place.tasks(files)][:1] == ["FAILED"])
    assert "gets nowhere: FILE_NOT_FOUND" in place.troubles()
    place.arrive(files)


def test_a_task_that_is_not_seen_at_once_is_no_trouble(place: Place) -> None:
    place.globus.blind = 1.5
    files = place.sent("/blind", count=1)
    place.arrive(files)
    assert "do we still log in" not in place.troubles()
    assert len(place.tasks(files)) == 1


def test_a_task_that_somebody_cancels_is_submitted_anew(place: Place) -> None:
    files = place.sent("/cancelled", Mood(hold=True), count=1)
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    place.globus.engine.cancel(place.tasks(files)[0])
    place.waits("word of it", lambda: "the Globus task was cancelled" in place.log())
    place.arrive(files)
    assert len({task.document["submission_id"] for task in place.tasks(files)}) == 2


def test_a_task_that_nobody_waits_for_is_cancelled(place: Place) -> None:
    files = place.sent("/needless", Mood(hold=True), count=1)
    place.waits("a task under way", lambda: [one["state"] for one in place.flights()] == ["sent"])
    outgoing = peering.outgoing
    place.sql(update(outgoing).where(outgoing.c.path == next(iter(files))).values(state=int(State.CANCELLED)))
    place.waits("its end", lambda: [task.status for task in place.tasks(files)] == ["FAILED"])
    assert place.tasks(files)[0].events[-1]["code"] == "CANCELED"


# --- what is seen meanwhile ------------------------------------------------------------------


def test_progress_is_in_the_shell_and_in_the_metrics_while_a_task_runs(place: Place) -> None:
    files = place.sent("/progress", Mood(after=2, hold=True), count=5)
    place.waits("two of five", lambda: [one["files_done"] for one in place.flights()] == [2])
    (one,) = place.flights()
    (task,) = place.tasks(files)
    assert (one["peer"], one["manager"], one["state"], one["task"]) == ("central", "globus", "sent", task.id)
    assert (one["files"], one["size"]) == (5, sum(map(len, files.values())))
    assert one["size_done"] == task.bytes > 0 and one["rate"] > 0 and one["trouble"] == ""
    said = place.shell("transfers")
    assert "2 of 5" in said and task.id in said and "/s" in said
    time.sleep(1.1)  # for which figures are kept
    found = place.metrics("goggles_underway_files_done", "goggles_underway_size_done_bytes")
    assert found == {"goggles_underway_files_done": 2.0, "goggles_underway_size_done_bytes": float(task.bytes)}
    place.globus.resume()
    place.arrive(files)
    place.waits("nothing under way", lambda: not place.flights())
    assert "nothing is on its way" in place.shell("transfers")


def test_what_is_wrong_with_a_task_stands_beside_its_progress(place: Place) -> None:
    files = place.sent("/beside", Mood(after=1, inactive=True))
    place.waits("its trouble", lambda: [one["trouble"][:9] for one in place.flights()] == ["suspended"])
    assert place.flights()[0]["files_done"] == 1
    place.globus.resume()
    place.arrive(files)


# --- switching -------------------------------------------------------------------------------


def test_transfers_are_switched_off_and_on_while_a_task_runs_and_ends(place: Place) -> None:
    files = place.sent("/switch", Mood(after=1, hold=True))
    place.waits("half of it", lambda: bool(place.tasks(files)) and len(place.tasks(files)[0].done) == 1)
    place.network.admin("source", "set_librarian_transfer", "central", False)
    place.globus.resume()
    place.waits("its end at Globus", lambda: place.tasks(files)[0].status == "SUCCEEDED")
    more = place.sent("/switched-off", count=1)
    time.sleep(1.0)
    assert not place.exist(files) and not place.tasks(more)
    place.network.admin("source", "set_librarian_transfer", "central", True)
    place.arrive(files | more)
    assert len(place.tasks(files)) == 1
