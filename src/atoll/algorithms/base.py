"""The seam: what an algorithm is, what a node knows of its own training, and what the server adds up.

Parameters are one flat array ``x`` of shape (P,). An `Algorithm` is a NamedTuple of pure functions: what the server
keeps and sends, how a node's steps are bent, what a node sends back, and how the server goes on from the sum of all
that. Most methods bend the local step in one and the same way (`Drift`), so they are a few lines each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from atoll.context import Ctx
from atoll.specs import Registry, Spec
from atoll.trees import Array, Tree

__all__ = [
    "Algorithm",
    "Arrivals",
    "Came",
    "Done",
    "Drift",
    "Learner",
    "Lies",
    "LocalFn",
    "Rate",
    "SaysFn",
    "SettleFn",
    "Slope",
    "Told",
    "algorithms",
    "no_message",
    "no_state",
    "send_change",
    "share",
    "step_sizes",
    "still",
    "the_global_model",
    "with_loss",
]


class Drift(NamedTuple):
    """Constants of the affine local step ``w ← w − η (g + mu (w − start) + h)``; they hold for a whole round.

    Attributes
    ----------
    mu : float
        Pull towards `start`.
    start : ndarray of shape (P,) or None
        What is pulled to; not looked at where `mu` is 0.
    h : ndarray of shape (P,) or None
        Added to every gradient; None is zero.
    """

    mu: float = 0.0
    start: Array | None = None
    h: Array | None = None


class Done(NamedTuple):
    """What local training came to.

    Attributes
    ----------
    w : ndarray of shape (P,)
        Parameters after the last step.
    rate : float
        Sum of the rates η of all steps taken.
    steps : float
        How many steps were taken.
    norm : float
        ‖a‖₁ of Wang et al. (2020): the weight of all gradients in ``start − w = η Σ aₖ gₖ``; see `step_sizes`.
    loss : float
        Mean loss over the steps, each before its step.
    weight : float
        What the node counts for.
    """

    w: Array
    rate: float
    steps: float
    norm: float
    loss: float
    weight: float


class Told(NamedTuple):
    """What the server knows besides the sums.

    Attributes
    ----------
    n_nodes : int
        All nodes, N.
    weight : float
        Sum of the weights of all nodes.
    answered : int
        Nodes in the sum.
    step : int
        The round, from 0.
    rate : float
        The local rate of this round.
    gradient : ndarray of shape (P,)
        The mean gradient at x over all rows of those asked, where the method asks `ahead`; otherwise empty.
    """

    n_nodes: int
    weight: float
    answered: int
    step: int
    rate: float
    gradient: Array = np.zeros(0)


class Learner(Protocol):
    """What an algorithm can have a node do with its rows: the loss is the mean over rows."""

    @property
    def n_rows(self) -> int:
        """Rows of the node."""
        ...

    @property
    def weight(self) -> float:
        """What the node counts for."""
        ...

    @property
    def rate(self) -> float:
        """The local rate of this round."""
        ...

    def train(
        self,
        w: Array,
        drift: Drift | None = None,
        *,
        use: str = "rows",
        only: Array | None = None,
        slope: Callable[[Slope, Array], tuple[float, Array]] | None = None,
        steps: int | None = None,
    ) -> Done:
        """Train from `w`, as the local settings say.

        Parameters
        ----------
        w : ndarray of shape (P,)
            Where to start; it is not touched.
        drift : Drift, optional
            How steps are bent.
        use : str
            Names the random stream that orders the rows.
        only : ndarray of bool of shape (P,), optional
            Parameters that may move.
        slope : callable, optional
            ``(gradient, w) -> (loss, g)``: what is used in place of the gradient of a batch, where ``gradient(w)``
            gives loss and gradient of that batch anywhere.
        steps : int, optional
            In place of the number of steps that the local settings say.
        """
        ...

    def gradient(self, w: Array, rows: Array | None = None) -> tuple[float, Array]:
        """Mean loss and gradient at `w`, over all rows or some."""
        ...

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """What the model says of each row, shape (n, C), and what comes before its last layer, shape (n, m).

        A classifier says it before any softmax; with one column it is the odds of class 1.
        """
        ...


Rate = Callable[[int], float]
Slope = Callable[[Array], tuple[float, Array]]
LocalFn = Callable[[Learner, Array, Tree, Mapping[str, Array], Ctx], tuple[Tree, Tree]]
SettleFn = Callable[[Learner, Array | None, Array, Tree, Mapping[str, Array], Ctx], Tree]
SaysFn = Callable[[Learner, Array, Tree, Mapping[str, Array], Ctx], Array]


class Lies(Protocol):
    """Where one parameter lies in the flat array: what a method is told of a model (`atoll.learners.Part`)."""

    @property
    def name(self) -> str:
        """As the model calls it."""

    @property
    def start(self) -> int:
        """Its first number."""

    @property
    def stop(self) -> int:
        """One past its last number."""

    @property
    def kind(self) -> str:
        """``"norm"`` in a normalisation layer; otherwise empty."""


def no_state(x: Array) -> Tree:
    """A server that keeps nothing but the model."""
    return {}


def no_message(x: Array, state: Tree) -> Tree:
    """Nodes are sent nothing but the model."""
    return {}


def still(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Drift:
    """Plain steps: nothing bends them."""
    return Drift()


def share(x: Array, done: Done) -> Tree:
    """A node's share of the sum: ``weight · (w − x)`` and the weight; one division by the sum of weights ends it."""
    return {"change": (done.w - x) * x.dtype.type(done.weight), "weight": np.array([done.weight])}


