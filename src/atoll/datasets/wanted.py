"""Which columns of a table are asked for, and whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from atoll.errors import InvalidData, closest, explain

__all__ = ["Wanted"]


class Wanted(NamedTuple):
    """The columns that are asked for.

    Attributes
    ----------
    target : str or None
        The column to predict.
    node : str or None
        The column of node ids.
    columns : list of str or None
        The features; None for all other columns.
    drop : list of str
        Columns to leave out.
    kinds : bool
        Whether text, whole numbers, truth values and missing values are kept as what they are.
    """

    target: str | None
    node: str | None
    columns: list[str] | None
    drop: list[str]
    kinds: bool = False

    def features(self, names: Sequence[str], where: str) -> list[str]:
        """Choose the feature columns of a table.

        Parameters
        ----------
        names : sequence of str
            All columns of the table.
        where : str
            The file, for messages.

        Returns
        -------
        list of str

        Raises
        ------
        InvalidData
            For columns without a name or named twice, columns that are asked for and not there, or no feature at all.
        """
        _check_names(names, where)
        if self.node is not None and self.node == self.target:
            raise InvalidData(explain(f"column {self.node!r} cannot be both target and node", where=where))
        roles = {name: role for name, role in ((self.target, "target"), (self.node, "node")) if name is not None}
        for name in [*roles, *(self.columns or []), *self.drop]:
            if name not in names:
                role = roles.get(name, "")
                raise InvalidData(
                    explain(
                        f"there is no {role} column {name!r}".replace("  ", " "), where=where, hint=closest(name, names)
                    )
                )
        for name in [*(self.columns or []), *self.drop]:
            if name in roles:
                verb = "dropped" if name in self.drop else "a feature too"
                raise InvalidData(explain(f"the {roles[name]} column {name!r} cannot be {verb}", where=where))
        chosen = names if self.columns is None else dict.fromkeys(self.columns)
        features = [name for name in chosen if name not in roles and name not in self.drop]
        if not features:
            raise InvalidData(explain("no feature columns are left", got="columns " + ", ".join(names), where=where))
        return features


def _check_names(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name:
            raise InvalidData(
                explain(
                    f"column {position + 1} has no name",
                    where=where,
                    hint="name it; if pandas wrote the file, save it again with index=False",
                )
            )
        if name in seen:
            raise InvalidData(
                explain(
                    f"two columns are named {name!r}",
                    where=where,
                    hint="rename one; if the first line holds values, put a line of column names above it",
                )
            )
        seen.add(name)
