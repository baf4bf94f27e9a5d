"""Averaging what nodes learnt: FedAvg, and methods that change its local step or its mean a little."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from atoll.algorithms.base import Algorithm, Done, Drift, Learner, Rate, Slope, Told, algorithms, share, with_loss
from atoll.algorithms.settings import at_least, positive
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["fedavg", "fedexp", "fednova", "fedprox", "fedsam", "mean_change", "qffl"]

_LEAST_LOSS = 1e-10


def mean_change(x: Array, total: Tree) -> Array:
    """The weighted mean of the nodes' changes, ``Σ pᵢ (yᵢ − x)`` with ``pᵢ = weight / Σ weight``."""
    change: Array = total["change"] / x.dtype.type(total["weight"][0])
    return change


@algorithms.register("fedavg")
def fedavg(*, server_lr: float | Rate = 1.0) -> Algorithm:
    """Federated averaging: nodes train for themselves, the server takes the mean of what they learnt.

    ``x ← x + η_g Σ pᵢ (yᵢ − x)``

    Parameters
    ----------
    server_lr : float or callable, default=1
        The server's rate η_g.

    Returns
    -------
    Algorithm

    References
    ----------
    McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
    Algorithm 1.
    """
    positive(server_lr=server_lr)

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        return x + x.dtype.type(server_lr) * mean_change(x, total), state

    return Algorithm(Spec("fedavg", {"server_lr": server_lr}), update)


@algorithms.register("fedprox")
def fedprox(*, mu: float = 0.1, server_lr: float | Rate = 1.0) -> Algorithm:
    """FedAvg with a pull towards the model of all: ``g + μ (y − x)`` in place of the gradient.

    Parameters
    ----------
    mu : float, default=0.1
        The pull μ; 0 is FedAvg.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Li et al., "Federated optimization in heterogeneous networks", MLSys 2020, equation 2.
    """
    at_least(0, mu=mu)
    averaged = fedavg(server_lr=server_lr)
    spec = Spec("fedprox", {"mu": mu, "server_lr": server_lr})
    return averaged._replace(spec=spec, before=_pulled(mu)) if mu else averaged._replace(spec=spec)


