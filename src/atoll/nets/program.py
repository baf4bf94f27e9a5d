"""A torch module and its loss as a program: what nodes train, whoever's they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from atoll.algorithms import Algorithm, Done, Drift, Local
from atoll.algorithms.base import Slope, step_sizes
from atoll.errors import InvalidData, explain
from atoll.learners import Model, Turn, batches, batches_of
from atoll.nets.flat import Flat, as_model, layout_of, looked_at, of_seed, one_torch_thread
from atoll.nets.losses import Loss, Tilt, as_target, beside, called
from atoll.nets.parts import Net, Rows
from atoll.nets.sequential import Bend, Inputs, Stepper, take
from atoll.nets.ways import WAYS
from atoll.shards import Shard, inputs_of
from atoll.trees import Array, Tree

__all__ = ["TorchLearner", "TorchProgram"]

_JUDGED = 1 << 20


class TorchProgram:
    """A module and a loss. Nodes of a process train one flat copy of the module in turn.

    Parameters
    ----------
    module : torch.nn.Module
        It is not touched.
    loss : callable
        ``(outputs, target) -> scalar``, the mean over rows; one of `torch.nn`'s where rows have weights.
    device : str
        Where to compute.
    """

    def __init__(self, module: nn.Module, loss: Any, device: str = "cpu") -> None:
        self.module, self.loss, self.device = module, Loss(loss), torch.device(device)
        self._flat: Flat | None = None
        self._stepper: tuple[Local, Stepper] | None = None

    @property
    def flat(self) -> Flat:
        """The copy that is trained."""
        if self._flat is None:
            self._flat = Flat(self.module, self.device)
        return self._flat

    def start(self, seed: int) -> Model:
        """The module as it is."""
        return as_model(self.module)

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(str(self.flat.w.dtype)[6:])

    @cached_property
    def net(self) -> Net:
        """What the ways of local training are given of it."""
        return Net(self.flat.module, self.loss.of, layout_of(self.flat.module))

    def stepper(self, local: Local) -> Stepper:
        """What takes local steps with these settings."""
        if self._stepper is None or self._stepper[0] != local:
            self._stepper = (local, Stepper(self.flat, self.loss, local))
        return self._stepper[1]

    def rows(self, shard: Shard) -> tuple[Inputs, torch.Tensor, torch.Tensor | None]:
        """A node's inputs, targets and weights as tensors where the module is.

        They look at the node's own rows where these are as the module takes them; what had to be converted is kept.
        """
        if self.device.type == "cpu" and _fits(shard, self._dtype, self.loss.of_classes):
            return self._as_tensors(shard)
        key = ("torch", self._dtype.name, str(self.device), self.loss.of_classes)
        return shard.memo(key, lambda: self._as_tensors(shard))

    def lying(self, shard: Shard) -> tuple[Inputs, Any, Any]:
        """The same as `rows`, in arrays where the module is on the CPU: several nodes' become tensors together."""
        if self.device.type != "cpu" or not _fits(shard, self._dtype, self.loss.of_classes):
            return self.rows(shard)
        return _by_position(inputs_of(shard)), shard.y, shard.columns.get("sample_weight")

    def _as_tensors(self, shard: Shard) -> tuple[Inputs, torch.Tensor, torch.Tensor | None]:
        dtype, device = self.flat.w.dtype, self.device
        if shard.y is None or shard.y.dtype.kind == "U":
            got = "none" if shard.y is None else "text"
            hint = "give class numbers, counted from 0, or real numbers"
            raise InvalidData(explain("a module is trained towards targets that are numbers", got=got, hint=hint))
        x = _inputs(inputs_of(shard), dtype, device)
        y = as_target(looked_at(shard.y), self.loss, dtype).to(device)
        weight = shard.columns.get("sample_weight")
        return x, y, None if weight is None else looked_at(weight).to(device, dtype)

    def check(self, shard: Shard) -> None:
        """Refuse rows that the module cannot take, before anything is trained.

        Raises
        ------
        InvalidData
            If the module fails on a row, a label lies outside its last layer, or the loss is no number per batch.
        """
        x, y, weight = self.rows(shard)
        few = torch.arange(min(2, shard.n_rows))
        module = self.flat.module.eval()
        with torch.no_grad(), one_torch_thread():
            outputs = called(module, take(x, few))
            if self.loss.of_classes and y.ndim == 1 and len(y):
                self._check_labels(y, outputs.shape[1])
            loss = self.loss(module, take(x, few), y[few], None if weight is None else weight[few])
        if loss.ndim:
            got = f"shape {tuple(loss.shape)}"
            raise InvalidData(explain("a loss is one number for a batch", got=got, hint="use reduction='mean'"))

    def _check_labels(self, y: torch.Tensor, n: int) -> None:
        y = y[y != getattr(self.loss.of, "ignore_index", -100)]
        if len(y) and (int(y.min()) < 0 or int(y.max()) >= n):
            got, expected = f"labels from {int(y.min())} to {int(y.max())}", f"from 0 to {n - 1}, for {n} outputs"
            hint = "count classes from 0 (sklearn.preprocessing.LabelEncoder), or widen the last layer"
            raise InvalidData(explain("a label lies outside the output layer", got=got, expected=expected, hint=hint))

    def learner(self, shard: Shard, turn: Turn) -> TorchLearner:
        """A node's rows with this loss."""
        return TorchLearner(self, shard, turn)

    def judge(self, shard: Shard, w: Array, buffers: Array) -> Tree:
        """Sums over a node's rows: loss, right answers, rows."""
        x, y, _ = self.rows(shard)
        flat = self._set(w, buffers)
        flat.module.eval()
        loss = right = 0.0
        with torch.no_grad(), one_torch_thread():
            for index in torch.split(torch.arange(shard.n_rows), max(1, _JUDGED // max(w.size // 64, 1))):
                outputs = called(flat.module, take(x, index))
                loss += float(self.loss.of(outputs, beside(outputs, y[index]))) * len(index)
                right += self.loss.right(outputs, y[index])
        return {"loss": np.array([loss]), "right": np.array([right]), "rows": np.array([float(shard.n_rows)])}

    def _set(self, w: Array, buffers: Array) -> Flat:
        flat = self.flat
        flat.w.copy_(looked_at(w))
        flat.set_buffers(looked_at(buffers).to(self.device))
        return flat

    def block(
        self, shards: Sequence[Shard], turns: Sequence[Turn], x: Array, algorithm: Algorithm, message: Tree, way: str
    ) -> Tree | None:
        """The sum of the changes of some nodes, each trained in place; see `atoll.learners.Blocks`."""
        if not algorithm.in_place:
            return None
        drift = algorithm.before(x, message, {}, turns[0].ctx)
        with one_torch_thread():
            tilted = _tilt(turns[0], self.flat.w) is not None
            if way != "sequential" and not tilted and drift.h is None and (not drift.mu or drift.start is x):
                found = self._at_once(shards, turns, x, way, drift.mu)
                if found is not None:
                    return found
            return self._in_turn(shards, turns, x, drift)

    def _at_once(self, shards: Sequence[Shard], turns: Sequence[Turn], x: Array, way: str, mu: float) -> Tree | None:
        rows = [self.lying(shard) for shard in shards]
        if any(weight is not None for _, _, weight in rows) or self.flat.has_buffers:
            return None
        steps = batches_of(turns, [shard.n_rows for shard in shards])
        blocks = [Rows(own, y, cut) for (own, y, _), cut in zip(rows, steps, strict=True)]
        start = looked_at(x).to(self.device)
        total = WAYS[way](self.net, start, blocks, turns[0].local, [turn.weight for turn in turns], mu=mu)
        if total is None:
            return None
        weight, loss = np.array([total.weight]), np.array([total.loss])
        return {"change": total.change.cpu().numpy(), "weight": weight, "loss": loss}

    def _in_turn(self, shards: Sequence[Shard], turns: Sequence[Turn], x: Array, drift: Drift) -> Tree:
        flat, stepper = self.flat, self.stepper(turns[0].local)
        start = looked_at(x).to(self.device)
        buffers = looked_at(turns[0].buffers).to(self.device)
        change, kept = torch.zeros_like(flat.w), torch.zeros_like(buffers)
        bend = _bend(drift, self.device)
        weight = loss = 0.0
        steps = batches_of(turns, [shard.n_rows for shard in shards])
        for shard, turn, cut in zip(shards, turns, steps, strict=True):
            flat.w.copy_(start)
            flat.set_buffers(buffers)
            of_seed(turn.ctx.seed, turn.ctx.step, turn.ctx.node)
            ended = stepper.run(*self.rows(shard), cut, bend, tilt=_tilt(turn, flat.w))
            change.add_(flat.w.sub_(start), alpha=turn.weight)
            if flat.has_buffers:
                kept.add_(flat.buffers(), alpha=turn.weight)
            weight, loss = weight + turn.weight, loss + ended.loss * turn.weight
        tree = {"change": change.cpu().numpy(), "weight": np.array([weight]), "loss": np.array([loss])}
        return {**tree, "buffers": kept.cpu().numpy()} if flat.has_buffers else tree


class TorchLearner:
    """A `Learner` over a node's rows: numbers in, numbers out, tensors in between.

    Parameters
    ----------
    program : TorchProgram
        The module and the loss.
    shard : Shard
        The node's rows.
    turn : Turn
        How it trains.

    Attributes
    ----------
    buffers : ndarray of shape (B,)
        What the module keeps besides parameters, after the last training.
    """

    def __init__(self, program: TorchProgram, shard: Shard, turn: Turn) -> None:
        self._program, self._turn, self._rows = program, turn, program.rows(shard)
        self.n_rows, self.weight, self.buffers = shard.n_rows, turn.weight, turn.buffers
        self.rate = float(turn.local.lr)  # type: ignore[arg-type]

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
        """Train from `w`; see `atoll.algorithms.Learner`."""
        program, turn, local = self._program, self._turn, self._turn.local
        cut = batches(turn, self.n_rows, use, steps)
        with one_torch_thread():
            flat = program._set(w, self.buffers)
            of_seed(turn.ctx.seed, turn.ctx.step, turn.ctx.node)
            bend = None if drift is None else _bend(drift, program.device)
            mask = None if only is None else torch.from_numpy(only).to(program.device)
            sloped = None if slope is None else _in_numbers(slope)
            tilt = _tilt(turn, flat.w)
            ended = program.stepper(local).run(*self._rows, cut, bend, mask, sloped, tilt)
            if flat.has_buffers:
                self.buffers = flat.buffers().cpu().numpy().copy()
        pull = self.rate * drift.mu if drift is not None else 0.0
        norm = step_sizes(ended.steps, momentum=local.momentum, pull=pull, nesterov=local.nesterov)
        end = flat.w.cpu().numpy().copy()
        return Done(end, self.rate * ended.steps, ended.steps, norm, ended.loss, self.weight)

    def gradient(self, w: Array, rows: Array | None = None) -> tuple[float, Array]:
        """Mean loss and gradient at `w`, over all rows or some."""
        program, index = self._program, np.arange(self.n_rows) if rows is None else rows
        x, y, weight = self._rows
        at = looked_at(index)
        with one_torch_thread():
            flat = program._set(w, self.buffers)
            flat.module.train()
            of_seed(self._turn.ctx.seed, self._turn.ctx.step, self._turn.ctx.node)
            some = None if weight is None else weight[at]
            program.stepper(self._turn.local).tilt = _tilt(self._turn, flat.w)
            loss, g = program.stepper(self._turn.local).flat_gradient(take(x, at), y[at], some)
        return float(loss), g.cpu().numpy()

    def outputs(self, w: Array) -> tuple[Array, Array]:
        """What the module says of each row, and what goes into its last layer with parameters."""
        program = self._program
        last = [m for m in program.flat.module.modules() if list(m.parameters(recurse=False))][-1]
        held: list[torch.Tensor] = []
        hook = last.register_forward_pre_hook(lambda module, inputs: held.append(inputs[0].detach()))
        try:
            with torch.no_grad(), one_torch_thread():
                flat = program._set(w, self.buffers)
                flat.module.eval()
                outputs = called(flat.module, self._rows[0])
        finally:
            hook.remove()
        return outputs.cpu().numpy(), held[0].reshape(len(outputs), -1).cpu().numpy()


def _tilt(turn: Turn, like: torch.Tensor) -> Tilt | None:
    """How classes are balanced on a node."""
    balanced = turn.balanced
    if balanced is None or (balanced.weights is None and balanced.logits is None):
        return None
    made = (None if a is None else torch.from_numpy(a).to(like) for a in (balanced.weights, balanced.logits))
    return Tilt(*made)


def _fits(shard: Shard, dtype: np.dtype[Any], of_classes: bool) -> bool:
    """Whether a node's rows are as the module takes them, so that tensors on them cost nothing."""
    y = shard.y
    if y is None or y.dtype != (_CLASS if of_classes and y.ndim == 1 else dtype):
        return False
    inputs = [shard.X, *[a for name, a in shard.columns.items() if name != "sample_weight"]]
    return all(isinstance(a, np.ndarray) and (a.dtype == dtype or a.dtype.kind != "f") for a in inputs)


_CLASS = np.dtype(np.int64)


def _inputs(own: Array | Tree, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Rows as the module is called with them: a tensor, a dictionary of them, or several by position (0, 1, …)."""
    if isinstance(own, np.ndarray):
        return _tensor(own, dtype, device)
    return _by_position({name: _tensor(a, dtype, device) for name, a in own.items()})


def _by_position(inputs: Any) -> Any:
    """Inputs whose names are 0, 1, … as a tuple."""
    if not isinstance(inputs, dict) or sorted(inputs) != [str(i) for i in range(len(inputs))]:
        return inputs
    return tuple(inputs[str(i)] for i in range(len(inputs)))


def _tensor(a: Array, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Rows as a tensor: real numbers in the dtype of the parameters, whole numbers as they are."""
    tensor = looked_at(a)
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def _bend(drift: Drift, device: torch.device) -> Bend | None:
    if not drift.mu and drift.h is None:
        return None
    start, h = (None if a is None else looked_at(a).to(device) for a in (drift.start, drift.h))
    return Bend(drift.mu, start, h)


def _in_numbers(slope: Callable[[Slope, Array], tuple[float, Array]]) -> Callable[..., tuple[float, torch.Tensor]]:
    """A slope that is written in numpy, for tensors."""

    def sloped(gradient: Callable[..., Any], w: torch.Tensor) -> tuple[float, torch.Tensor]:
        def of(at: Array) -> tuple[float, Array]:
            loss, g = gradient(torch.from_numpy(at).to(w.device))
            return loss, g.cpu().numpy()

        loss, g = slope(of, w.cpu().numpy())
        return loss, torch.from_numpy(g).to(w.device)

    return sloped
