"""What drivers say and ask: runs, questions, and what came of them."""

from __future__ import annotations

from functools import partial

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.errors import Malformed, NotFound
from atoll.silo.server.replies import Reply, as_json
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service
from atoll.silo.server.work import seconds

__all__ = ["end", "exchange", "forget", "listing", "open_run", "rounds", "save", "saved", "submit"]

_MOST_NODES = 10_000
_MOST_STATE = 1 << 20
_MOST_OPENING = 1 << 20


async def open_run(service: Service, request: Request) -> Reply:
    """A run begins, or goes on."""
    request.query(())
    told = await request.json(api.RunOpening, _MOST_OPENING)
    if not 0 < len(told.nodes) <= _MOST_NODES or len(set(told.nodes)) != len(told.nodes):
        raise Malformed(explain("a run has distinct nodes", got=len(told.nodes), expected=f"1 to {_MOST_NODES}"))
    owner, name = request.sender.name, request.params["name"]
    return as_json(await service.writer.call(service.broker.open_run, owner, name, told))


async def submit(service: Service, request: Request) -> Reply:
    """A question; repeated, it is the same one."""
    request.query(())
    told = await request.json(api.Submission)
    owner, run = request.sender.name, request.params["name"]
    return as_json(await service.writer.call(service.broker.submit, owner, run, told))


async def exchange(service: Service, request: Request) -> Reply:
    """How far a question is; with ``wait``, as soon as it is closed."""
    until = service.clock() + seconds(service, request.query(("wait",)).get("wait"))
    owner, run, number = request.sender.name, request.params["name"], _number(request.params["number"])
    name = await service.writer.call(service.broker.exchange_id, owner, run, number)
    with service.topics.listening(f"exchange:{name}", f"member:{owner}") as bell:
        request.hung_up_rings(bell)
        try:
            while True:
                found = await service.writer.call(service.broker.state, owner, run, number)
                left = until - service.clock()
                if found.state == "closed" or left <= 0:
                    return as_json(found)
                await service.rest(bell, left, request.sender)
        finally:
            request.hung_up_rings(None)


async def save(service: Service, request: Request) -> Reply:
    """What a driver keeps to go on from: few bytes, or the name of a blob that it uploaded."""
    request.query(())
    owner, run = request.sender.name, request.params["name"]
    kind = request.headers.get("atoll-body", "bytes")
    if kind == "named":
        kept = await service.writer.call(service.broker.save, owner, run, (await request.json(api.Named)).blob)
    elif kind == "bytes":
        request.expect_kind("application/octet-stream")
        kept = await service.writer.call(service.broker.save, owner, run, await request.body(_MOST_STATE))
    else:
        raise Malformed(explain("Atoll-Body says what is kept", got=kind[:40], expected="bytes or named"))
    return as_json(api.Named(blob=kept))


async def saved(service: Service, request: Request) -> Reply:
    """The blob of what a driver keeps; it is fetched like any other."""
    request.query(())
    run = request.params["name"]
    kept = await service.writer.call(service.broker.saved, request.sender.name, run)
    if kept is None:
        raise NotFound(explain("nothing is kept for this run", got=run))
    return as_json(api.Named(blob=kept.blob))


async def end(service: Service, request: Request) -> Reply:
    """A run is over."""
    request.query(())
    told = await request.json(api.Ending)
    owner, run = request.sender.name, request.params["name"]
    await service.writer.call(service.broker.end_run, owner, run, told.state, told.note, told.told)
    return as_json(api.Done())


async def forget(service: Service, request: Request) -> Reply:
    """A run is deleted with its sums: one's own, or as an admin anybody's."""
    query = request.query(("owner", "running"))
    by, name, running = request.sender, request.params["name"], query.get("running", "no")
    owner = query.get("owner", by.name)
    if owner != by.name:
        service.allow(by, ("admin",))
    if running not in ("yes", "no"):
        raise Malformed(explain("`running` says whether a run is given up first", got=running[:40], expected="yes, no"))
    act = partial(service.broker.forget_run, owner, name, by=by.name, running=running == "yes")
    await service.writer.call(act)
    return as_json(api.Done())


async def listing(service: Service, request: Request) -> Reply:
    """All runs; a researcher sees those of others too, but not what came of them."""
    request.query(())
    return as_json(await service.writer.call(service.broker.runs))


async def rounds(service: Service, request: Request) -> Reply:
    """The rounds of anybody's run, and what its driver says that they came to; the sums are its owner's."""
    after = request.query(("after",)).get("after")
    owner, name = request.params["owner"], request.params["name"]
    past = -1 if after is None else _number(after)
    found = await service.writer.call(service.broker.rounds, owner, name, past)
    return as_json([api.Round(**seen._asdict()) for seen in found])


def _number(told: str) -> int:
    if not (told.isascii() and told.isdigit() and len(told) < 16):
        raise Malformed(explain("exchanges are numbered from 0", got=told[:40]))
    return int(told)