def with_loss(tree: Tree, done: Done) -> Tree:
    """A contribution with the node's share of the mean loss, which a method that has `local` adds for itself."""
    return {**tree, "loss": np.array([done.loss * done.weight])}


def send_change(x: Array, message: Tree, memory: Mapping[str, Array], done: Done, ctx: Ctx) -> tuple[Tree, Tree]:
    """A node sends its change of the model and keeps nothing."""
    return share(x, done), {}


def the_global_model(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
    """Nodes predict with the model of all."""
    return x


class Came(NamedTuple):
    """What came from nodes that had started from the same model.

    Attributes
    ----------
    staleness : int
        How often the server had gone on since they started, τ.
    start : ndarray of shape (P,)
        The model they had started from.
    change : ndarray of shape (P,)
        The sum of their changes of it.
    n : int
        How many they are.
    """

    staleness: int
    start: Array
    change: Array
    n: int


class Arrivals(NamedTuple):
    """How a server goes on with what has come.

    Attributes
    ----------
    buffer : int
        Arrivals after which it goes on.
    server_lr : float or callable
        Its rate, or how much an arrival is mixed in.
    decay : float
        An arrival that is τ steps stale counts ``(1 + τ) ** -decay``.
    mixes : bool
        Whether it mixes in the models that came (FedAsync), instead of adding their changes (FedBuff).
    """

    buffer: int
    server_lr: float | Rate
    decay: float
    mixes: bool

    def go_on(self, x: Array, came: Sequence[Came]) -> Array:
        """The next model."""
        kind, step = x.dtype.type, np.zeros_like(x)
        for part in came:
            discount = (1 + part.staleness) ** -self.decay
            change = part.change + kind(part.n) * (part.start - x) if self.mixes else part.change
            step += kind(discount) * change
        new: Array = x + kind(float(self.server_lr) / self.buffer) * step  # type: ignore[arg-type]
        return new


class Algorithm(NamedTuple):
    """How parameters are trained in rounds. State goes in and comes out; nothing is kept in between.

    Attributes
    ----------
    spec : Spec
        Its name and settings: how it is written when it travels. `algorithms` makes it from that.
    update : callable
        ``(x, state, total, told) -> (x, state)``: the next model from the sum of all contributions.
    init : callable
        ``x -> state``: what the server keeps.
    message : callable
        ``(x, state) -> message``: what nodes are sent besides x.
    before : callable
        ``(x, message, memory, ctx) -> Drift``: how a node's steps are bent.
    after : callable
        ``(x, message, memory, done, ctx) -> (contribution, memory)``: what a node sends, all of which is added up,
        and what it keeps. A contribution has ``change`` of shape (P,) and ``weight`` of shape (1,).
    local : callable or None
        ``(learner, x, message, memory, ctx) -> (contribution, memory)`` in place of `before` and `after`, for methods
        that do more than bend the steps.
    model : callable
        ``(x, message, memory, ctx) -> w``: the parameters with which a node predicts; other than x where models are
        personal.
    says : callable or None
        ``(learner, x, message, memory, ctx) -> probabilities``, shape (n, C), in place of `model`, where a node
        predicts with more than parameters.
    settle : callable or None
        ``(learner, targets, x, message, memory, ctx) -> memory``: asked of every node when training is over, for
        methods whose personal models are made then. What comes back joins the memory for `model` and `says`, and no
        further round of training sees it. `targets` are class numbers for classifiers.
    bind : callable or None
        ``layout -> Algorithm``: this method for one model, for methods that look at the names of its parameters.
    own_buffers : bool
        Whether what a model keeps besides parameters (means of a batch norm) stays on the node too.
    remembers : bool
        Whether nodes keep anything.
    everyone : bool
        Whether every node must take part in every round.
    ahead : bool
        Whether the nodes of a round are asked for the gradient at x of their whole loss before it. The mean is then
        ``gradient`` in the message, and in what the server is told.
    weight : {"rows", "equal"}
        What a node counts for.
    discloses : str
        What leaves a node besides the change of the model, in words.
    arrivals : Arrivals or None
        How the server goes on with what has come, in place of `update`, for methods without rounds.
    """

    spec: Spec
    update: Callable[[Array, Tree, Tree, Told], tuple[Array, Tree]]
    init: Callable[[Array], Tree] = no_state
    message: Callable[[Array, Tree], Tree] = no_message
    before: Callable[[Array, Tree, Mapping[str, Array], Ctx], Drift] = still
    after: Callable[[Array, Tree, Mapping[str, Array], Done, Ctx], tuple[Tree, Tree]] = send_change
    local: LocalFn | None = None
    model: Callable[[Array, Tree, Mapping[str, Array], Ctx], Array] = the_global_model
    says: SaysFn | None = None
    settle: SettleFn | None = None
    bind: Callable[[Sequence[Lies]], Algorithm] | None = None
    own_buffers: bool = False
    remembers: bool = False
    everyone: bool = False
    ahead: bool = False
    weight: Literal["rows", "equal"] = "rows"
    discloses: str = ""
    arrivals: Arrivals | None = None

    @property
    def plain(self) -> bool:
        """Whether nodes take plain steps and send nothing but the change: then many can be trained at once."""
        return self.local is None and not self.remembers and self.before is still and self.after is send_change

    @property
    def in_place(self) -> bool:
        """Whether nodes send nothing but the change and keep nothing, so that no single contribution need be formed."""
        return self.local is None and not self.remembers and self.after is send_change

    @property
    def personal(self) -> bool:
        """Whether nodes predict with models of their own."""
        return self.model is not the_global_model or self.says is not None

    def at(self, step: int) -> Algorithm:
        """The method in one round: settings that are functions of the round become numbers, which can travel."""
        settings = {name: value(step) if callable(value) else value for name, value in self.spec.settings.items()}
        changes = any(callable(value) for value in self.spec.settings.values())
        return algorithms[self.spec.name](**settings, **self.spec.arrays) if changes else self

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.spec.settings.items())
        return f"{self.spec.name}({inside})"

    def __deepcopy__(self, memo: object) -> Algorithm:
        return self

    def __reduce__(self) -> tuple[Callable[[Spec], Algorithm], tuple[Spec]]:
        return _again, (self.spec,)


