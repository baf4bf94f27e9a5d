"""`train`: any torch module over the nodes of a federation."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atoll.algorithms import Algorithm, Decentralized, Local, algorithms, decentralized, fedavg, sgd
from atoll.blas import one_thread
from atoll.clock import Pace
from atoll.errors import InvalidData, explain
from atoll.nodes import Nodes
from atoll.rng import as_seed
from atoll.rounds import Rounds
from atoll.run import Run
from atoll.selection import Selection, uniform
from atoll.topology import is_mix
from atoll.training.checkpoints import Checkpoint, read_checkpoint, resumed
from atoll.training.gossip import check_gossip
from atoll.training.loop import Callback, Course, Judged, Trained, check_answers, check_course
from atoll.training.modules import check_code_stays, nets_or_why, train_module
from atoll.training.validation import Validation
from atoll.trees import Array
from atoll.views import chosen

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TrainedModule", "train"]


class TrainedModule:
    """A module that was trained over nodes.

    Attributes
    ----------
    module : torch.nn.Module
        A trained copy of what was given; it works without Atoll.
    run_ : Run
        The record: rounds, bytes, seconds, training losses, what left each node.
    losses : tuple of float
        Mean training loss of every round.
    validation_run_ : Run or None
        The record of what was asked of the nodes with held-out rows.
    """

    def __init__(
        self, module: nn.Module, trained: Trained, run: Run, judged: Run | None = None, held_out: Rounds | None = None
    ) -> None:
        self.module, self._trained, self.run_, self.validation_run_ = module, trained, run, judged
        self._held_out = held_out

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean training loss of every round."""
        return self._trained.losses

    @property
    def metrics(self) -> dict[str, float]:
        """What the record says of the last round: the loss, and what was measured after it."""
        return self._trained.metrics

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training; the model is that of the last round that was done."""
        return any(note.startswith("interrupted after") for note in self.run_.notes)

    def evaluate(self, *, own: bool = False, held_out: bool = False) -> Judged:
        """How good the model is on the rows of the nodes that it was trained over.

        Parameters
        ----------
        own : bool, default=False
            Whether each node uses its own model, where the method gives it one.
        held_out : bool, default=False
            Whether it is judged on the rows that nodes held out (`held_out` of `train`), and not on all others.

        Returns
        -------
        Judged
        """
        return self._trained.judge(own, self._over(held_out))

    def evaluate_by_node(self, *, own: bool = False, held_out: bool = False) -> dict[str, Judged]:
        """The same on each node, by its name; nodes without such rows are left out."""
        return self._trained.judge.by_node(own, self._over(held_out))

    def _over(self, held_out: bool) -> Rounds | None:
        if held_out and self._held_out is None:
            raise InvalidData(explain("no rows were held out of this training", hint="train(…, held_out=row numbers)"))
        return self._held_out if held_out else None

    def __repr__(self) -> str:
        loss = f"{self.losses[-1]:.4g}" if self.losses else "none yet"
        return f"TrainedModule({type(self.module).__name__}, {self._trained.step} rounds, last loss {loss})"


def train(
    module: nn.Module | str,
    loss: Any,
    federation: Nodes,
    algorithm: Algorithm | Decentralized | None = None,
    *,
    local: Local | None = None,
    rounds: int = 10,
    nodes_per_round: int | None = None,
    selection: Selection | None = None,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
    way: str = "auto",
    block: int | None = None,
    device: str = "cpu",
    order: Callable[[int, int], Array] | None = None,
    callbacks: Sequence[Callback] = (),
    pace: Pace | None = None,
    balance: str | None = None,
    validation: Any = None,
    every: int = 1,
    held_out: Array | None = None,
    resume: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> TrainedModule:
    """Train a torch module over nodes whose rows stay where they are.

    Parameters
    ----------
    module : torch.nn.Module or str
        What is trained; it is not touched. A name stands for what was installed under it (`atoll.nets.install`).
    loss : callable or None
        ``(outputs, target) -> scalar``, the mean over rows, such as `torch.nn.CrossEntropyLoss()`. None where `module`
        is a name.
    federation : Federation
        The nodes.
    algorithm : Algorithm or Decentralized, optional
        How parameters are trained in rounds (`atoll.algorithms`); by default federated averaging, and where nodes only
        talk to each other (`atoll.topology.gossip`), its counterpart `dpsgd`.
    local : Local, optional
        What a node does in a round; ``sgd()`` by default.
    rounds : int, default=10
        How many.
    nodes_per_round : int, optional
        Nodes that take part in a round; all by default.
    selection : Selection, optional
        Which ones; each as likely as any other by default.
    random_state : int, RandomState, Generator or None
        Seed of everything drawn at random; None: that of the federation.
    way : {"auto", "sequential", "stacked", "implicit"}, default="auto"
        How the training of several nodes is computed at once. All agree but for rounding.
    block : int, optional
        How many nodes are computed at once, at most; part of what decides the bits. By default what suits the way and
        the number of nodes asked.
    device : str, default="cpu"
        Where to compute.
    order : callable, optional
        ``(round, node) -> row numbers``: the order of a node's rows, where it is not drawn.
    callbacks : sequence of callable
        Called after every round with a `Trained`; one that returns True ends the training.
    pace : Pace, optional
        How fast nodes are, by a virtual clock (`atoll.clock`); the record then has virtual seconds.
    balance : {"reweight", "logits", "sampler"}, optional
        How unequal classes are answered: rare ones weigh more in the loss, are adjusted for in the logits, or are drawn
        more often. By the class frequencies of all nodes together, which nodes tell for it.
    validation : Federation or (X, y), optional
        Held-out rows on which the model of all is judged after rounds: the record's rows and callbacks then have
        ``validation_loss`` and, for classifiers, ``validation_accuracy``.
    every : int, default=1
        Rounds from one validation to the next.
    held_out : array of int, optional
        Rows that no node trains on, by their numbers: of the rows that were split, or counted over all nodes. What
        comes of the training is judged on them by ``evaluate(held_out=True)``, models of a node's own on its own.
    resume : path-like, optional
        A file that `atoll.training.checkpoint` wrote, or their folder: training goes on from there to `rounds` in all,
        with the same bits as if it had never ended. `algorithm`, `local` and `random_state` are then those of the
        file, where they are left out. Where nodes keep something of their own, a journal goes on, not a checkpoint.
    name : str, optional
        Of the run in the journal.

    Returns
    -------
    TrainedModule

    Raises
    ------
    InvalidData
        Before the first round: for settings that contradict each other, a module that cannot be copied, rows that do
        not suit it, a checkpoint that does not; names the node.
    NotEnoughMemory
        Before the first round, with the numbers.
    Refused
        Before any node is asked, for a module that is not named, where nodes keep their rows.
    NodeFailed
        If so many nodes fail in a round that its quorum is missed: a loss that is no longer finite, say.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> import atoll
    >>> from atoll.algorithms import fedavg, sgd
    >>> sites = atoll.Federation.simulate(*load_iris(return_X_y=True), n_nodes=3)
    >>> net = torch.nn.Linear(4, 3)
    >>> done = atoll.train(net, torch.nn.CrossEntropyLoss(), sites, fedavg(), local=sgd(lr=0.05), rounds=3)
    >>> len(done.losses)
    3
    """
    nets = nets_or_why()
    named = module if isinstance(module, str) else None
    if named is None:
        check_code_stays(federation.remote)
    module, loss = nets.installed(module) if isinstance(module, str) else (module, loss)
    found = None if resume is None else read_checkpoint(resume, nets.as_model(module))
    if found is not None:
        algorithm, local, random_state = _as_before(found, algorithm, local, random_state)
    course = Course(
        algorithm if isinstance(algorithm, Algorithm) else fedavg(), local or sgd(), rounds, nodes_per_round,
        selection or uniform(), way, block, order, tuple(callbacks), pace=pace,
        mixing=algorithm if isinstance(algorithm, Decentralized) else None,
        streams={i: federation.streams[node] for i, node in enumerate(federation.names) if federation.streams},
    )  # fmt: skip
    _check_algorithm(algorithm)
    _check(course, federation, loss)
    judged = None if validation is None else Validation(validation, every)
    over = federation.rounds(type(module).__name__, name=name)
    if random_state is not None:
        over.run.seed = as_seed(random_state)
    if found is not None:
        course = resumed(found, course, federation.plan, over.run)
    over.progress.start(f"{course.mixing or course.algorithm} of {over.run.estimator} over {federation.n_nodes} nodes")
    try:
        with over.ending(), one_thread():
            over.meet(classes=balance is not None)
            over, left_out = _parted(over, held_out)
            trained = train_module(over, module, loss, course, device, balance, judged, named=named)
    finally:
        over.progress.stop()
    made = nets.load(copy.deepcopy(module), trained.model.w, trained.model.buffers)
    return TrainedModule(made, trained, over.run, None if judged is None else judged.run, left_out)


def _check(course: Course, federation: Nodes, loss: Any) -> None:
    """Refuse what contradicts itself, or the loss, before anybody is asked."""
    check_course(course, federation.n_nodes)
    check_answers(course.algorithm, type(loss).__name__, classifies=type(loss).__name__ not in _OF_NUMBERS)
    if course.mixing is not None or is_mix(federation.plan):
        check_gossip(course, federation.plan, federation.n_nodes)


_OF_NUMBERS = ("GaussianNLLLoss", "HuberLoss", "L1Loss", "MSELoss", "PoissonNLLLoss", "SmoothL1Loss")
"""Losses of torch whose targets are no classes."""


def _parted(over: Rounds, held_out: Array | None) -> tuple[Rounds, Rounds | None]:
    """The run over the rows that are trained on, and over those that are not."""
    if held_out is None:
        return over, None
    n, out = over.schema.n_rows, np.unique(np.asarray(held_out))
    if out.dtype.kind not in "iu" or not len(out) or out[0] < 0 or out[-1] >= n or len(out) == n:
        got, expected = f"{len(out)} of {out.dtype}", f"some of 0 to {n - 1}, not all"
        raise InvalidData(explain("held_out are numbers of rows", got=got, expected=expected))
    return over.only(chosen(np.setdiff1d(np.arange(n), out))), over.only(chosen(out))


def _as_before(found: Checkpoint, algorithm: Any, local: Local | None, random_state: Any) -> tuple[Any, Local, Any]:
    """What is left out, as it was before the checkpoint; the seed cannot be another."""
    if random_state is not None and as_seed(random_state) != found.seed:
        got, hint = as_seed(random_state), "leave random_state out"
        raise InvalidData(explain("a training goes on with its seed", got=got, expected=found.seed, hint=hint))
    for name, own, was in (("algorithm", algorithm, found.algorithm), ("local", local, found.local)):
        if own is None and was is None:
            what = f"a setting of {name} is a function, which a checkpoint does not hold"
            raise InvalidData(explain(what, got=found.facts[name], hint=f"give {name}= as before"))
    return algorithm or found.algorithm, local or found.local, found.seed  # type: ignore[return-value]


def _check_algorithm(algorithm: object) -> None:
    if algorithm is not None and not isinstance(algorithm, Algorithm | Decentralized):
        hint = f"call it: {algorithm.__name__}()" if callable(algorithm) and hasattr(algorithm, "__name__") else None
        expected = f"one of {', '.join([*algorithms, *decentralized])}, called"
        raise InvalidData(explain("this is no algorithm", got=repr(algorithm), expected=expected, hint=hint))
