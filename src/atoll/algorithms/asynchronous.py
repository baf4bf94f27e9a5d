"""Methods without rounds: nodes come back when they are done, and the server goes on with what has come."""

from __future__ import annotations

from atoll.algorithms.averaging import fedavg
from atoll.algorithms.base import Algorithm, Arrivals, Rate, algorithms
from atoll.algorithms.settings import at_least, positive
from atoll.errors import InvalidData, explain
from atoll.specs import Spec

__all__ = ["fedasync", "fedbuff"]


@algorithms.register("fedbuff")
def fedbuff(*, buffer: int = 10, server_lr: float | Rate = 1.0, decay: float = 0.5) -> Algorithm:
    """Buffered asynchronous averaging: after every K arrivals ``x ← x + (η_g / K) Σ Δ / √(1 + τ)``.

    Nodes train all the time, as many at once as `nodes_per_round` says; a slow one holds nobody up, and its change
    counts the less the more often the server has gone on meanwhile (τ).

    Parameters
    ----------
    buffer : int, default=10
        Arrivals after which the server goes on, K.
    server_lr : float or callable, default=1
        The server's rate η_g.
    decay : float, default=0.5
        Stale changes count ``(1 + τ) ** -decay``; 0: all alike.

    Returns
    -------
    Algorithm

    References
    ----------
    Nguyen et al., "Federated learning with buffered asynchronous aggregation", AISTATS 2022, Algorithm 1.
    """
    if not isinstance(buffer, int) or buffer < 1:
        raise InvalidData(explain("buffer is a number of arrivals", got=repr(buffer), expected="at least 1"))
    positive(server_lr=server_lr)
    at_least(0, decay=decay)
    spec = Spec("fedbuff", {"buffer": buffer, "server_lr": server_lr, "decay": decay})
    arrivals = Arrivals(buffer, server_lr, decay, mixes=False)
    return fedavg()._replace(spec=spec, weight="equal", arrivals=arrivals)


@algorithms.register("fedasync")
def fedasync(*, mix: float = 0.6, decay: float = 0.5) -> Algorithm:
    """Asynchronous averaging: at every arrival ``x ← (1 − α s) x + α s y`` with ``s = (1 + τ)^−a``.

    Parameters
    ----------
    mix : float, default=0.6
        How much of a fresh model is mixed in, α.
    decay : float, default=0.5
        How fast stale models lose weight, a.

    Returns
    -------
    Algorithm

    References
    ----------
    Xie, Koyejo & Gupta, "Asynchronous federated optimization", 2019, Algorithm 1.
    """
    positive(mix=mix)
    at_least(0, 1, mix=mix)
    at_least(0, decay=decay)
    spec = Spec("fedasync", {"mix": mix, "decay": decay})
    return fedavg()._replace(spec=spec, weight="equal", arrivals=Arrivals(1, mix, decay, mixes=True))
