"""The pages: read-only HTML that works without scripts, from values alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from urllib.parse import quote

from atoll.markup import RING, breakable, cells, details, picture, table, text
from atoll.run import human_bytes
from atoll.silo.api import Event, NodeStatus, RunStatus
from atoll.silo.broker.types import RoundStatus
from atoll.silo.dashboard.seen import NodeSeen, Overview, RunSeen
from atoll.svg import Line, bars, lines

__all__ = ["log", "message", "node", "node_path", "overview", "run", "run_path"]

_MOST_BARS = 40
_SIGNS = {
    "here": "●", "away": "○", "never seen": "○", "revoked": "✕", "running": "●", "waiting": "◐", "done": "✓",
    "failed": "✕",
}  # fmt: skip


def overview(seen: Overview) -> str:
    """The first page: who is here, what runs, what happened last."""
    here = sum(node.state == "here" for node in seen.nodes)
    running = sum(status.state in ("running", "waiting") for status in seen.runs)
    lead = f"{here} of {_many(len(seen.nodes), 'node')} here, {_many(running, 'run')} under way."
    body = [
        f'<p class="lead">{lead}</p>',
        "<h2>Nodes</h2>", _nodes(seen.nodes, seen.now),
        "<h2>Runs</h2>", _runs(seen.runs, seen.now),
        "<h2>What happened last</h2>", _events(seen.events, "The latest events."),
        '<p><a href="/log">The whole log</a></p>',
    ]  # fmt: skip
    below = f"Federation {seen.federation}, Atoll {seen.version}"
    return _page("Coordinator", below, body)


def run(seen: RunSeen, now: float) -> str:
    """One run: how far it is, its rounds and metrics, what left each node."""
    status = seen.status
    below = f"{status.purpose} over {status.data}, asked by {status.owner}, begun {_moment(status.started)}"
    body = [f'<p class="lead">{text(_lead(seen))}</p>']
    body += [f'<p class="notes">{text(status.note)}</p>'] if status.note else []
    body += [*_waiting(seen.rounds, now), *_curves(seen.rounds)]
    body += ["<h2>What left each node</h2>", *_left(seen)]
    body += ["<h2>Rounds</h2>", _rounds(seen.rounds, now)]
    refused = [cells((r.number, node, why)) for r in seen.rounds for node, why in r.refused.items()]
    if refused:
        said = "Answers that are not in a sum, and why."
        body += ["<h2>Refused</h2>", table(said, cells(("round", "node", "reason")), refused, "words")]
    return _page(status.name, below, body, path=run_path(status))


def node(seen: NodeSeen, now: float) -> str:
    """One node: what it offers, and what left it in which run."""
    status = seen.status
    last = "never" if status.seen is None else f"{_ago(now - status.seen)}, {_moment(status.seen)}"
    body = [f'<p class="lead">{_state(status.state)}, last seen {last}.</p>']
    facts = [cells(("data", _data(status))), *(cells(pair) for pair in sorted(status.versions.items()))]
    body += [table("What it says of itself", cells(("", "")), facts, "words"), "<h2>What left it</h2>"]
    rows = [cells((f"{d.run}, {d.owner}", d.op, d.times, human_bytes(d.bytes), _said(d.op))) for d in sorted(seen.left)]
    head = cells(("run", "operation", "times", "bytes", "what leaves"))
    said = "By run and operation. Bytes are those of arrays; the node's own log has every one of them."
    body += [table(said, head, rows, "words") if rows else "<p>Nothing yet.</p>"]
    return _page(status.name, "A node and its rows, which stay there", body, path=node_path(status.name))


def log(events: Sequence[Event], older: int | None) -> str:
    """What happened, the latest first; `older` is the number before which the next page begins."""
    body = [_events(events, "Events, the latest first.")]
    body += [f'<p><a href="/log?before={older}">Older events</a></p>'] if older is not None else []
    return _page("Log", "What happened at this coordinator", body, path="/log")


def message(title: str, words: str) -> str:
    """A page that says one thing, such as that a session has ended."""
    return _page(title, "", [f'<p class="lead">{text(words)}</p>'], live=False)


def node_path(name: str) -> str:
    """Where the page of a node is."""
    return f"/nodes/{quote(name, safe='')}"


def run_path(status: RunStatus) -> str:
    """Where the page of a run is."""
    return f"/runs/{quote(status.owner, safe='')}/{quote(status.name, safe='')}"


def _page(title: str, below: str, body: Sequence[str], *, path: str = "/", live: bool = True) -> str:
    back = '<nav aria-label="pages"><a href="/">Coordinator</a> · <a href="/log">Log</a></nav>' if live else ""
    script = '<script src="/static/live.js" defer></script>' if live else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{text(title)} · Atoll</title><link rel="stylesheet" href="/static/atoll.css">'
        f'<link rel="icon" href="data:,">{script}</head><body><main id="page" data-path="{text(path)}">'
        f"<header>{RING}<div><h1>{breakable(title)}</h1>"
        f'<p class="quiet">{text(below)}</p></div></header>{back}{"".join(body)}</main>'
        '<p id="said" class="said" role="status"></p></body></html>'
    )


def _nodes(nodes: Sequence[NodeStatus], now: float) -> str:
    if not nodes:
        return "<p>Nobody has joined yet: <code>atoll coordinator invite NAME</code> prints a token.</p>"
    rows = []
    for node in nodes:
        seen = "–" if node.seen is None else f"{_ago(now - node.seen)}, {_moment(node.seen)}"
        versions = ", ".join(f"{k} {v}" for k, v in sorted(node.versions.items()))
        rows.append((node_path(node.name), node.name, _state(node.state), seen, _data(node), versions))
    head = ("node", "state", "last seen", "data", "versions")
    return _linked("Nodes, and what they offer. Rows are shown where their owner shows them.", head, rows)


def _data(node: NodeStatus) -> str:
    return ", ".join(d.name if d.rows is None else f"{d.name} ({d.rows:,} rows)" for d in node.data) or "–"


def _runs(runs: Sequence[RunStatus], now: float) -> str:
    if not runs:
        return "<p>No run yet.</p>"
    rows = [
        (run_path(r), r.name, _state(r.state), r.purpose, r.data, r.owner, r.exchanges, _ago(now - r.changed))
        for r in runs
    ]
    head = ("run", "state", "what for", "data", "asked by", "rounds", "last change")
    return _linked("Runs, the latest first.", head, rows)


def _linked(said: str, head: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    """A table whose rows begin with a link: each has where it leads, then its cells."""
    columns = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row"><a href="{text(path)}">{text(first)}</a></th>'
        f"{''.join(f'<td>{text(words)}</td>' for words in rest)}</tr>"
        for path, first, *rest in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(said)}"><table class="words"><caption>'
        f"{text(said)}</caption><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _events(events: Sequence[Event], said: str) -> str:
    rows = [cells((_moment(e.time), e.kind, e.who, f"{e.what} ({e.run})" if e.run else e.what)) for e in events]
    return table(said, cells(("when", "what", "who", "")), rows, "words") if rows else "<p>Nothing yet.</p>"


def _lead(seen: RunSeen) -> str:
    total = sum(r.bytes for r in seen.rounds)
    return (
        f"{_state(seen.status.state)}: {_many(len(seen.rounds), 'round')} over {_many(len(seen.status.nodes), 'node')}"
        f", {human_bytes(total)} from nodes."
    )


def _waiting(rounds: Sequence[RoundStatus], now: float) -> list[str]:
    """Who is waited for now."""
    found = []
    for r in rounds:
        if r.state == "open":
            done = r.accepted + len(r.refused)
            words = f"Round {r.number} ({r.op}): {done} of {r.asked} nodes after {now - r.submitted:.1f} s"
            left = "" if r.deadline is None else f", {max(r.deadline - now, 0):.0f} s left"
            found.append(
                f'<p><label>{text(words)} <progress max="{r.asked}" value="{done}"></progress></label>'
                f'<br><span class="quiet">still missing: {text(", ".join(r.missing) or "nobody")}{left}</span></p>'
            )
    return found


def _curves(rounds: Sequence[RoundStatus]) -> list[str]:
    drawn = []
    for name in _metrics(rounds):
        told = [(r.number, r.metrics[name]) for r in rounds if name in r.metrics]
        title = f"{name.replace('_', ' ').capitalize()} by round"
        line = Line(name, [n for n, _ in told], [v for _, v in told])
        drawn.append(picture(lines([line], title=title, x_label="round")) if len(told) > 1 else "")
    return ["<h2>Metrics</h2>", *drawn] if any(drawn) else []


def _metrics(rounds: Sequence[RoundStatus]) -> list[str]:
    return list(dict.fromkeys(name for r in rounds for name in r.metrics))


def _left(seen: RunSeen) -> list[str]:
    """What left each node: a picture, and a table of nodes and operations with their words."""
    if not seen.left:
        return ["<p>Nothing yet.</p>"]
    totals: Counter[str] = Counter(dict.fromkeys(seen.status.nodes, 0))
    for d in seen.left:
        totals[d.node] += d.bytes
    rows = [cells((d.node, d.op, d.times, human_bytes(d.bytes), _said(d.op))) for d in sorted(seen.left)]
    head = cells(("node", "operation", "times", "bytes", "what leaves"))
    shown = table("Every operation, by node. Bytes are those of arrays.", head, rows, "words")
    if len(totals) > _MOST_BARS:
        return [shown]
    drawn = bars(list(totals), list(totals.values()), title="Bytes that left each node", x_label="bytes of arrays")
    return [picture(drawn), details(shown, "In words, by operation")]


def _rounds(rounds: Sequence[RoundStatus], now: float) -> str:
    if not rounds:
        return "<p>No round yet.</p>"
    names = _metrics(rounds)
    rows = [
        cells(
            (
                r.number, r.op, f"{r.accepted} of {r.asked}" + ("" if r.state == "closed" else f", {r.state}"),
                human_bytes(r.bytes), f"{(now if r.closed is None else r.closed) - r.submitted:.2f}",
                *(f"{r.metrics[name]:.6g}" if name in r.metrics else "–" for name in names),
            )
        )
        for r in reversed(rounds)
    ]  # fmt: skip
    head = cells(("round", "operation", "nodes", "from nodes", "seconds", *(n.replace("_", " ") for n in names)))
    return table("Rounds, the latest first.", head, rows)


def _said(op: str) -> str:
    return _words().get(op, "an operation of the nodes' own")


@lru_cache(maxsize=1)
def _words() -> dict[str, str]:
    """What each operation discloses; a file, so that the coordinator need not load the operations themselves."""
    found: dict[str, str] = json.loads(files("atoll.silo.dashboard").joinpath("operations.json").read_text("utf-8"))
    return found


def _state(word: str) -> str:
    """A sign and the word itself, which stay together."""
    return f"{_SIGNS[word]}\xa0{word}"


def _many(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ago(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name} ago"
    return "now" if seconds < 2 else f"{seconds:.0f} s ago"