def _again(spec: Spec) -> Algorithm:
    """Made from how it is written: functions are not pickled."""
    return algorithms[spec.name](**spec.settings, **spec.arrays)


algorithms: Registry[Callable[..., Algorithm]] = Registry("algorithm")


def step_sizes(steps: float, *, momentum: float = 0.0, pull: float = 0.0, nesterov: bool = False) -> float:
    """‖a‖₁ of Wang et al. (2020), Section 4: how much all gradients of so many local steps weigh together.

    Parameters
    ----------
    steps : float
        Local steps, τ.
    momentum : float, default=0
        Of the local steps, ρ: ``[τ − ρ (1 − ρ^τ) / (1 − ρ)] / (1 − ρ)``.
    pull : float, default=0
        ``η μ`` of a proximal term: ``(1 − (1 − ημ)^τ) / (ημ)``.
    nesterov : bool, default=False
        Whether momentum looks ahead. Then, and with a pull besides, the steps are gone through one by one.

    Returns
    -------
    float
        τ for plain steps.
    """
    if not momentum:
        return float((1 - (1 - pull) ** steps) / pull) if pull else float(steps)
    if momentum < 1 and not pull and not nesterov:
        return float((steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum))
    gone, speed = 0.0, 0.0
    for _ in range(round(steps)):
        slope = 1 - pull * gone
        speed = momentum * speed + slope
        gone += slope + momentum * speed if nesterov else speed
    return gone
