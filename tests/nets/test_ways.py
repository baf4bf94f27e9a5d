"""The fast ways of local training against descent as it is written, node by node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atoll.algorithms import Local, optimizer, sgd
from atoll.nets import implicit, stacked
from atoll.nets.flat import layout_of
from atoll.nets.losses import Loss
from atoll.nets.parts import Net, Rows, Sums, piece
from atoll.nets.ways import together

WAYS = {"implicit": implicit, "stacked": stacked}
EQUAL, UNEQUAL = [8] * 4, [3, 8, 21, 1, 9, 30]
STEPS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov, decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    "decay": {"weight_decay": 0.1},
    "clipped": {"clip": 0.3},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def net_of(module: nn.Module, loss: Any = None, dtype: torch.dtype = torch.float64) -> tuple[Net, torch.Tensor]:
    module = module.to(dtype)
    loss = nn.CrossEntropyLoss() if loss is None else loss
    loss = loss.to(dtype) if isinstance(loss, nn.Module) else loss
    return Net(module, loss, layout_of(module)), torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def chain() -> nn.Sequential:
    inner = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Dropout(0))
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.ReLU(inplace=True), inner, nn.Linear(16, 5, bias=False))


def cut(n: int, size: int, epochs: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(epochs)]
    return [order[i : i + size] for order in orders for i in range(0, n, size)]


def nodes(sizes: Sequence[int], shape: tuple[int, ...] = (5, 6), epochs: int = 1, like: Any = None) -> list[Rows]:
    """Nodes with class numbers as targets; `like` makes other targets of n."""
    dtype = torch.float64
    made = []
    for i, n in enumerate(sizes):
        target = torch.randint(0, 5, (n,)) if like is None else like(n)
        made.append(Rows(torch.randn(n, *shape, dtype=dtype), target, cut(n, 4, epochs, i)))
    return made


def as_written(
    net: Net, x: torch.Tensor, blocks: Sequence[Rows], local: Local, weights: Sequence[float], mu: float = 0.0,
    h: Sequence[torch.Tensor] | None = None,
) -> Sums:  # fmt: skip
    """Descent, one node after the other, with autograd and nothing clever."""
    change, total, loss = torch.zeros_like(x), 0.0, Loss(net.loss)
    moving = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in net.module.parameters()])
    for i, (rows, weight) in enumerate(zip(blocks, weights, strict=True)):
        w, v, losses = x.clone(), torch.zeros_like(x), []
        for b in rows.batches:
            w = w.detach().requires_grad_()
            own = {part.name: piece(w, part) for part in net.layout}

            def call(*args: Any, own: Any = own, **kw: Any) -> Any:
                return torch.func.functional_call(net.module, own, args, kw)

            found = loss(call, _some(rows.inputs, b), rows.target[b])
            g = torch.autograd.grad(found, w)[0]
            w = w.detach()
            if local.clip is not None and g.norm() > local.clip:
                g = g * (local.clip / g.norm())
            g = g + local.weight_decay * w + mu * (w - x) + (0 if h is None else h[i])
            v = local.momentum * v + g
            ahead = g + local.momentum * v if local.nesterov else v
            w = torch.where(moving, w - local.lr * ahead, w)
            losses.append(float(found.detach()))
        change += weight * (w.detach() - x)
        total += weight * float(np.mean(losses)) if losses else 0.0
    return Sums(change, total, float(sum(weights)))


def _some(inputs: Any, b: np.ndarray) -> Any:
    if isinstance(inputs, dict):
        return {name: a[b] for name, a in inputs.items()}
    return tuple(a[b] for a in inputs) if isinstance(inputs, tuple) else inputs[b]


def assert_same(found: Sums | None, expected: Sums, rtol: float = 1e-12) -> None:
    assert found is not None
    away = float((found.change - expected.change).norm() / expected.change.norm())
    assert away < rtol
    assert found.loss == pytest.approx(expected.loss, rel=rtol)
    assert found.weight == expected.weight


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize(("sizes", "epochs"), [(EQUAL, 1), (UNEQUAL, 3)], ids=["equal", "unequal"])
def test_steps(way: str, steps: str, mu: float, sizes: list[int], epochs: int) -> None:
    (net, x), blocks, local = net_of(chain()), nodes(sizes, epochs=epochs), sgd(0.3, **STEPS[steps])
    weights = [float(i + 1) for i in range(len(sizes))]
    found = WAYS[way].total(net, x, blocks, local, weights, mu=mu)
    assert_same(found, as_written(net, x, blocks, local, weights, mu))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("grown", [True, False])
@pytest.mark.parametrize("steps", STEPS)
def test_layers_formed_or_not(monkeypatch: pytest.MonkeyPatch, known: bool, grown: bool, steps: str) -> None:
    monkeypatch.setattr(implicit, "_known_pays", lambda *a: known)
    monkeypatch.setattr(implicit, "_grown_pays", lambda *a: grown)
    (net, x), blocks, local = net_of(chain()), nodes(UNEQUAL, epochs=2), sgd(0.3, **STEPS[steps])
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = implicit.total(net, x, blocks, local, weights, mu=0.2)
    assert_same(found, as_written(net, x, blocks, local, weights, 0.2))


MODULES = {
    "linear": lambda: nn.Sequential(nn.Linear(12, 5)),
    "a layer alone": lambda: nn.Linear(12, 5),
    "mlp": lambda: nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5)),
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("way", "module"), [
    *itertools.product(["implicit"], ["linear", "a layer alone", "mlp"]), *itertools.product(["stacked"], MODULES),
])  # fmt: skip
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"])
def test_twenty_rounds(way: str, module: str, dtype: torch.dtype, rtol: float) -> None:
    net, x = net_of(MODULES[module](), dtype=dtype)
    blocks = [rows._replace(inputs=rows.inputs.to(dtype)) for rows in nodes(UNEQUAL, (12,))]
    local, weights, here = sgd(0.1), [float(n) for n in UNEQUAL], x
    for _ in range(20):
        found = WAYS[way].total(net, here, blocks, local, weights)
        assert found is not None
        here = here + found.change / found.weight
        x = x + as_written(net, x, blocks, local, weights).change / sum(weights)
    assert float((here - x).norm() / x.norm()) < rtol


def floats(*shape: int) -> Any:
    return lambda n: torch.randn(n, *shape, dtype=torch.float64)


def shares(n: int) -> torch.Tensor:
    return torch.softmax(torch.randn(n, 5, dtype=torch.float64), 1)


def truths(n: int) -> torch.Tensor:
    return torch.randint(0, 2, (n, 5)).double()


def some_unknown(n: int) -> torch.Tensor:
    target = torch.randint(0, 5, (n,))
    target[1::3] = -100
    return target


CLASSES = torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0])
LOSSES = {
    "classes": (nn.CrossEntropyLoss(), None, ()),
    "classes, sum": (nn.CrossEntropyLoss(reduction="sum"), None, ()),
    "classes weighted": (nn.CrossEntropyLoss(weight=CLASSES), None, ()),
    "classes smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), None, ()),
    "classes weighted, smoothed": (nn.CrossEntropyLoss(weight=CLASSES, label_smoothing=0.1), None, ()),
    "classes, some unknown": (nn.CrossEntropyLoss(), some_unknown, ()),
    "classes weighted, some unknown": (nn.CrossEntropyLoss(weight=CLASSES), some_unknown, ()),
    "shares": (nn.CrossEntropyLoss(weight=CLASSES), shares, ()),
    "log": (nn.NLLLoss(weight=CLASSES), None, (nn.LogSoftmax(dim=1),)),
    "squares": (nn.MSELoss(), floats(5), ()),
    "squares, sum": (nn.MSELoss(reduction="sum"), floats(5), ()),
    "column": (nn.MSELoss(), floats(), (nn.Linear(5, 1),)),
    "absolute": (nn.L1Loss(), floats(5), ()),
    "huber": (nn.HuberLoss(delta=0.5), floats(5), ()),
    "smooth": (nn.SmoothL1Loss(), floats(5), ()),
    "binary": (nn.BCEWithLogitsLoss(pos_weight=CLASSES), truths, ()),
    "binary, probabilities": (nn.BCELoss(), truths, (nn.Sigmoid(),)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(way: str, loss: str) -> None:
    made, like, last = LOSSES[loss]
    net, x = net_of(nn.Sequential(nn.Linear(12, 9), nn.SiLU(), nn.Linear(9, 5), *last), made)
    blocks = nodes([6, 7, 4, 10], (12,), 2, like)
    if like is some_unknown:
        blocks = [rows._replace(batches=[np.arange(i, len(rows.target)) for i in (0, 2, 3)]) for rows in blocks]
    local = sgd(0.02)
    assert_same(WAYS[way].total(net, x, blocks, local, [1.0] * 4), as_written(net, x, blocks, local, [1.0] * 4))


@pytest.mark.parametrize("way", WAYS)
def test_a_row_may_be_shown_twice_in_a_step(way: str) -> None:
    net, x = net_of(nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5)))
    blocks = [rows._replace(batches=[np.array([1, 1, 2]), np.array([2, 0, 2, 2])]) for rows in nodes([4, 5], (12,))]
    for local in (sgd(0.2), sgd(0.2, clip=0.1), sgd(0.2, momentum=0.5)):
        assert_same(WAYS[way].total(net, x, blocks, local, [1.0, 2.0]), as_written(net, x, blocks, local, [1.0, 2.0]))


@pytest.mark.parametrize("way", WAYS)
def test_nodes_in_many_groups(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (net, x), blocks, weights = net_of(chain()), nodes(UNEQUAL), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    monkeypatch.setattr(implicit, "_NUMBERS", 1)
    monkeypatch.setattr(stacked, "_NUMBERS", {"cpu": 1})
    assert_same(WAYS[way].total(net, x, blocks, sgd(0.3), weights), as_written(net, x, blocks, sgd(0.3), weights))


@pytest.mark.parametrize("way", WAYS)
def test_nodes_without_steps_only_count(way: str) -> None:
    (net, x), blocks = net_of(chain()), nodes([8, 5, 8])
    blocks[1] = blocks[1]._replace(batches=[])
    found = WAYS[way].total(net, x, blocks, sgd(0.3), [1.0, 5.0, 2.0])
    rest = as_written(net, x, [blocks[0], blocks[2]], sgd(0.3), [1.0, 2.0])
    assert_same(found, rest._replace(weight=8.0))
    nothing = WAYS[way].total(net, x, blocks[1:2], sgd(0.3), [5.0])
    assert nothing is not None
    assert (float(nothing.change.norm()), nothing.loss, nothing.weight) == (0.0, 0.0, 5.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_rows_may_be_arrays_of_some_nodes(way: str, sizes: list[int]) -> None:
    (net, x), blocks, weights = net_of(chain()), nodes(sizes), [float(n) for n in sizes]
    expected = WAYS[way].total(net, x, blocks, sgd(0.3), weights)
    assert expected is not None
    as_arrays = [rows._replace(inputs=rows.inputs.numpy(), target=rows.target.numpy()) for rows in blocks]
    for rows in as_arrays:
        rows.inputs.flags.writeable = False  # as in shared memory
    for given in (as_arrays, [*as_arrays[:2], *blocks[2:]]):
        assert_same(WAYS[way].total(net, x, given, sgd(0.3), weights), expected, 1e-15)


@pytest.mark.parametrize(("widths", "way", "n", "expected"), [
    ((784, 62), "implicit", 100, 50), ((784, 200, 62), "implicit", 100, 25), ((784, 62), "implicit", 1000, 64),
    ((784, 62), "implicit", 1, 1), ((784, 62), "sequential", 100, 4), ((784, 62), "sequential", 10, 3),
], ids=str)  # fmt: skip
def test_blocks_are_large_where_nodes_have_little_to_do(
    widths: tuple[int, ...], way: str, n: int, expected: int
) -> None:
    module = nn.Sequential(*[nn.Linear(*pair) for pair in itertools.pairwise(widths)])
    net = Net(module, nn.CrossEntropyLoss(), layout_of(module))
    assert together(way, net, sgd(0.1, batch_size=10), 20, n) == expected


def test_drifts_of_single_nodes() -> None:
    (net, x), blocks, weights = net_of(chain()), nodes(UNEQUAL), [1.0] * 6
    h = [torch.randn_like(x) / 10 for _ in blocks]
    for steps in STEPS.values():
        found = stacked.total(net, x, blocks, sgd(0.3, **steps), weights, mu=0.2, h=h)
        assert_same(found, as_written(net, x, blocks, sgd(0.3, **steps), weights, 0.2, h))


class Two(nn.Module):
    """Two inputs, a parameter that does not move, and statistics of the batch, which padding would change."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)
        self.right.weight.requires_grad_(False)
        self.register_buffer("shift", torch.ones(4))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.left(a) + self.right(b)) + self.shift
        return out


