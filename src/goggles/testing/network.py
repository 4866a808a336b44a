"""Several sites of real processes on this machine, linked as librarians: for the demo and the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until

PASSWORD = "a password: of {0} for {1}"  # noqa: S105 - of throw-away sites


class Network:
    """The sites by name, all of which trust each other's CA.  `new_database` gives each site its database; as it is,
    a file in its folder."""

    new_database: Callable[[], str] = staticmethod(str)

    def __init__(
        self,
        folder: Path,
        sites: Mapping[str, Sequence[str]],
        flags: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.sites = {
            name: Cluster(
                folder / name,
                storages,
                nameserver_flags=["--copies", "1", *flags],
                environment=environment,
                site=name,
                database=self.new_database(),
            )
            for name, storages in sites.items()
        }
        for name, site in self.sites.items():
            site.trust(*(other for called, other in self.sites.items() if called != name))

    def __getitem__(self, name: str) -> Cluster:
        return self.sites[name]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for site in self.sites.values():
                stack.enter_context(site)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def admin(self, site: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """One call of a site's administrator."""
        peer = self.sites[site].dial("admin", Role.ADMIN)
        try:
            return peer.call(method, *args, **kwargs)
        finally:
            peer.close()

    def link(self, source: str, destination: str) -> None:
        """As the seeds tell: an account for each on the other, then each is made known to the other."""
        self.admin(destination, "create_user", source, PASSWORD.format(source, destination), "READAPPEND")
        self.admin(source, "create_user", destination, PASSWORD.format(destination, source), "CALLBACK")
        for here, there in ((source, destination), (destination, source)):
            authenticator = f"{here}:{PASSWORD.format(here, there)}"
            self.admin(here, "add_librarian", there, "https://localhost", self.sites[there].port, authenticator)

    def run(self, site: str, task: str) -> int:
        """Run a background task of a site now."""
        return int(self.admin(site, "run_task", task))

    def wait_arrived(self, site: str, paths: Sequence[str], seconds: float = 60.0) -> None:
        """Return when a site has all these files."""
        with self.sites[site].connect() as session:
            wait_until(f"files at {site}", lambda: all(session.exists(path) for path in paths), seconds)
