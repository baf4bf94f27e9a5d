"""One dense layer under a plain cross-entropy, for many nodes at once, against a loop over nodes and steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from atoll.algorithms import sgd
from atoll.nets.chains import chain_of
from atoll.nets.flat import layout_of
from atoll.nets.implicit import total
from atoll.nets.parts import Net, Rows, Step
from atoll.nets.softmax import Shown, suits, trained

INPUTS, CLASSES = 7, 4


def made(bias: bool, reduction: str, dtype: torch.dtype = torch.float64) -> tuple[Net, torch.Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(INPUTS, CLASSES, bias=bias)).to(dtype)
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    return Net(module, nn.CrossEntropyLoss(reduction=reduction), layout_of(module)), flat


def drawn(seed: int, n: int, lengths: list[int]) -> Shown:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    k = sum(lengths)
    return Shown(rng.normal(size=(n, k, INPUTS)), rng.integers(0, CLASSES, (n, k)), lengths)


def by_hand(net: Net, x: torch.Tensor, shown: Shown, rate: float, p: np.ndarray) -> tuple[np.ndarray, float]:
    """Each node by itself, by autograd: the sum of changes and of mean losses, times p."""
    change, loss = np.zeros(len(x)), 0.0
    parameters = list(net.module.parameters())
    for node, weight in enumerate(p):
        torch.nn.utils.vector_to_parameters(x.clone(), parameters)
        start = 0
        for length in shown.lengths:
            cut = slice(start, start + length)
            rows, labels = torch.from_numpy(shown.rows[node, cut]), torch.from_numpy(shown.labels[node, cut])
            lost = net.loss(net.module(rows), labels)
            gradients = torch.autograd.grad(lost, parameters)
            with torch.no_grad():
                for parameter, g in zip(parameters, gradients, strict=True):
                    parameter -= rate * g
            loss += weight * float(lost.detach()) / len(shown.lengths)
            start += length
        change += weight * (torch.nn.utils.parameters_to_vector(parameters) - x).detach().numpy()
    return change, loss


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("lengths", [[5], [3, 3], [4, 4, 1]])
def test_it_is_descent_of_every_node_by_itself(bias, reduction, lengths):
    net, x = made(bias, reduction)
    chain, shown, p = chain_of(net), drawn(3, 6, lengths), np.array([1.0, 2.0, 0.5, 3.0, 1.0, 4.0])
    change = np.zeros(len(x))
    loss = trained(chain, net.loss, Step(0.3), x.numpy(), shown, p, change)
    expected, lost = by_hand(net, x.clone(), shown, 0.3, p)
    assert np.abs(change - expected).max() < 1e-12
    assert loss == pytest.approx(lost, rel=1e-12)


def test_a_change_is_added_to_what_is_there():
    net, x = made(True, "mean")
    shown, p = drawn(4, 3, [2, 2]), np.ones(3)
    alone, more = np.zeros(len(x)), np.full(len(x), 5.0)
    trained(chain_of(net), net.loss, Step(0.1), x.numpy(), shown, p, alone)
    trained(chain_of(net), net.loss, Step(0.1), x.numpy(), shown, p, more)
    assert np.allclose(more - 5.0, alone, rtol=0, atol=1e-14)


def test_large_outputs_overflow_nowhere():
    net, x = made(True, "mean", torch.float32)
    shown = drawn(5, 2, [3, 3])
    shown = shown._replace(rows=(shown.rows * 1e4).astype(np.float32))
    change = np.zeros(len(x), np.float32)
    loss = trained(chain_of(net), net.loss, Step(0.1), x.numpy(), shown, np.ones(2), change)
    assert np.isfinite(loss)
    assert np.isfinite(change).all()


@pytest.mark.parametrize("label", [-100, CLASSES])
def test_a_label_that_is_no_class_is_left_to_torch(label):
    net, x = made(True, "mean")
    shown = drawn(6, 2, [2])
    shown.labels[1, 1] = label
    change = np.zeros(len(x))
    assert trained(chain_of(net), net.loss, Step(0.1), x.numpy(), shown, np.ones(2), change) is None
    assert not change.any()


@pytest.mark.parametrize(
    ("net", "loss", "step"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), nn.CrossEntropyLoss(), Step(0.1)),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.CrossEntropyLoss(), Step(0.1)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 4)), nn.CrossEntropyLoss(), Step(0.1)),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(label_smoothing=0.1), Step(0.1)),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(weight=torch.ones(4)), Step(0.1)),
        (nn.Linear(3, 4), nn.MSELoss(), Step(0.1)),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(), Step(0.1, momentum=0.9)),
        (nn.Linear(3, 4), nn.CrossEntropyLoss(), Step(0.1, clip=1.0)),
    ],
    ids=["two-layers", "after", "before", "smoothing", "weights", "other-loss", "momentum", "clip"],
)
def test_anything_else_is_not_of_this_kind(net, loss, step):
    chain = chain_of(Net(net, loss, layout_of(net)))
    x = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    assert chain is not None
    assert not suits(chain, loss, step, x)


def test_ignored_rows_train_as_ever():
    """What this way gives back goes the general way, through the same door."""
    net, x = made(True, "mean")
    shown = drawn(7, 2, [3, 3])
    shown.labels[0, 1] = net.loss.ignore_index
    blocks = [Rows(rows, y, [np.arange(3), np.arange(3, 6)]) for rows, y in zip(shown.rows, shown.labels, strict=True)]
    found = total(net, x, blocks, sgd(0.3, batch_size=3), [1.0, 2.0])
    expected, lost = by_hand(net, x.clone(), shown, 0.3, np.array([1.0, 2.0]))
    assert np.abs(found.change.numpy() - expected).max() < 1e-12
    assert found.loss == pytest.approx(lost, rel=1e-12)
