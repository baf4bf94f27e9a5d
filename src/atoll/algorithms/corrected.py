"""Methods that correct for unequal nodes, so that local steps lead to the optimum of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from atoll.algorithms.averaging import mean_change
from atoll.algorithms.base import Algorithm, Done, Drift, Learner, Rate, Slope, Told, algorithms, share, with_loss
from atoll.algorithms.settings import at_least, below_one, one_of, positive
from atoll.context import Ctx
from atoll.rng import stream
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["Init", "Used", "feddyn", "fedlin", "mime", "mimelite", "proxskip", "scaffold"]


@algorithms.register("scaffold")
def scaffold(*, server_lr: float | Rate = 1.0) -> Algorithm:
    """SCAFFOLD: every node knows in which direction its own steps lead away, and takes that off.

    ``y ← y − η (g − cᵢ + c)``; then (option II) ``cᵢ⁺ = cᵢ − c + (x − y) / (K η)``; at the server
    ``x ← x + η_g Σ_S pᵢ (yᵢ − x)`` and ``c ← c + (1/N) Σ_S (cᵢ⁺ − cᵢ)``. Controls start at zero. Where nodes count for
    different weights, the sum over S is weighted alike and N is the weight of all nodes. With momentum in the local
    steps, K is what their gradients weigh together. A node keeps its control: as many numbers as the model has.

    Parameters
    ----------
    server_lr : float or callable, default=1
        The server's rate η_g.

    Returns
    -------
    Algorithm

    References
    ----------
    Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning", ICML 2020, Algorithm 1.
    """
    positive(server_lr=server_lr)

    def init(x: Array) -> Tree:
        return {"c": np.zeros_like(x)}

    def message(x: Array, state: Tree) -> Tree:
        return {"c": state["c"]}

    def before(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Drift:
        return Drift(h=message["c"] - memory["c"] if memory else message["c"])

    def after(x: Array, message: Tree, memory: Mapping[str, Array], done: Done, ctx: Ctx) -> tuple[Tree, Tree]:
        own = memory["c"] if memory else np.zeros_like(x)
        covered = done.rate * (done.norm / done.steps) if done.steps else 1.0
        control = own - message["c"] + (x - done.w) / x.dtype.type(covered)
        return {**share(x, done), "control": (control - own) * x.dtype.type(done.weight)}, {"c": control}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        c = state["c"] + total["control"] / x.dtype.type(told.weight)
        return x + x.dtype.type(server_lr) * mean_change(x, total), {"c": c}

    return Algorithm(
        Spec("scaffold", {"server_lr": server_lr}), update, init, message, before, after, remembers=True,
        discloses="how its control variate changed",
    )  # fmt: skip


@algorithms.register("feddyn")
def feddyn(*, alpha: float = 0.1) -> Algorithm:
    """FedDyn: each node adds to its loss what makes the nodes' optima meet at the optimum of all.

    Nodes minimise ``fᵢ(y) − ⟨hᵢ, y⟩ + (α/2) ‖y − x‖²`` by their local steps; then ``hᵢ ← hᵢ − α (yᵢ − x)``. The server
    takes ``h ← h − (α/N) Σ_S (yᵢ − x)`` and ``x ← mean_S yᵢ − h/α``. Both start at zero. Where nodes count for
    different weights, both sums are weighted alike and N is the weight of all nodes. A node keeps hᵢ: as many numbers
    as the model has.

    Parameters
    ----------
    alpha : float, default=0.1
        The pull α.

    Returns
    -------
    Algorithm

    References
    ----------
    Acar et al., "Federated learning based on dynamic regularization", ICLR 2021, Algorithm 1.
    """
    positive(alpha=alpha)

    def init(x: Array) -> Tree:
        return {"h": np.zeros_like(x)}

    def before(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Drift:
        return Drift(float(alpha), x, -memory["h"] if memory else None)

    def after(x: Array, message: Tree, memory: Mapping[str, Array], done: Done, ctx: Ctx) -> tuple[Tree, Tree]:
        own = memory["h"] if memory else np.zeros_like(x)
        return share(x, done), {"h": own - float(alpha) * (done.w - x)}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        h = state["h"] - float(alpha) * (total["change"] / x.dtype.type(told.weight))
        return x + mean_change(x, total) - h / float(alpha), {"h": h}

    return Algorithm(Spec("feddyn", {"alpha": alpha}), update, init, before=before, after=after, remembers=True)


@algorithms.register("fedlin")
def fedlin(*, server_lr: float | Rate = 1.0) -> Algorithm:
    """FedLin: local steps along the gradient of all, as far as a node can know how it changes.

    ``y ← y − η (g − ∇fᵢ(x) + ḡ)`` with ``ḡ = Σ pᵢ ∇fᵢ(x)``; the server takes the mean. ḡ is that of the round's own x,
    as in the paper, so every round asks twice: first for the gradients at x, then for the changes. A node computes its
    gradient at x again in the second, and so keeps nothing. Every node must take part: ḡ is of all rows.

    Parameters
    ----------
    server_lr : float or callable, default=1
        The server's rate; the paper has 1.

    Returns
    -------
    Algorithm

    References
    ----------
    Mitra et al., "Linear convergence in federated learning: tackling client heterogeneity and sparse gradients",
    NeurIPS 2021, Algorithm 1.
    """
    positive(server_lr=server_lr)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        done = learner.train(x, Drift(h=message["gradient"] - learner.gradient(x)[1]))
        return with_loss(share(x, done), done), {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        return x + x.dtype.type(server_lr) * mean_change(x, total), state

    return Algorithm(
        Spec("fedlin", {"server_lr": server_lr}), update, local=local, everyone=True, ahead=True,
        discloses="the gradient of its mean loss",
    )  # fmt: skip


@algorithms.register("proxskip")
def proxskip(*, p: float = 0.1) -> Algorithm:
    """ProxSkip (Scaffnew): nodes step until a coin, the same for all, says to meet; each with a shift of its own.

    ``ŷ = y − η (g − hᵢ)``; with probability p all nodes take ``y = Σ pⱼ (ŷⱼ − (η/p) hⱼ)``, otherwise ``y = ŷ``; then
    ``hᵢ ← hᵢ + (p/η) (y − ŷ)``, which is no change where they do not meet. A round is what happens between two
    meetings: its number of steps is drawn from the geometric distribution, by the seed, alike on all nodes; ``epochs``
    and ``steps`` of the local settings are not looked at. hᵢ after a meeting needs the y that came of it, which arrives
    with the next round: a node keeps ``hᵢ − (p/η) ŷ``, as many numbers as the model has, and adds ``(p/η) x`` then.

    Every node must take part. The shifts of those that do add up to zero; a node that failed in a round begins again at
    zero, so that they still do.

    Parameters
    ----------
    p : float, default=0.1
        How probable a meeting is after a step; the mean number of steps is 1/p. 1 is gradient descent. The paper has
        the root of the inverse condition of the problem.

    Returns
    -------
    Algorithm

    References
    ----------
    Mishchenko et al., "ProxSkip: yes! Local gradient steps provably lead to communication acceleration! Finally!",
    ICML 2022, Algorithms 1 and 2.
    """
    positive(p=p)
    at_least(0, 1, p=p)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        steps = int(stream(ctx.seed, ctx.step, -1, "proxskip").geometric(p))
        per_change = p / learner.rate
        h = _shift(x, memory, ctx.step)
        done = learner.train(x, Drift(h=-h), steps=steps)
        scale = x.dtype.type(per_change)
        tree = with_loss(share(x, done._replace(w=done.w - h / scale)), done)
        return tree, {"z": h - scale * done.w, "last": np.array([per_change, ctx.step])}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        return x + mean_change(x, total), state

    return Algorithm(
        Spec("proxskip", {"p": p}), update, local=local, remembers=True, everyone=True,
        discloses="its shift, within the change of the model",
    )  # fmt: skip


def _shift(x: Array, memory: Mapping[str, Array], step: int) -> Array:
    """hᵢ of ProxSkip: what was kept in the round before, and the model that came of it."""
    if not memory or memory["last"][1] != step - 1:
        return np.zeros_like(x)
    h: Array = memory["z"] + x.dtype.type(memory["last"][0]) * x
    return h


@algorithms.register("mime")
def mime(
    *,
    base: str = "momentum",
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-3,
    server_lr: float | Rate = 1.0,
) -> Algorithm:
    """Mime: nodes take the steps of one optimizer for all, whose statistics stand still within a round.

    ``y ← y − η U(∇f(y; ζ) − ∇f(x; ζ) + c, s)`` with ζ a batch and ``c = Σ_S pᵢ ∇fᵢ(x)``; the server takes the mean of
    the y and ``s ← V(c, s)``. The optimizer is one of

    - ``"momentum"``: ``s = m``; ``U(g) = V(g) = β₁ m + (1 − β₁) g``;
    - ``"adam"``: ``s = (m, v)``; ``U(g) = (β₁ m + (1 − β₁) g) / (√v + ε)``; V makes ``m = β₁ m + (1 − β₁) g`` and
      ``v = β₂ v + (1 − β₂) g²``.

    Statistics start at zero. c is that of the round's own x and nodes, as in the paper, so every round asks twice:
    first for the gradients at x, then for the changes.

    Parameters
    ----------
    base : {"momentum", "adam"}, default="momentum"
        The optimizer. Momentum with ``beta1=0`` is gradient descent.
    beta1, beta2 : float, default=0.9 and 0.99
        How much of m and v is kept, below 1; beta2 is looked at for Adam only.
    epsilon : float, default=0.001
        The constant ε of Adam.
    server_lr : float or callable, default=1
        The server's rate; the paper has 1.

    Returns
    -------
    Algorithm

    References
    ----------
    Karimireddy et al., "Breaking the centralized barrier for cross-device federated learning" (Mime), NeurIPS 2021,
    Algorithm 1.
    """
    settings = {"base": base, "beta1": beta1, "beta2": beta2, "epsilon": epsilon, "server_lr": server_lr}
    positive(epsilon=epsilon, server_lr=server_lr)
    init, used = _statistics(base, beta1, beta2, epsilon)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        def slope(gradient: Slope, w: Array) -> tuple[float, Array]:
            loss, g = gradient(w)
            g = g + message["gradient"]
            return loss, used(g - gradient(x)[1], message)

        done = learner.train(x, slope=slope)
        return with_loss(share(x, done), done), {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        return x + x.dtype.type(server_lr) * mean_change(x, total), _moved(state, told.gradient, beta1, beta2)

    return Algorithm(
        Spec("mime", settings), update, init, _statistics_sent, local=local, ahead=True,
        discloses="the gradient of its mean loss",
    )  # fmt: skip


@algorithms.register("mimelite")
def mimelite(
    *,
    base: str = "momentum",
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-3,
    server_lr: float | Rate = 1.0,
) -> Algorithm:
    """MimeLite: Mime without its correction, for one exchange a round.

    ``y ← y − η U(∇f(y; ζ), s)``; nodes send besides their gradient at x over all rows, and the server makes
    ``s ← V(Σ_S pᵢ ∇fᵢ(x), s)``. U, V and s are those of `mime`.

    Parameters
    ----------
    base : {"momentum", "adam"}, default="momentum"
        The optimizer. Momentum with ``beta1=0`` is FedAvg.
    beta1, beta2 : float, default=0.9 and 0.99
        How much of m and v is kept, below 1; beta2 is looked at for Adam only.
    epsilon : float, default=0.001
        The constant ε of Adam.
    server_lr : float or callable, default=1
        The server's rate; the paper has 1.

    Returns
    -------
    Algorithm

    References
    ----------
    Karimireddy et al., "Breaking the centralized barrier for cross-device federated learning" (Mime), NeurIPS 2021,
    Algorithm 1.
    """
    settings = {"base": base, "beta1": beta1, "beta2": beta2, "epsilon": epsilon, "server_lr": server_lr}
    positive(epsilon=epsilon, server_lr=server_lr)
    init, used = _statistics(base, beta1, beta2, epsilon)

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        def slope(gradient: Slope, w: Array) -> tuple[float, Array]:
            loss, g = gradient(w)
            return loss, used(g, message)

        done = learner.train(x, slope=slope)
        g = learner.gradient(x)[1]
        return with_loss({**share(x, done), "gradient": g * x.dtype.type(done.weight)}, done), {}

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        c = total["gradient"] / x.dtype.type(total["weight"][0])
        return x + x.dtype.type(server_lr) * mean_change(x, total), _moved(state, c, beta1, beta2)

    return Algorithm(
        Spec("mimelite", settings), update, init, _statistics_sent, local=local,
        discloses="the gradient of its mean loss",
    )  # fmt: skip


Init = Callable[[Array], Tree]
Used = Callable[[Array, Tree], Array]


def _statistics(base: str, beta1: float, beta2: float, epsilon: float) -> tuple[Init, Used]:
    """What Mime's server begins with, and U: what a node makes of a gradient and the statistics it was sent."""
    one_of(("momentum", "adam"), base=base)
    below_one(beta1=beta1, beta2=beta2)
    names = ("m",) if base == "momentum" else ("m", "v")

    def init(x: Array) -> Tree:
        return {name: np.zeros_like(x) for name in names}

    def used(g: Array, s: Tree) -> Array:
        m: Array = float(beta1) * s["m"] + (1 - float(beta1)) * g
        return m if base == "momentum" else m / (np.sqrt(s["v"]) + float(epsilon))

    return init, used


def _statistics_sent(x: Array, state: Tree) -> Tree:
    return state


def _moved(s: Tree, c: Array, beta1: float, beta2: float) -> Tree:
    """V: the statistics after a round whose mean gradient was c."""
    kept = {"m": float(beta1), "v": float(beta2)}
    new = {"m": c, "v": c**2}
    return {name: kept[name] * s[name] + (1 - kept[name]) * new[name] for name in s}
