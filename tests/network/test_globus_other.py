"""Files go through another Globus, one that takes only what its documentation allows, and that misbehaves by itself.

The other suite has a confidential app; here a person has logged in, and the refresh token changes at each use.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import select
from tests.network.globus_other_place import PERSON, Place, two_sites
from tests.network.globus_other_tasks import Mood

from goggles.meta import peering


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with two_sites(tmp_path_factory.mktemp("other")) as made:
        yield made


@pytest.fixture
def place(_place: Place) -> Iterator[Place]:
    _place.seen = 0
    _place.seen = len(_place.log())
    yield _place
    _place.reset()


# --- what it takes, and what it carries out ----------------------------------------------------


def test_files_arrive_and_every_request_is_one_that_the_service_takes(place: Place) -> None:
    files = place.sent("/plain", count=7)
    place.arrive(files)
    assert len(place.tasks(files)) == 1
    assert {each.status for each in place.globus.asked} <= {200, 202}, "it asked what the service does not take"
    (task,) = place.tasks(files)
    assert task.document["encrypt_data"] and task.document["verify_checksum"] and "deadline" in task.document


@pytest.mark.parametrize("how", ["reset-before", "reset-after", "html", "504", "cut", "garbage", "500", "503", "429"])
def test_there_is_one_task_whatever_becomes_of_the_answer_to_a_submission(place: Place, how: str) -> None:
    place.globus.trip("POST /v0.10/transfer", how)
    files = place.sent(f"/answer-{how}", Mood(hold=True))
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1
    assert "a mistake of this program" not in place.log() and "Traceback" not in place.log()


@pytest.mark.parametrize("what", ["submission_id", "task_list", "task/", "oauth2/token"])
@pytest.mark.parametrize("how", ["garbage", "empty", "html"])
def test_answers_that_are_none_are_no_mistake_of_ours(place: Place, what: str, how: str) -> None:
    if what == "oauth2/token":
        place.globus.auth.expire_all()
    place.globus.trip(f"/{what}", how, times=2)
    files = place.sent(f"/none-{what.replace('/', '-')}-{how}", count=1)
    place.arrive(files)
    assert len(place.tasks(files)) == 1
    assert "Traceback" not in place.log()


def test_a_task_that_was_taken_is_never_given_away_because_a_later_try_is_refused(place: Place) -> None:
    """The answer is lost, the SDK asks again, and now the service says no."""
    place.globus.trip("POST /v0.10/transfer", "reset-after")
    place.globus.trip("POST /v0.10/transfer", "403", times=2)
    files = place.sent("/refused-later", Mood(hold=True), count=1)
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    place.waits("the refusal", lambda: not place.globus.trips[-1].times)
    rows = place.sql(select(peering.send_queue.c.handle).where(peering.send_queue.c.state == "waiting"))
    assert all('"bound": true' in row.handle for row in rows)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1


# --- bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["bytes", "short", "long", "late", "nothing"])
def test_what_globus_calls_done_and_is_not_never_becomes_a_file(place: Place, wrong: str) -> None:
    files = place.sent(f"/wrong-{wrong}", Mood(wrong={1: wrong}))
    place.arrive(files)
    moved = Counter(item["source_path"] for task in place.tasks(files) for item in task.document["DATA"])
    assert sorted(moved.values()) == [1, 1, 2], "what was good was sent again, or what was bad was not"


def test_order_and_files_that_nobody_asked_for_do_no_harm(place: Place) -> None:
    files = place.sent("/extra", Mood(shuffle=True, extra=True), count=6)
    place.arrive(files)
    arrivals = place.network["central"].root("carol") / ".goggles" / "incoming"
    place.waits("clean places", lambda: not list(arrivals.rglob("*extra")))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_of_a_collection_does_not_become_that_of_the_storage(place: Place, umask: int) -> None:
    place.there.umask = umask
    files = place.sent(f"/umask-{umask:03o}", count=1)
    place.arrive(files)
    root = place.network["central"].root("carol")
    for path in files:
        assert not (root / path[1:]).stat().st_mode & 0o022, "others may change the file"


# --- tasks that go wrong -----------------------------------------------------------------------


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
    for path in lost:
        (root / (path[1:] + ".away")).rename(root / path[1:])
    place.arrive(files)


def test_faults_that_come_and_go_are_none_of_our_business(place: Place) -> None:
    files = place.sent("/faults", Mood(after=1, faults=("CONNECTION_RESET", "TIMEOUT", "ENDPOINT_TOO_BUSY")))
    place.arrive(files)
    assert [task.faults for task in place.tasks(files)] == [3]


def test_a_suspended_task_is_told_and_goes_on_as_the_same(place: Place) -> None:
    files = place.sent("/inactive", Mood(after=1, inactive=True))
    place.waits("word of it", lambda: "Globus has suspended what goes to librarian central" in place.troubles())
    assert place.tasks(files)[0].status == "INACTIVE"
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


# --- the queue ---------------------------------------------------------------------------------


def test_others_with_the_same_identity_fill_the_queue_and_we_wait(place: Place) -> None:
    others = place.globus.fill(PERSON, 100)
    files = place.sent("/full", count=1)
    place.waits("the count", lambda: "Globus has 100 tasks of this identity" in place.log())
    assert not place.tasks(files)
    rows = place.sql(select(peering.send_queue).where(peering.send_queue.c.state == "waiting"))
    assert {row.tries for row in rows} == {0}
    for task in others:
        place.globus.engine.cancel(task)
    place.arrive(files)


def test_a_limit_that_only_globus_knows_means_waiting_too(place: Place) -> None:
    place.globus.max_pending = 0
    files = place.sent("/limit", count=1)
    place.waits("a refusal", lambda: any(a.line.startswith("POST /v0.10/transfer") and a.status == 409
                                         for a in place.globus.asked))  # fmt: skip
    place.globus.max_pending = 100
    place.arrive(files)
    assert len(place.tasks(files)) == 1


# --- people ------------------------------------------------------------------------------------


def test_a_login_that_is_revoked_is_told_and_a_new_one_is_enough(place: Place) -> None:
    place.globus.auth.revoke_all()
    files = place.sent("/revoked", count=1)
    place.waits("word of it", lambda: "run: librarian globus-login" in place.troubles())
    assert not place.tasks(files)
    place.log_in()
    place.arrive(files)


def test_consent_and_session_are_asked_for_by_the_command_to_run(place: Place) -> None:
    place.there.consent = True
    place.there.session = {"session_required_single_domain": ["example.org"], "session_message": "m"}
    files = place.sent("/people", count=1)
    place.waits("consent", lambda: f"librarian globus-login --consent {place.there.id}" in place.troubles())
    place.log_in(consents=[place.there.id])
    place.waits("session", lambda: bool(place.hurry()) or "--session_domain example.org" in place.troubles())
    place.log_in(consents=[place.there.id], session={"session_required_single_domain": ["example.org"]})
    place.arrive(files)


def test_tokens_that_end_in_the_middle_are_renewed(place: Place) -> None:
    files = place.sent("/expiry", Mood(hold=True))
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    for _ in range(3):
        place.globus.auth.expire_all()
        time.sleep(0.3)
    place.globus.resume()
    place.arrive(files)
    assert place.token.stat().st_mode & 0o777 == 0o600


def test_secrets_are_in_their_file_and_nowhere_else(place: Place) -> None:
    """Not in a log at its most talkative, not among the errors, not in the database, not in a view of the processes."""
    place.globus.auth.echoes = True
    place.globus.auth.revoke_all()
    files = place.sent("/hush", count=1)
    place.waits("word of it", lambda: "librarian globus-login" in place.troubles())
    place.globus.auth.echoes = False
    place.log_in()
    place.arrive(files)
    for site in place.network.sites.values():
        for file in site.folder.rglob("*"):
            if file.is_file() and "storages" not in file.parts:
                data = file.read_bytes()
                found = [secret for secret in place.globus.auth.secrets_out() if secret.encode() in data]
                assert not found, f"{file.name} holds {len(found)} secrets"


# --- what is seen meanwhile --------------------------------------------------------------------


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


# --- switching ---------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_the_nameserver_ends_soon_also_while_globus_is_slow(place: Place) -> None:
    place.globus.trip("/v0.10/", "slow", times=50, seconds=60.0)
    files = place.sent("/slow", count=1)
    time.sleep(1.0)
    site = place.network["source"]
    begun = time.monotonic()
    assert site.nameserver.stop(40.0) == 0
    assert time.monotonic() - begun < 30.0
    place.globus.trips.clear()
    site.start_nameserver()
    site.wait_active(site.names)
    place.arrive(files)


# --- death -------------------------------------------------------------------------------------


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
