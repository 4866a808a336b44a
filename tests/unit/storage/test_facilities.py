"""How a storage says that other sites reach it, and what of that leaves the site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goggles.errors import SettingsError
from goggles.librarian.offers import offered
from goggles.settings import StorageSettings, resolve
from goggles.storage.program import facilities_of

HERE = "01234567-89ab-cdef-0123-456789abcdef"
THERE = "11234567-89ab-cdef-0123-456789abcdef"
SEED = {"globus": {"available": True, "destination_endpoint": HERE}}
NEEDED = {"ca_cert": "ca", "certfile": "crt", "keyfile": "key", "name": "alice", "capacity": "1M"}


def globus(root: Path, **flags: str) -> dict[str, Any]:
    return facilities_of(resolve(StorageSettings, {**NEEDED, "rootpath": str(root), **flags}, {}))["globus"]


def test_a_storage_that_names_no_collection_is_a_source_only(tmp_path: Path) -> None:
    assert globus(tmp_path) == {"available": False, "destination_endpoint": "", "root": str(tmp_path)}


def test_the_seeds_json_is_taken_as_text_as_a_file_and_as_a_table(tmp_path: Path) -> None:
    known = {"available": True, "destination_endpoint": HERE, "root": str(tmp_path)}
    assert globus(tmp_path, asynchronous_transfer_manager_data=json.dumps(SEED)) == known
    file = tmp_path / "managers.json"
    file.write_text(json.dumps(SEED))
    assert globus(tmp_path, asynchronous_transfer_manager_data=str(file)) == known
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"asynchronous_transfer_manager_data": SEED, "rootpath": str(tmp_path)}))
    assert facilities_of(resolve(StorageSettings, NEEDED, {}, settings))["globus"] == known


def test_flags_are_stronger_than_the_json(tmp_path: Path) -> None:
    given = {"asynchronous_transfer_manager_data": json.dumps(SEED), "globus_endpoint": THERE, "globus_root": "/alice"}
    assert globus(tmp_path, **given) == {"available": True, "destination_endpoint": THERE, "root": "/alice"}
    assert not globus(tmp_path, **given, globus_available="no")["available"]
    closed = json.dumps({"globus": {"available": False, "destination_endpoint": HERE}})
    assert not globus(tmp_path, asynchronous_transfer_manager_data=closed)["available"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "/nowhere.json",
        "[]",
        '{"rsync": {}}',
        '{"globus": []}',
        '{"globus": {"available": "yes"}}',
        '{"globus": {"destination_endpoint": "ABCD"}}',
        '{"globus": {"endpoint": "x"}}',
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="asynchronous_transfer_manager_data"):
        globus(tmp_path, asynchronous_transfer_manager_data=text)


def test_what_is_not_for_others_does_not_leave_the_site(tmp_path: Path) -> None:
    settings = resolve(StorageSettings, {**NEEDED, "rootpath": str(tmp_path)}, {})
    assert json.loads(offered(json.dumps(facilities_of(settings)))) == {"goggles": {}}
    open_one = resolve(StorageSettings, {**NEEDED, "rootpath": str(tmp_path), "globus_endpoint": HERE}, {})
    assert set(json.loads(offered(json.dumps(facilities_of(open_one))))) == {"goggles", "globus"}
