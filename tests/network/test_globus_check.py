"""check-globus: whatever is wrong, and whatever Globus answers, a person reads a sentence, and no probe is left."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.network.globus.home import Home, two_collections

from goggles.librarian.managers.globus.checking import check
from goggles.librarian.managers.globus.service import Globus as Service


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with two_collections(tmp_path) as made:
        yield made


def wrong(home: Home, service: Service) -> dict[str, str]:
    """What does not go well, and what is said of it."""
    return {each.what: each.said for each in check(service, home.spots()) if not each.good}


def test_both_kinds_of_application_pass_the_check_and_leave_nothing(home: Home) -> None:
    for number, who in enumerate((home.logged_in(), home.application()), 1):
        code, said = home.check(who)
        assert code == 0 and said.count("ok ") == 7 and "WRONG" not in said, said
        assert sum("mkdir" in each.line for each in home.globus.asked) == number, "there was no probe"
    assert not list(home.incoming.iterdir())
    assert {each.status for each in home.globus.asked} <= {200, 202}, "it asked what the service does not take"


def test_a_probe_file_comes_from_the_source_and_is_removed(home: Home) -> None:
    own = home.folder / "here/store/.goggles"
    own.mkdir(parents=True, exist_ok=True)
    (own / "site.json").write_text("{}")
    probe = "destination: write and remove a probe"
    found = {each.what: each for each in check(Service(home.application()), home.spots())}
    assert found[probe].good and found[probe].said == "a file came through"
    (sent,) = [each for each in home.globus.asked if "POST" in each.line and each.line.rstrip().endswith("/transfer")]
    assert sent.status == 202
    assert not list(home.incoming.iterdir())
    (own / "site.json").unlink()
    found = {each.what: each for each in check(Service(home.application()), home.spots())}
    assert found[probe].good and "a folder only" in found[probe].said


def test_what_is_wrong_stands_in_what_the_program_says(home: Home) -> None:
    who = home.application()
    home.there.writers = set()
    code, said = home.check(who)
    assert code == 1 and "WRONG destination: write and remove a probe" in said
    assert "Path not allowed" in said and "needs the right to do it" in said
    who.keep("another-secret")
    code, said = home.check(who)
    assert code == 1 and said.startswith("WRONG log in to Globus") and "another-secret" not in said


def test_what_is_wrong_with_a_collection_is_said_for_what_it_is(home: Home) -> None:
    service = Service(home.application())
    listing = "destination: list /store"
    home.there.online = False
    assert "Globus Connect Personal is not connected" in wrong(home, service)[listing]
    home.there.online, home.there.hides_dots = True, True
    found = next(each for each in check(service, home.spots()) if each.what == listing)
    assert found.good and "there is no .goggles in it" in found.said
    home.there.hides_dots = False
    home.there.folder = home.folder / "nowhere"
    assert "not found" in wrong(home, service)[listing]
    home.there = dataclasses.replace(home.there, id=str(uuid.uuid4()))
    found_wrong = wrong(home, service)
    assert "EndpointNotFound" in found_wrong[f"destination: collection {home.there.id}"]


def test_a_probe_that_can_not_be_removed_is_named(home: Home) -> None:
    home.globus.max_pending = 0
    code, said = home.check(home.application())
    (left,) = home.incoming.iterdir()
    assert code == 1 and left.name in said and "remove it by hand" in said, said


@pytest.mark.parametrize("path", ["oauth2/token", "submission_id", "task_list", "/endpoint/", "/ls", "mkdir", "delete"])
@pytest.mark.parametrize("how", ["garbage", "empty", "403"])
def test_a_check_that_meets_nonsense_says_so_in_words(home: Home, path: str, how: str) -> None:
    home.globus.trip(path, how, times=99)
    said = wrong(home, Service(home.application())).values()
    assert any("Globus" in each for each in said), said
