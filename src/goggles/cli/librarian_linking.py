"""The command of `librarian` that connects two librarians with each other.

Law: see `librarian_grammar`.
"""

from __future__ import annotations

from argparse import Namespace

from goggles.cli.librarian_grammar import Reply, on_all, option, switch
from goggles.client.librarian.admin import AdminClient
from goggles.client.librarian.connections import ClientInfo, Connections
from goggles.client.librarian.linking import End, connect


@on_all(
    "connect-librarians",
    "Connect two librarians: the source will push files to the destination.\n\n"
    "Makes an account for each on the other, with passwords that nobody needs to know, and makes each known to the\n"
    "other.",
    "connect-librarians my-site archive",
    option("source", metavar="SOURCE", help="The connection of the librarian that sends; as in ~/.hl_client.cfg."),
    option("destination", metavar="DESTINATION", help="The connection of the one that receives."),
    switch("--both-ways", help="Each may push files to the other."),
    option("--source-url", default="", metavar="URL", help="Where the destination finds the source, if not as we do."),
    option("--destination-url", default="", metavar="URL", help="Where the source finds the destination."),
)
def connect_librarians(connections: Connections, options: Namespace) -> Reply:
    here, there = connections.need(options.source), connections.need(options.destination)
    with AdminClient.from_info(here) as source, AdminClient.from_info(there) as destination:
        ends = _end(source, here, options.source_url), _end(destination, there, options.destination_url)
        link = connect(*ends, both_ways=options.both_ways)
    arrow = "and" if options.both_ways else "to"
    data = {"source": link.source, "destination": link.destination, "both_ways": options.both_ways}
    return Reply(
        data, f"connected: {link.source} {arrow} {link.destination}; what to send is said by the tasks of each"
    )


def _end(client: AdminClient, info: ClientInfo, url: str) -> End:
    return End(client, url, 0) if url else End(client, info.host, info.port, info.certificate_name)
