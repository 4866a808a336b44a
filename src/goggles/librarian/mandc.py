"""The site's figures for the monitor and control system of HERA (hera_mc).

Law: nothing of hera_mc is needed, or imported, unless it is asked for; where it is asked for and is not there the
nameserver does not start.  A report that fails is told once and tried again at its time.
Source of the interface: `MCSession.add_lib_status` of hera_mc, which takes times of astropy and sizes in units of 2^30.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import threading
from pathlib import Path
from typing import Any

from goggles import version
from goggles.errors import SettingsError
from goggles.librarian.figures import Figures, Reader
from goggles.nameserver.site import Site
from goggles.settings import CHECKOUT

log = logging.getLogger(__name__)
EVERY = 900.0  # seconds between two reports
GIB = 1 << 30
UNKNOWN = "unknown"


class Mandc:
    """Reports every quarter of an hour, the first time at the start."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._mc, self._time = _modules()
        self._hash = _git_hash()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mandc", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._report(self._reader.read())
            except Exception as error:
                log.exception("the figures of the site could not be reported to M&C")
                why = f"the figures of the site could not be reported to M&C: {type(error).__name__}"
                self._site.trouble("warning", "configuration", why)
            self._site.clock.wait(self._stopping, EVERY)

    def _report(self, figures: Figures) -> None:
        session = self._mc.connect_to_mc_db(None).sessionmaker()
        try:
            session.add_lib_status(
                self._time(figures.now, format="unix"),
                figures.files,
                figures.size / GIB,
                figures.free / GIB,
                (figures.uptime if figures.since_upload is None else figures.since_upload) / 60.0,
                sum(1 for _, run, _ in figures.tasks if run.began > run.ended),
                version.__version__,
                self._hash,
            )
            session.commit()
        finally:
            session.close()
        log.debug("figures reported to M&C")


def _modules() -> tuple[Any, Any]:
    """hera_mc.mc and the class of its times; SettingsError where one is not there, or not set up."""
    settings = Path("~/.hera_mc/mc_config.json").expanduser()
    try:
        mc, time = importlib.import_module("hera_mc.mc"), importlib.import_module("astropy.time").Time
    except ImportError as error:
        raise SettingsError(
            f"--report_to_mandc needs the Python module hera_mc: {error}", "install it, or leave the setting out"
        ) from error
    if not settings.is_file():
        raise SettingsError(
            f"--report_to_mandc needs {settings}, which is not there", "set hera_mc up, or leave the setting out"
        )
    return mc, time


def _git_hash() -> str:
    """The commit that this program runs from, where it runs from a checkout."""
    command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return found.stdout.strip() if found.returncode == 0 else UNKNOWN
