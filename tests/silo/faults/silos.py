"""A whole federation on loopback, with a network of its own for every node and for the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_iris

from atoll import Federation
from atoll.engines import close_all
from atoll.silo import api, joining
from atoll.silo.keys import server_context
from atoll.silo.node.agent import Agent
from atoll.silo.node.folder import Folder
from atoll.silo.node.join import join
from atoll.silo.node.log import verify
from atoll.silo.node.policy import Rule as Allowed
from atoll.silo.node.sources import Source
from atoll.silo.server import Coordinator
from silo.proxy import Faults, Proxy, Relay, Repeats
from silo.serving import Caller, admin, running

__all__ = ["NAMES", "Silos", "eventually", "rows", "silos", "together"]

NAMES = ("bay", "cove", "lagoon")
Network = Proxy | Relay


class Silos(NamedTuple):
    """What runs.

    Attributes
    ----------
    coordinator : Coordinator
        In a thread.
    admin : Caller
        Asks it directly, without faults.
    driver : Proxy or Relay
        The network between the driver and the coordinator.
    nodes : dict of str to (Proxy or Relay)
        The network of each node.
    folders : dict of str to Folder
        Of each node.
    home : Path
        Where the driver's login is.
    """

    coordinator: Coordinator
    admin: Caller
    driver: Network
    nodes: dict[str, Network]
    folders: dict[str, Folder]
    home: Path

    def connect(self, **settings: Any) -> Federation:
        """What a script does."""
        return Federation.connect(_url(self.driver), "iris", home=self.home, **settings)

    def states(self) -> dict[str, str]:
        """Node to whether it is here."""
        return {s.name: s.state for s in self.admin.ask("GET", "/v1/nodes").read(list[api.NodeStatus])}

    def failures(self, *what: str) -> int:
        """How often the network did something, in all."""
        return sum(network.done[w] for network in (self.driver, *self.nodes.values()) for w in what)


def rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one node: iris, shuffled, in three parts of unequal size."""
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(y))
    part = np.split(order, [40, 90])[NAMES.index(name)]
    return X[part], y[part]


def together(*names: str, **settings: Any) -> Federation:
    """The same rows without a network, the oracle."""
    return Federation.from_shards([rows(name) for name in names or NAMES], names or NAMES, **settings)


def eventually(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    quiet = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        quiet.wait(0.02)
    raise AssertionError("it did not come to that in time")


def _url(network: Network) -> str:
    return f"https://127.0.0.1:{network.port}"


def _csv(path: Path, name: str) -> Path:
    X, y = rows(name)
    lines = [",".join(map(repr, [*x.tolist(), int(c)])) for x, c in zip(X, y, strict=True)]
    path.write_text("a,b,c,d,species\n" + "\n".join(lines) + "\n")
    return path


@contextmanager
def _answering(folder: Folder) -> Iterator[Agent]:
    agent = Agent(folder, say=lambda _: None)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            agent.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name=f"node-{folder.path.name}")
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join(40)
        assert not thread.is_alive()
        assert not failed, failed


@contextmanager
def silos(
    tmp_path: Path,
    faults: Faults | Repeats = Faults(),  # noqa: B008
    *,
    seed: int = 0,
    lost_after: float = 60.0,
) -> Iterator[Silos]:
    """A coordinator and three nodes that allow everything, joined without faults; then the network begins to fail.

    Parameters
    ----------
    faults : Faults or Repeats
        Of every network.
    seed : int
        Of what is drawn; every network has one of its own.
    lost_after : float
        Of the coordinator.
    """
    with ExitStack() as stack:
        coordinator = stack.enter_context(running(tmp_path / "coordinator", lost_after=lost_after))
        by = admin(coordinator)
        stack.callback(by.close)
        port = int(coordinator.local_url.rpartition(":")[2])
        networks = {
            name: stack.enter_context(_network(coordinator, port, faults, seed + i))
            for i, name in enumerate((*NAMES, "driver"))
        }
        folders = {name: _joined(tmp_path, by, name, _url(networks[name])) for name in NAMES}
        token = by.ask("POST", "/v1/invites", api.Invite(name="ada", role="researcher")).read(api.Invitation).token
        joining.join(token, url=_url(networks["driver"]), home=tmp_path / "home")
        for folder in folders.values():
            stack.enter_context(_answering(folder))
        nodes = {name: networks[name] for name in NAMES}
        made = Silos(coordinator, by, networks["driver"], nodes, folders, tmp_path / "home")
        stack.callback(close_all)
        stack.callback(_calm, networks)
        eventually(lambda: made.states() == dict.fromkeys(NAMES, "here"))
        for network in networks.values():
            if isinstance(network, Proxy) and isinstance(faults, Faults):
                network.begin(faults)
            elif isinstance(network, Relay) and isinstance(faults, Repeats):
                network.repeats = faults
        yield made
    for folder in folders.values():
        verify(folder.log)


def _network(coordinator: Coordinator, port: int, faults: Faults | Repeats, seed: int) -> Network:
    if isinstance(faults, Faults):
        return Proxy(port, seed=seed)
    context = server_context(coordinator.folder.certificate, coordinator.folder.tls_key)
    return Relay(port, context, Repeats(share=0.0), seed)


def _joined(tmp_path: Path, by: Caller, name: str, url: str) -> Folder:
    token = by.ask("POST", "/v1/invites", api.Invite(name=name)).read(api.Invitation).token
    source = Source(file=str(_csv(tmp_path / f"{name}.csv", name)), target="species")
    allowed = Allowed("ada", operations=("*",))
    return join(url, token, {"iris": source}, folder=tmp_path / name, allow=[allowed])


def _calm(networks: Mapping[str, Network]) -> None:
    """The network is as it should be while everything ends."""
    for network in networks.values():
        if isinstance(network, Proxy):
            network.set(Faults())
        else:
            network.repeats = Repeats(share=0.0)
