"""globus-login and check-globus against the other emulator: whatever it answers, a person reads a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.network.globus_other import OtherGlobus
from tests.network.globus_other_tasks import Collection, Mood

from goggles.errors import GogglesError, PermissionDenied, Unavailable
from goggles.librarian.managers.globus.checking import Spot, check
from goggles.librarian.managers.globus.credentials import Credentials, Login
from goggles.librarian.managers.globus.service import Globus as Service
from goggles.testing.cluster import SOURCE

WHO = "ann@example.org"


@dataclass
class Home:
    globus: OtherGlobus
    folder: Path
    here: Collection
    there: Collection

    def person(self) -> Credentials:
        return Credentials(self.globus.auth.register(native=True).client_id, True, self.folder / "token")

    def application(self) -> Credentials:
        app = self.globus.auth.register(native=False)
        made = Credentials(app.client_id, False, self.folder / "secret")
        made.keep(str(app.secret))
        return made

    def run(self, program: str, who: Credentials, *flags: str, answer: str = "") -> tuple[int, str]:
        environment = {**os.environ, **self.globus.environment, "PYTHONPATH": SOURCE}
        command = [sys.executable, "-m", f"goggles.cli.{program}", "--globus_client_id", who.client_id]
        command += [
            "--globus_client_secret_file",
            str(who.file),
            *(["--globus_client_native_app"] if who.native else []),
        ]
        done = subprocess.run(
            [*command, *flags], env=environment, input=answer, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def check(self, who: Credentials) -> tuple[int, str]:
        ends = ("--source", self.here.id, "--source_path", "/store", "--destination", self.there.id)
        return self.run("check_globus", who, *ends, "--destination_path", "/store")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for name in ("here", "there"):
        (tmp_path / name / "store" / ".goggles" / "incoming").mkdir(parents=True)
    with OtherGlobus() as globus:
        for name, value in globus.environment.items():
            monkeypatch.setenv(name, value)
        yield Home(globus, tmp_path, globus.collection(tmp_path / "here"), globus.collection(tmp_path / "there"))


def test_both_kinds_of_application_pass_the_check_and_leave_nothing(home: Home) -> None:
    person = home.person()
    login = Login(person)
    login.finish(home.globus.auth.browse(login.url, WHO))
    for who in (person, home.application()):
        code, said = home.check(who)
        assert code == 0 and "WRONG" not in said, said
    assert not list((home.folder / "there" / "store" / ".goggles" / "incoming").iterdir())
    assert {each.status for each in home.globus.asked} <= {200, 202}, "it asked what the service does not take"


@pytest.mark.parametrize("how", ["garbage", "empty", "html", "reset-before", "403"])
def test_a_login_that_meets_nonsense_ends_with_a_sentence(home: Home, how: str) -> None:
    who = home.person()
    home.globus.trip("oauth2/token", how, times=9)
    code, said = home.run("globus_login", who, answer="a-code\n")
    assert code == 1 and "librarian globus-login: " in said and "Globus" in said.rpartition("globus-login: ")[2], said
    assert not who.file.exists()


@pytest.mark.parametrize("path", ["oauth2/token", "submission_id", "task_list", "/endpoint/", "/ls", "mkdir", "delete"])
@pytest.mark.parametrize("how", ["garbage", "empty", "403"])
def test_a_check_that_meets_nonsense_says_so_in_words(home: Home, path: str, how: str) -> None:
    home.globus.trip(path, how, times=99)
    spots = [Spot("destination", home.there.id, "/store", writes=True)]
    found = list(check(Service(home.application()), spots))
    assert any("Globus" in each.said for each in found if not each.good), found


def test_what_is_wrong_with_a_collection_is_said_for_what_it_is(home: Home) -> None:
    who = home.application()
    home.there.online = False
    assert "Globus Connect Personal is not connected" in home.check(who)[1]
    home.there.online, home.there.hides_dots = True, True
    assert "there is no .goggles in it" in home.check(who)[1]
    home.there.hides_dots, home.there.writers = False, set()
    assert "Path not allowed" in home.check(who)[1]
    home.there.writers = None
    home.there.folder = home.folder / "nowhere"
    assert "not found" in home.check(who)[1]


def test_a_probe_that_can_not_be_removed_is_named(home: Home) -> None:
    home.globus.max_pending = 0
    code, said = home.check(home.application())
    left = list((home.folder / "there" / "store" / ".goggles" / "incoming").iterdir())
    assert code == 1 and len(left) == 1
    assert left[0].name in said and "remove it by hand" in said, said


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


def test_new_consent_is_seen_by_who_is_logged_in_already(home: Home) -> None:
    who = home.person()
    login = Login(who)
    login.finish(home.globus.auth.browse(login.url, WHO))
    service = Service(who)
    home.there.consent = True
    with pytest.raises(PermissionDenied, match=f"globus-login --consent {home.there.id}"):
        service.listing(home.there.id, "/store")
    again = Login(who, consents=[home.there.id])
    again.finish(home.globus.auth.browse(again.url, WHO))
    assert service.listing(home.there.id, "/store") == [".goggles"]


def test_a_refusal_behind_a_lost_answer_leaves_it_open_whether_there_is_a_task(home: Home) -> None:
    service = Service(home.application())
    home.globus.moods.append(Mood(hold=True))
    home.globus.trip("POST /v0.10/transfer", "reset-after")
    home.globus.trip("POST /v0.10/transfer", "403")
    job = {"source": home.here.id, "destination": home.there.id, "label": "l", "deadline": "2099-01-01T00:00:00+00:00"}
    job |= {"items": {"1": ["/a", "/b"]}, "submission": service.submission_id()}
    with pytest.raises(Unavailable, match="an answer of Globus was lost"):
        service.submit(job)
    (task,) = home.globus.transfers()
    assert service.submit(job) == task.id


def test_a_task_that_the_list_does_not_have_yet_is_counted(home: Home) -> None:
    service = Service(home.application())
    home.globus.mood, home.globus.lag = (lambda: Mood(hold=True)), 3_600.0
    job = {"source": home.here.id, "destination": home.there.id, "label": "l", "deadline": "2099-01-01T00:00:00+00:00"}
    for number in range(3):
        assert service.pending() == number
        items = {"1": [f"/a{number}", f"/b{number}"]}
        service.submit({**job, "items": items, "submission": service.submission_id()})
    assert service.pending() == 3
    home.globus.lag = 0.0
    assert service.pending() == 3, "what is in the list was counted twice"
    (first, *_) = home.globus.transfers()
    home.globus.engine.cancel(first)
    service.task(first.id)
    assert service.pending() == 2
