"""The answers that Globus ships with its SDK, and what becomes of them here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import responses
from globus_sdk import TransferClient
from globus_sdk.testing import get_last_request, load_response

from goggles.errors import BadRequest, GogglesError, SettingsError
from goggles.librarian.managers.globus.credentials import Credentials
from goggles.librarian.managers.globus.service import Globus

CLIENT = "d430e6c8-b06f-4446-a060-2b6a2bc9e54a"


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    monkeypatch.delenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", raising=False)
    file = tmp_path / "secret"
    file.write_text("the secret\n".replace(" ", "-"))
    file.chmod(0o600)
    return Credentials(CLIENT, False, file)


@pytest.fixture
def globus(credentials: Credentials) -> Iterator[Globus]:
    with responses.mock:
        load_response("auth.oauth2_client_credentials_tokens")
        yield Globus(credentials)


def job(known) -> dict:
    fields = {"source": "s", "destination": "d", "label": "l", "deadline": "2030-01-01T00:00:00+00:00"}
    return {**fields, "submission": "an-id", "items": {"1": ("/a", "/b")}}


def test_a_task_is_submitted_with_the_id_that_was_given(globus: Globus) -> None:
    known = load_response(TransferClient.submit_transfer)
    assert globus.submit(job(known)) == known.metadata["task_id"]
    sent = get_last_request()
    assert sent is not None and b'"submission_id":"an-id"' in sent.body.replace(b": ", b":")
    assert b"encrypt_data" in sent.body and b"verify_checksum" in sent.body


def test_what_globus_refuses_says_why(globus: Globus) -> None:
    load_response(TransferClient.submit_transfer, case="failure")
    with pytest.raises(BadRequest, match="NoTransferItems"):
        globus.submit(job(None))


def test_a_submission_id_is_had(globus: Globus) -> None:
    known = load_response(TransferClient.get_submission_id)
    assert globus.submission_id() == known.metadata["submission_id"]


def test_a_collection_is_described(globus: Globus) -> None:
    known = load_response(TransferClient.get_endpoint)
    assert globus.endpoint(known.metadata["endpoint_id"])["id"] == known.metadata["endpoint_id"]


# --- the secret ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_not_used(credentials: Credentials, mode: int) -> None:
    assert credentials.secret() == "the-secret"
    credentials.file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        credentials.secret()


@pytest.mark.parametrize("text", ["", "\n", "two words"])
def test_a_file_without_a_secret_is_said(credentials: Credentials, text: str) -> None:
    credentials.file.write_text(text)
    with pytest.raises(SettingsError, match="holds no secret"):
        credentials.secret()


def test_what_is_kept_is_for_us_alone(credentials: Credentials) -> None:
    credentials.file.unlink()
    with pytest.raises(SettingsError, match="can not be read"):
        credentials.secret()
    before = os.umask(0)
    try:
        credentials.keep("newer")
    finally:
        os.umask(before)
    assert credentials.secret() == "newer" and "newer" not in repr(credentials)
    assert [path.name for path in credentials.file.parent.iterdir()] == ["secret"]


def test_every_error_is_one_of_ours(globus: Globus, credentials: Credentials) -> None:
    credentials.file.unlink()
    with pytest.raises(GogglesError):
        globus.pending()
