"""A coordinator on a port of its own, and callers who sign what they send, byte by byte if need be."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np

from atoll import wire
from atoll.messages import DEFAULT_RULE, Exchange, Rule
from atoll.silo import api, tokens
from atoll.silo.errors import SiloError
from atoll.silo.home import Profile
from atoll.silo.keys import Key
from atoll.silo.server import Coordinator
from atoll.silo.server.details import errors_of
from atoll.silo.server.routes import find
from atoll.silo.signing import Signer
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.specs import Spec
from atoll.trees import Leaf, Tree, TreeSpec

__all__ = [
    "EXPECTS",
    "JSON",
    "OCTETS",
    "Answer",
    "Caller",
    "admin",
    "assert_described",
    "join",
    "joined",
    "numbers",
    "open_run",
    "running",
    "submission",
    "submit",
    "tls",
    "upload",
]

JSON = {"Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, kind: Any) -> Any:
        assert self.status < 300, self.body
        return msgspec.json.decode(self.body, type=kind)

    @property
    def code(self) -> str:
        """The code of a problem, which must be one to the letter."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = msgspec.json.decode(self.body)
        assert problem["status"] == self.status
        assert problem["type"] == f"/errors#{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        assert problem["hint"]
        return str(problem["code"])


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_callers: list[Caller] = []


class Caller:
    """Somebody with a key, over one connection that is opened again when it was closed."""

    def __init__(self, url: str, key: Key, name: str = "") -> None:
        self.url, self.key, self.name = url, key, name
        self.signer = Signer(key)
        self._connection: http.client.HTTPConnection | None = None
        _callers.append(self)

    def connect(self) -> http.client.HTTPConnection:
        site = urlsplit(self.url)
        if site.scheme == "http":
            return http.client.HTTPConnection(site.hostname or "", site.port, timeout=30)
        return http.client.HTTPSConnection(site.hostname or "", site.port, timeout=30, context=tls())

    def twin(self) -> Caller:
        """The same, over another connection."""
        other = Caller(self.url, self.key, self.name)
        other.signer = self.signer
        return other

    def signed(self, method: str, target: str, body: bytes | None = None) -> dict[str, str]:
        return self.signer.headers(method, target, None if body is None else hashlib.sha256(body).digest())

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | msgspec.Struct | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        signed: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, signed unless `signed` brings other headers for that."""
        more: dict[str, str] = {}
        if isinstance(body, msgspec.Struct):
            body, more = msgspec.json.encode(body), dict(JSON)
        elif body is not None:
            more = dict(OCTETS)
        own = self.signed(method, target, body) if signed is None else signed
        return self.send(method, target, body, {**more, **own, **(headers or {})})

    def send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            self._connection = self.connect()
        try:
            self._connection.request(method, target, body, dict(headers))
            with self._connection.getresponse() as response:
                answer = Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        assert_described(method, target, answer)
        return answer

    @contextmanager
    def stream(self, target: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """An answer that does not end, over a connection of its own."""
        connection = self.connect()
        try:
            connection.request("GET", target, headers=dict(self.signed("GET", target) if headers is None else headers))
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def assert_described(method: str, target: str, answer: Answer) -> None:
    """What is refused is refused by a code that the description of the path has; a mistake (500) has none."""
    if answer.status < 400 or answer.status == 500 or answer.headers["content-type"] != "application/problem+json":
        return
    try:
        route, _ = find(method, target.partition("?")[0])
    except SiloError:
        return
    if answer.body:  # there is none for HEAD
        code = msgspec.json.decode(answer.body)["code"]
        assert code in errors_of(route).get(str(answer.status), ()), f"{method} {route.path} may not say {code}"


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Coordinator]:
    """A coordinator in a thread; the port is any free one."""
    coordinator = Coordinator(folder, **{"port": 0, **settings})
    failed: list[BaseException] = []

    def run() -> None:
        try:
            coordinator.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert coordinator.wait(30), failed
        yield coordinator
    finally:
        coordinator.stop()
        thread.join(30)
        for caller in list(_callers):
            if caller.url == coordinator.local_url:
                caller.close()
                _callers.remove(caller)
        assert not thread.is_alive()
        assert not failed, failed


def admin(coordinator: Coordinator) -> Caller:
    return Caller(coordinator.local_url, Profile(coordinator.folder.path / "admin").key, "admin")


def join(by: Caller, token: str, key: Key | None = None) -> Answer:
    """Join by a token."""
    newcomer = Caller(by.url, key or Key.make())
    told = api.Join(token=token, key=newcomer.key.public, version="1", protocol=api.PROTOCOL, nonce=bytes(16))
    try:
        return newcomer.ask("POST", "/v1/join", told)
    finally:
        newcomer.close()


def joined(by: Caller, name: str, role: api.Role = "node") -> Caller:
    """A new member, invited by an admin."""
    invitation = by.ask("POST", "/v1/invites", api.Invite(name=name, role=role)).read(api.Invitation)
    assert tokens.read(invitation.token).name == name
    key = Key.make()
    assert join(by, invitation.token, key).read(api.Joined).name == name
    return Caller(by.url, key, name)


EXPECTS = TreeSpec({"total": Leaf("<f8", (3,)), "weight": Leaf("<f8", ())}, 100.0)


def numbers(*total: float, weight: float = 1.0) -> Tree:
    """An answer that fits."""
    return {"total": np.array(total or (1.0, 2.0, 3.0)), "weight": np.array(weight)}


def open_run(by: Caller, nodes: tuple[str, ...], name: str = "run", data: str = "d") -> Answer:
    return by.ask("PUT", f"/v1/runs/{name}", api.RunOpening(purpose="test", data=data, nodes=nodes))


def submission(
    by: Caller, federation: str, nodes: tuple[str, ...], number: int = 0, *, name: str = "run", seed: int = 0,
    rule: Rule = DEFAULT_RULE, **changed: Any,
) -> api.Submission:  # fmt: skip
    """A question to all of some nodes: the sum of three numbers, and a weight."""
    exchange = Exchange(
        run=name, number=number, step=0, seed=seed, op="test", settings={}, payload={"w": np.arange(3.0)}, each={},
        view=(), cohort=tuple(range(len(nodes))), base=(-1,) * len(nodes), combine=Spec("Sum", {}), transform=(),
        plan=Spec("star", {}), rule=rule, expects=EXPECTS,
    )  # fmt: skip
    now = time.time()
    told = {
        "federation": federation, "requester": by.name, "key": by.key.fingerprint, "purpose": "test", "data": "d",
        "nodes": nodes, "starts": (), "each": {}, "exchange": exchange, "issued": now, "expires": now + 600,
    }  # fmt: skip
    task = Task(**{**told, "federation": changed.pop("of", federation), **changed})
    data = wire.encode(task)
    blob = blob_of(data)
    signature = by.key.sign(signed_text(blob))
    return api.Submission(number=number, digest=exchange.digest, task=blob, signature=signature, inline=data)


def submit(by: Caller, told: api.Submission, name: str = "run") -> Answer:
    return by.ask("POST", f"/v1/runs/{name}/exchanges", told)


def upload(by: Caller, data: bytes, chunk: int | None = None) -> Blob:
    """Bring bytes, in chunks."""
    blob = blob_of(data)
    stands = by.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size)).read(api.Uploaded)
    while not stands.done:
        at = stands.offset
        piece = data[at : at + (chunk or len(data))]
        answer = by.ask("PATCH", f"/v1/uploads/{blob.digest}", piece, headers={"Upload-Offset": str(at)})
        stands = answer.read(api.Uploaded)
    return blob
