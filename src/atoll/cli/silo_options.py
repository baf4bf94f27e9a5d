"""The options of the commands for real silos."""

from __future__ import annotations

from atoll.cli.arguments import Command, Option, between, one_of, text, whole

__all__ = ["COORDINATOR", "SILO"]

_HOURS = between("hours above 0", lambda x: 0 < x <= 24 * 366)
_DAYS = between("days from 0", lambda x: 0 <= x < float("inf"))
_SECONDS = between("seconds above 0", lambda x: 0 < x < float("inf"))
_FOLDER = Option("folder", text, "DIR", "folder of the coordinator (default ./coordinator)", "coordinator")

COORDINATOR = (
    Command(
        "coordinator start",
        "begin to coordinate: keys and a certificate are made when they are missing",
        "atoll coordinator start ./coordinator",
        {
            "where": (
                Option("port", whole(0), "N", "port to listen at; 0: any free one (default that of the last start, or "
                       "8443)", short="p"),
                Option("host", text, "ADDRESS", "address to listen at; 0.0.0.0: reachable from everywhere (default "
                       "127.0.0.1)", "127.0.0.1"),
                Option("url", text, "URL", "where members reach the coordinator (default this machine at the port)"),
                Option("behind-proxy", None, "", "a reverse proxy on this machine ends TLS: speak plain HTTP to it"),
                Option("forwarded", None, "", "with --behind-proxy: it writes the caller's address as the last one in "
                       "X-Forwarded-For"),
            ),
            "rules": (
                Option("lost-after", _SECONDS, "S", "seconds that a node may be away before open questions go on "
                       "without it (default 60)", 60.0),
                Option("failures", whole(0), "N", "times a minute that one address may fail to say who it is; 0: any "
                       "number (default 600)", 600),
            ),
            "dashboard": (Option("open", None, "", "open the dashboard in a browser"),),
        },
        "DIR",
        "folder for all that the coordinator keeps; made when it is missing",
        "Ends in good order with Ctrl-C or SIGTERM: members are told to come back, and nothing is lost.",
    ),
    Command(
        "coordinator invite",
        "print a token with which one member joins, once",
        "atoll coordinator invite clinic-a --role node",
        {
            "invitation": (
                Option("role", one_of("node", "researcher", "viewer", "admin"), "ROLE",
                       "node, researcher, viewer or admin (default node)", "node"),
                Option("hours", _HOURS, "H", "hours for which it is good (default 72)", 72.0),
                _FOLDER,
            )
        },
        "NAME",
        "name of the member to be",
        "Works beside a running coordinator, and on the folder of one that is not running.",
    ),
    Command(
        "coordinator members",
        "list everybody who has joined",
        "atoll coordinator members --folder ./coordinator",
        {"coordinator": (_FOLDER,)},
    ),
    Command(
        "coordinator revoke",
        "end a membership at once",
        "atoll coordinator revoke clinic-a",
        {"coordinator": (_FOLDER,)},
        "NAME",
        "name of the member",
    ),
    Command(
        "coordinator forget",
        "delete runs that ended long ago, with their sums",
        "atoll coordinator forget --older-than 90",
        {
            "which": (Option("older-than", _DAYS, "DAYS", "runs of anybody that ended, and did not change since"),),
            "coordinator": (_FOLDER,),
        },
        closing="Works beside a running coordinator, and on the folder of one that is not running.",
    ),
    Command(
        "coordinator login",
        "print an address that opens the dashboard once",
        "atoll coordinator login --folder ./coordinator",
        {"coordinator": (_FOLDER, Option("open", None, "", "open it in a browser"))},
    ),
)  # fmt: skip

SILO = Command(
    "silo demo",
    "three nodes with a file each and their coordinator, real processes on this machine, and two models",
    "atoll silo demo",
    {},
    closing="Everything lies in a temporary folder, listens on this machine only, and is gone afterwards.",
)
