"""Logging in to Globus, as a person and as an application, and what the service lets who is logged in do."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.network.globus.home import Home, two_collections
from tests.network.globus.sites import PERSON
from tests.network.globus.tasks import Mood

from goggles.errors import BadRequest, GogglesError, NotFound, Overloaded, PermissionDenied, SettingsError, Unavailable
from goggles.librarian.managers.globus.credentials import Credentials, Login
from goggles.librarian.managers.globus.service import Globus as Service
from goggles.settings import NameserverSettings
from goggles.testing.cluster import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with two_collections(tmp_path) as made:
        yield made


# --- a person --------------------------------------------------------------------------------


def test_a_person_logs_in_once_and_the_token_is_kept_for_us_alone(home: Home) -> None:
    who = home.logged_in()
    assert who.file.stat().st_mode & 0o777 == 0o600
    service = Service(who)
    assert service.pending() == 0
    home.globus.auth.expire_all()
    assert service.pending() == 0, "it did not renew its access token"
    assert Service(who).pending() == 0, "the next start had to log in again"


def test_a_wrong_code_is_said_and_nothing_is_kept(home: Home) -> None:
    login = Login(home.person())
    home.globus.auth.browse(login.url, PERSON)
    with pytest.raises(PermissionDenied, match="does not take this code"):
        login.finish("code-that-is-wrong")
    assert not (home.folder / "token").exists()


def test_a_login_that_is_over_says_which_command_to_run(home: Home) -> None:
    who = home.logged_in()
    home.globus.auth.revoke_all()
    service = Service(who)
    with pytest.raises(PermissionDenied, match="run: librarian globus-login"):
        service.pending()
    home.log_in(who)
    assert service.pending() == 0, "the new login was not seen"


def test_a_refresh_token_that_globus_changes_is_kept(home: Home) -> None:
    who = home.logged_in()
    home.globus.auth.rotates = True
    before = who.secret()
    Service(who).pending()
    assert who.secret() != before
    assert Service(who).pending() == 0


def test_new_consent_is_seen_by_who_is_logged_in_already(home: Home) -> None:
    who = home.logged_in()
    service = Service(who)
    home.there.consent = True
    lacking = f"run: librarian globus-login --consent {home.there.id}"
    with pytest.raises(PermissionDenied, match=lacking):
        service.listing(home.there.id, "/store")
    with pytest.raises(PermissionDenied, match=lacking):
        service.submit(home.job(service))
    home.log_in(who, consents=[home.there.id])
    assert service.listing(home.there.id, "/store") == [".goggles"]
    assert service.submit(home.job(service))


def test_what_a_session_lacks_becomes_flags(home: Home) -> None:
    who = home.logged_in()
    home.there.session = {
        "session_required_single_domain": ["example.org"], "session_required_mfa": True,
        "session_required_policies": ["p1"], "session_required_identities": ["i1"],
    }  # fmt: skip
    flags = "--session_identity i1 --session_domain example.org --session_policy p1 --session_mfa"
    service = Service(who)
    with pytest.raises(PermissionDenied, match=f"run: librarian globus-login {flags}"):
        service.submit(home.job(service))


def test_the_program_walks_a_person_through_it(home: Home) -> None:
    who = home.person()
    command = home.command("globus_login", who, "--session_domain", "example.org")
    with subprocess.Popen(
        command, env=home.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("http")).strip()
        assert "session_required_single_domain=example.org" in url
        said, _ = process.communicate(home.globus.auth.browse(url, PERSON) + "\n", timeout=30)
    assert process.returncode == 0 and who.secret() not in said
    assert Service(who).pending() == 0


def test_the_program_says_what_is_missing(home: Home) -> None:
    code, said = home.run("globus_login", None)
    assert code == 2 and "globus_client_id is missing" in said
    code, said = home.run("globus_login", home.application())
    assert code == 2 and "logs in by itself" in said
    code, said = home.run("globus_login", home.person())
    assert code == 130 and "no code was given" in said


@pytest.mark.parametrize("how", ["garbage", "empty", "html", "reset-before", "403"])
def test_a_login_that_meets_nonsense_ends_with_a_sentence(home: Home, how: str) -> None:
    who = home.person()
    home.globus.trip("oauth2/token", how, times=9)
    code, said = home.run("globus_login", who, answer="a-code\n")
    assert code == 1 and "librarian globus-login: " in said and "Globus" in said.rpartition("globus-login: ")[2], said
    assert not who.file.exists()


# --- an application --------------------------------------------------------------------------


def test_an_application_that_is_not_known_is_said(home: Home) -> None:
    who = home.application()
    who.keep("another-secret")
    with pytest.raises(PermissionDenied, match="check globus_client_id and the file") as caught:
        Service(who).pending()
    assert "another-secret" not in str(caught.value)


def test_a_secret_that_the_service_repeats_is_not_shown(home: Home) -> None:
    who = home.application()
    service = Service(who)
    assert service.pending() == 0
    home.globus.auth.echoes = True
    home.globus.auth.expire_all()
    home.globus.auth.apps.clear()
    with pytest.raises(GogglesError, match="no such client") as told:
        service.pending()
    assert not [secret for secret in (*home.globus.auth.secrets_out(), who.secret()) if secret in str(told.value)]


def test_settings_that_are_not_enough_are_refused(home: Home) -> None:
    files = {name: Path("x") for name in ("ca_cert", "certfile", "keyfile")}
    with pytest.raises(SettingsError, match="globus_client_secret_file is missing"):
        Credentials.of(NameserverSettings(**files, globus_client_id=PERSON))
    open_to_all = home.folder / "open"
    open_to_all.write_text("secret")
    open_to_all.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Credentials.of(NameserverSettings(**files, globus_client_id=PERSON, globus_client_secret_file=open_to_all))


# --- tasks -----------------------------------------------------------------------------------


def test_tasks_of_another_identity_are_not_seen(home: Home) -> None:
    home.globus.moods.append(Mood(hold=True))
    mine, other = Service(home.logged_in()), Service(home.application())
    task = mine.submit(home.job(mine))
    with pytest.raises(NotFound):
        other.task(task)
    assert other.pending() == 0 and mine.pending() == 1


def test_the_same_submission_is_the_same_task(home: Home) -> None:
    home.globus.moods.append(Mood(hold=True))
    service = Service(home.application())
    job = home.job(service)
    assert service.submit(job) == service.submit(job)
    with pytest.raises(Overloaded):
        service.submit(home.job(service))  # identical paths, under another id
    home.globus.max_pending = 1
    with pytest.raises(Overloaded):
        service.submit(home.job(service, items={"1": ["/c", "/d"]}))


def test_a_refusal_behind_a_lost_answer_leaves_it_open_whether_there_is_a_task(home: Home) -> None:
    service = Service(home.application())
    home.globus.moods.append(Mood(hold=True))
    home.globus.trip("POST /v0.10/transfer", "reset-after")
    home.globus.trip("POST /v0.10/transfer", "403")
    job = home.job(service)
    with pytest.raises(Unavailable, match="an answer of Globus was lost"):
        service.submit(job)
    (task,) = home.globus.transfers()
    assert service.submit(job) == task.id


def test_a_task_that_the_list_does_not_have_yet_is_counted(home: Home) -> None:
    service = Service(home.application())
    home.globus.mood, home.globus.lag = (lambda: Mood(hold=True)), 3_600.0
    for number in range(3):
        assert service.pending() == number
        service.submit(home.job(service, items={"1": [f"/a{number}", f"/b{number}"]}))
    assert service.pending() == 3
    home.globus.lag = 0.0
    assert service.pending() == 3, "what is in the list was counted twice"
    (first, *_) = home.globus.transfers()
    home.globus.engine.cancel(first)
    service.task(first.id)
    assert service.pending() == 2


def test_the_answers_come_in_pages(home: Home) -> None:
    home.globus.lists_break = True
    for number in range(5):
        (home.folder / "here" / str(number)).write_text("x")
    service = Service(home.application())
    items = {str(number): [f"/{number}", f"/to/{number}"] for number in range(8)}
    task = service.submit(home.job(service, items=items))
    wait_until("its end", lambda: service.task(task)["status"] == "SUCCEEDED")
    assert service.successes(task) == {f"/to/{number}" for number in range(5)}
    assert service.skipped(task) == {f"/to/{number}": "FILE_NOT_FOUND" for number in range(5, 8)}


def test_what_is_outside_a_collection_is_not_reached(home: Home) -> None:
    """Neither by a path nor by a link; a task that tries gets nowhere."""
    outside = home.folder / "outside"
    outside.write_text("of somebody else")
    os.symlink(home.folder, home.folder / "there" / "way-out")
    service = Service(home.application())
    for path in ("/../..", "/store/../../here"):
        with pytest.raises(BadRequest, match="InvalidPath"):
            service.listing(home.there.id, path)
        with pytest.raises(BadRequest, match="InvalidPath"):
            service.submit(home.job(service, items={"1": [path, "/b"]}))
    with pytest.raises(PermissionDenied):
        service.listing(home.there.id, "/way-out")
    with pytest.raises(PermissionDenied):
        service.make_folder(home.there.id, "/way-out/made")
    (home.folder / "here" / "a").write_text("a")
    task = service.submit(home.job(service, items={"1": ["/a", "/way-out/outside"]}))
    wait_until("a fault", lambda: service.task(task)["nice_status"] == "PERMISSION_DENIED")
    assert outside.read_text() == "of somebody else" and not (home.folder / "made").exists()


# --- a service in trouble --------------------------------------------------------------------


@pytest.mark.slow
def test_a_service_that_is_away_is_unavailable(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", "http://127.0.0.1:9/")
    service = Service(home.application())
    with pytest.raises(Unavailable, match="could not be reached to count the tasks"):
        service.pending()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="a moment ago"):
        service.pending()
    assert time.monotonic() - began < 1, "it held up the others again"


def test_errors_that_the_service_answers_now_and_then_are_tried_again(home: Home) -> None:
    service = Service(home.application())
    for how in ("503", "500", "401"):
        home.globus.trip("task_list", how)
    assert service.pending() == 0
    assert not any(trip.times for trip in home.globus.trips)
