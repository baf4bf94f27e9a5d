"""What the processes of the kill matrix do: what ``atoll`` does, and the script of somebody who asks."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import ssl
import time
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from atoll import Federated, Federation, wire
from atoll.algorithms import scaffold, sgd
from atoll.cli import main
from atoll.errors import NodeFailed, QuorumNotMet
from atoll.messages import Rule
from atoll.silo import api, errors
from atoll.silo.client import Client
from atoll.silo.files import write_whole
from atoll.silo.home import Profile
from atoll.silo.node import answering
from atoll.silo.node.check import Asked
from atoll.silo.server import service
from atoll.trees import Tree
from atoll.worker import Bound

__all__ = ["NODES", "ROLES", "SCRIPTS", "Sites", "rows", "table"]

for _name in (
    "atoll.catalogue", "atoll.cli.coordinator", "atoll.cli.login", "atoll.cli.node", "atoll.silo.engine",
    "atoll.silo.joining", "atoll.silo.node.agent", "atoll.silo.node.join", "atoll.silo.node.tables",
    "atoll.silo.server", "cryptography.x509", "cryptography.hazmat.backends.openssl.backend", "encodings.idna",
    "encodings.utf_8_sig", "uvicorn.lifespan.off",
):  # fmt: skip
    importlib.import_module(_name)

NODES = ("bay", "cove", "lagoon")
_COLUMNS = ("a", "b", "c", "d")
_PATIENCE = 60.0
_DEADLINE = 1.5
_QUERIES = load_iris().data[:5]
_NORM = 25.7  # of what the nodes send, one is above that


def rows(node: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a node."""
    X, y = load_iris(return_X_y=True)
    part = np.split(np.random.default_rng(3).permutation(len(y))[:72], [18, 44])[NODES.index(node)]
    return X[part], y[part]


def table(node: str, path: Path) -> None:
    """The rows of a node, as a file."""
    X, y = rows(node)
    lines = [",".join((*map(repr, x.tolist()), str(k))) for x, k in zip(X, y, strict=True)]
    path.write_text("\n".join([",".join((*_COLUMNS, "kind")), *lines]) + "\n")


Sites = Callable[..., Federation]
"""What makes a federation, from what `Federation.connect` and `Federation.from_shards` both take."""


def _study(sites: Sites) -> Tree:
    """Answers told apart, large sums and what a driver keeps, and what nodes keep."""
    near = _near(sites)
    wide = Federated(MLPClassifier((360, 360), random_state=0), rounds=2, local=sgd(lr=0.05, batch_size=16))
    wide.fit(sites(run="wide"))
    kept = Federated(MLPClassifier((4,), random_state=1), method=scaffold(), rounds=2, local=sgd(lr=0.1, batch_size=8))
    kept.fit(sites(run="kept"))
    return {**near, **_weights("wide", wide), **_weights("kept", kept)}


def _near(sites: Sites) -> Tree:
    """Answers that are told apart."""
    distances, found = Federated(KNeighborsClassifier(3)).fit(sites(run="near")).kneighbors(_QUERIES)
    return {"distances": distances, "found": found}


def _bounded(sites: Sites) -> Tree:
    """A sum without the node that sends too much."""
    net = Federated(MLPClassifier((4,), random_state=1), rounds=2, local=sgd(lr=0.1, batch_size=8))
    net.fit(sites(run="bounded", rule=Rule(quorum=0.5), max_norm=_NORM))
    return _weights("bounded", net)


def _late(sites: Sites) -> Tree:
    """Answers of those who were in time when they were first asked."""
    names: tuple[str, ...] = ()
    while not names:
        with warnings.catch_warnings(), contextlib.suppress(QuorumNotMet):  # the machine may have other things to do
            warnings.simplefilter("ignore")  # says who does not tell how many rows it has
            names = sites(rule=Rule(deadline=_DEADLINE, quorum=0.3)).names
    distances, found = Federated(KNeighborsClassifier(3)).fit(sites(run="late", nodes=names)).kneighbors(_QUERIES)
    return {"distances": distances, "found": found, "nodes": np.array(names)}


def _weights(name: str, fitted: Federated) -> Tree:
    return {f"{name}/{i}": w for i, w in enumerate([*fitted.estimator_.coefs_, *fitted.estimator_.intercepts_])}


SCRIPTS: dict[str, Callable[[Sites], Tree]] = {"study": _study, "near": _near, "bounded": _bounded, "late": _late}
"""What is asked, by name: takes what makes a federation, gives what came of it."""