def _pulled(mu: float) -> Callable[[Array, Tree, Mapping[str, Array], Ctx], Drift]:
    def before(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Drift:
        return Drift(float(mu), x)

    return before


@algorithms.register("fednova")
def fednova(*, mu: float = 0.0, server_lr: float | Rate = 1.0) -> Algorithm:
    """FedNova: a node that takes more steps does not pull the mean towards itself.

    Each node's change is divided by what its gradients weigh together, ‖aᵢ‖₁ (`atoll.algorithms.base.step_sizes`):
    ``dᵢ = (x − yᵢ) / (η ‖aᵢ‖₁)``; then ``x ← x − η_g τ_eff η Σ pᵢ dᵢ`` with ``τ_eff = Σ pᵢ ‖aᵢ‖₁``.
    With plain steps ‖aᵢ‖₁ is their number.

    Parameters
    ----------
    mu : float, default=0
        A pull towards the model of all, as in FedProx.
    server_lr : float or callable, default=1
        The server's rate η_g.

    Returns
    -------
    Algorithm

    References
    ----------
    Wang et al., "Tackling the objective inconsistency problem in heterogeneous federated optimization", NeurIPS 2020,
    equations 5 and 6.
    """
    at_least(0, mu=mu)
    positive(server_lr=server_lr)

    def after(x: Array, message: Tree, memory: Mapping[str, Array], done: Done, ctx: Ctx) -> tuple[Tree, Tree]:
        tree = share(x, done)
        change = tree["change"] / x.dtype.type(done.norm or 1.0)
        return {**tree, "change": change, "norm": np.array([done.norm * done.weight])}, {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        effective = total["norm"][0] / total["weight"][0]
        return x + x.dtype.type(server_lr * effective) * mean_change(x, total), state

    made = Algorithm(
        Spec("fednova", {"mu": mu, "server_lr": server_lr}), update, after=after,
        discloses="how much its local steps weigh together",
    )  # fmt: skip
    return made._replace(before=_pulled(mu)) if mu else made


@algorithms.register("fedexp")
def fedexp(*, epsilon: float = 1e-3) -> Algorithm:
    """FedExP: the server goes further than the mean, the less the nodes' changes agree in direction.

    ``x ← x + η_g Δ̄`` with ``Δᵢ = yᵢ − x``, ``Δ̄ = Σ pᵢ Δᵢ`` and ``η_g = max(1, Σ pᵢ ‖Δᵢ‖² / (2 (‖Δ̄‖² + ε)))``. Where
    nodes count alike, ``pᵢ = 1/M`` and this is the paper's rule. It is meant for models that can fit the rows of all
    nodes; where they cannot, Δ̄ vanishes and the Δᵢ do not, and the last rounds are better done by FedAvg. The paper
    predicts with the mean of the last two models, which swing; here the last one is the model.

    Parameters
    ----------
    epsilon : float, default=0.001
        The constant ε.

    Returns
    -------
    Algorithm

    References
    ----------
    Jhunjhunwala, Wang & Joshi, "FedExP: speeding up federated averaging via extrapolation", ICLR 2023, equation 7.
    """
    at_least(0, epsilon=epsilon)

    def after(x: Array, message: Tree, memory: Mapping[str, Array], done: Done, ctx: Ctx) -> tuple[Tree, Tree]:
        return {**share(x, done), "squares": np.array([done.weight * _square(done.w - x)])}, {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        change = mean_change(x, total)
        most = 2 * (_square(change) + epsilon)
        rate = max(1.0, total["squares"][0] / total["weight"][0] / most) if most else 1.0
        return x + x.dtype.type(rate) * change, state

    return Algorithm(
        Spec("fedexp", {"epsilon": epsilon}), update, after=after, discloses="how far local training went, squared"
    )


@algorithms.register("fedsam")
def fedsam(*, rho: float = 0.05, server_lr: float | Rate = 1.0) -> Algorithm:
    """FedSAM: nodes step along the gradient at the worst point nearby, and so end in flat valleys.

    ``y ← y − η ∇f(y + ρ g / ‖g‖)`` with ``g = ∇f(y)`` of the same batch; the server takes the mean.

    Parameters
    ----------
    rho : float, default=0.05
        How far away the worst point is, ρ; 0 is FedAvg.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Qu et al., "Generalized federated learning via sharpness aware minimization", ICML 2022, Algorithm 1.
    """
    at_least(0, rho=rho)
    averaged = fedavg(server_lr=server_lr)
    spec = Spec("fedsam", {"rho": rho, "server_lr": server_lr})

    def slope(gradient: Slope, w: Array) -> tuple[float, Array]:
        loss, g = gradient(w)
        length = math.sqrt(_square(g))
        return (loss, gradient(w + float(rho) * (g / length))[1]) if length else (loss, g)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        done = learner.train(x, slope=slope)
        return with_loss(share(x, done), done), {}

    return averaged._replace(spec=spec, local=local) if rho else averaged._replace(spec=spec)


@algorithms.register("qffl")
def qffl(*, q: float = 1.0, lipschitz: float | None = None) -> Algorithm:
    """q-FFL: nodes with a larger loss count for more, so that no node is left behind.

    Solved by q-FedAvg: with Fᵢ the loss of node i at x, ``Δᵢ = Fᵢ^q L (x − yᵢ)`` and
    ``hᵢ = q Fᵢ^(q−1) ‖L (x − yᵢ)‖² + L Fᵢ^q``; then ``x ← x − Σ pᵢ Δᵢ / Σ pᵢ hᵢ``. So ``Σ pᵢ Fᵢ^(q+1) / (q+1)`` is
    minimised. A node goes once more over its rows for Fᵢ.

    Parameters
    ----------
    q : float, default=1
        How much more a large loss counts; 0 is FedAvg.
    lipschitz : float, optional
        L, how fast gradients change; ``1/η`` by default, as in the paper.

    Returns
    -------
    Algorithm

    References
    ----------
    Li et al., "Fair resource allocation in federated learning", ICLR 2020, Algorithm 2.
    """
    at_least(0, q=q)
    if lipschitz is not None:
        positive(lipschitz=lipschitz)
    spec = Spec("qffl", {"q": q, "lipschitz": lipschitz})
    if not q:
        return fedavg()._replace(spec=spec)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        loss = _loss_at(learner, x)
        done = learner.train(x)
        steep = lipschitz or 1 / learner.rate
        tree = share(x, done)
        curvature = q * loss ** (q - 1) * steep**2 * _square(done.w - x) + steep * loss**q
        tree = {
            "change": tree["change"] * x.dtype.type(loss**q * steep),
            "weight": tree["weight"],
            "curvature": np.array([done.weight * curvature]),
        }
        return with_loss(tree, done), {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        return x + total["change"] / x.dtype.type(total["curvature"][0]), state

    return Algorithm(spec, update, local=local, discloses="a number made of its loss and of how far training went")


def _loss_at(learner: Learner, x: Array) -> float:
    """The loss over all rows of a node, never quite 0; a node without rows has any."""
    loss = float(learner.gradient(x)[0])
    if loss < 0:
        raise InvalidData(explain("q-FFL raises losses to a power, so they must not be negative", got=loss))
    return max(loss, _LEAST_LOSS)


def _square(g: Array) -> float:
    return float(np.vdot(g, g))