@pytest.mark.parametrize("named", [False, True], ids=["by position", "by name"])
def test_any_module_and_any_loss_stacked(named: bool) -> None:
    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (outputs.sum(1) - target).abs().max() + outputs.var()

    net, x = net_of(Two(), loss)
    blocks = []
    for i, n in enumerate([5, 8, 7, 11, 4]):
        a, b = torch.randn(n, 3, dtype=x.dtype), torch.randn(n, 2, dtype=x.dtype)
        inputs: Any = {"b": b, "a": a} if named else (a, b)
        batches = [rows for rows in cut(n, 4, 2, i) if len(rows) > 1]
        blocks.append(Rows(inputs, torch.randn(n, dtype=x.dtype), batches))
    local, weights = sgd(0.05, momentum=0.5), [1.0, 2.0, 3.0, 4.0, 5.0]
    assert_same(stacked.total(net, x, blocks, local, weights), as_written(net, x, blocks, local, weights), 1e-11)
    assert implicit.total(net, x, blocks, local, weights) is None


class Counting(nn.Module):
    """Counts its calls in a buffer, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.layer = nn.Linear(30, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls.add_(1) if self.in_place else self.calls + 1
        out: torch.Tensor = self.layer(x.flatten(1))
        return out


class Branching(nn.Module):
    """Looks at its numbers to decide what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(30, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x.flatten(1))
        return out if out.sum() > 0 else -out


