"""Logging in to Globus, as a person and as an application, and check-globus, against the service on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.network.globus_server import Collection, Globus, Refused, visit

from goggles.errors import NotFound, Overloaded, PermissionDenied, SettingsError, Unavailable
from goggles.librarian.managers.globus.credentials import Credentials, Login
from goggles.librarian.managers.globus.service import Globus as Service
from goggles.testing.cluster import SOURCE

PERSON = str(uuid.uuid4())
JOB = {"label": "l", "deadline": "2099-01-01T00:00:00+00:00", "items": {"1": ["/a", "/b"]}}


@dataclass
class Home:
    globus: Globus
    folder: Path
    here: str
    there: str

    @property
    def person(self) -> Credentials:
        return Credentials(PERSON, True, self.folder / "token")

    @property
    def application(self) -> Credentials:
        client, secret = next(iter(self.globus.clients.items()))
        found = Credentials(client, False, self.folder / "secret")
        found.keep(secret)
        return found

    def log_in(self, **more) -> None:
        login = Login(self.person, **more)
        login.finish(visit(self.globus, login.url))

    def job(self, **more) -> dict:
        return {**JOB, "source": self.here, "destination": self.there, "submission": str(uuid.uuid1()), **more}

    def flags(self, who: Credentials) -> list[str]:
        flags = ["--globus_client_id", who.client_id, "--globus_client_secret_file", str(who.file)]
        return [*flags, *(["--globus-client-native-app"] if who.native else [])]

    def run(self, program: str, *flags: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.globus.environment, "PYTHONPATH": SOURCE}
        command = [sys.executable, "-m", f"goggles.cli.{program}", *flags]
        return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    here, there = str(uuid.uuid4()), str(uuid.uuid4())
    for name in ("here", "there"):
        (tmp_path / name / "store" / ".goggles" / "incoming").mkdir(parents=True)
    globus = Globus({here: Collection(tmp_path / "here"), there: Collection(tmp_path / "there")})
    for name, value in globus.environment.items():
        monkeypatch.setenv(name, value)
    yield Home(globus, tmp_path, here, there)
    globus.stop()


# --- a person --------------------------------------------------------------------------------


def test_a_person_logs_in_once_and_the_token_is_kept_for_us_alone(home: Home) -> None:
    home.log_in()
    assert home.person.file.stat().st_mode & 0o777 == 0o600
    service = Service(home.person)
    assert service.pending() == 0
    home.globus.revoke()
    assert service.pending() == 0, "it did not renew its access token"
    assert Service(home.person).pending() == 0, "the next start had to log in again"


def test_a_wrong_code_is_said_and_nothing_is_kept(home: Home) -> None:
    login = Login(home.person)
    visit(home.globus, login.url)
    with pytest.raises(PermissionDenied, match="does not take this code"):
        login.finish("code-that-is-wrong")
    assert not home.person.file.exists()


def test_a_login_that_is_over_says_which_command_to_run(home: Home) -> None:
    home.log_in()
    home.globus.refresh.clear()
    service = Service(home.person)
    with pytest.raises(PermissionDenied, match="run: librarian globus-login"):
        service.pending()
    home.log_in()
    assert service.pending() == 0, "the new login was not seen"


def test_a_refresh_token_that_globus_changes_is_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.log_in()
    before = home.person.secret()
    issue = home.globus.issue
    monkeypatch.setattr(home.globus, "issue", lambda *args, **more: issue(*args, refresh=True))
    Service(home.person).pending()
    assert home.person.secret() != before
    del home.globus.refresh[before]
    assert Service(home.person).pending() == 0


def test_consent_that_a_person_has_to_give_says_which_command_to_run(home: Home) -> None:
    home.log_in()
    home.globus.collections[home.there].needs_consent = True
    service = Service(home.person)
    with pytest.raises(PermissionDenied, match=f"run: librarian globus-login --consent {home.there}"):
        service.submit(home.job())
    home.log_in(consents=[home.there])
    assert Service(home.person).submit(home.job())


def test_what_a_session_lacks_becomes_flags(home: Home) -> None:
    home.log_in()
    home.globus.collections[home.there].session = {
        "session_required_single_domain": ["example.org"], "session_required_mfa": True,
        "session_required_policies": ["p1"], "session_required_identities": ["i1"],
    }  # fmt: skip
    flags = "--session_identity i1 --session_domain example.org --session_policy p1 --session_mfa"
    with pytest.raises(PermissionDenied, match=f"run: librarian globus-login {flags}"):
        Service(home.person).submit(home.job())
    login = Login(home.person, session={"session_required_single_domain": ["example.org"]})
    assert "session_required_single_domain=example.org" in login.url


def test_the_program_walks_a_person_through_it(home: Home) -> None:
    flags = ["-u", "-m", "goggles.cli.globus_login", *home.flags(home.person), "--session_domain", "example.org"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(
        [sys.executable, *flags], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("http")).strip()
        assert "session_required_single_domain=example.org" in url
        said, _ = process.communicate(visit(home.globus, url) + "\n", timeout=30)
    assert process.returncode == 0 and home.person.secret() not in said
    assert Service(home.person).pending() == 0


def test_the_program_says_what_is_missing(home: Home) -> None:
    nothing = home.run("globus_login")
    assert nothing.returncode == 2 and "globus_client_id is missing" in nothing.stderr
    application = home.run("globus_login", *home.flags(home.application))
    assert application.returncode == 2 and "logs in by itself" in application.stderr
    no_code = home.run("globus_login", *home.flags(home.person))
    assert no_code.returncode == 130 and "no code was given" in no_code.stderr
    for result in (nothing, application, no_code):
        assert "Traceback" not in result.stderr


# --- an application --------------------------------------------------------------------------


def test_an_application_that_is_not_known_is_said(home: Home) -> None:
    credentials = home.application
    credentials.keep("another-secret")
    with pytest.raises(PermissionDenied, match="check globus_client_id and the file") as caught:
        Service(credentials).pending()
    assert "another-secret" not in str(caught.value)


def test_tasks_of_another_identity_are_not_seen(home: Home) -> None:
    home.log_in()
    home.globus.whims.hold = True
    task = Service(home.person).submit(home.job())
    with pytest.raises(NotFound):
        Service(home.application).task(task)
    assert Service(home.application).pending() == 0 and Service(home.person).pending() == 1


def test_the_same_submission_is_the_same_task(home: Home) -> None:
    home.globus.whims.hold = True
    service, job = Service(home.application), home.job()
    assert service.submit(job) == service.submit(job)
    with pytest.raises(Overloaded):
        service.submit(home.job())  # identical paths, under another id
    home.globus.whims.pending = 1
    with pytest.raises(Overloaded):
        service.submit(home.job(items={"1": ["/c", "/d"]}))


def test_what_is_outside_a_collection_is_not_reached(home: Home) -> None:
    with pytest.raises(PermissionDenied):
        Service(home.application).listing(home.there, "/../..")


@pytest.mark.slow
def test_a_service_that_is_away_is_unavailable(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", "http://127.0.0.1:9/")
    service = Service(home.application)
    with pytest.raises(Unavailable, match="could not be reached to count the tasks"):
        service.pending()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="a moment ago"):
        service.pending()
    assert time.monotonic() - began < 1, "it held up the others again"


def test_the_answers_come_in_pages(home: Home) -> None:
    for number in range(5):
        (home.folder / "here" / str(number)).write_text("x")
    service = Service(home.application)
    items = {str(number): [f"/{number}", f"/to/{number}"] for number in range(8)}
    task = service.submit(home.job(items=items))
    while service.task(task)["status"] == "ACTIVE":
        pass
    assert service.successes(task) == {f"/to/{number}" for number in range(5)}
    assert service.skipped(task) == {f"/to/{number}": "FILE_NOT_FOUND" for number in range(5, 8)}


# --- check-globus ----------------------------------------------------------------------------


def ends(home: Home) -> list[str]:
    flags = ["--source", home.here, "--source_path", "/store", "--destination", home.there]
    return [*home.flags(home.application), *flags, "--destination_path", "/store"]


def test_check_globus_finds_nothing_wrong_and_leaves_nothing(home: Home) -> None:
    found = home.run("check_globus", *ends(home))
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("ok ") == 7 and "WRONG" not in found.stdout
    assert os.listdir(home.folder / "there" / "store" / ".goggles" / "incoming") == []
    assert sum("mkdir" in call for call in home.globus.called) == 1, "there was no probe"


def test_check_globus_says_what_is_wrong(home: Home) -> None:
    home.globus.collections[home.there].writable = False
    denied = home.run("check_globus", *ends(home))
    assert denied.returncode == 1 and "WRONG destination: write and remove a probe" in denied.stdout
    assert "needs the right to do it" in denied.stdout
    unknown = home.run("check_globus", *ends(home), "--source", str(uuid.uuid4()))
    assert "WRONG source: collection" in unknown.stdout and "EndpointNotFound" in unknown.stdout
    nowhere = home.run("check_globus", *ends(home), "--source_path", "/nowhere")
    assert "WRONG source: list /nowhere" in nowhere.stdout
    home.application.keep("another-secret")
    flags = ends(home)
    home.globus.clients = dict.fromkeys(home.globus.clients, "changed")
    stranger = home.run("check_globus", *flags)
    assert stranger.returncode == 1 and stranger.stdout.startswith("WRONG log in to Globus")


def test_settings_that_are_not_enough_are_refused(home: Home) -> None:
    from goggles.settings import NameserverSettings

    files = {name: Path("x") for name in ("ca_cert", "certfile", "keyfile")}
    with pytest.raises(SettingsError, match="globus_client_secret_file is missing"):
        Credentials.of(NameserverSettings(**files, globus_client_id=PERSON))
    open_to_all = home.folder / "open"
    open_to_all.write_text("secret")
    open_to_all.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Credentials.of(NameserverSettings(**files, globus_client_id=PERSON, globus_client_secret_file=open_to_all))


def test_errors_that_the_service_answers_now_and_then_are_tried_again(home: Home) -> None:
    service = Service(home.application)
    home.globus.whims.answers.extend([Refused(503, "Down"), Refused(500, "Oops"), Refused(401, "AuthenticationFailed")])
    assert service.pending() == 0
    assert not home.globus.whims.answers
