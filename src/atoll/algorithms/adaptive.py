"""Optimizers at the server: the mean change of the nodes is its gradient, turned round.

In all of them ``Δ = Σ pᵢ (yᵢ − x)``. Nodes do what they do in FedAvg.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from atoll.algorithms.averaging import mean_change
from atoll.algorithms.base import Algorithm, Rate, Told, algorithms
from atoll.algorithms.settings import below_one, positive
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["diloco", "fedadagrad", "fedadam", "fedavgm", "fedyogi"]


@algorithms.register("fedavgm")
def fedavgm(*, momentum: float = 0.9, server_lr: float | Rate = 1.0) -> Algorithm:
    """FedAvg with momentum at the server: ``v ← β v + Δ; x ← x + η_g v``, from ``v = 0``.

    Parameters
    ----------
    momentum : float, default=0.9
        The momentum β, below 1; 0 is FedAvg.
    server_lr : float or callable, default=1
        The server's rate η_g.

    Returns
    -------
    Algorithm

    References
    ----------
    Hsu, Qi & Brown, "Measuring the effects of non-identical data distribution for federated visual classification",
    2019, Section 4.3.
    """
    return _moving(Spec("fedavgm", {"momentum": momentum, "server_lr": server_lr}), nesterov=False)


@algorithms.register("diloco")
def diloco(*, momentum: float = 0.9, server_lr: float | Rate = 0.7) -> Algorithm:
    """DiLoCo: Nesterov's momentum at the server, over nodes that take many steps of AdamW.

    ``v ← β v + Δ; x ← x + η_g (Δ + β v)``, from ``v = 0``. The steps are those of the local settings:
    ``optimizer("AdamW", lr=…, steps=500)``. In the paper the state of AdamW stays on the node; here it begins anew in
    every round, so that nodes keep nothing.

    Parameters
    ----------
    momentum : float, default=0.9
        The momentum β, below 1. With 0, a rate of 1 and plain steps this is FedAvg.
    server_lr : float or callable, default=0.7
        The outer rate η_g.

    Returns
    -------
    Algorithm

    References
    ----------
    Douillard et al., "DiLoCo: distributed low-communication training of language models", 2023, Algorithm 1.
    """
    return _moving(Spec("diloco", {"momentum": momentum, "server_lr": server_lr}), nesterov=True)


@algorithms.register("fedadagrad")
def fedadagrad(*, server_lr: float | Rate = 0.1, beta1: float = 0.0, tau: float = 1e-3) -> Algorithm:
    """Adagrad at the server.

    ``m ← β₁ m + (1 − β₁) Δ; v ← v + Δ²; x ← x + η_g m / (√v + τ)``, from ``m = 0`` and ``v = τ²``.

    Parameters
    ----------
    server_lr : float or callable, default=0.1
        The server's rate η_g.
    beta1 : float, default=0
        How much of m is kept, below 1; 0 is Adagrad as it is known.
    tau : float, default=0.001
        How much it adapts, τ: the smaller, the more.

    Returns
    -------
    Algorithm

    References
    ----------
    Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.
    """
    spec = Spec("fedadagrad", {"server_lr": server_lr, "beta1": beta1, "tau": tau})
    return _adaptive(spec, lambda v, square: v + square)


@algorithms.register("fedadam")
def fedadam(*, server_lr: float | Rate = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Algorithm:
    """Adam at the server.

    ``m ← β₁ m + (1 − β₁) Δ; v ← β₂ v + (1 − β₂) Δ²; x ← x + η_g m / (√v + τ)``, from ``m = 0`` and ``v = τ²``. There
    is no correction of the first rounds, in which steps are short.

    Parameters
    ----------
    server_lr : float or callable, default=0.1
        The server's rate η_g.
    beta1, beta2 : float, default=0.9 and 0.99
        How much of m and v is kept, below 1.
    tau : float, default=0.001
        How much it adapts, τ: the smaller, the more.

    Returns
    -------
    Algorithm

    References
    ----------
    Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.
    """
    below_one(beta2=beta2)
    spec = Spec("fedadam", {"server_lr": server_lr, "beta1": beta1, "beta2": beta2, "tau": tau})
    return _adaptive(spec, lambda v, square: float(beta2) * v + (1 - float(beta2)) * square)


@algorithms.register("fedyogi")
def fedyogi(*, server_lr: float | Rate = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Algorithm:
    """Yogi at the server: like Adam, but v changes by no more than the new square.

    ``m ← β₁ m + (1 − β₁) Δ; v ← v − (1 − β₂) Δ² sign(v − Δ²); x ← x + η_g m / (√v + τ)``, from ``m = 0`` and
    ``v = τ²``.

    Parameters
    ----------
    server_lr : float or callable, default=0.1
        The server's rate η_g.
    beta1, beta2 : float, default=0.9 and 0.99
        How much of m and v is kept, below 1.
    tau : float, default=0.001
        How much it adapts, τ: the smaller, the more.

    Returns
    -------
    Algorithm

    References
    ----------
    Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.
    """
    below_one(beta2=beta2)
    spec = Spec("fedyogi", {"server_lr": server_lr, "beta1": beta1, "beta2": beta2, "tau": tau})
    return _adaptive(spec, lambda v, square: v - (1 - float(beta2)) * square * np.sign(v - square))


def _moving(spec: Spec, *, nesterov: bool) -> Algorithm:
    """The server's step with momentum."""
    momentum, server_lr = spec.settings["momentum"], spec.settings["server_lr"]
    below_one(momentum=momentum)
    positive(server_lr=server_lr)

    def init(x: Array) -> Tree:
        return {"v": np.zeros_like(x)}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        change, beta = mean_change(x, total), float(momentum)
        v = beta * state["v"] + change
        step = change + beta * v if nesterov else v
        return x + float(server_lr) * step, {"v": v}

    return Algorithm(spec, update, init)


def _adaptive(spec: Spec, second: Callable[[Array, Array], Array]) -> Algorithm:
    """The server's step with a rate for every parameter; `second` makes of v and Δ² the next v."""
    server_lr, beta1, tau = (spec.settings[name] for name in ("server_lr", "beta1", "tau"))
    positive(server_lr=server_lr, tau=tau)
    below_one(beta1=beta1)

    def init(x: Array) -> Tree:
        first = float(tau(0) if callable(tau) else tau)
        return {"m": np.zeros_like(x), "v": np.full_like(x, first**2)}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        change, beta = mean_change(x, total), float(beta1)
        m = beta * state["m"] + (1 - beta) * change
        v = second(state["v"], change**2)
        return x + float(server_lr) * m / (np.sqrt(v) + float(tau)), {"m": m, "v": v}

    return Algorithm(spec, update, init)