class Noisy(nn.Module):
    """Draws at random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(30, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x.flatten(1))
        return out + torch.randn_like(out)


def tied() -> nn.Module:
    first, second = nn.Linear(30, 30), nn.Linear(30, 30)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), second)


def hooked() -> nn.Module:
    module = chain()
    module[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


def frozen() -> nn.Module:
    module = chain()
    module[1].bias.requires_grad_(False)
    return module


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 5), nn.Dropout(0.1)),
    lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(30), nn.Linear(30, 5)),
    lambda: Counting(True), lambda: Counting(False), Branching, Noisy,
], ids=["dropout", "running statistics", "counting in place", "counting", "branching", "noisy"])  # fmt: skip
def test_modules_for_neither_way(make: Any) -> None:
    net, x = net_of(make())
    net.module.eval()
    before = [buffer.clone() for buffer in net.module.buffers()]
    for way in WAYS.values():
        assert way.total(net, x, nodes(EQUAL), sgd(0.1), [1.0] * 4) is None
    assert all(torch.equal(a, b) for a, b in zip(before, net.module.buffers(), strict=True))
    assert not implicit.pays(net, sgd(0.1), 8)


@pytest.mark.parametrize("make", [
    tied, hooked, frozen, lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(30), nn.Linear(30, 5)),
], ids=["tied", "hooked", "frozen", "norm"])  # fmt: skip
def test_modules_that_are_no_chain_are_stacked(make: Any) -> None:
    (net, x), blocks = net_of(make()), nodes(UNEQUAL)
    assert implicit.total(net, x, blocks, sgd(0.1), [1.0] * 6) is None
    assert_same(stacked.total(net, x, blocks, sgd(0.1), [1.0] * 6), as_written(net, x, blocks, sgd(0.1), [1.0] * 6))


@pytest.mark.parametrize(
    "local", [optimizer("Adam"), sgd(amp=True), sgd(lambda step: 0.1)], ids=["Adam", "amp", "rate"]
)
def test_steps_for_neither_way(local: Local) -> None:
    net, x = net_of(chain())
    for way in WAYS.values():
        assert way.total(net, x, nodes(EQUAL), local, [1.0] * 4) is None


@pytest.mark.parametrize("loss", [
    nn.BCELoss(weight=torch.ones(5)), nn.KLDivLoss(reduction="batchmean"), lambda outputs, target: outputs.mean(),
], ids=["rows weighted", "another", "a function"])  # fmt: skip
def test_losses_that_do_not_split_are_not_implicit(loss: Any) -> None:
    net, x = net_of(chain(), loss)
    assert implicit.total(net, x, nodes(EQUAL, like=truths), sgd(0.1), [1.0] * 4) is None


def test_outputs_that_do_not_fit_the_target_are_not_implicit() -> None:
    net, x = net_of(chain(), nn.MSELoss())
    assert implicit.total(net, x, nodes(EQUAL, like=floats(1)), sgd(0.1), [1.0] * 4) is None
    assert implicit.total(net, x, nodes(EQUAL, (5, 5)), sgd(0.1), [1.0] * 4) is None
    assert implicit.total(net, x, [nodes([4])[0]._replace(inputs=torch.zeros(4, 30))], sgd(0.1), [1.0]) is None


@pytest.mark.parametrize(("widths", "n_rows", "batch", "expected"), [
    ((784, 62), 20, 10, True), ((784, 200, 62), 20, 10, True), ((64, 10), 10_000, 32, True),
    ((4000, 4000, 10), 20, 10, True), ((4000, 4000, 10), 20_000, 32, False),
], ids=str)  # fmt: skip
def test_it_pays_where_rows_are_few_or_layers_small(
    widths: tuple[int, ...], n_rows: int, batch: int, expected: bool
) -> None:
    with torch.device("meta"):
        module = nn.Sequential(*[nn.Linear(*pair) for pair in itertools.pairwise(widths)])
    net = Net(module, nn.CrossEntropyLoss(), layout_of(module))
    assert implicit.pays(net, sgd(0.1, batch_size=batch), n_rows) is expected
