"""Personal parts of a model: some of its parameters stay on the node, the others are averaged.

Which ones is said by patterns of parameter names, or by the method: the last layer, all but that, or the normalisation
layers. When training begins, names become ranges of the flat array (`Algorithm.bind`), which are plain data. Personal
parameters neither leave their node nor are sent to it: a node begins with those of the first model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from atoll.algorithms.averaging import fedavg
from atoll.algorithms.base import Algorithm, Done, Learner, Lies, Rate, Told, algorithms, share, with_loss
from atoll.algorithms.settings import whole
from atoll.context import Ctx
from atoll.errors import InvalidData, UnknownName, closest, explain
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["Default", "Ranges", "fedbabu", "fedbn", "fedper", "fedrep", "lg"]

Ranges = Sequence[Sequence[int]]
Default = Callable[[Sequence[Lies]], list[Lies]]


@algorithms.register("fedper")
def fedper(
    *, own: Sequence[str] | None = None, server_lr: float | Rate = 1.0, ranges: Ranges | None = None
) -> Algorithm:
    """FedPer: layers for all, and personal ones on top; nodes train both together and send the former.

    ``(u, v) ← (u, v) − η ∇f(u, v)`` on the node; ``u ← u + η_g Σ pᵢ (uᵢ − u)`` at the server, vᵢ stays.

    Parameters
    ----------
    own : sequence of str, optional
        Patterns of the names of personal parameters, such as ``["head.*"]``; the last layer by default. None at all
        (``[]``) is FedAvg.
    server_lr : float or callable, default=1
        The server's rate.
    ranges : sequence of (start, stop), optional
        Where they lie in the flat array; found when training begins.

    Returns
    -------
    Algorithm

    References
    ----------
    Arivazhagan et al., "Federated learning with personalization layers", 2019, Algorithms 1 and 2.
    """
    settings = {"own": own, "server_lr": server_lr, "ranges": ranges}
    return _together("fedper", settings, _last_layer)


@algorithms.register("lg")
def lg(*, own: Sequence[str] | None = None, server_lr: float | Rate = 1.0, ranges: Ranges | None = None) -> Algorithm:
    """LG-FedAvg: personal representations below, one head for all on top of them; both are trained together.

    Parameters
    ----------
    own : sequence of str, optional
        Patterns of the names of personal parameters; all but the last layer by default. What the model keeps besides
        parameters is personal too.
    server_lr : float or callable, default=1
        The server's rate.
    ranges : sequence of (start, stop), optional
        Where they lie in the flat array; found when training begins.

    Returns
    -------
    Algorithm

    References
    ----------
    Liang et al., "Think locally, act globally: federated learning with local and global representations", 2020,
    Algorithm 1.
    """
    settings = {"own": own, "server_lr": server_lr, "ranges": ranges}
    return _together("lg", settings, _all_but_the_last)._replace(own_buffers=True)


@algorithms.register("fedbn")
def fedbn(
    *, own: Sequence[str] | None = None, server_lr: float | Rate = 1.0, ranges: Ranges | None = None
) -> Algorithm:
    """FedBN: normalisation layers are personal, with their running means and variances; all else is averaged.

    Parameters
    ----------
    own : sequence of str, optional
        Patterns of the names of personal parameters; those of normalisation layers by default.
    server_lr : float or callable, default=1
        The server's rate.
    ranges : sequence of (start, stop), optional
        Where they lie in the flat array; found when training begins.

    Returns
    -------
    Algorithm

    References
    ----------
    Li et al., "FedBN: federated learning on non-IID features via local batch normalization", ICLR 2021, Algorithm 1.
    """
    settings = {"own": own, "server_lr": server_lr, "ranges": ranges}
    return _together("fedbn", settings, _normalisation)._replace(own_buffers=True)


@algorithms.register("fedrep")
def fedrep(
    *,
    own: Sequence[str] | None = None,
    own_steps: int | None = None,
    server_lr: float | Rate = 1.0,
    ranges: Ranges | None = None,
) -> Algorithm:
    """FedRep: first the personal head, the representation held still; then the representation, the head held still.

    ``v ← v − η ∇_v f(u, v)`` for `own_steps`, then ``u ← u − η ∇_u f(u, v)`` for as many steps as the local settings
    say; the server averages u.

    Parameters
    ----------
    own : sequence of str, optional
        Patterns of the names of personal parameters; the last layer by default.
    own_steps : int, optional
        Steps of the head in a round; as many as those of the representation by default.
    server_lr : float or callable, default=1
        The server's rate.
    ranges : sequence of (start, stop), optional
        Where they lie in the flat array; found when training begins.

    Returns
    -------
    Algorithm

    References
    ----------
    Collins et al., "Exploiting shared representations for personalized federated learning", ICML 2021, Algorithm 1.
    """
    whole(own_steps=own_steps)

    def train(learner: Learner, start: Array, mask: Array) -> Done:
        head = learner.train(start, only=mask, use="own", steps=own_steps)
        return learner.train(head.w, only=~mask)

    settings = {"own": own, "own_steps": own_steps, "server_lr": server_lr, "ranges": ranges}
    return _masked("fedrep", settings, _last_layer, train)


@algorithms.register("fedbabu")
def fedbabu(
    *,
    own: Sequence[str] | None = None,
    tune: Literal["own", "all"] = "own",
    tune_steps: int | None = None,
    server_lr: float | Rate = 1.0,
    ranges: Ranges | None = None,
) -> Algorithm:
    """FedBABU: the head stays as it began, only the body is trained; each node fine-tunes its own when that is over.

    ``u ← u − η ∇_u f(u, v₀)`` on the node, and the server averages u. At the end ``vᵢ ← vᵢ − η ∇_v f(u, vᵢ)`` from v₀
    for `tune_steps`.

    Parameters
    ----------
    own : sequence of str, optional
        Patterns of the names of the parameters of the head; the last layer by default.
    tune : {"own", "all"}, default="own"
        Whether each node fine-tunes the head, or all.
    tune_steps : int, optional
        Steps of that; as many as those of a round by default.
    server_lr : float or callable, default=1
        The server's rate.
    ranges : sequence of (start, stop), optional
        Where they lie in the flat array; found when training begins.

    Returns
    -------
    Algorithm

    References
    ----------
    Oh, Kim & Yun, "FedBABU: toward enhanced representation for federated image classification", ICLR 2022, Algorithm 1.
    """
    whole(tune_steps=tune_steps)
    if tune not in ("own", "all"):
        raise InvalidData(explain("unknown extent of fine-tuning", got=repr(tune), expected="'own' or 'all'"))

    def train(learner: Learner, start: Array, mask: Array) -> Done:
        return learner.train(start, only=~mask)

    def settle(
        learner: Learner, targets: Array | None, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx
    ) -> Tree:
        mask = _mask("fedbabu", ranges, x.size)
        return {"whole": learner.train(x, only=mask if tune == "own" else None, use="tune", steps=tune_steps).w}

    def model(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
        return memory.get("whole", x)

    settings = {"own": own, "tune": tune, "tune_steps": tune_steps, "server_lr": server_lr, "ranges": ranges}
    return _masked("fedbabu", settings, _last_layer, train, remembers=False)._replace(settle=settle, model=model)


def _together(name: str, settings: dict[str, Any], default: Default) -> Algorithm:
    """Both parts are trained at once."""
    return _masked(name, settings, default, lambda learner, start, mask: learner.train(start))


def _masked(
    name: str,
    settings: dict[str, Any],
    default: Default,
    train: Callable[[Learner, Array, Array], Done],
    remembers: bool = True,
) -> Algorithm:
    """FedAvg on what is not personal."""
    own, ranges, server_lr = settings["own"], settings["ranges"], settings["server_lr"]
    if isinstance(own, str):
        raise InvalidData(explain("own is a list of patterns", got=repr(own), expected=repr([own])))
    plain = {**settings, "own": own if own is None else list(own)}
    averaged = fedavg(server_lr=server_lr)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        mask = _mask(name, ranges, x.size)
        done = train(learner, _joined(x, mask, memory), mask)
        sent = share(x[~mask], done._replace(w=done.w[~mask]))
        return with_loss(sent, done), {"own": done.w[mask]} if remembers else {}

    def model(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
        return _joined(x, _mask(name, ranges, x.size), memory)

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        mask, new = _mask(name, ranges, x.size), x.copy()
        new[~mask], state = averaged.update(x[~mask], state, total, told)
        return new, state

    def bind(layout: Sequence[Lies]) -> Algorithm:
        return algorithms[name](**{**plain, "ranges": _ranges(layout, own, default)})

    return averaged._replace(
        spec=Spec(name, plain), update=update, local=local, model=model, bind=bind, remembers=remembers
    )


def _joined(x: Array, mask: Array, memory: Mapping[str, Array]) -> Array:
    """The model of all with a node's own part in it; with the first one's where the node has none yet."""
    w = x.copy()
    if "own" in memory:
        w[mask] = memory["own"]
    return w


def _mask(name: str, ranges: Ranges | None, size: int) -> Array:
    """Which parameters are personal."""
    if ranges is None:
        what = f"{name} does not know yet where the personal parameters lie"
        raise InvalidData(explain(what, hint="bind it to the layout of a model: algorithm.bind(model.layout)"))
    mask = np.zeros(size, dtype=bool)
    for start, stop in ranges:
        mask[start:stop] = True
    return mask


def _ranges(layout: Sequence[Lies], own: Sequence[str] | None, default: Default) -> list[list[int]]:
    """Where the personal parameters of a model lie; what lies side by side is one range."""
    chosen = default(layout) if own is None else [p for p in layout if any(_names(pattern, p.name) for pattern in own)]
    for pattern in own or ():
        if not any(_names(pattern, p.name) for p in layout):
            hint = closest(pattern, [p.name for p in layout])
            raise UnknownName(explain(f"no parameter of this model is named {pattern!r}", hint=hint))
    found: list[list[int]] = []
    for p in sorted(chosen, key=lambda p: p.start):
        if found and found[-1][1] == p.start:
            found[-1][1] = p.stop
        else:
            found.append([p.start, p.stop])
    return found


def _names(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter, or a layer that it belongs to."""
    return name == pattern or fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def _layer(part: Lies) -> str:
    """What parameters of one layer have in common: ``fc2`` of ``fc2.weight``, ``[2]`` of ``coefs_[2]``."""
    numbered = re.search(r"\[\d+\]$", part.name)
    return numbered[0] if numbered else part.name.rpartition(".")[0]


def _last_layer(layout: Sequence[Lies]) -> list[Lies]:
    last = [p for p in layout if _layer(p) == _layer(layout[-1])]
    if len(last) == len(layout):
        hint = "use a model of several layers, or name the personal parameters: own=[…]"
        got = ", ".join(p.name for p in layout)
        raise InvalidData(
            explain("this model has one layer, so either all of it is personal or none", got=got, hint=hint)
        )
    return last


def _all_but_the_last(layout: Sequence[Lies]) -> list[Lies]:
    last = {p.name for p in _last_layer(layout)}
    return [p for p in layout if p.name not in last]


def _normalisation(layout: Sequence[Lies]) -> list[Lies]:
    found = [p for p in layout if p.kind == "norm"]
    if not found:
        hint = "name the personal parameters: own=[…], or use fedper"
        got = ", ".join(p.name for p in layout[:8])
        raise InvalidData(explain("this model has no normalisation layer with parameters", got=got, hint=hint))
    return found
