"""The options of who asks nodes elsewhere: logging in, and looking after runs."""

from __future__ import annotations

from atoll.cli.arguments import Command, Option, text, whole

__all__ = ["AT", "LOGIN", "RUNS", "SILO_KEYS"]

_HOME = Option("home", text, "DIR", "folder with logins (default $ATOLL_HOME or ~/.config/atoll)")
_AT = Option("at", text, "URL", "of the coordinator (default that of the last login)")

AT = (
    Option("at", text, "URL", "coordinator of nodes that keep their rows; FILE is then an experiment.toml"),
    Option("data", text, "NAME", "with --at: the data set at the nodes (default the only one there is)"),
    Option("sites", text, "NODE", "with --at: the nodes to train over (default all that offer the data set)", (),
           several=True),
    Option("name", text, "RUN", "with --at: name of the run; the same command under the same name goes on with it "
           "(default a new name)"),
    Option("save", text, "PATH", "with --at: file for the fitted model (atoll.models.from_bytes reads it)"),
)  # fmt: skip

SILO_KEYS = tuple(option.key for option in AT if option.key != "at")
"""What only means something where nodes keep their rows."""

LOGIN = Command(
    "login",
    "make this machine known to a coordinator, with a token from its admin, in order to ask nodes",
    "atoll login https://coordinator:8443 atoll_…",
    {"where": (_HOME,)},
    "URL",
    "where the coordinator is reached from here",
    "The key is made here and never leaves.",
    "TOKEN",
    "the token, as it was pasted",
)

RUNS = (
    Command(
        "runs list",
        "runs at a coordinator, the last changed first",
        "atoll runs list --at https://coordinator:8443",
        {
            "which": (
                Option("last", whole(1), "N", "so many runs (default 20)", 20),
                Option("all", None, "", "also those that only counted rows, as every Federation.connect does"),
            ),
            "where": (_AT, _HOME),
        },
    ),
    Command(
        "runs show",
        "how far a run is, what its rounds came to, and which nodes did not answer, and why",
        "atoll runs show study",
        {"which": (Option("last", whole(1), "N", "so many rounds (default 20)", 20),), "where": (_AT, _HOME)},
        "NAME",
        "name of a run of yours",
    ),
    Command(
        "runs end",
        "give a run up: nodes are not asked any more",
        "atoll runs end study",
        {"where": (_AT, _HOME)},
        "NAME",
        "name of a run of yours",
        "The rounds that were answered stay, and the run goes on where it was when its program is run again.",
    ),
    Command(
        "runs forget",
        "delete a run with its sums at the coordinator",
        "atoll runs forget study",
        {
            "which": (
                Option("yes", None, "", "also a run that has not ended, which is given up"),
                Option("owner", text, "WHO", "whose run it is, for an admin (default one's own)"),
            ),
            "where": (_AT, _HOME),
        },
        "NAME",
        "name of a run",
        "The logs of nodes stay; atoll coordinator forget deletes all runs of long ago.",
    ),
)
