"""What is played for the kill matrix: each scene reaches some of the persisted steps."""

from __future__ import annotations

from collections.abc import Callable

from silo.matrix.roles import NODES
from silo.matrix.stage import Stage

__all__ = ["OWNER", "SCENES", "allowed", "bounded", "farewell", "late", "study"]

OWNER = "owner"
"""Who types commands on the machine of a node."""


def _coordinator(stage: Stage, role: str = "atoll") -> str:
    """A coordinator; returns its URL. One that is started again listens where it did."""
    folder = stage.folder

    def words() -> list[str]:
        port = folder / "port"
        return ["coordinator", "start", str(folder), "-p", port.read_text().strip() if port.exists() else "0"]

    stage.begin("coordinator", role, words)
    stage.until(lambda: stage.ready("coordinator"))
    return (folder / "address").read_text().strip()


def _invited(stage: Stage, *told: str) -> dict[str, str]:
    """Tokens for ``NAME=ROLE``, by name."""
    place = stage.place / "tokens"
    place.mkdir(exist_ok=True)
    stage.begin("admin", "invite", lambda: [str(place), str(stage.folder), *told])
    stage.done("admin")
    return {text.split("=")[0]: (place / text.split("=")[0]).read_text() for text in told}


def _node(
    stage: Stage, name: str, token: str, allow: str = "ada:iris:*", role: str = "atoll",
    slow: tuple[str, float] | None = None,
) -> None:  # fmt: skip
    """A node: it joins and answers; one that has joined only answers."""
    folder, allowed = stage.node(name), ["--allow", allow] if allow else []
    data = ["--data", f"iris={stage.tables / name}.csv:kind"]

    def words() -> list[str]:
        if stage.reached(name, "node.log.joined"):
            return ["node", "run", str(folder)]
        return ["node", "join", token, "--folder", str(folder), *data, *allowed]

    stage.begin(name, role, words, slow)


def _asked(stage: Stage, script: str, url: str, token: str, role: str = "ask") -> None:
    """Ask, and wait until that has ended."""
    told = [script, str(stage.place / ("result" if role == "ask" else "refused")), url, token]
    stage.begin("driver", role, lambda: [*told, ",".join(NODES)])
    stage.done("driver")


def _opening(
    stage: Stage, *, shut: str = "", careless: str = "", slow: dict[str, tuple[str, float]] | None = None
) -> tuple[str, dict[str, str]]:
    """A coordinator and three nodes; returns its URL, and tokens by name.

    One node may allow nothing, one may not look at what it sends, and some may rest when they reach a step.
    """
    url = _coordinator(stage)
    tokens = _invited(stage, "ada=researcher", *(f"{name}=node" for name in NODES))
    for name in NODES:
        allow, role = "" if name == shut else "ada:iris:*", "careless" if name == careless else "atoll"
        _node(stage, name, tokens[name], allow, role, (slow or {}).get(name))
    return url, tokens


def _curtain(stage: Stage) -> None:
    stage.end(*NODES)
    stage.end("coordinator")


def study(stage: Stage) -> None:
    """A whole study: joining, answers told apart, large sums, what is kept, the ends of runs."""
    url, tokens = _opening(stage)
    _asked(stage, "study", url, tokens["ada"])
    _curtain(stage)


def bounded(stage: Stage) -> None:
    """One node sends more than may be added, and is left out."""
    url, tokens = _opening(stage, careless="lagoon")
    _asked(stage, "bounded", url, tokens["ada"])
    _curtain(stage)


def late(stage: Stage) -> None:
    """One node takes too long, and is left out."""
    url, tokens = _opening(stage, slow={"lagoon": ("node.task.fetched", 3.0)})
    _asked(stage, "late", url, tokens["ada"])
    stage.until(lambda: stage.reached("lagoon", "node.log.uncounted"))
    _curtain(stage)


def allowed(stage: Stage) -> None:
    """An owner allows what was asked in vain, and takes it back."""
    url, tokens = _opening(stage, shut="cove")
    folder = ["--folder", str(stage.node("cove"))]
    _asked(stage, "near", url, tokens["ada"], "ask in vain")
    _owner(stage, "node", "approve", "1", "--operations", "*", *folder)
    _asked(stage, "near", url, tokens["ada"])
    _owner(stage, "node", "revoke", "1", *folder)
    _asked(stage, "near", url, tokens["ada"], "ask in vain")
    _curtain(stage)


def _owner(stage: Stage, *words: str) -> None:
    stage.begin(OWNER, "atoll", lambda: list(words))
    stage.done(OWNER)


def farewell(stage: Stage) -> None:
    """A node leaves, and its membership is ended; a run is forgotten, somebody looks at the dashboard."""
    _coordinator(stage, "coordinator")
    _node(stage, "bay", _invited(stage, "bay=node")["bay"])
    stage.until(lambda: stage.reached("coordinator", "coordinator.node.seen"))
    stage.end("bay")
    _owner(stage, "node", "leave", "--yes", "--folder", str(stage.node("bay")))
    # a coordinator that was started again has not seen it
    stage.until(lambda: stage.died or stage.reached("coordinator", "coordinator.node.away"))
    stage.begin("admin", "govern", lambda: [str(stage.folder), "bay"])
    stage.done("admin")
    stage.until(lambda: stage.reached("coordinator", "coordinator.swept"))
    stage.end("coordinator")


SCENES: dict[str, Callable[[Stage], None]] = {
    "study": study, "bounded": bounded, "late": late, "allowed": allowed, "farewell": farewell,
}  # fmt: skip
"""By name."""
