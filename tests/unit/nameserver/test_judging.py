"""What a self-check makes of what it finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goggles.contracts.orders import Held
from goggles.nameserver.judging import FEW, IdSet, Known, Tally, Verdict, judge_file, judge_staged

V = "0" * 32


def held(kind="file", path="/a", size=5, digest="d", version=V, generation=1):
    return Held(kind, path, size, digest, version, generation)


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (Known(path="/a", sha256="d", size=5), Verdict.KEEP),
        (Known(path="/b", sha256="d", size=5), Verdict.MOVE),
        (Known(path="/a", sha256="x", size=5), Verdict.UNKNOWN),
        (Known(path="/a", sha256="x", size=5, removed=True), Verdict.REMOVED),
        (Known(same_here=True), Verdict.STAMP),
        (Known(same_here=True, removed=True), Verdict.STAMP),
        (Known(removed=True), Verdict.REMOVED),
        (Known(), Verdict.UNKNOWN),
    ],
)
def test_files(known, verdict):
    assert judge_file(held(), known) is verdict


@pytest.mark.parametrize(
    ("thing", "known", "verdict"),
    [
        (held("staged"), Known(in_flight=True), Verdict.LEAVE),
        (held("staged"), Known(path="/a", sha256="d", size=5), Verdict.PUBLISH),
        (held("staged", generation=0), Known(), Verdict.REMOVED),
        (held("staged"), Known(), Verdict.UNKNOWN),
        (held("staged", digest=""), Known(), Verdict.DISCARD),
        (held("staged"), Known(removed=True), Verdict.DISCARD),
    ],
)
def test_staged(thing, known, verdict):
    assert judge_staged(thing, known) is verdict


def tally(known=True, version="", newcomer=False, **counts):
    made = Tally(epoch_known=known, newcomer=newcomer)
    for verdict, number in counts.items():
        for _ in range(number):
            made.count(held(version=version), Verdict(verdict))
    return made


def test_a_few_strange_files_raise_no_suspicion():
    assert tally(unknown=FEW).suspicion() == ""


def test_many_strange_files_do():
    assert "does not know 11 of the 31" in tally(keep=20, unknown=FEW + 1).suspicion()


def test_many_strange_among_very_many_do_not():
    assert tally(keep=1000, unknown=FEW + 1).suspicion() == ""


def test_one_file_that_was_published_once_and_is_not_known_any_more_does():
    assert "forgotten 1 files" in tally(keep=1000, unknown=1, version=V).suspicion()


def test_what_was_published_elsewhere_is_no_news_on_a_folder_that_was_never_here():
    assert "forgotten" not in tally(unknown=1, version=V, newcomer=True).suspicion()


def test_what_was_removed_does_not_count():
    assert tally(removed=100).suspicion() == ""


def test_an_older_database_takes_nothing_away():
    assert "older" in tally(known=False, keep=1000, removed=1).suspicion()
    assert tally(known=False, keep=1000).suspicion() == ""


def test_bytes_count_as_well_as_files():
    made = tally(keep=1000)
    for _ in range(FEW + 1):
        made.count(held(size=10_000), Verdict.UNKNOWN)
    assert made.suspicion()


def test_an_administrators_word_ends_it():
    made = tally(unknown=100)
    made.accepted = True
    assert made.suspicion() == ""


@given(st.sets(st.integers(0, 1 << 40), max_size=200), st.sets(st.integers(0, 1 << 40), max_size=50))
def test_id_set_is_a_set(inside, others):
    ids = IdSet()
    for number in inside:
        ids.add(number)
    assert all(number in ids for number in inside)
    assert all((number in ids) == (number in inside) for number in others)
