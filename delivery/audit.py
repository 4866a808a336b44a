"""Ask whether flaws are known in the libraries of requirements.lock.

    venv/bin/python delivery/audit.py

Ends with 1 where one is known.  Where the list of known flaws can not be reached, it says so and ends with 0: that is
no reason not to work on without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PATIENCE = 180.0  # seconds
COMMAND = (
    "pip_audit",
    "--disable-pip",
    "--require-hashes",
    "--progress-spinner",
    "off",
    "--format",
    "json",
    "-r",
    LOCK,
)


def asked() -> list[dict[str, Any]] | None:
    """What is known of each library; None where nobody could be asked."""
    command = [sys.executable, "-m", *map(str, COMMAND)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def report(found: list[dict[str, Any]] | None) -> tuple[str, int]:
    """What is said of that, and the code to end with."""
    looked_at = [one for one in found or [] if "vulns" in one]
    if not looked_at:
        return "pip-audit: the list of known flaws can not be reached from here; nothing was audited", 0
    flaws = [f"{one['name']} {one['version']}: {flaw['id']}" for one in looked_at for flaw in one["vulns"]]
    left = len(found or []) - len(looked_at)
    more = f", {left} could not be looked up" if left else ""
    text = f"pip-audit: {len(looked_at)} libraries, {len(flaws)} known flaws{more}"
    return "\n".join([text, *flaws]), 1 if flaws else 0


if __name__ == "__main__":
    told, code = report(asked())
    print(told)
    raise SystemExit(code)
