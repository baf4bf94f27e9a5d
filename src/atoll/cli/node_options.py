"""The options of ``atoll node``: what the owner of rows types."""

from __future__ import annotations

from atoll.cli.arguments import Command, Option, text, whole

__all__ = ["NODE"]

_FOLDER = Option("folder", text, "DIR", "folder of the node, or its name (default the only one there is)")

_LIMITS = (
    Option("operations", text, "PATTERN", "operations to allow, such as 'describe.*,neighbors.*' (default those asked "
           "for)", (), several=True),
    Option("families", None, "", "allow all operations of the kinds asked for, and those that describe rows"),
    Option("columns", text, "COLUMN", "the only columns to serve, targets too (default all)", (), several=True),
    Option("min-rows", whole(1), "N", "fewest rows behind one answer (default 1)"),
    Option("min-nodes", whole(1), "N", "fewest nodes in a sum, as the signed task claims; only a secure sum can "
           "enforce it (default 1)"),
    Option("rounds-per-day", whole(1), "N", "most rounds a day (default no limit)"),
    Option("bytes-per-day", text, "SIZE", "most bytes a day, such as '100 MB' (default no limit)"),
    Option("until", text, "DATE", "last day, such as 2027-01-31 (default no end)"),
)  # fmt: skip

NODE = (
    Command(
        "node join",
        "become a node of a federation, with a token from its admin, and answer",
        "atoll node join https://coordinator:8443 atoll_… --data iris=./iris.csv:species",
        {
            "what it offers": (
                Option("data", text, "NAME=PLACE", "data sets: NAME=FILE:TARGET for .csv, .tsv, .parquet; "
                       "NAME=X.npy:y.npy; NAME=sql:URL#QUERY#TARGET; NAME=py:module:function", (), several=True),
                Option("show", None, "", "tell the coordinator the number of rows and the names of the columns"),
                Option("allow", text, "WHO:DATA:PATTERNS", "allow something from the start, as in "
                       "alice:iris:describe.*,neighbors.*; otherwise nothing is", (), several=True),
            ),
            "where": (
                Option("folder", text, "DIR", "folder of the node (default ~/.local/share/atoll/nodes/NAME)"),
                Option("no-run", None, "", "join only; atoll node run answers"),
            ),
        },
        "URL",
        "where the coordinator is reached from here",
        "The key is made here and never leaves. Connections go out only.",
        "TOKEN",
        "the token, as it was pasted",
    ),
    Command(
        "node run",
        "answer what the owner allows, until ended with Ctrl-C or SIGTERM",
        "atoll node run",
        {"node": ()},
        "FOLDER",
        "folder of the node, or its name (default the only one there is)",
        optional=True,
    ),
    Command(
        "node requests",
        "what was asked of this node and not allowed, in plain words",
        "atoll node requests",
        {"node": (_FOLDER, Option("all", None, "", "also what was approved"))},
    ),
    Command(
        "node approve",
        "allow what a request asks for, or a part of it",
        "atoll node approve 3 --operations 'describe.*,neighbors.*' --rounds-per-day 1000 --until 2027-01-31",
        {"limits": _LIMITS, "node": (_FOLDER,)},
        "ID",
        "number of the request",
        "Rules stand in policy.toml in the node's folder, and may be edited there.",
    ),
    Command(
        "node revoke",
        "take back what was allowed, at once",
        "atoll node revoke alice",
        {"node": (_FOLDER,)},
        "WHO",
        "number of a request, name of a requester, or key",
    ),
    Command(
        "node log",
        "every decision and every byte that left; with --verify, whether nothing was altered",
        "atoll node log --verify",
        {
            "node": (
                _FOLDER,
                Option("verify", None, "", "look at every entry; exit status 1 if one was altered"),
                Option("last", whole(1), "N", "so many entries (default 50)", 50),
            )
        },
    ),
    Command(
        "node status",
        "who this node is, what it offers, what is allowed, and what waits",
        "atoll node status",
        {"node": (_FOLDER,)},
    ),
    Command(
        "node service",
        "print a systemd unit with which the node starts with the machine",
        "atoll node service --user",
        {"node": (_FOLDER, Option("user", None, "", "a unit of this user, which needs no root"))},
    ),
    Command(
        "node leave",
        "leave the federation: the key, what runs keep here and the policy are deleted; the log stays",
        "atoll node leave --yes",
        {"node": (_FOLDER, Option("yes", None, "", "go on without asking"))},
        closing="The admin ends the membership at the coordinator with atoll coordinator revoke NAME.",
    ),
)  # fmt: skip
