"""A short fault campaign; see campaign.py, which runs for as long as you like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from goggles.testing.cluster import SOURCE

HOME = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 11])
def test_what_was_acknowledged_holds_whatever_dies(seed: int, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.campaign", "--seed", str(seed), "--seconds", "10"],
        cwd=HOME,
        check=False,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