def _atoll(words: list[str]) -> int:
    return main(words)


def _invite(words: list[str]) -> None:
    """Write tokens, as the admin: a folder, the coordinator's folder, and names with roles."""
    place, folder, *told = words
    client = Client(Profile(Path(folder) / "admin"), patience=_PATIENCE)
    for text in told:
        name, role = text.split("=")
        if not (Path(place) / name).exists():
            found = client.post("/v1/invites", api.Invitation, api.Invite(name=name, role=role))  # type: ignore[arg-type]
            write_whole(Path(place) / name, found.token.encode())
    client.close()


def _login(words: list[str]) -> int:
    """Log in, and wait for nodes."""
    url, token, names = words
    status = main(["login", url, token])
    client, until = Client(Profile.find(url), patience=_PATIENCE), time.monotonic() + _PATIENCE
    while not status and not set(names.split(",")) <= _offering(client):
        assert time.monotonic() < until, names
        time.sleep(0.02)
    client.close()
    return status


def _offering(client: Client) -> set[str]:
    return {status.name for status in client.get("/v1/nodes", list[api.NodeStatus]) if status.data}


def _ask(words: list[str]) -> int:
    """Log in, wait for the nodes, and ask; what came of it goes into a file."""
    script, target, *login = words
    if status := _login(login):
        return status
    write_whole(target, wire.encode(SCRIPTS[script](partial(Federation.connect, login[0], "iris", verbose=0))))
    return 0


def _ask_in_vain(words: list[str]) -> int:
    """The same, where an owner has not allowed it."""
    script, target, *login = words
    if status := _login(login):
        return status
    try:
        SCRIPTS[script](partial(Federation.connect, login[0], "iris", verbose=0))
    except NodeFailed as error:
        write_whole(target, str(error).encode())
        return 0
    return 1


def _shards(words: list[str]) -> None:
    """The same over rows that are here."""
    script, target, *names = words

    def here(nodes: tuple[str, ...] = (), **settings: object) -> Federation:
        return Federation.from_shards([rows(name) for name in names], names=names, verbose=0, **settings)

    write_whole(target, wire.encode(SCRIPTS[script](here)))


def _sleep(words: list[str]) -> None:
    time.sleep(float(words[0]))


def _careless(words: list[str]) -> int:
    """A node that does not look at how much it sends."""
    bound = answering._bound

    def loose(asked: Asked, own: Tree | None = None) -> Bound:
        x = replace(asked.x, expects=asked.x.expects._replace(max_norm=float("inf")))
        return bound(asked._replace(task=asked.task._replace(exchange=x)), own)

    answering._bound = loose
    return main(words)


def _coordinator(words: list[str]) -> int:
    """A coordinator whose upkeep comes often."""
    service._SWEEP = 0.2
    return main(words)


def _govern(words: list[str]) -> None:
    """What an admin does: open a run and forget it, look at the dashboard, end a membership."""
    folder, node = words
    client = Client(Profile(Path(folder) / "admin"), patience=_PATIENCE)
    if any(member.name == node and member.revoked is None for member in client.get("/v1/members", list[api.Member])):
        client.put("/v1/runs/dry", api.Opened, api.RunOpening(purpose="to see", data="iris", nodes=(node,)))
        client.post("/v1/runs/dry/end", api.Done, api.Ending(state="done"))
        with contextlib.suppress(errors.NotFound):  # the answer was lost
            client.delete("/v1/runs/dry", api.Done)
    while not _opened(client.post("/v1/login", api.Login).url):
        time.sleep(0.05)
    client.delete(f"/v1/members/{node}", api.Member)
    client.close()


def _opened(url: str) -> bool:
    """Whether a login opened the dashboard; where its answer was lost it has, and shows nothing."""
    open_url = urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl._create_unverified_context())).open
    try:
        with open_url(url, timeout=10) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        asked = urllib.request.Request(f"{url.partition('/login/')[0]}/", headers={"Cookie": cookie})
        with open_url(asked, timeout=10) as page:
            return page.status == 200
    except (OSError, http.client.HTTPException):
        return False


ROLES: dict[str, Callable[[list[str]], int | None]] = {
    "atoll": _atoll, "invite": _invite, "ask": _ask, "ask in vain": _ask_in_vain, "shards": _shards,
    "careless": _careless, "coordinator": _coordinator, "govern": _govern, "sleep": _sleep,
}  # fmt: skip
"""By name; what comes back is the exit status."""
