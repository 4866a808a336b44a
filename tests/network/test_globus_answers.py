"""What Globus answers, or does not: there is one task for each batch, waiting is no failure, and a person is told what
there is to do.

A person has logged in, and the refresh token changes at each use.
"""

from __future__ import annotations

import time

import pytest
from tests.network.globus.sites import PERSON, Place
from tests.network.globus.tasks import Mood

from goggles.librarian.managers.globus.credentials import RETRIES

NATIVE = True  # of the application that logs in, for the fixture `place`


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset-before", "reset-after", "html", "504", "cut", "garbage", "500", "503", "429"])
def test_there_is_one_task_whatever_becomes_of_the_answer_to_a_submission(place: Place, how: str) -> None:
    place.globus.trip("POST /v0.10/transfer", how)
    files = place.sent(f"/answer-{how}", Mood(hold=True))
    place.hurried("a task", lambda: len(place.tasks(files)) == 1)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1
    assert "a mistake of this program" not in place.log() and "Traceback" not in place.log()


@pytest.mark.parametrize("what", ["submission_id", "task_list", "task/", "oauth2/token"])
def test_answers_that_are_none_are_no_mistake_of_ours(place: Place, what: str) -> None:
    if what == "oauth2/token":
        place.globus.auth.expire_all()
    for how in ("garbage", "empty", "html"):
        place.globus.trip(f"/{what}", how)
    files = place.sent(f"/none-{what.replace('/', '-')}", count=1)
    place.arrive(files)
    assert not any(trip.times for trip in place.globus.trips), "it was asked less often than it spoiled answers"
    assert len(place.tasks(files)) == 1
    assert "Traceback" not in place.log()


def test_a_task_that_was_taken_is_never_given_away_because_a_later_try_is_refused(place: Place) -> None:
    """The answer is lost, the SDK asks again, and now the service says no."""
    place.globus.trip("POST /v0.10/transfer", "reset-after")
    place.globus.trip("POST /v0.10/transfer", "403", times=2)
    files = place.sent("/refused-later", Mood(hold=True), count=1)
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    place.hurried("the refusal", lambda: not place.globus.trips[-1].times)
    assert all('"bound": true' in row.handle for row in place.waiting())
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1


def test_an_answer_that_is_lost_for_good_leads_to_no_second_task(place: Place) -> None:
    place.globus.trip("POST /v0.10/transfer", "504", times=RETRIES + 3)  # more than the SDK tries
    files = place.sent("/lost", Mood(hold=True), count=1)
    place.waits("the task", lambda: len(place.tasks(files)) == 1)
    place.hurried("all lost answers", lambda: not place.globus.trips[0].times)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1
    assert "it is not known yet whether Globus took the task" in place.log()


@pytest.mark.slow
def test_the_nameserver_ends_soon_also_while_globus_is_slow(place: Place) -> None:
    """One answer may be waited for, and not those that the SDK would ask for after it."""
    place.globus.trip("/v0.10/", "503", times=50, seconds=3.0)
    files = place.sent("/slow", count=1)
    place.waits("a call", lambda: place.globus.trips[0].times < 50)
    site = place.network["source"]
    begun = time.monotonic()
    assert site.nameserver.stop(40.0) == 0
    assert time.monotonic() - begun < 9.0
    place.globus.trips.clear()
    site.start_nameserver()
    site.wait_active(site.names)
    place.arrive(files)


# --- limits ----------------------------------------------------------------------------------


def test_others_with_the_same_identity_fill_the_queue_and_we_wait(place: Place) -> None:
    others = place.globus.fill(PERSON, 100)
    files = place.sent("/full", count=1)
    place.waits("the count", lambda: "Globus has 100 tasks of this identity" in place.log())
    assert not place.tasks(files)
    assert {row.tries for row in place.waiting()} == {0}, "waiting was taken for a failure"
    for task in others:
        place.globus.engine.cancel(task)
    place.arrive(files)


def test_a_limit_that_only_globus_knows_means_waiting_too(place: Place) -> None:
    place.globus.max_pending = 0
    files = place.sent("/limit", count=1)
    place.waits("a refusal", lambda: "as many tasks of this identity as it takes" in place.log())
    assert {row.tries for row in place.waiting()} == {0}, "waiting was taken for a failure"
    place.globus.max_pending = 100
    place.arrive(files)
    assert len(place.tasks(files)) == 1


def test_a_limit_of_calls_is_waited_for(place: Place) -> None:
    place.globus.rate, place.globus.metered_over = 2, 1.0
    files = place.sent("/calls", Mood(hold=True), count=1)
    place.waits("a refusal", lambda: 429 in [each.status for each in place.globus.asked])
    place.waits("a task", lambda: len(place.tasks(files)) == 1)
    place.globus.resume()
    place.arrive(files)
    assert len(place.tasks(files)) == 1


# --- people ----------------------------------------------------------------------------------


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
    place.hurried("session", lambda: "--session_domain example.org" in place.troubles())
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
    assert place.credentials.file.stat().st_mode & 0o777 == 0o600


def test_secrets_are_in_their_file_and_nowhere_else(place: Place) -> None:
    place.globus.auth.echoes = True
    place.globus.auth.revoke_all()
    files = place.sent("/hush", count=1)
    place.waits("word of it", lambda: "librarian globus-login" in place.troubles())
    place.globus.auth.echoes = False
    place.log_in()
    place.arrive(files)
    assert "globus_sdk" in place.log(), "the library was not even heard"
    assert not place.leaks()
