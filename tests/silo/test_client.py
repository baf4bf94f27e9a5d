"""Requests that are pinned, signed, repeated until answered, and resumed where they were cut."""

from __future__ import annotations

import gc
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from atoll.silo import api, client, errors, joining
from atoll.silo.client import Client, Closed
from atoll.silo.connection import _context
from atoll.silo.home import Profile
from atoll.silo.incoming import Incoming
from atoll.silo.keys import Key
from atoll.silo.tasks import Blob, blob_of
from silo.serving import admin, joined, running

BYTES = np.random.default_rng(3).bytes(6_000_000)


class Me(NamedTuple):
    url: str
    certificate: str | None
    key: Key


@pytest.fixture
def coordinator(tmp_path_factory):
    with running(tmp_path_factory.mktemp("coordinator") / "c") as made:
        yield made


@pytest.fixture
def ours(coordinator):
    profile = Profile(coordinator.folder.path / "admin")
    made = Client(Me(coordinator.local_url, profile.certificate, profile.key), patience=5.0)
    yield made
    made.close()
    gc.collect()


class Heard(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def scripted(answer: Callable[[int, Heard], bytes | None]):
    """A server of plain HTTP: says what it is told to, request by request, hangs up after None or a cut answer."""
    heard, listening = [], socket.create_server(("127.0.0.1", 0))

    def serve(line):
        with line, line.makefile("rb") as reader:
            while first := reader.readline():
                method, path, _ = first.decode().split()
                headers = {}
                while (field := reader.readline().decode().strip()) != "":
                    name, _, value = field.partition(": ")
                    headers[name.lower()] = value
                body = reader.read(int(headers.get("content-length", 0)))
                heard.append(Heard(method, path, headers, body))
                said = answer(len(heard) - 1, heard[-1])
                if said is not None:
                    line.sendall(said)
                if said is None or b"X-Cut" in said:
                    return

    def accept():
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(line,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    made = Client(Me(f"http://127.0.0.1:{listening.getsockname()[1]}", None, Key.make()), patience=5.0)
    try:
        yield made, heard
    finally:
        made.close()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def said(body: object = None, status: str = "200 OK", kind: str = "application/json", *, cut: int = 0, **headers: str):
    """An HTTP answer; with `cut`, so many bytes are announced and do not come."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data) + cut}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()] + (["X-Cut: 1"] if cut else [])
    return "\r\n".join([*lines, "", ""]).encode() + data


def problem(error: errors.SiloError, **headers: str) -> bytes:
    return said(errors.problem(error), f"{error.status} No", "application/problem+json", **headers)


DONE = said(api.Done())


def test_who_a_coordinator_is_is_told_to_anyone(coordinator):
    found = joining.about(coordinator.local_url, coordinator.folder.fingerprint)
    assert found.federation == coordinator.folder.key.fingerprint


def test_another_certificate_is_not_spoken_to(coordinator):
    mine = Client(Me(coordinator.local_url, "0" * 64, Key.make()), patience=5.0)
    began = time.monotonic()
    with pytest.raises(errors.WrongCertificate, match=r"(?s)got: +[0-9a-f]{64}.*expected: +0000.*folder was made anew"):
        mine.get("/v1/about", api.About)
    assert time.monotonic() - began < 3, "there is nothing to be patient about"
    unpinned = Client(Me(coordinator.local_url, None, Key.make()), patience=5.0)
    with pytest.raises(errors.WrongCertificate, match="does not trust the certificate"):
        unpinned.get("/v1/about", api.About)


def test_somebody_unknown_is_refused_by_code(coordinator):
    mine = Client(Me(coordinator.local_url, coordinator.folder.fingerprint, Key.make()))
    with pytest.raises(errors.Unauthenticated):
        mine.get("/v1/runs", list[api.RunStatus])
    mine.close()


def test_a_key_may_be_used_by_several_processes(coordinator, ours):
    profile = Profile(coordinator.folder.path / "admin")
    other = Client(Me(coordinator.local_url, profile.certificate, profile.key))
    for one in (ours, other, ours, other):
        assert one.get("/v1/runs", list[api.RunStatus]) == []
    other.close()


@pytest.mark.parametrize("size", [0, 1, 70_000, 6_000_000])
def test_what_is_brought_can_be_fetched_again(coordinator, ours, tmp_path, size):
    by = admin(coordinator)
    name = f"n{size}"
    joined(by, name).close()
    ours.put(f"/v1/runs/r{size}", api.Opened, api.RunOpening(purpose="p", data="d", nodes=(name,)))
    data = BYTES[:size]
    blob = ours.upload([data[: size // 2], memoryview(data)[size // 2 :]])
    assert blob == blob_of(data)
    ours.put(f"/v1/runs/r{size}/state", api.Named, api.Named(blob=blob), {"Atoll-Body": "named"})
    got = ours.download(blob)
    assert bytes(got) == data
    assert np.frombuffer(got, np.uint8).ctypes.data % 64 == 0 or not size
    kept = ours.download(blob, tmp_path / "kept")
    assert bytes(kept) == data == (tmp_path / "kept").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    by.close()


def test_a_file_is_brought_in_pieces(ours, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "CHUNK", 1 << 20)
    file = tmp_path / "rows"
    file.write_bytes(BYTES[::-1])
    assert ours.upload(file) == blob_of(BYTES[::-1])


def test_an_upload_goes_on_where_another_was_cut(ours, monkeypatch):
    monkeypatch.setattr(client, "CHUNK", 1 << 20)
    data = BYTES[1:]
    send, sent = client._send, []

    def cut(connection, question, target, headers):
        if question.method == "PATCH":
            sent.append(int(headers["Upload-Offset"]))
            if len(sent) == 4:
                raise KeyboardInterrupt
        send(connection, question, target, headers)

    monkeypatch.setattr(client, "_send", cut)
    with pytest.raises(KeyboardInterrupt):
        ours.upload(data)
    del sent[:]
    assert ours.upload(data) == blob_of(data)
    assert sent == [n << 20 for n in (3, 4, 5)]


def test_an_upload_whose_answer_is_lost_goes_on():
    data = bytes(range(200))
    stands = {"at": 0}

    def answer(i, heard):
        if heard.method == "POST":
            return said(api.Uploaded(offset=stands["at"], done=stands["at"] == 200))
        assert int(heard.headers["upload-offset"]) == 0 or stands["at"] == 200
        if stands["at"] == 200:
            return problem(errors.Conflict("it stands elsewhere", more={"offset": 200}))
        stands["at"] = 200
        return None

    with scripted(answer) as (mine, heard):
        assert mine.upload(data) == blob_of(data)
    assert [h.method for h in heard] == ["POST", "PATCH", "PATCH", "POST"]
    assert heard[1].body == data


def test_an_upload_that_a_coordinator_forgot_is_begun_again():
    def answer(i, heard):
        if heard.method == "POST":
            return said(api.Uploaded(offset=0, done=False))
        return problem(errors.NotFound("not begun")) if i < 4 else said(api.Uploaded(offset=3, done=True))

    with scripted(answer) as (mine, heard):
        assert mine.upload(b"abc") == blob_of(b"abc")
    assert [h.method for h in heard] == ["POST", "PATCH"] * 3


@pytest.mark.parametrize("refused", [errors.NotFound, errors.Conflict])
def test_an_upload_that_is_refused_again_and_again_is_given_up(refused):
    never = said(api.Uploaded(offset=0, done=False))
    with (
        scripted(lambda i, h: never if h.method == "POST" else problem(refused("no"))) as (mine, heard),
        pytest.raises(refused),
    ):
        mine.upload(b"abc")
    assert len(heard) < 20


@pytest.mark.parametrize("size", [100_000, 6_000_000])
def test_a_download_that_is_cut_goes_on_where_it_was_cut(size, tmp_path):
    data, step = BYTES[:size], size // 3 + 7

    def answer(i, heard):
        start = int(heard.headers.get("range", "bytes=0-")[6:-1])
        piece = data[start : start + step]
        status = "206 Partial Content" if start else "200 OK"
        return said(piece, status, "application/octet-stream", cut=len(data) - start - len(piece))

    for path in (None, tmp_path / "file"):
        with scripted(answer) as (mine, heard):
            assert bytes(mine.download(blob_of(data), path)) == data
        assert [h.headers.get("range") for h in heard] == [None, f"bytes={step}-", f"bytes={2 * step}-"]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_server_that_knows_no_ranges_begins_again():
    data = BYTES[:5000]

    def answer(i, heard):
        return said(data if i else data[:99], kind="application/octet-stream", cut=0 if i else 4901)

    with scripted(answer) as (mine, heard):
        assert bytes(mine.download(blob_of(data))) == data
    assert heard[1].headers["range"] == "bytes=99-"


@pytest.mark.parametrize("path", [None, "file"], ids=["memory", "file"])
def test_bytes_with_another_hash_are_asked_for_again_and_then_refused(tmp_path, path):
    data = b"x" * 1000
    wrong = said(b"y" * 1000, kind="application/octet-stream")
    right = said(data, kind="application/octet-stream")
    into = None if path is None else tmp_path / path
    with scripted(lambda i, h: right if i else wrong) as (mine, _):
        assert bytes(mine.download(blob_of(data), into)) == data
    if into is not None:
        into.unlink()
    with scripted(lambda i, h: wrong) as (mine, _), pytest.raises(errors.Digest, match="another hash"):
        mine.download(blob_of(data), into)
    assert list(tmp_path.iterdir()) == []


def test_more_or_fewer_bytes_than_named_are_refused():
    for given in (b"x" * 999, b"x" * 1001):
        body = said(given, kind="application/octet-stream")
        with (
            scripted(lambda i, h, body=body: body) as (mine, _),
            pytest.raises(errors.Digest, match="another length"),
        ):
            mine.download(blob_of(b"x" * 1000))


def test_a_blob_is_hashed_aside_where_it_is_large():
    coming = Incoming(1 << 22, memoryview(bytearray(1 << 22)))
    with coming:
        coming._take(memoryview(bytes(1 << 20)))
        coming._take(memoryview(b"abc"))
        assert coming.digest() == hashlib.sha256(bytes(1 << 20) + b"abc").hexdigest()
        assert coming.at == (1 << 20) + 3


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(client.os, "posix_fallocate", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    with scripted(lambda i, h: DONE) as (mine, heard), pytest.raises(errors.DiskFull, match="No space left"):
        mine.download(blob_of(b"abc"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    assert heard == []


@pytest.mark.parametrize(
    "first",
    [
        None,
        problem(errors.Unavailable("starting")),
        problem(errors.Rate("slowly"), Retry_After="0"),
        said(b"<html>", "502 Bad Gateway", "text/html"),
        said(b"{", cut=40),
        b"",
    ],
    ids=["hangs up", "unavailable", "rate", "a proxy says so", "cut", "says nothing and hangs up"],
)
def test_what_passes_is_waited_for(first):
    def answer(i, heard):
        return (first or None) if i < 2 else DONE

    with scripted(answer) as (mine, heard):
        assert mine.post("/v1/hello", api.Done, api.Hello(versions={}, data=())) == api.Done()
    assert len({h.headers["signature-input"] for h in heard}) == len(heard), "each is signed anew"
    assert {h.body for h in heard} == {heard[0].body}


def test_a_new_epoch_is_opened_where_the_old_one_is_over():
    def epoch(heard):
        return int(heard.headers["signature-input"].rpartition('nonce="')[2].partition(".")[0])

    above = 2_000_000_000 * 10**9
    stale = problem(errors.StaleEpoch("over", more={"epoch": above}))
    with scripted(lambda i, h: DONE if i else stale) as (mine, heard):
        mine.get("/v1/about", api.Done)
    assert epoch(heard[0]) < above < epoch(heard[1])
    with scripted(lambda i, h: stale) as (mine, heard), pytest.raises(errors.StaleEpoch):
        mine.get("/v1/about", api.Done)
    assert len(heard) == 5


def test_other_refusals_are_raised_at_once_as_their_class():
    for kind in (
        errors.Revoked,
        errors.NotApproved,
        errors.OtherQuestion,
        errors.TooLarge,
        errors.DiskFull,
        errors.Clock,
    ):
        with scripted(lambda i, h, kind=kind: problem(kind("why"))) as (mine, heard), pytest.raises(kind, match="why"):
            mine.get("/v1/runs", api.Done)
        assert len(heard) == 1


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (said(b"<html>", "403 Forbidden", "text/html"), "not an answer of a coordinator"),
        (said(b"[1, 2]"), "cannot be read"),
        (said({"offset": "x", "done": True}), "cannot be read"),
        (said(b"{", "400 Bad", "application/problem+json"), "not an answer of a coordinator"),
    ],
    ids=["html", "list", "types", "problem"],
)
def test_what_no_coordinator_says_is_an_error(body, match):
    with scripted(lambda i, h: body) as (mine, _), pytest.raises(errors.SiloError, match=match):
        mine.get("/v1/about", api.Uploaded)


def test_an_answer_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(client, "_MOST", 1000)
    with scripted(lambda i, h: said(b"[" * 2000)) as (mine, _), pytest.raises(errors.TooLarge):
        mine.get("/v1/about", api.Done)


def test_a_slow_drip_ends(monkeypatch):
    monkeypatch.setattr(client, "_ANSWER", 0.3)
    ended = threading.Event()

    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while not ended.is_set():
            try:
                line, _ = listening.accept()
            except OSError:
                return
            with line:
                line.settimeout(5)
                try:
                    while not ended.wait(0.05):
                        line.sendall(b"H")
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    mine = Client(Me(f"http://127.0.0.1:{listening.getsockname()[1]}", None, Key.make()), patience=0.5)
    began = time.monotonic()
    try:
        with pytest.raises(errors.Unreachable, match="TimeoutError"):
            mine.get("/v1/about", api.About)
    finally:
        ended.set()
        mine.close()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)
    assert time.monotonic() - began < 20


def test_nobody_there_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mine = Client(Me(f"https://127.0.0.1:{port}", "0" * 64, Key.make()), patience=0.3)
    with pytest.raises(errors.Unreachable, match=r"(?s)cannot be reached.*ConnectionRefused.*firewall"):
        mine.get("/v1/about", api.About)


@pytest.mark.parametrize("url", ["ftp://here", "https://", "here:1", "https://here:x"])
def test_what_is_no_url_is_told(url):
    with pytest.raises(errors.Malformed, match="no URL"):
        Client(Me(url, None, Key.make())).get("/v1/about", api.About)


def test_closing_ends_what_waits():
    got = []

    with scripted(lambda i, h: time.sleep(3) or DONE) as (mine, heard):

        def ask():
            try:
                mine.get("/v1/work", api.Done, wait=20.0)
            except Exception as error:
                got.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not heard:
            time.sleep(0.01)
        began = time.monotonic()
        mine.close()
        thread.join(10)
        assert time.monotonic() - began < 2.5
        assert [type(error) for error in got] == [Closed]
        with pytest.raises(Closed):
            mine.get("/v1/work", api.Done)
        assert heard[0].path == "/v1/work?wait=20"


def test_every_thread_has_a_connection_of_its_own():
    with scripted(lambda i, h: DONE) as (mine, heard):
        threads = [threading.Thread(target=lambda: [mine.get("/x", api.Done) for _ in range(20)]) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(heard) == 100
    assert len({h.headers["signature-input"] for h in heard}) == 100
    del threads, thread
    gc.collect()


def test_joining_proves_who_the_coordinator_is(coordinator, tmp_path):
    by = admin(coordinator)

    def token(role="researcher", name="ada"):
        return by.ask("POST", "/v1/invites", api.Invite(name=name, role=role)).read(api.Invitation).token

    mine = token()
    with pytest.raises(errors.TokenName, match="atoll login"):
        joining.join(mine, url=coordinator.local_url, node=True, folder=tmp_path / "x")
    made = joining.join(mine, url=coordinator.local_url, folder=tmp_path / "ada")
    assert (made.name, made.role) == ("ada", "researcher")
    assert made.federation == coordinator.folder.key.fingerprint
    again = joining.join(mine, url=coordinator.local_url, folder=tmp_path / "ada")
    assert again.key.public == made.key.public, "a join may be repeated after a kill"
    with pytest.raises(errors.TokenUsed):
        joining.join(mine, url=coordinator.local_url, folder=tmp_path / "other")
    with pytest.raises(errors.TokenMistyped):
        joining.join(mine[:-3] + "aaa", url=coordinator.local_url, folder=tmp_path / "other")
    node = joining.join(token("node", "berlin"), url=coordinator.local_url, node=True, folder=tmp_path / "berlin")
    assert node.role == "node"
    by.close()


def test_a_coordinator_without_the_key_is_found_out(coordinator, tmp_path):
    by = admin(coordinator)
    token = by.ask("POST", "/v1/invites", api.Invite(name="eve", role="viewer")).read(api.Invitation).token
    by.close()
    known, other = coordinator.folder.key, Key.make()

    def lying(signer):
        def answer(i, heard):
            told = msgspec.json.decode(heard.body, type=api.Join)
            proof = signer.sign(b"atoll-joined-1" + told.nonce[::-1] + told.key + b"eve")
            return said(
                api.Joined(
                    name="eve", role="viewer", federation=known.fingerprint, signing_key=known.public, proof=proof
                )
            )  # fmt: skip

        return answer

    for signer in (other, known):  # a wrong key, and a proof that was made for somebody else
        with scripted(lying(signer)) as (mine, _), pytest.raises(errors.Proof):
            joining.join(token, url=mine.url, folder=tmp_path / "eve")
    assert not (tmp_path / "eve" / "profile.json").exists()


def test_a_blob_of_nothing_needs_nobody(tmp_path):
    with scripted(lambda i, h: None) as (mine, heard):
        assert bytes(mine.download(Blob(hashlib.sha256().hexdigest(), 0))) == b""
    assert heard == []


def test_a_connection_that_is_reset_before_the_handshake_is_not_lost():
    """Left open, it would be a warning of this process, which is an error here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(5):
            plain = socket.create_connection(listening.getsockname())
            far, _ = listening.accept()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            with (
                plain,
                pytest.raises(OSError, match=r"reset|not connected"),
                _context(pinned=True).wrap_socket(plain) as secure,  # before Python 3.11.4 it lets this pass
            ):
                secure.getpeercert()
            gc.collect()
