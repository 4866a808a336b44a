"""A short fault campaign over several sites; see campaign.py, which runs for as long as you like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from goggles.testing.cluster import SOURCE

HOME = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_everything_arrives_whatever_dies(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.network.campaign", "--seed", "3", "--seconds", "20"],
        cwd=HOME,
        check=False,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=430,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
