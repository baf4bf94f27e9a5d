"""The coordinator on its port: everything that is asked over HTTPS, with real sockets, keys and disks."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from atoll import wire
from atoll.messages import Outcome
from atoll.silo import api, tokens
from atoll.silo.errors import Conflict, Malformed
from atoll.silo.home import Profile
from atoll.silo.keys import Key, verify
from atoll.silo.server import Coordinator
from atoll.silo.server.routes import ROUTES
from atoll.silo.tasks import blob_of
from atoll.trees import Tree
from silo.serving import (
    OCTETS,
    Caller,
    admin,
    join,
    joined,
    numbers,
    open_run,
    running,
    submission,
    submit,
    tls,
    upload,
)


class Silos(NamedTuple):
    """A coordinator and one member of every kind."""

    coordinator: Coordinator
    admin: Caller
    asker: Caller
    viewer: Caller
    nodes: tuple[Caller, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)

    def submission(self, number: int = 0, **changed: Any) -> api.Submission:
        return submission(self.asker, self.coordinator.folder.key.fingerprint, self.names, number, **changed)


@pytest.fixture
def silos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silos]:
    with running(tmp_path_factory.mktemp("silos") / "coordinator") as coordinator:
        by = admin(coordinator)
        asker, viewer = joined(by, "asker", "researcher"), joined(by, "viewer", "viewer")
        nodes = tuple(joined(by, f"node-{i}") for i in range(3))
        yield Silos(coordinator, by, asker, viewer, nodes)
        for caller in (by, asker, viewer, *nodes):
            caller.close()


def until(found: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def later(function: Callable[[], Any]) -> Callable[[], Any]:
    """Do something in a thread; what is returned waits for it."""
    with_it: dict[str, Any] = {}

    def run() -> None:
        try:
            with_it["value"] = function()
        except BaseException as error:
            with_it["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> Any:
        thread.join(60)
        assert not thread.is_alive()
        if "error" in with_it:
            raise with_it["error"]
        return with_it["value"]

    return wait


def waiting(silos: Silos, n: int = 1) -> None:
    """Wait until so many polls are held."""
    service = silos.coordinator._service
    until(lambda: service is not None and service.topics.waiting >= n)


# who it is


def test_anyone_may_ask_who_it_is(silos: Silos) -> None:
    about = silos.viewer.ask("GET", "/v1/about", signed={}).read(api.About)
    assert about.federation == silos.coordinator.folder.key.fingerprint
    assert about.protocol == api.PROTOCOL
    assert abs(about.time - time.time()) < 60


def test_health_and_readiness(silos: Silos) -> None:
    assert silos.viewer.ask("GET", "/healthz", signed={}).status == 200
    assert silos.viewer.ask("GET", "/readyz", signed={}).status == 200
    assert silos.viewer.ask("HEAD", "/readyz", signed={}).body == b""


def test_the_description_is_served(silos: Silos) -> None:
    answer = silos.viewer.ask("GET", "/openapi.json", signed={})
    assert set(json.loads(answer.body)["paths"]) == {route.path for route in ROUTES}


def test_every_code_is_explained(silos: Silos) -> None:
    page = silos.viewer.ask("GET", "/errors", signed={}).body.decode()
    assert '<h2 id="stale-epoch">' in page


def test_numbers_are_for_members_and_this_machine(silos: Silos) -> None:
    answer = silos.viewer.ask("GET", "/metrics", signed={})
    assert b"atoll_members 6" in answer.body
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_only_tls_1_3_is_spoken(silos: Silos) -> None:
    site = urlsplit(silos.coordinator.local_url)
    old = tls()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    connection = http.client.HTTPSConnection(site.hostname or "", site.port, context=old, timeout=10)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connection.request("GET", "/healthz")
    connection.close()


def test_the_certificate_is_the_one_that_tokens_pin(silos: Silos) -> None:
    connection = silos.viewer.connect()
    connection.connect()
    shown = connection.sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]
    assert hashlib.sha256(shown).hexdigest() == silos.coordinator.folder.fingerprint
    connection.close()


def test_nothing_is_said_about_the_server_and_nothing_is_kept_by_caches(silos: Silos) -> None:
    headers = silos.viewer.ask("GET", "/v1/about", signed={}).headers
    assert "server" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


# members


def test_a_token_is_a_membership_once(silos: Silos) -> None:
    told = api.Invite(name="once", role="viewer", hours=1.0)
    invitation = silos.admin.ask("POST", "/v1/invites", told).read(api.Invitation)
    token = tokens.read(invitation.token)
    folder = silos.coordinator.folder
    assert (token.url, token.certificate) == (silos.coordinator.url, folder.fingerprint)
    assert token.signing_key == folder.key.public
    answer = join(silos.admin, invitation.token)
    found = answer.read(api.Joined)
    key = next(m.key for m in silos.admin.ask("GET", "/v1/members").read(list[api.Member]) if m.name == "once")
    assert key.startswith("ed25519:")
    assert found.role == "viewer"
    assert join(silos.admin, invitation.token).code == "token-used"


def test_the_coordinator_proves_that_it_is_the_one_the_token_names(silos: Silos) -> None:
    invitation = silos.admin.ask("POST", "/v1/invites", api.Invite(name="proved")).read(api.Invitation)
    key = Key.make()
    found = join(silos.admin, invitation.token, key).read(api.Joined)
    assert verify(
        silos.coordinator.folder.key.public, b"atoll-joined-1" + bytes(16) + key.public + b"proved", found.proof
    )


def test_a_join_whose_answer_was_lost_may_be_repeated(silos: Silos) -> None:
    invitation = silos.admin.ask("POST", "/v1/invites", api.Invite(name="again")).read(api.Invitation)
    key = Key.make()
    first, second = join(silos.admin, invitation.token, key), join(silos.admin, invitation.token, key)
    assert first.read(api.Joined) == second.read(api.Joined)


def test_each_role_may_do_what_is_its_own(silos: Silos) -> None:
    node = silos.nodes[0]
    assert node.ask("POST", "/v1/invites", api.Invite(name="x")).code == "forbidden"
    assert silos.asker.ask("GET", "/v1/work").code == "forbidden"
    assert silos.viewer.ask("PUT", "/v1/runs/r", api.RunOpening(purpose="", data="d", nodes=("a",))).code == "forbidden"
    assert node.ask("GET", "/v1/runs").code == "forbidden"
    assert silos.asker.ask("DELETE", "/v1/members/viewer").code == "forbidden"
    assert silos.viewer.ask("GET", "/v1/runs").status == 200


def test_who_is_revoked_is_refused_at_once(silos: Silos) -> None:
    short = joined(silos.admin, "short")
    assert short.ask("GET", "/v1/work").status == 200
    poll = later(lambda: short.ask("GET", "/v1/work?wait=60"))
    waiting(silos)
    gone = silos.admin.ask("DELETE", "/v1/members/short").read(api.Member)
    assert gone.revoked is not None
    assert poll().code == "revoked"
    assert short.ask("GET", "/v1/work").code == "revoked"
    assert silos.admin.ask("DELETE", "/v1/members/nobody").code == "not-found"


# the way of a question


def test_a_question_goes_round(silos: Silos) -> None:
    for node in silos.nodes:
        hello = api.Hello(versions={"atoll": "1"}, data=(api.DataSet(name="d"),))
        assert node.ask("POST", "/v1/hello", hello).status == 200
    assert open_run(silos.asker, silos.names).read(api.Opened).exchanges == 0
    polls = [later(lambda node=node: node.ask("GET", "/v1/work?wait=60")) for node in silos.nodes]
    waiting(silos, 3)
    asked = submit(silos.asker, silos.submission()).read(api.State)
    assert asked.state == "open"
    state = later(lambda: silos.asker.twin().ask("GET", "/v1/runs/run/exchanges/0?wait=60"))
    for i, (node, poll) in enumerate(zip(silos.nodes, polls, strict=True)):
        (task,) = poll().read(api.Work).tasks
        assert (task.owner, task.run, task.number, task.position) == ("asker", "run", 0, i)
        assert blob_of(task.inline or b"") == task.task
        body = wire.encode(numbers(i, 10.0 * i, 0.5))
        path = f"/v1/answers/{task.exchange}/{i}"
        assert node.ask("POST", path, body).read(api.Ack).state == "accepted"
        assert node.ask("POST", path, body).read(api.Ack).state == "duplicate"
        assert node.ask("GET", f"/v1/work?have={task.exchange}/{i}").read(api.Work).tasks == ()
    closed = state().read(api.State)
    assert closed.state == "closed"
    outcome = wire.decode(closed.outcome, Outcome)
    assert outcome.accepted == (0, 1, 2)
    merged = wire.decode(silos.asker.ask("GET", f"/v1/blobs/{closed.merged.digest}").body, Tree)
    np.testing.assert_array_equal(merged["total"], [3.0, 30.0, 1.5])
    again = submit(silos.asker, silos.submission()).read(api.State)
    assert again == closed
    assert submit(silos.asker, silos.submission(seed=1)).code == "other-question"
    assert open_run(silos.asker, silos.names).read(api.Opened).exchanges == 1


def test_a_large_answer_is_uploaded_first_and_a_refusal_says_why(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "large")
    submit(silos.asker, silos.submission(name="large"), "large").read(api.State)
    uid = silos.nodes[0].ask("GET", "/v1/work").read(api.Work).tasks[0].exchange
    blob = upload(silos.nodes[0], wire.encode(numbers(1.0, 1.0, 1.0)), chunk=100)
    named = silos.nodes[0].ask("POST", f"/v1/answers/{uid}/0", api.Named(blob=blob), headers={"Atoll-Body": "named"})
    assert named.read(api.Ack).state == "accepted"
    told = api.Refusal(code="not-approved", reason="no")
    refused = silos.nodes[1].ask("POST", f"/v1/answers/{uid}/1", told, headers={"Atoll-Body": "refusal"})
    assert refused.read(api.Ack).state == "accepted"
    assert silos.nodes[2].ask("POST", f"/v1/answers/{uid}/2", wire.encode(numbers())).status == 200
    state = silos.asker.ask("GET", "/v1/runs/large/exchanges/0?wait=60").read(api.State)
    outcome = wire.decode(state.outcome, Outcome)
    assert outcome.accepted == (0, 2)
    assert "no" in outcome.refused[1]


def test_rounds_are_shown_with_what_they_came_to(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "told")
    for number in range(3):
        told = {number - 1: {"loss": 1.0 / number}} if number else {}
        asked = msgspec.structs.replace(silos.submission(name="told", number=number), told=told)
        assert submit(silos.asker, asked, "told").status == 200
    wrong = msgspec.structs.replace(silos.submission(name="told", number=3), told={0: {"x" * 65: 1.0}})
    assert submit(silos.asker, wrong, "told").code == "malformed"
    silos.asker.ask("POST", "/v1/runs/told/end", api.Ending(state="done", told={2: {"loss": 0.25}}))
    found = silos.viewer.ask("GET", "/v1/runs/asker/told/rounds").read(list[api.Round])
    assert [seen.metrics for seen in found] == [{"loss": 1.0}, {"loss": 0.5}, {"loss": 0.25}]
    assert (found[0].op, found[0].asked, found[0].state) == ("test", 3, "ended")
    assert silos.asker.ask("GET", "/v1/runs/asker/told/rounds?after=1").read(list[api.Round]) == found[2:]
    assert silos.nodes[0].ask("GET", "/v1/runs/asker/told/rounds").code == "forbidden"
    assert silos.viewer.ask("GET", "/v1/runs/asker/none/rounds").code == "not-found"
    assert silos.viewer.ask("GET", "/v1/runs/asker/told/rounds?after=x").code == "malformed"


def test_a_run_of_any_name_shows_its_rounds(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "exchanges")
    submit(silos.asker, silos.submission(name="exchanges"), "exchanges").read(api.State)
    (seen,) = silos.viewer.ask("GET", "/v1/runs/asker/exchanges/rounds").read(list[api.Round])
    assert seen.missing == silos.names
    silos.asker.ask("POST", "/v1/runs/exchanges/end", api.Ending(state="failed"))


def test_an_answer_is_for_nobody(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "private")
    submit(silos.asker, silos.submission(name="private"), "private")
    blob = upload(silos.nodes[0], wire.encode(numbers(4.0, 5.0, 6.0)))
    for caller in (silos.asker, silos.admin, *silos.nodes):
        assert caller.ask("GET", f"/v1/blobs/{blob.digest}").code == "not-found"


def test_runs_are_listed_kept_and_ended(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "kept")
    assert silos.asker.ask("GET", "/v1/runs/kept/state").code == "not-found"
    saved = silos.asker.ask("PUT", "/v1/runs/kept/state", b"how far").read(api.Named)
    assert silos.asker.ask("GET", "/v1/runs/kept/state").read(api.Named) == saved
    assert silos.asker.ask("GET", f"/v1/blobs/{saved.blob.digest}").body == b"how far"
    blob = upload(silos.asker, b"further" * 20_000)
    named = silos.asker.ask("PUT", "/v1/runs/kept/state", api.Named(blob=blob), headers={"Atoll-Body": "named"})
    assert named.read(api.Named).blob == blob
    assert silos.asker.ask("POST", "/v1/runs/kept/end", api.Ending(state="done", note="well")).status == 200
    (status,) = [r for r in silos.viewer.ask("GET", "/v1/runs").read(list[api.RunStatus]) if r.name == "kept"]
    assert (status.state, status.note, status.owner) == ("done", "well", "asker")


def test_many_answers_share_a_commit(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "many")
    service = silos.coordinator._service
    assert service is not None
    before = service.writer.batches, service.writer.calls

    twins = [silos.asker.twin() for _ in range(16)]

    def ask(number: int) -> int:
        return submit(twins[number % 16], silos.submission(number, name="many"), "many").status

    with ThreadPoolExecutor(16) as pool:
        for first in range(0, 64, 16):
            assert set(pool.map(ask, range(first, first + 16))) == {200}
    calls = service.writer.calls - before[1]
    assert service.writer.batches - before[0] < calls


# bytes


def test_an_upload_goes_on_where_it_was_cut(silos: Silos) -> None:
    data = np.random.default_rng(5).bytes(3_000_000)
    blob, node = blob_of(data), silos.nodes[0]
    begun = node.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size)).read(api.Uploaded)
    assert (begun.offset, begun.done) == (0, False)
    path = f"/v1/uploads/{blob.digest}"
    cut = node.connect()
    headers = {**node.signed("PATCH", path, data), **OCTETS, "Upload-Offset": "0", "Content-Length": str(len(data))}
    cut.putrequest("PATCH", path)
    for name, value in headers.items():
        cut.putheader(name, value)
    cut.endheaders()
    cut.send(data[:2_000_000])
    cut.close()

    def offset() -> int:
        told = node.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size))
        return int(told.read(api.Uploaded).offset)

    at = until(offset)
    time.sleep(0.2)
    at = offset()
    assert 0 < at <= 2_000_000
    wrong = node.ask("PATCH", path, data[at + 1 :], headers={"Upload-Offset": str(at + 1)})
    assert wrong.code == "conflict"
    assert json.loads(wrong.body)["more"] == {"offset": at}
    rest = node.ask("PATCH", path, data[at:], headers={"Upload-Offset": str(at)}).read(api.Uploaded)
    assert (rest.offset, rest.done) == (blob.size, True)
    again = node.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size)).read(api.Uploaded)
    assert again.done


def test_two_members_may_bring_the_same_bytes_at_once(silos: Silos) -> None:
    data = np.random.default_rng(6).bytes(2_500_000)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda node: upload(node, data, 700_000), silos.nodes)) == {blob_of(data)}


def test_an_empty_upload_is_done_at_once(silos: Silos) -> None:
    assert upload(silos.asker, b"").size == 0


@pytest.mark.parametrize(
    ("told", "start", "stop"), [("bytes=0-9", 0, 10), ("bytes=5-", 5, None), ("bytes=-7", -7, None)]
)
def test_a_range_of_a_blob(silos: Silos, told: str, start: int, stop: int | None) -> None:
    data = np.random.default_rng(7).bytes(300_000)
    open_run(silos.asker, silos.names, "ranges")
    blob = upload(silos.asker, data)
    named = silos.asker.ask("PUT", "/v1/runs/ranges/state", api.Named(blob=blob), headers={"Atoll-Body": "named"})
    assert named.status == 200
    whole = silos.asker.ask("GET", f"/v1/blobs/{blob.digest}")
    assert whole.body == data
    assert whole.headers["cache-control"] == "no-store"
    answer = silos.asker.ask("GET", f"/v1/blobs/{blob.digest}", headers={"Range": told})
    assert (answer.status, answer.body) == (206, data[start:stop])
    assert answer.headers["content-range"].endswith(f"/{len(data)}")
    head = silos.asker.ask("HEAD", f"/v1/blobs/{blob.digest}")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(data)))


def test_any_cache_may_keep_a_task_and_nothing_else(silos: Silos) -> None:
    open_run(silos.asker, silos.names, "cached")
    told = silos.submission(name="cached")
    submit(silos.asker, told, "cached").read(api.State)
    answer = silos.nodes[1].ask("GET", f"/v1/blobs/{told.task.digest}")
    assert answer.body == told.inline
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert silos.viewer.ask("GET", f"/v1/blobs/{told.task.digest}").code == "forbidden"


# what happens


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    while line := answer.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            event[name] = value
        elif event:
            yield event
            event = {}


def test_events_are_told_as_they_happen(silos: Silos) -> None:
    with silos.viewer.stream("/v1/events?after=0") as answer:
        assert answer.getheader("content-type") == "text/event-stream"
        stream = events(answer)
        first = next(e for e in stream if "data" in e)
        assert msgspec.json.decode(first["data"], type=api.Event).number == int(first["id"])
        joined(silos.admin, "told")
        numbers = []
        for event in stream:
            if "data" in event:
                read = msgspec.json.decode(event["data"], type=api.Event)
                numbers.append(read.number)
                if "told" in (read.who, *read.what.split()):
                    break
    assert numbers == sorted(set(numbers))


def test_an_event_stream_ends_with_its_member(silos: Silos) -> None:
    viewer = joined(silos.admin, "brief", "viewer")
    with viewer.stream("/v1/events?after=1000000") as answer:
        waiting(silos)
        silos.admin.ask("DELETE", "/v1/members/brief")
        last = [event for event in events(answer) if event.get("event") == "ended"]
    assert json.loads(last[0]["data"])["code"] == "revoked"


def test_a_login_opens_the_dashboard_once_and_ends_with_the_member(silos: Silos) -> None:
    looker = joined(silos.admin, "looker", "viewer")
    login = looker.ask("POST", "/v1/login").read(api.Login)
    assert login.url.startswith(silos.coordinator.url)
    path = urlsplit(login.url).path
    opened = looker.ask("GET", path, signed={})
    assert opened.status == 200
    assert "default-src 'none'" in opened.headers["content-security-policy"]
    told = opened.headers["set-cookie"]
    assert {"Secure", "HttpOnly", "SameSite=Strict"} <= set(told.split("; "))
    cookie = {"Cookie": told.split(";")[0]}
    assert looker.ask("GET", path, signed={}).code == "token-used"
    assert looker.ask("GET", "/v1/nodes", signed={}, headers=cookie).status == 200
    assert looker.ask("POST", "/v1/login", signed={}, headers=cookie).code == "unauthenticated"
    assert looker.ask("GET", "/", signed={}).status == 401
    for path in ("/", "/log", "/nodes/node-0"):
        page = looker.ask("GET", path, signed={}, headers=cookie)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8"), page
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert looker.ask("GET", "/runs/nobody/nothing", signed={}, headers=cookie).status == 404
    assert looker.ask("GET", "/static/live.js", signed={}).headers["content-type"].startswith("text/javascript")
    with looker.stream("/live", cookie) as answer:
        waiting(silos)
        silos.admin.ask("DELETE", "/v1/members/looker")
        assert any(event.get("event") == "ended" for event in events(answer))
    assert looker.ask("GET", "/v1/nodes", signed={}, headers=cookie).code == "unauthenticated"
    assert looker.ask("GET", "/", signed={}, headers=cookie).status == 401


def test_a_node_that_hangs_up_is_away(silos: Silos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.silo.server.presence.GRACE", 0.05)
    leaver = joined(silos.admin, "leaver")

    def state() -> str:
        return next(
            n.state for n in silos.viewer.ask("GET", "/v1/nodes").read(list[api.NodeStatus]) if n.name == "leaver"
        )

    assert state() == "never seen"
    connection = leaver.connect()
    connection.request("GET", "/v1/work?wait=60", headers=leaver.signed("GET", "/v1/work?wait=60"))
    until(lambda: state() == "here")
    connection.close()
    until(lambda: state() == "away")
    leaver.ask("GET", "/v1/work")
    assert state() == "here"
    leaver.close()


# beginnings and ends


def test_polls_are_told_to_come_back_when_it_ends(tmp_path: Path) -> None:
    with running(tmp_path / "c") as coordinator:
        by = admin(coordinator)
        node = joined(by, "a")
        poll = later(lambda: node.ask("GET", "/v1/work?wait=60"))
        service = coordinator._service
        until(lambda: service is not None and service.topics.waiting)
    answer = poll()
    assert answer.code == "unavailable"
    assert answer.headers["retry-after"] == "1"


def test_nothing_is_carried_out_twice_across_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "c") as coordinator:
        port = urlsplit(coordinator.local_url).port
        by = admin(coordinator)
        node = joined(by, "a")
        recorded = node.signed("GET", "/v1/work")
        assert node.ask("GET", "/v1/work", signed=recorded).status == 200
        assert node.ask("GET", "/v1/work", signed=recorded).code == "replayed"
        unused = node.signed("GET", "/v1/work")
        by.close()
        node.close()
    with running(tmp_path / "c", port=None) as coordinator:
        assert urlsplit(coordinator.local_url).port == port
        assert node.ask("GET", "/v1/work", signed=recorded).code == "stale-epoch"
        refused = node.ask("GET", "/v1/work", signed=unused)
        assert refused.code == "stale-epoch"
        node.signer.renew(unused, int(json.loads(refused.body).get("more", {}).get("epoch") or 0))
        assert node.ask("GET", "/v1/work").status == 200
        node.close()


def test_everything_known_is_there_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "c") as coordinator:
        by = admin(coordinator)
        nodes = tuple(joined(by, name) for name in ("a", "b"))
        asker = joined(by, "asker", "researcher")
        open_run(asker, ("a", "b"))
        told = submission(asker, coordinator.folder.key.fingerprint, ("a", "b"))
        submit(asker, told)
        uid = nodes[0].ask("GET", "/v1/work").read(api.Work).tasks[0].exchange
        nodes[0].ask("POST", f"/v1/answers/{uid}/0", wire.encode(numbers(1.0, 1.0, 1.0)))
        half = np.random.default_rng(8).bytes(1000)
        blob = blob_of(half)
        asker.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=1000))
        asker.ask("PATCH", f"/v1/uploads/{blob.digest}", half[:400], headers={"Upload-Offset": "0"})
        for caller in (by, asker, *nodes):
            caller.close()
    with running(tmp_path / "c", port=None):
        callers = [Caller(c.url, c.key, c.name) for c in (asker, *nodes)]
        assert callers[1].ask("GET", "/v1/work").read(api.Work).tasks == ()
        assert callers[2].ask("POST", f"/v1/answers/{uid}/1", wire.encode(numbers(2.0, 2.0, 2.0))).status == 200
        state = callers[0].ask("GET", "/v1/runs/run/exchanges/0?wait=60").read(api.State)
        merged = wire.decode(state.inline or b"", Tree)
        np.testing.assert_array_equal(merged["total"], [3.0, 3.0, 3.0])
        begun = callers[0].ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=1000)).read(api.Uploaded)
        assert begun.offset == 400
        for caller in callers:
            caller.close()


def test_one_coordinator_runs_per_folder(tmp_path: Path) -> None:
    with running(tmp_path / "c"), pytest.raises(Conflict, match="runs in this folder"):
        Coordinator(tmp_path / "c", port=0)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "c") as coordinator:
        port = urlsplit(coordinator.local_url).port
        with pytest.raises(Conflict, match="cannot listen"):
            Coordinator(tmp_path / "d", port=port)
    Coordinator(tmp_path / "d", port=0)._open.close()


@pytest.mark.parametrize(
    "settings",
    [{"url": "http://a"}, {"url": "https://a/b"}, {"url": "a"}, {"host": "0.0.0.0", "behind_proxy": True}],
    ids=["http", "path", "word", "proxy"],
)
def test_what_is_no_address_for_a_coordinator(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Coordinator(tmp_path / "c", port=0, **settings)


def test_behind_a_proxy_nothing_but_signatures_is_trusted(tmp_path: Path) -> None:
    with running(tmp_path / "c", behind_proxy=True, url="https://silos.example.org") as coordinator:
        by = admin(coordinator)
        assert by.url.startswith("http://127.0.0.1:")
        told = api.Invite(name="a")
        invitation = by.ask("POST", "/v1/invites", told).read(api.Invitation)
        token = tokens.read(invitation.token)
        assert (token.url, token.certificate) == ("https://silos.example.org", None)
        assert by.ask("GET", "/metrics", signed={}).code == "unauthenticated"
        assert by.ask("GET", "/metrics", signed={}, headers={"X-Forwarded-For": "127.0.0.1"}).code == "unauthenticated"
        assert by.ask("GET", "/metrics").status == 200
        login = by.ask("POST", "/v1/login").read(api.Login)
        assert login.url.startswith("https://silos.example.org/login/")
        by.close()


def test_files_of_a_coordinator_are_its_owners(tmp_path: Path) -> None:
    with running(tmp_path / "c") as coordinator:
        folder = tmp_path / "c"
        assert (folder / "address").read_text() == f"{coordinator.url}\n"
        assert folder.stat().st_mode & 0o077 == 0
        for name in ("signing.key", "tls.key", "admin/key"):
            assert (folder / name).stat().st_mode & 0o077 == 0
        assert Profile(folder / "admin").role == "admin"


def test_sigterm_ends_it_in_good_order(tmp_path: Path) -> None:
    script = (
        "import sys; from atoll.silo.server import Coordinator\n"
        "Coordinator(sys.argv[1], port=0).run(lambda c: print(c.local_url, flush=True))\nprint('ended')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        by = Caller(url, Profile(tmp_path / "c" / "admin").key, "admin")
        node = joined(by, "a")
        poll = later(lambda: node.ask("GET", "/v1/work?wait=60"))
        until(lambda: b"atoll_polls_waiting 1" in by.ask("GET", "/metrics").body)
        os.kill(process.pid, signal.SIGTERM)
        assert poll().code == "unavailable"
        assert process.stdout.read() == "ended\n"
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_the_coordinator_imports_no_framework() -> None:
    script = "import sys, atoll.silo.server; print(*(m for m in sys.modules if m.count('.') == 0))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sklearn", "pandas", "starlette", "torch", "matplotlib", "rich"} & set(found)
