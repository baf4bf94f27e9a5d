"""The options of every command in one table, and the parser that is made from it.

The same table reads the command line and the experiment file, so both know the same names and refuse the same values.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from atoll.cli.arguments import Command, Option, between, one_of, text, whole
from atoll.cli.asking_options import AT, LOGIN, RUNS
from atoll.cli.node_options import NODE
from atoll.cli.silo_options import COORDINATOR, SILO
from atoll.errors import closest

__all__ = [
    "COMMANDS",
    "COMMON",
    "DEMO",
    "DOCTOR",
    "MODELS",
    "RUN",
    "VERIFY",
    "Parser",
    "named",
    "overview",
    "parser",
    "shared",
    "spelled",
]


_SEED = 42  # as in the example of the README


def _report(command: str) -> Option:
    name = f"atoll-{command}.html"
    return Option("report", text, "PATH", f"HTML report to write, or none (default {name} here)", name)


_NODES = (
    Option("engine", text, "NAME", "where nodes run: inprocess or processes (default inprocess)", "inprocess"),
    Option("workers", whole(1), "N", "worker processes of the engine processes (default one per core)"),
)
_DRAWN = Option("seed", whole(0), "N", f"seed of everything drawn at random (default {_SEED})", _SEED)

COMMON = (
    Option("json", None, "", "print data as JSON and nothing else; messages go to the standard error stream"),
    Option("debug", None, "", "show the traceback of an error"),
)

DEMO = Command(
    "demo",
    "k nearest neighbours on a bundled data set: pooled, distributed and federated, as one table",
    "atoll demo --data digits --partition 'dirichlet(alpha=0.3)'",
    {
        "options": (
            Option("data", text, "NAME", "iris, digits, wine or breast_cancer (default iris)", "iris"),
            Option("nodes", whole(1), "N", "nodes of both trust models (default 4 distributed, 5 federated)"),
            Option(
                "partition",
                text,
                "P",
                "how rows come to the federated nodes: iid, label, classes=2, dirichlet(alpha=0.5), dirichlet-by-node, "
                "shards, quantity (default label: sorted by label)",
                "label",
            ),
            *_NODES,
            _DRAWN,
            _report("demo"),
        )
    },
)

RUN = Command(
    "run",
    "train and evaluate on a file of your own, over nodes and pooled, as one table",
    "atoll run iris.csv --target species --estimator neighbors.KNeighborsClassifier --set n_neighbors=3 --nodes 4",
    {
        "rows": (
            Option("target", text, "COLUMN", "column to predict; estimators that predict nothing have none"),
            Option("drop", text, "COLUMN", "columns to leave out", (), several=True),
            Option(
                "test-size",
                between("a share between 0 and 1", lambda x: 0 < x < 1),
                "SHARE",
                "share of the rows held out to evaluate on (default 0.2)",
                0.2,
            ),
            _DRAWN,
        ),
        "estimator": (
            Option("estimator", text, "NAME", "scikit-learn estimator, as in neighbors.KNeighborsClassifier"),
            Option("set", text, "NAME=VALUE", "parameters of the estimator", (), several=True),
            Option("method", text, "NAME", "way to fit it, where there is a choice (default the exact one)"),
        ),
        "nodes": (
            Option("nodes", whole(1), "N", "number of nodes (default 4)"),
            Option(
                "trust",
                one_of("distributed", "federated"),
                "MODEL",
                "distributed: rows and machines are yours; federated: every node owns its rows (default distributed, "
                "with --node-column federated)",
            ),
            Option("partition", text, "P", "how rows come to the nodes, as in atoll demo (default iid)"),
            Option("node-column", text, "COLUMN", "column that says which node each row belongs to"),
            *_NODES,
            Option("topology", text, "PLAN", "star, tree, tree(fan_out=3) or ring (default star)", "star"),
            Option(
                "deadline",
                between("seconds above 0", lambda x: 0 < x < float("inf")),
                "SECONDS",
                "a round ends after so long (default never)",
            ),
            Option(
                "quorum",
                between("a share above 0 and up to 1", lambda x: 0 < x <= 1),
                "SHARE",
                "share of the nodes that must answer a round in time (default 1: all)",
                1.0,
            ),
            Option("journal", text, "DIR", "folder that keeps answered rounds: the same command goes on from there"),
        ),
        "nodes that keep their rows": AT,
        "output": (
            _report("run"),
            Option("predictions", text, "OUT.csv", "table of the answers to the held-out rows to write"),
            Option("quiet", None, "", "no line per round"),
        ),
    },
    "FILE",
    "table with a header: .csv, .tsv, .txt or .parquet; or an experiment.toml with the same settings",
    "The keys of an experiment file are file, for the table, and the names of the options;\n"
    "its table [set] holds the parameters. What is given on the command line wins.\n"
    "A value of --set is a number, true, false, none, text, or any other TOML value.",
)

VERIFY = Command(
    "verify",
    "fit on the pooled rows and over nodes, and say where and by how much they differ",
    "atoll verify linear_model.LogisticRegression --data iris --set C=0.5 --nodes 5 --partition label",
    {
        "what": (
            Option("set", text, "NAME=VALUE", "parameters of the estimator", (), several=True),
            Option("method", text, "NAME", "way to fit it, where there is a choice (default the exact one)"),
        ),
        "rows": (
            Option(
                "data",
                text,
                "NAME",
                "bundled data set: iris, digits, wine, breast_cancer or diabetes (default iris, for a regressor "
                "diabetes)",
            ),
            Option("target", text, "COLUMN", "column of FILE to predict"),
            Option("drop", text, "COLUMN", "columns of FILE to leave out", (), several=True),
        ),
        "nodes": (
            Option("nodes", whole(1), "N", "number of nodes (default 4)", 4),
            Option("partition", text, "P", "how rows come to the nodes, as in atoll demo (default iid)", "iid"),
            *_NODES,
            Option("topology", text, "PLAN", "star, tree, tree(fan_out=3) or ring (default star)", "star"),
            Option("seed", whole(0), "N", "seed of everything drawn at random (default 0)", 0),
        ),
        "result": (
            Option(
                "rtol",
                between("a number from 0", lambda x: 0 <= x < float("inf")),
                "R",
                "relative difference that is still the same (default 1e-9)",
                1e-9,
            ),
        ),
    },
    "ESTIMATOR",
    "scikit-learn estimator, as in neighbors.KNeighborsClassifier",
    "Exit status 1 also says that something differs by more than it may.",
    "FILE",
    "table with a header: .csv, .tsv, .txt or .parquet",
)

DOCTOR = Command(
    "doctor",
    "is everything here that Atoll needs? Each finding comes with a way to mend it",
    "atoll doctor --json",
    {},
)

MODELS = Command(
    "models",
    "what can be fitted over nodes, how, in how many rounds, and what leaves a node",
    "atoll models --estimator Ridge LogisticRegression --features 30",
    {
        "which": (
            Option("estimator", str, "NAME", "only these, with what leaves a node in words", several=True),
            Option("features", whole(1), "D", "columns of the generated rows (default: 10)"),
            Option("classes", whole(2), "C", "classes of the generated rows (default: 2)"),
        )
    },
    closing="Rounds and bytes are measured: every estimator is fitted over 4 nodes on generated rows.",
)

COMMANDS = {
    command.name: command for command in (DEMO, RUN, VERIFY, MODELS, DOCTOR, *COORDINATOR, *NODE, LOGIN, *RUNS, SILO)
}

_SECOND = {"runs": "list"}
_CODES = "Exit status: 0 well, 1 the run failed, 2 bad usage or bad input, 130 interrupted."


class Parser(argparse.ArgumentParser):
    """Reads one command's arguments; its help begins with an example, its errors end with a hint.

    Parameters
    ----------
    command : Command
        What it reads.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        given = f" {command.positional}" if command.positional else ""
        given = f" [{command.positional}]" if command.optional else given
        given += f" [{command.second}]" if command.second else ""
        super().__init__(
            f"atoll {command.name}",
            usage=f"atoll {command.name}{given} [options]",
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog="\n\n".join(filter(None, (command.closing, _CODES))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        for i, (heading, options) in enumerate(command.groups.items()):
            group = self.add_argument_group(heading)
            if command.positional and i == 0:
                group.add_argument(command.positional, nargs="?", default=None, help=command.takes)
                if command.second:
                    group.add_argument(command.second, nargs="?", default=None, help=command.takes_second)
            for option in options:
                _add(group, option)
        common = self.add_argument_group("everywhere")
        common.add_argument("-h", "--help", action="help", help="show this")
        for option in COMMON:
            _add(common, option)

    def format_help(self) -> str:
        """The help, after an example."""
        return f"Example:\n  {self._command.example}\n\n{super().format_help()}"

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the help is; exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n  next:     {self.prog} --help\n")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the arguments; an unknown option is answered with the nearest one."""
        found, extra = self.parse_known_args(words)
        if extra:
            name = extra[0].partition("=")[0]
            if not name.startswith("--"):
                self.error(f"unexpected argument {extra[0]!r}")
            known = [f"--{option.name}" for option in (*self._command.options, *COMMON)]
            self.error(f"unknown option {name!r}; {closest(name, [*known, '--help'])}")
        first = self._command.positional
        if first and getattr(found, first) is None and not self._command.optional:
            self.error(f"{first} is missing; it comes first, before the options")
        return found


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    flags = [f"-{option.short}"] * bool(option.short) + [f"--{option.name}"]
    if option.kind is None:
        group.add_argument(*flags, action="store_true", help=option.help)
    elif option.several:
        group.add_argument(
            *flags, type=option.kind, nargs="+", action="extend", metavar=option.metavar, default=None, help=option.help
        )
    else:
        group.add_argument(*flags, type=option.kind, metavar=option.metavar, default=None, help=option.help)


def spelled(words: Sequence[str]) -> list[str]:
    """A command line with the second word of its command, where that may be left out."""
    first, then = words[0] if words else "", words[1] if words[1:] else "--"
    short = first in _SECOND and then.startswith("-") and then not in ("-h", "--help")
    return [first, _SECOND[first], *words[1:]] if short else list(words)


def shared(word: str) -> bool:
    """Whether several commands begin with this word."""
    return any(name.startswith(f"{word} ") for name in COMMANDS)


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the command that a command line begins with, of one word or two, and what follows."""
    n = 2 if shared(words[0]) else 1
    return " ".join(words[:n]), list(words[n:])


def parser(name: str) -> Parser:
    """The parser of a command."""
    return Parser(COMMANDS[name])


def overview(first: str = "") -> str:
    """The help of ``atoll`` itself, or of the commands that begin with a word."""
    there = [command for name, command in COMMANDS.items() if not first or name.startswith(f"{first} ")]
    width = max(len(command.name) for command in there) + 2
    example = there[0].example if first else "atoll demo"
    what = [
        "Train one scikit-learn estimator over many nodes: distributed over machines of yours, or",
        "federated over data that stay where they are.",
        "",
    ]
    return "\n".join(
        [
            "Example:",
            f"  {example}",
            "",
            f"usage: atoll {first or 'COMMAND'} {'COMMAND ' if first else ''}[options]",
            "",
            *([] if first else what),
            "commands:",
            *(f"  {command.name:<{width}}{command.summary}" for command in there),
            "",
            "options:",
            f"  {'--help':<{width + 3}}show this, or with a command its own help",
            *([] if first else [f"  {'--version':<{width + 3}}show the version"]),
            "",
            _CODES,
            "",
        ]
    )
