from __future__ import annotations

import hashlib
import io

import pytest

from goggles.checksums import CHUNK, EMPTY, is_digest, of_file


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_digest_and_size_are_those_of_all_bytes(size):
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    assert of_file(io.BytesIO(content)) == (size, hashlib.sha256(content).hexdigest())


def test_only_what_is_left_to_read_counts():
    file = io.BytesIO(b"headbody")
    file.seek(4)
    assert of_file(file) == (4, hashlib.sha256(b"body").hexdigest())


def test_the_empty_digest_is_known():
    assert of_file(io.BytesIO()) == (0, EMPTY)


@pytest.mark.parametrize(
    "text", [EMPTY.upper(), EMPTY[:-1], EMPTY + "0", EMPTY + "\n", "", "g" * 64, None, 64, EMPTY.encode()]
)
def test_what_is_not_64_lower_hexadecimal_digits_is_no_digest(text):
    assert is_digest(EMPTY) and not is_digest(text)
