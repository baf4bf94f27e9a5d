"""Where a data set of a node comes from, as its owner writes it.

On the command line a data set is ``name=place``: ``iris=./iris.csv:species``, ``scans=X.npy:y.npy``,
``people=sql:postgresql://host/db#SELECT age, income, ill FROM people#ill``, ``mine=py:package.module:function``.
In ``node.toml`` it is a table ``[data.NAME]`` with the same in keys of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from atoll.errors import closest, explain
from atoll.silo.errors import Malformed

__all__ = ["Source", "parse", "read_source"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".npy")
_EXAMPLE = "iris=./iris.csv:species"


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One data set.

    Attributes
    ----------
    file : str
        A table: ``.csv``, ``.tsv``, ``.txt``, ``.parquet`` or ``.npy``; empty where rows come from elsewhere.
    target : str or list of str
        Columns to predict; for an ``.npy`` file a second one, with the targets.
    columns, drop : list of str
        The features; all other columns by default. Columns to leave out.
    weight : str
        The column with weights of rows.
    sql, query : str
        URL of a database, as SQLAlchemy has them, and what is selected there. ``${NAME}`` in the URL stands for a
        variable of the environment, so that a password need not lie in the file.
    python : str
        ``package.module:function`` or ``/path/file.py:function``: a function without parameters that returns
        ``(X, y)``, ``(X, y, sample_weight)`` or X; or a data frame, of which `target` names the columns to predict.
    show : bool
        Whether the coordinator is told the number of rows and the names of the columns. Otherwise they leave with the
        first question that the policy allows.
    """

    file: str = ""
    target: str | list[str] = ""
    columns: list[str] = []
    drop: list[str] = []
    weight: str = ""
    sql: str = ""
    query: str = ""
    python: str = ""
    show: bool = False

    @property
    def targets(self) -> list[str]:
        """The columns to predict."""
        return [self.target] if isinstance(self.target, str) and self.target else list(self.target or [])

    @property
    def files(self) -> list[Path]:
        """Files whose change is a change of the rows; those of a loader are its own business."""
        if not self.file:
            return []
        second = [Path(t) for t in self.targets] if self.file.endswith(".npy") else []
        return [Path(self.file), *second]

    def said(self) -> str:
        """Where rows come from, in words, without passwords."""
        if self.file:
            return self.file + (f", to predict {', '.join(self.targets)}" if self.targets else "")
        if self.sql:
            return f"{re.sub(r'://[^@/]*@', '://…@', self.sql)}: {self.query}"
        return f"the function {self.python}"


def parse(text: str, base: str | os.PathLike[str] = ".") -> tuple[str, Source]:
    """Read a data set as it is written on the command line.

    Parameters
    ----------
    text : str
        ``name=place``.
    base : path-like
        Folder that relative paths start from.

    Returns
    -------
    str, Source

    Raises
    ------
    Malformed
        If it cannot be read.

    Examples
    --------
    >>> from atoll.silo.node.sources import parse
    >>> name, source = parse("iris=/data/iris.csv:species")
    >>> name, source.file, source.targets
    ('iris', '/data/iris.csv', ['species'])
    """
    name, equals, place = text.partition("=")
    if not equals or not place or not _NAME.match(name):
        expected = f"name=place, such as {_EXAMPLE}"
        raise Malformed(
            explain("this is no data set", got=text, expected=expected, hint="letters, digits and ._- name it")
        )
    if place.startswith("sql:"):
        return name, _sql(place.removeprefix("sql:"), text)
    if place.startswith("py:"):
        return name, _python(place.removeprefix("py:"), base)
    return name, _file(place, base, text)


def _file(place: str, base: str | os.PathLike[str], text: str) -> Source:
    path, target = place, ""
    if not place.lower().endswith(_TABLES) or (place.count(":") and place.lower().endswith(".npy")):
        path, _, target = place.rpartition(":")
    if not path.lower().endswith(_TABLES):
        hint = f"write {_EXAMPLE}, sql:URL#QUERY or py:module:function"
        raise Malformed(explain("this kind of file is not known", got=text, expected=", ".join(_TABLES), hint=hint))
    if path.lower().endswith(".npy") and target:
        return Source(file=_absolute(path, base), target=_absolute(target, base))
    several = [t.strip() for t in target.split(",") if t.strip()]
    return Source(file=_absolute(path, base), target=several if len(several) > 1 else target.strip())


def _sql(place: str, text: str) -> Source:
    url, hash_, query = place.partition("#")
    if not hash_ or not query.strip() or "://" not in url:
        expected = "sql:URL#QUERY, or sql:URL#QUERY#TARGET"
        raise Malformed(explain("this is no query", got=text, expected=expected))
    body, hash_, target = query.rpartition("#")
    if not hash_ or not re.fullmatch(r"\s*\w[\w ,]*", target):
        body, target = query, ""
    several = [t.strip() for t in target.split(",") if t.strip()]
    return Source(sql=url, query=body.strip(), target=several if len(several) > 1 else target.strip())


def _python(place: str, base: str | os.PathLike[str]) -> Source:
    home, colon, function = place.rpartition(":")
    if not colon or not home or not function.isidentifier():
        expected = "py:package.module:function or py:/path/file.py:function"
        raise Malformed(explain("this is no function", got=place, expected=expected))
    return Source(python=f"{_absolute(home, base) if home.endswith('.py') else home}:{function}")


def _absolute(path: str, base: str | os.PathLike[str]) -> str:
    return str((Path(base) / Path(path).expanduser()).absolute())


def read_source(name: str, table: Mapping[str, Any], where: str) -> Source:
    """Read a data set out of ``node.toml``.

    Parameters
    ----------
    name : str
        Its name.
    table : mapping
        Its keys.
    where : str
        The file, for messages.

    Returns
    -------
    Source

    Raises
    ------
    Malformed
        Naming the key that is wrong.
    """
    where = f"{where}, [data.{name}]"
    if not _NAME.match(name):
        raise Malformed(explain("this is no name of a data set", got=name, where=where, hint="letters, digits and ._-"))
    known = [field.name for field in msgspec.structs.fields(Source)]
    for key in table:
        if key not in known:
            raise Malformed(explain(f"unknown key {key!r}", where=where, hint=closest(key, known)))
    try:
        source = msgspec.convert(dict(table), Source)
    except msgspec.ValidationError as error:
        raise Malformed(explain("a value is of the wrong kind", got=error, where=where)) from None
    ways = [way for way in ("file", "sql", "python") if getattr(source, way)]
    if len(ways) != 1 or bool(source.sql) != bool(source.query):
        got = ", ".join(ways) or "nothing"
        raise Malformed(
            explain("rows come from one place", got=got, expected="file; sql and query; or python", where=where)
        )
    return source
