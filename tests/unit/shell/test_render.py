"""Sizes, times and names as they are shown."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from goggles.client.shell import render
from goggles.contracts.records import FILE, FileInfo, SiteInfo, StorageInfo

HOSTILE = st.text(st.sampled_from("a/ü \x1b[2J\r\n\x07\x00\u202e\x9b]"), max_size=12)


def file_info(path: str = "/f", uploader: str = "ann", **more: object) -> FileInfo:
    known = {"size": 1536, "hash": "0" * 64, "generation": 1, "copies": 2, "live": 2, "storages": ("alice", "bob")}
    known |= {"created": 0.0, "modified": 0.0, "source": "goggles", **more}
    return FileInfo(path=path, type=FILE, uploader=uploader, **known)  # type: ignore[arg-type]


def printed(what: object, width: int = 60) -> str:
    sink = io.StringIO()
    Console(file=sink, width=width, highlight=False, markup=False).print(what)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 60, "1.0 EiB"),
    ],
)
def test_sizes_for_people_use_binary_units(count: int, text: str) -> None:
    assert render.size(count) == text


def test_sizes_beyond_the_largest_unit_stay_in_it() -> None:
    assert render.size(1 << 70) == "1024.0 EiB"


@given(st.integers(0, 1 << 80))
def test_an_exact_size_is_the_number_itself(count: int) -> None:
    assert int(render.size(count, exact=True)) == count


def test_a_time_that_never_was_is_a_dash() -> None:
    assert (render.when(0), render.when(86400)) == ("-", "1970-01-02 00:00")


@given(HOSTILE, HOSTILE)
def test_no_table_lets_a_name_command_the_terminal(name: str, uploader: str) -> None:
    shown = printed(render.listing([file_info(f"/{name}", uploader)], True, False))
    assert all(line.isprintable() for line in shown.split("\n"))


@given(HOSTILE)
def test_no_detail_lets_a_name_command_the_terminal(name: str) -> None:
    shown = render.details(file_info(f"/{name}", name, source=name))
    assert all(line.isprintable() for line in shown.split("\n"))


@given(HOSTILE)
def test_no_warning_lets_a_name_command_the_terminal(name: str) -> None:
    shown = render.site(SiteInfo(name, 1, 1, 1, 0, 0, 0, 1, (name,)), False)
    assert all(line.isprintable() for line in shown.split("\n"))


@given(HOSTILE)
def test_json_keeps_every_character_of_a_name(name: str) -> None:
    assert json.loads(render.as_json({"path": name})) == {"path": name}


def test_a_listing_fits_sixty_columns_and_cuts_no_name() -> None:
    name = "n" * 100
    shown = printed(render.listing([file_info(f"/{name}")], True, False))
    assert max(len(line) for line in shown.splitlines()) <= 60
    assert shown.count("n") >= 100


def test_copies_that_are_owed_and_files_that_are_elsewhere_are_marked() -> None:
    assert render.copies_of(file_info(live=1)) == "1/2 owed 1"
    away = file_info(live=0, storages=(), offsite=True, elsewhere=(("central", "big"),))
    assert render.copies_of(away) == "0/2 offsite"
    assert render.copies_of(file_info(live=0, storages=())) == "0/2 nowhere"
    assert "offsite, librarian central" in printed(render.listing([away], False, False), 100)
    assert "(owed 1)" in printed(render.listing([file_info(live=1)], False, False), 100)


def test_a_storage_is_listed_with_its_address_and_state() -> None:
    info = StorageInfo("alice", ("host", 1), 1 << 30, 2 << 30, "held", 1 << 30, 0, 3, "", 0.0)
    shown = printed(render.storages([info], False), 100)
    assert all(word in shown for word in ("alice", "host:1", "1.0 GiB", "2.0 GiB", "held"))


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 directories"), (1, "1 directory"), (2, "2 directories"), (1000, "1000 directories")]
)
def test_one_of_a_thing_is_not_many(number: int, said: str):
    assert render.counted(number, "directory", "directories") == said
    assert render.counted(number, "file") == said.replace("directory", "file").replace("directories", "files")
