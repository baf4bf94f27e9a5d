"""Modules that are a chain of dense layers with something row by row in between, and losses that are sums over rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from atoll.learners import Part
from atoll.nets.losses import beside
from atoll.nets.parts import Net

__all__ = ["Chain", "Dense", "apply", "by_class", "chain_of", "row_losses", "row_weights", "single", "splits"]

_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Tanhshrink, nn.Identity,
)  # fmt: skip
_BY_ELEMENT = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
_BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)


class Dense(NamedTuple):
    """A dense layer, and what is done to its outputs, row by row.

    Attributes
    ----------
    weight : Part
        Of shape (outputs, inputs).
    bias : Part or None
        Of shape (outputs,).
    after : tuple of torch.nn.Module
        Without parameters.
    """

    weight: Part
    bias: Part | None
    after: tuple[nn.Module, ...]

    @property
    def weights(self) -> int:
        """How many."""
        return self.weight.stop - self.weight.start


class Chain(NamedTuple):
    """Dense layers one after the other.

    Attributes
    ----------
    before : tuple of torch.nn.Module
        What is done to the inputs, row by row.
    layers : tuple of Dense
        At least one.
    """

    before: tuple[nn.Module, ...]
    layers: tuple[Dense, ...]


def chain_of(net: Net) -> Chain | None:
    """The chain that a module is; None where it is none, or where some of its parameters are not trained."""
    if not all(p.requires_grad for p in net.module.parameters()):
        return None
    parts = {part.name: part for part in net.layout}
    before: list[nn.Module] = []
    layers: list[Dense] = []
    used = 0
    for name, module in _links(net.module, ""):
        if _hooked(module):
            return None
        if type(module) is nn.Linear:
            weight, bias = parts.get(f"{name}weight"), parts.get(f"{name}bias")
            if weight is None or (bias is None) != (module.bias is None):
                return None
            layers.append(Dense(weight, bias, ()))
            used += 1 + (bias is not None)
        elif not _by_row(module):
            return None
        elif layers:
            layers[-1] = layers[-1]._replace(after=(*layers[-1].after, _not_in_place(module)))
        else:
            before.append(_not_in_place(module))
    return Chain(tuple(before), tuple(layers)) if layers and used == len(parts) else None


def _links(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested sequences in the order in which they are called, named as their parameters begin."""
    if type(module) is not nn.Sequential or _hooked(module):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _links(child, f"{prefix}{name}.")


def _hooked(module: nn.Module) -> bool:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in names)


def _by_row(module: nn.Module) -> bool:
    if type(module) is nn.Flatten:
        return module.start_dim == 1
    if type(module) is nn.Dropout:
        return module.p == 0
    if type(module) in (nn.Softmax, nn.LogSoftmax):
        return module.dim in (-1, 1)
    return type(module) in _ELEMENTWISE


def _not_in_place(module: nn.Module) -> nn.Module:
    if not getattr(module, "inplace", False):
        return module
    other = copy.copy(module)
    other.inplace = False  # type: ignore[assignment]
    return other


def apply(modules: tuple[nn.Module, ...], a: torch.Tensor) -> torch.Tensor:
    """Call modules one after the other."""
    for module in modules:
        a = module(a)
    return a


def splits(loss: nn.Module) -> bool:
    """Whether a loss is a sum over rows, each with a weight of its own, divided by the weights of a batch."""
    if type(loss) not in _BY_ELEMENT + _BY_CLASS or getattr(loss, "reduction", "") not in ("mean", "sum"):
        return False
    return type(loss) in _BY_CLASS or getattr(loss, "weight", None) is None


def single(loss: nn.Module) -> nn.Module:
    """The same loss without the mean over rows."""
    each = copy.copy(loss)
    each.reduction = "none"  # type: ignore[assignment]
    return each


def row_weights(loss: nn.Module, target: torch.Tensor) -> torch.Tensor | None:
    """What each row weighs in the mean of its batch, shape (n,); None where all weigh 1.

    Parameters
    ----------
    loss : torch.nn.Module
        One that `splits`.
    target : Tensor of shape (n, …)
        What outputs are held against.
    """
    if type(loss) not in _BY_CLASS or target.is_floating_point():
        return None
    known = target != loss.ignore_index
    if loss.weight is not None:
        return loss.weight[target.clamp(min=0)] * known  # type: ignore[index]
    return None if bool(known.all()) else known.to(torch.get_default_dtype())


def by_class(each: nn.Module, outputs: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a loss that is `single` is the plain cross-entropy of outputs (n, c) and class numbers (n,)."""
    if type(each) is not nn.CrossEntropyLoss or each.weight is not None or each.label_smoothing:
        return False
    return outputs.ndim == 2 and target.ndim == 1 and not target.is_floating_point()


def row_losses(each: nn.Module, outputs: torch.Tensor, target: torch.Tensor, mean: bool) -> torch.Tensor | None:
    """The loss of each row, times its weight, shape (n,).

    Parameters
    ----------
    each : torch.nn.Module
        A loss that is `single`.
    outputs : Tensor of shape (n, …)
        Of the module.
    target : Tensor of shape (n, …)
        What they are held against.
    mean : bool
        Whether a row of several numbers counts for their mean, or for their sum.

    Returns
    -------
    Tensor or None
        None where outputs and target do not fit row by row.
    """
    target = beside(outputs, target)
    of_classes = type(each) in _BY_CLASS and not target.is_floating_point()
    if outputs.ndim == 0 or (outputs.shape[:1] if of_classes else outputs.shape) != target.shape:
        return None
    found: torch.Tensor = each(outputs, target)
    if found.ndim == 1:
        return found
    return found.flatten(1).mean(1) if mean else found.flatten(1).sum(1)
