"""The same training over several seeds, and several methods beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from atoll.algorithms import Algorithm, Decentralized
from atoll.algorithms.settings import whole
from atoll.display import aligned, data_frame, html_table, shown
from atoll.errors import InvalidData, explain
from atoll.training.api import TrainedModule, train
from atoll.training.curves import Estimate, curve, estimate

__all__ = ["Sweep", "Swept", "sweep"]

_Method = Algorithm | Decentralized | None


class Swept(NamedTuple):
    """What came of one method.

    Attributes
    ----------
    name : str
        Of the method.
    n : int
        Seeds.
    final : dict of str to Estimate
        Every metric after the last round: its mean over seeds, with a 95 % confidence interval by Student's t.
    rounds : Estimate
        Rounds to the target, of the seeds that reached it; its `n` says how many did.
    """

    name: str
    n: int
    final: dict[str, Estimate]
    rounds: Estimate


class Sweep:
    """Trainings over several seeds.

    Attributes
    ----------
    runs : dict of str to tuple of TrainedModule
        By method, one per seed.
    rows : list of Swept
        What came of each method.
    """

    def __init__(self, runs: Mapping[str, Sequence[TrainedModule]], on: str = "loss", target: float | None = None):
        self.runs = {name: tuple(each) for name, each in runs.items()}
        self._on, self._target = on, target
        self.rows = [_swept(name, each, on, target) for name, each in self.runs.items()]

    def _table(self) -> list[list[str]]:
        names = list(dict.fromkeys(name for row in self.rows for name in row.final))
        to = f"rounds to {self._on.replace('_', ' ')} {self._target:g}" if self._target is not None else None
        table = [["method", "seeds", *(name.replace("_", " ") for name in names), *([to] if to else [])]]
        for row in self.rows:
            cells = [_said(row.final.get(name)) for name in names]
            reached = "never" if not row.rounds.n else _said(row.rounds, 1)
            some = f" ({row.rounds.n} of {row.n})" if 0 < row.rounds.n < row.n else ""
            table.append([row.name, str(row.n), *cells, *([reached + some] if to else [])])
        return table

    def to_frame(self) -> Any:
        """A row per method: means, and half the widths of their confidence intervals as ``…_ci``.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        MissingExtra
            If pandas is not installed.
        """
        columns: dict[str, list[float]] = {"seeds": [row.n for row in self.rows]}
        for name in dict.fromkeys(name for row in self.rows for name in row.final):
            each = [row.final.get(name, _NOTHING) for row in self.rows]
            columns |= {name: [e.mean for e in each], f"{name}_ci": [e.half for e in each]}
        if self._target is not None:
            each = [row.rounds for row in self.rows]
            columns |= {"rounds": [e.mean for e in each], "rounds_ci": [e.half for e in each]}
            columns["reached"] = [e.n for e in each]
        return data_frame(columns, [row.name for row in self.rows], "method")

    def __str__(self) -> str:
        return aligned(self._table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._table(), caption="means over seeds ± half of a 95 % confidence interval")


_NOTHING = Estimate(math.nan, math.nan, 0)


def sweep(
    module: Any,
    loss: Any,
    federation: Any,
    algorithms: _Method | Sequence[_Method] | Mapping[str, _Method] = None,
    *,
    seeds: int | Sequence[int] = 5,
    target: float | None = None,
    on: str | None = None,
    **settings: Any,
) -> Sweep:
    """Train over several seeds, and say how far what came of it is luck.

    Parameters
    ----------
    module : torch.nn.Module, str, or callable
        As for `train`; or ``seed -> module``, where every seed is to begin elsewhere.
    loss : callable or None
        As for `train`.
    federation : Federation or callable
        As for `train`; or ``seed -> federation``, where rows are to be dealt anew.
    algorithms : Algorithm, sequence or mapping of them, optional
        One method, or several to be compared; a mapping names them.
    seeds : int or sequence of int, default=5
        So many, from 0; or which.
    target : float, optional
        A value of `on` whose first round is looked for: at most that for a loss, at least that for an accuracy.
    on : str, optional
        A metric of the rounds; by default ``"validation_accuracy"`` with `validation=`, otherwise ``"loss"``.
    **settings
        For `train`: `rounds`, `local`, `validation`, ….

    Returns
    -------
    Sweep
        Where no rows are held out, ``training_accuracy`` is that on the rows of the nodes. Interrupted (Ctrl-C), it has
        the trainings that had ended.

    Raises
    ------
    InvalidData
        As for `train`, or for settings that a sweep has itself.
    """
    which = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if isinstance(seeds, int):
        whole(seeds=seeds)
    own = {"random_state", "resume", "name", "callbacks"} & settings.keys()
    if own or not which:
        hint = "callbacks and names belong to one training; seeds= says which seeds"
        raise InvalidData(explain("a sweep sets this itself", got=", ".join(sorted(own)) or "no seeds", hint=hint))
    looked = on or ("validation_accuracy" if settings.get("validation") is not None else "loss")
    runs: dict[str, list[TrainedModule]] = {}
    for seed in which:
        net, nodes = (_of(thing, seed) for thing in (module, federation))
        for name, method in _named(algorithms).items():
            done = train(net, loss, nodes, method, random_state=seed, **settings)
            if done.interrupted:
                if not runs:
                    raise KeyboardInterrupt
                return Sweep(runs, looked, target)
            runs.setdefault(name, []).append(done)
    return Sweep(runs, looked, target)


def _of(thing: Any, seed: int) -> Any:
    """What is the same for all seeds, or made for one; modules and federations are no functions of a seed."""
    made: Callable[[int], Any] | None = thing if callable(thing) and not hasattr(thing, "parameters") else None
    return thing if made is None else made(seed)


def _named(algorithms: Any) -> dict[str, _Method]:
    if isinstance(algorithms, Mapping):
        return dict(algorithms)
    each = algorithms if isinstance(algorithms, list | tuple) and not hasattr(algorithms, "spec") else [algorithms]
    named = {"fedavg()" if method is None else repr(method): method for method in each}
    if not named or len(named) < len(each):
        raise InvalidData(explain("methods of a sweep have distinct names", got=len(each), hint="give a mapping"))
    return named


def _swept(name: str, runs: Sequence[TrainedModule], on: str, target: float | None) -> Swept:
    final = [_final(done) for done in runs]
    names = dict.fromkeys(key for each in final for key in each)
    told = {key: estimate([each[key] for each in final if key in each]) for key in names}
    rounds = [n for done in runs if (n := _rounds_to(done, on, target)) is not None]
    return Swept(name, len(runs), told, estimate(rounds))


def _final(done: TrainedModule) -> dict[str, float]:
    """What is known of a model when its training is over."""
    told = {name: value for name, value in done.metrics.items() if name == "loss" or name.startswith("validation")}
    if "validation_loss" not in told and not math.isnan(accuracy := done.evaluate().accuracy):
        told["training_accuracy"] = accuracy
    return told


def _rounds_to(done: TrainedModule, on: str, target: float | None) -> float | None:
    """The first round that reaches a target; None where none does."""
    if target is None:
        return None
    x, y = curve(done.run_, metric=on)
    reached = x[y >= target] if on.endswith("accuracy") else x[y <= target]
    return float(reached[0]) if len(reached) else None


def _said(value: Estimate | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return shown(value.mean, digits) + ("" if math.isnan(value.half) else f" ± {shown(value.half, digits)}")
