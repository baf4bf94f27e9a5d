"""Personal models: every node ends with parameters of its own, besides those of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.algorithms.averaging import fedavg
from atoll.algorithms.base import Algorithm, Drift, Learner, Rate, Slope, algorithms, share, with_loss
from atoll.algorithms.settings import at_least, whole
from atoll.context import Ctx
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["apfl", "ditto", "perfedavg"]


def _its_own(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
    """What a node keeps as its own model; the model of all until it has one."""
    return memory.get("own", x)


@algorithms.register("ditto")
def ditto(*, lam: float = 0.1, steps: int | None = None, server_lr: float | Rate = 1.0) -> Algorithm:
    """Ditto: beside FedAvg, a model of the node's own that is pulled towards the model of all.

    ``v ← v − η (∇f(v) + λ (v − x))``, with the x that was sent; v begins where x is when the node first takes part. The
    own model's running means, where it has any, are its own as well.

    Parameters
    ----------
    lam : float, default=0.1
        The pull λ: 0 is training alone.
    steps : int, optional
        Steps of the own model in a round; as many as those of the model of all by default.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Li et al., "Ditto: fair and robust federated learning through personalization", ICML 2021, Algorithm 1.
    """
    at_least(0, lam=lam)
    whole(steps=steps)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        sent = getattr(learner, "buffers", None)
        done = learner.train(x)
        everyones = _swapped(learner, memory.get("buffers", sent))
        own = learner.train(memory.get("own", x), Drift(lam, x), use="own", steps=steps)
        kept = {"own": own.w, **_held(_swapped(learner, everyones))}
        return with_loss(share(x, done), done), kept

    spec = Spec("ditto", {"lam": lam, "steps": steps, "server_lr": server_lr})
    return fedavg(server_lr=server_lr)._replace(spec=spec, local=local, model=_its_own, remembers=True)


def _swapped(learner: Any, buffers: Array | None) -> Array | None:
    """Give a learner other buffers, where it has any; returns those it had."""
    before: Array | None = getattr(learner, "buffers", None)
    if before is not None and buffers is not None:
        learner.buffers = buffers
    return before


def _held(buffers: Array | None) -> Tree:
    return {"buffers": buffers} if buffers is not None and buffers.size else {}


@algorithms.register("perfedavg")
def perfedavg(
    *, inner_lr: float = 0.01, inner_batch: int | None = 32, adapt_steps: int = 1, server_lr: float | Rate = 1.0
) -> Algorithm:
    """Per-FedAvg, first order: a model of all that is good one step away, on each node's own rows.

    Steps are ``y ← y − β ∇f(y − α ∇f(y; D); D′)``, with D drawn apart from the batch D′ of the step. When training is
    over, each node takes `adapt_steps` steps of rate α along the gradient of all its rows, and has its own model.

    Parameters
    ----------
    inner_lr : float, default=0.01
        The rate α of the step inside; 0 is FedAvg.
    inner_batch : int or None, default=32
        Rows of D; None: all rows of the node.
    adapt_steps : int, default=1
        Steps to a node's own model.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Fallah, Mokhtari & Ozdaglar, "Personalized federated learning with theoretical guarantees: a model-agnostic
    meta-learning approach", NeurIPS 2020, Algorithm 1, and Section 5 for leaving out second derivatives.
    """
    at_least(0, inner_lr=inner_lr)
    whole(inner_batch=inner_batch, adapt_steps=adapt_steps)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        n, alpha = learner.n_rows, x.dtype.type(inner_lr)
        drawn = ctx.rng("inner") if inner_batch is not None and inner_batch < n else None

        def slope(gradient: Slope, w: Array) -> tuple[float, Array]:
            rows = None if drawn is None else drawn.choice(n, inner_batch, replace=False)
            return gradient(w - alpha * learner.gradient(w, rows)[1])

        done = learner.train(x, slope=slope if inner_lr else None)
        return with_loss(share(x, done), done), {}

    def settle(
        learner: Learner, targets: Array | None, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx
    ) -> Tree:
        w = x
        for _ in range(adapt_steps):
            w = w - x.dtype.type(inner_lr) * learner.gradient(w)[1]
        return {"own": w}

    settings = {"inner_lr": inner_lr, "inner_batch": inner_batch, "adapt_steps": adapt_steps, "server_lr": server_lr}
    return fedavg(server_lr=server_lr)._replace(
        spec=Spec("perfedavg", settings), local=local, settle=settle, model=_its_own
    )


@algorithms.register("apfl")
def apfl(*, alpha: float = 0.5, adaptive: bool = True, server_lr: float | Rate = 1.0) -> Algorithm:
    """APFL: each node predicts with a mixture ``v̄ = α v + (1 − α) y`` of a model of its own and that of all.

    Every local step moves all of them, each from where it was: ``y ← y − η ∇f(y)``, ``v ← v − η ∂f(v̄)/∂v`` which is
    ``v − η α ∇f(v̄)``, and, where it is adaptive, ``α ← α − η ⟨v − y, ∇f(v̄)⟩``, held between 0 and 1. The own model v
    begins where x is when the node first takes part; to predict, x stands in for y. Momentum, weight decay and clipping
    of the local settings hold for y.

    Parameters
    ----------
    alpha : float, default=0.5
        Where the share α of the own model begins: 0 is FedAvg for good, 1 is training alone for good, where it is not
        adaptive.
    adaptive : bool, default=True
        Whether nodes learn α.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Deng, Kamani & Mahdavi, "Adaptive personalized federated learning", 2020, Algorithm 1 and Section 4.2.
    """
    at_least(0, 1, alpha=alpha)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        v = memory.get("own", x)
        mix = float(memory["share"][0]) if memory else alpha
        rate = learner.rate

        def slope(gradient: Slope, y: Array) -> tuple[float, Array]:
            nonlocal v, mix
            loss, g = gradient(y)
            mixed = gradient(_mixture(mix, v, y))[1]
            ahead = mix - rate * float((v - y) @ mixed) if adaptive else mix
            v = v - x.dtype.type(rate * mix) * mixed
            mix = min(max(ahead, 0.0), 1.0)
            return loss, g

        done = learner.train(x, slope=slope)
        return with_loss(share(x, done), done), {"own": v, "share": np.array([mix])}

    def model(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
        return _mixture(float(memory["share"][0]), memory["own"], x) if memory else x

    spec = Spec("apfl", {"alpha": alpha, "adaptive": bool(adaptive), "server_lr": server_lr})
    return fedavg(server_lr=server_lr)._replace(spec=spec, local=local, model=model, remembers=True)


def _mixture(mix: float, v: Array, y: Array) -> Array:
    mixed: Array = y.dtype.type(mix) * v + y.dtype.type(1 - mix) * y
    return mixed
