"""What must not be: each wrong request has its own error, nothing is half written, and the server goes on as before."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from atoll import wire
from atoll.messages import Outcome
from atoll.silo import api, tokens
from atoll.silo.keys import Key
from atoll.silo.server import Coordinator
from atoll.silo.server.blobs import MAX_CHUNK
from atoll.silo.server.connection import MAX_HEAD
from atoll.silo.server.requests import MAX_JSON
from atoll.silo.server.work import MAX_ANSWER
from atoll.silo.signing import Signer
from atoll.silo.tasks import blob_of, signed_text
from silo.serving import (
    JSON,
    OCTETS,
    Answer,
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


class Scene(NamedTuple):
    """A run whose first question waits for both nodes; the second run is another one."""

    coordinator: Coordinator
    admin: Caller
    asker: Caller
    other: Caller
    node: Caller
    second: Caller
    uid: str

    def submission(self, number: int = 1, **changed: Any) -> api.Submission:
        return submission(self.asker, self.coordinator.folder.key.fingerprint, ("a", "b"), number, **changed)

    def path(self, position: int = 0) -> str:
        return f"/v1/answers/{self.uid}/{position}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("bad") / "c") as coordinator:
        by = admin(coordinator)
        node, second = joined(by, "a"), joined(by, "b")
        asker, other = joined(by, "asker", "researcher"), joined(by, "other", "researcher")
        open_run(asker, ("a", "b"))
        submit(asker, submission(asker, coordinator.folder.key.fingerprint, ("a", "b"))).read(api.State)
        uid = node.ask("GET", "/v1/work").read(api.Work).tasks[0].exchange
        yield Scene(coordinator, by, asker, other, node, second, uid)
        state = asker.ask("GET", "/v1/runs/run/exchanges/0").read(api.State)
        assert (state.state, state.missing) == ("open", (0, 1))  # nothing wrong was counted


@pytest.fixture(autouse=True)
def goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After every bad request the next good one is answered, and nothing was a mistake of the server."""
    yield
    assert scene.node.ask("GET", "/v1/work").read(api.Work).tasks[0].exchange == scene.uid
    assert [record.message for record in caplog.records if record.name == "atoll.silo"] == []


Case = Callable[[Scene], Answer]
CASES: dict[str, tuple[str, Case]] = {}


def case(code: str) -> Callable[[Case], Case]:
    """One way to be wrong, and the code that says so."""

    def keep(function: Case) -> Case:
        CASES[function.__name__.replace("_", "-")] = code, function
        return function

    return keep


def changed(headers: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    assert old in headers[name]
    return {**headers, name: headers[name].replace(old, new, 1)}


# who asks


@case("unauthenticated")
def not_signed(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work", signed={})


@case("unauthenticated")
def signed_by_a_stranger(s: Scene) -> Answer:
    return Caller(s.node.url, Key.make()).ask("GET", "/v1/work")


@case("unauthenticated")
def half_a_signature(s: Scene) -> Answer:
    headers = s.node.signed("GET", "/v1/work")
    del headers["Signature"]
    return s.node.ask("GET", "/v1/work", signed=headers)


@case("bad-signature")
def signed_for_another_path(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?wait=1", signed=s.node.signed("GET", "/v1/work"))


@case("bad-signature")
def signed_for_another_method(s: Scene) -> Answer:
    return s.node.ask("HEAD", "/v1/work", signed=s.node.signed("GET", "/v1/work"))._replace(
        body=s.asker.ask(
            "GET", "/v1/runs/run/exchanges/0", signed=s.asker.signed("PUT", "/v1/runs/run/exchanges/0")
        ).body
    )


@case("bad-signature")
def a_signature_with_a_bit_flipped(s: Scene) -> Answer:
    headers = s.node.signed("GET", "/v1/work")
    raw = bytearray(base64.b64decode(headers["Signature"][7:-1]))
    raw[10] ^= 1
    return s.node.ask("GET", "/v1/work", signed={**headers, "Signature": f"atoll=:{base64.b64encode(raw).decode()}:"})


@case("bad-signature")
def a_key_in_somebody_elses_name(s: Scene) -> Answer:
    headers = s.asker.signed("GET", "/v1/work")
    own, others = s.asker.key.fingerprint, s.node.key.fingerprint
    return s.node.ask("GET", "/v1/work", signed=changed(headers, "Signature-Input", own, others))


@case("malformed")
def a_signature_that_is_not_base64(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work", signed={**s.node.signed("GET", "/v1/work"), "Signature": "atoll=:%%%:"})


@case("malformed")
def another_form_of_signature(s: Scene) -> Answer:
    return s.node.ask(
        "GET", "/v1/work", signed=changed(s.node.signed("GET", "/v1/work"), "Signature-Input", 'ed25519"', 'rsa"')
    )


@case("clock")
def a_clock_an_hour_ahead(s: Scene) -> Answer:
    signer = Signer(s.node.key, clock=lambda: time.time() + 3600)
    return s.node.ask("GET", "/v1/work", signed=signer.headers("GET", "/v1/work"))


@case("clock")
def a_clock_an_hour_behind(s: Scene) -> Answer:
    signer = Signer(s.node.key, clock=lambda: time.time() - 3600)
    return s.node.ask("GET", "/v1/work", signed=signer.headers("GET", "/v1/work"))


@case("replayed")
def a_request_twice(s: Scene) -> Answer:
    headers = s.node.signed("GET", "/v1/work")
    assert s.node.ask("GET", "/v1/work", signed=headers).status == 200
    return s.node.ask("GET", "/v1/work", signed=headers)


@case("replayed")
def an_answer_recorded_and_repeated(s: Scene) -> Answer:
    body = msgspec.json.encode(api.Hello(versions={}, data=()))
    headers = s.node.signed("POST", "/v1/hello", body)
    assert s.node.send("POST", "/v1/hello", body, {**JSON, **headers}).status == 200
    return s.node.send("POST", "/v1/hello", body, {**JSON, **headers})


@case("forbidden")
def a_node_that_invites(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/invites", api.Invite(name="x"))


@case("forbidden")
def a_researcher_that_answers(s: Scene) -> Answer:
    return s.asker.ask("POST", s.path(), wire.encode(numbers()))


@case("forbidden")
def the_place_of_another_node(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(1), wire.encode(numbers()))


@case("forbidden")
def a_place_that_is_not_there(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(7), wire.encode(numbers()))


# tokens


def invited(s: Scene, name: str, **settings: Any) -> str:
    answer = s.admin.ask("POST", "/v1/invites", api.Invite(name=name, **settings))
    return str(answer.read(api.Invitation).token)


@case("token-mistyped")
def a_token_with_a_letter_changed(s: Scene) -> Answer:
    token = invited(s, "mistyped")
    return join(s.admin, token[:20] + ("a" if token[20] != "a" else "b") + token[21:])


@case("token-mistyped")
def a_token_cut_off(s: Scene) -> Answer:
    return join(s.admin, invited(s, "cut")[:-5])


@case("token-mistyped")
def no_token(s: Scene) -> Answer:
    return join(s.admin, "please")


@case("token-used")
def a_token_used_before(s: Scene) -> Answer:
    token = invited(s, "used")
    assert join(s.admin, token).status == 200
    return join(s.admin, token)


@case("token-unknown")
def a_token_of_another_coordinator(s: Scene) -> Answer:
    read = tokens.read(invited(s, "elsewhere"))
    return join(s.admin, tokens.write(read._replace(secret=tokens.make_secret())))


@case("token-expired")
def a_token_that_is_over(s: Scene) -> Answer:
    token = invited(s, "over", hours=1e-7)
    time.sleep(0.01)
    return join(s.admin, token)


@case("token-name")
def a_token_for_another_role(s: Scene) -> Answer:
    return join(s.admin, tokens.write(tokens.read(invited(s, "role"))._replace(role="admin")))


@case("version")
def a_newcomer_of_another_version(s: Scene) -> Answer:
    newcomer = Caller(s.admin.url, Key.make())
    told = api.Join(token="x", key=newcomer.key.public, version="9", protocol=99, nonce=bytes(16))
    return newcomer.ask("POST", "/v1/join", told)


@case("bad-signature")
def a_newcomer_with_somebody_elses_key(s: Scene) -> Answer:
    told = api.Join(token="x", key=s.node.key.public, version="1", protocol=1, nonce=bytes(16))
    return Caller(s.admin.url, Key.make()).ask("POST", "/v1/join", told)


@case("malformed")
def a_key_that_is_too_short(s: Scene) -> Answer:
    told = api.Join(token="x", key=b"short", version="1", protocol=1, nonce=bytes(16))
    return Caller(s.admin.url, Key.make()).ask("POST", "/v1/join", told)


@case("too-large")
def a_join_that_is_too_large(s: Scene) -> Answer:
    told = api.Join(token="x" * 20_000, key=bytes(32), version="1", protocol=1, nonce=bytes(16))
    return Caller(s.admin.url, Key.make()).ask("POST", "/v1/join", told)


@case("conflict")
def a_name_that_is_taken(s: Scene) -> Answer:
    return s.admin.ask("POST", "/v1/invites", api.Invite(name="a"))


@case("malformed")
def a_name_that_is_none(s: Scene) -> Answer:
    return s.admin.ask("POST", "/v1/invites", api.Invite(name="../../etc"))


@case("malformed")
def an_invitation_for_ever(s: Scene) -> Answer:
    return s.admin.ask("POST", "/v1/invites", api.Invite(name="ever", hours=1e9))


# bodies


@case("malformed")
def json_that_is_none(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b"{", headers=JSON)


@case("malformed")
def json_of_another_type(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b'{"versions": 3, "data": []}', headers=JSON)


@case("malformed")
def json_with_more_than_is_known(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b'{"versions": {}, "data": [], "admin": true}', headers=JSON)


@case("malformed")
def json_with_less_than_is_needed(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b"{}", headers=JSON)


@case("malformed")
def json_in_another_alphabet(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b'{"versions": {"\xff": ""}, "data": []}', headers=JSON)


@case("malformed")
def json_nested_without_end(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b'{"versions":' + b"[" * 100_000, headers=JSON)


@case("malformed")
def base64_that_is_none(s: Scene) -> Answer:
    body = b'{"number":1,"digest":"x","task":["%s",1],"signature":"!!"}' % (b"0" * 64)
    return s.asker.ask("POST", "/v1/runs/run/exchanges", body, headers=JSON)


@case("encoding")
def json_that_says_it_is_text(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", b"{}", headers={"Content-Type": "text/plain"})


@case("encoding")
def an_answer_that_says_it_is_json(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(), wire.encode(numbers()), headers=JSON)


@case("encoding")
def a_bomb(s: Scene) -> Answer:
    body = gzip.compress(bytes(10_000_000))
    return s.node.ask("POST", s.path(), body, headers={"Content-Encoding": "gzip"})


@case("encoding")
def a_bomb_of_another_kind(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(), bytes(100), headers={"Content-Encoding": "zstd"})


@case("too-large")
def an_answer_that_is_too_large(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(), bytes(MAX_ANSWER + 1))


@case("too-large")
def json_that_is_too_large(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/hello", bytes(MAX_JSON + 1), headers=JSON)


@case("too-large")
def a_chunk_that_says_it_is_too_large(s: Scene) -> Answer:
    blob = blob_of(bytes(10))
    s.node.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size))
    target = f"/v1/uploads/{blob.digest}"
    headers = {**s.node.signed("PATCH", target, b""), **OCTETS, "Upload-Offset": "0"}
    return raw(s, "PATCH", target, {**headers, "Content-Length": str(MAX_CHUNK + 1)}, bytes(100))


@case("too-large")
def a_body_without_end(s: Scene) -> Answer:
    headers = {**s.node.signed("POST", s.path(), b"x"), **OCTETS, "Transfer-Encoding": "chunked"}
    return raw(s, "POST", s.path(), headers, (b"40000\r\n" + bytes(0x40000) + b"\r\n") * 6)


@case("digest")
def a_body_with_a_bit_flipped(s: Scene) -> Answer:
    body = bytearray(wire.encode(numbers()))
    headers = s.node.signed("POST", s.path(), bytes(body))
    body[-1] ^= 1
    return s.node.send("POST", s.path(), bytes(body), {**OCTETS, **headers})


@case("digest")
def a_body_that_is_shorter_than_signed(s: Scene) -> Answer:
    body = wire.encode(numbers())
    return s.node.send("POST", s.path(), body[:-1], {**OCTETS, **s.node.signed("POST", s.path(), body)})


@case("malformed")
def a_body_whose_hash_is_not_signed(s: Scene) -> Answer:
    return s.node.send("POST", s.path(), b"x", {**OCTETS, **s.node.signed("POST", s.path())})


@case("bad-signature")
def a_hash_that_was_exchanged(s: Scene) -> Answer:
    headers = s.node.signed("POST", s.path(), b"x")
    other = s.node.signed("POST", s.path(), b"y")["Content-Digest"]
    return s.node.send("POST", s.path(), b"y", {**OCTETS, **headers, "Content-Digest": other})


@case("malformed")
def a_body_where_none_belongs(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work", b"what for")


# paths


@case("not-found")
def a_path_that_is_not_there(s: Scene) -> Answer:
    return s.node.ask("GET", "/v2/work")


@case("not-found")
def a_way_out(s: Scene) -> Answer:
    return s.node.ask("GET", "/static/..%2F..%2Fsigning.key")


@case("method")
def a_method_that_is_not_there(s: Scene) -> Answer:
    return s.node.ask("DELETE", "/v1/work")


@case("malformed")
def a_query_that_is_not_known(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?admin=1")


@case("malformed")
def a_query_twice(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?wait=0&wait=60")


@case("malformed")
def a_wait_that_is_no_number(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?wait=nan")


@case("malformed")
def a_wait_before_now(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?wait=-1")


@case("malformed")
def tasks_that_are_none(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/work?have=a,b")


@case("malformed")
def a_position_that_is_no_number(s: Scene) -> Answer:
    return s.node.ask("POST", f"/v1/answers/{s.uid}/first", b"x")


@case("malformed")
def events_from_nowhere(s: Scene) -> Answer:
    return s.asker.ask("GET", "/v1/events?after=-5")


@case("malformed")
def events_from_a_number_and_from_none(s: Scene) -> Answer:
    return s.asker.ask("GET", "/v1/events?after=now", headers={"Last-Event-ID": "5"})


@case("malformed")
def what_is_kept_in_no_known_form(s: Scene) -> Answer:
    return s.asker.ask("PUT", "/v1/runs/run/state", b"x", headers={"Atoll-Body": "tree"})


@case("malformed")
def an_answer_of_an_unknown_kind(s: Scene) -> Answer:
    return s.node.ask("POST", s.path(), b"x", headers={"Atoll-Body": "guess"})


@case("malformed")
def a_path_that_is_not_text(s: Scene) -> Answer:
    return s.asker.ask("GET", "/v1/runs/%ff%fe/state")


# uploads and blobs


@case("malformed")
def an_upload_with_a_name_that_is_no_hash(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/uploads", api.Upload(digest="../" * 20, size=1))


@case("malformed")
def an_upload_of_less_than_nothing(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/uploads", api.Upload(digest="0" * 64, size=-1))


@case("too-large")
def an_upload_larger_than_any_disk(s: Scene) -> Answer:
    return s.node.ask("POST", "/v1/uploads", api.Upload(digest="0" * 64, size=1 << 60))


@case("conflict")
def an_upload_of_two_sizes(s: Scene) -> Answer:
    s.node.ask("POST", "/v1/uploads", api.Upload(digest="1" * 64, size=10))
    return s.node.ask("POST", "/v1/uploads", api.Upload(digest="1" * 64, size=11))


def begun(s: Scene, data: bytes) -> str:
    blob = blob_of(data)
    s.node.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=blob.size)).read(api.Uploaded)
    return f"/v1/uploads/{blob.digest}"


@case("not-found")
def a_chunk_of_nothing_begun(s: Scene) -> Answer:
    return s.node.ask("PATCH", f"/v1/uploads/{'2' * 64}", b"x", headers={"Upload-Offset": "0"})


@case("malformed")
def a_chunk_without_a_place(s: Scene) -> Answer:
    return s.node.ask("PATCH", begun(s, b"placeless"), b"x")


@case("malformed")
def a_chunk_before_the_beginning(s: Scene) -> Answer:
    return s.node.ask("PATCH", begun(s, b"before"), b"x", headers={"Upload-Offset": "-1"})


@case("conflict")
def a_chunk_too_far_on(s: Scene) -> Answer:
    return s.node.ask("PATCH", begun(s, b"too far on"), b"x", headers={"Upload-Offset": "4"})


@case("too-large")
def a_chunk_beyond_the_end(s: Scene) -> Answer:
    return s.node.ask("PATCH", begun(s, b"short"), b"much longer", headers={"Upload-Offset": "0"})


@case("conflict")
def a_whole_upload_with_another_hash(s: Scene) -> Answer:
    return s.node.ask("PATCH", begun(s, b"right"), b"wrong", headers={"Upload-Offset": "0"})


@case("digest")
def an_upload_whose_last_chunk_is_wrong(s: Scene) -> Answer:
    path = begun(s, b"rightly")
    assert s.node.ask("PATCH", path, b"right", headers={"Upload-Offset": "0"}).status == 200
    return s.node.ask("PATCH", path, b"ed", headers={"Upload-Offset": "5"})


@case("digest")
def a_chunk_with_a_bit_flipped(s: Scene) -> Answer:
    path = begun(s, b"flipped bits")
    headers = s.node.signed("PATCH", path, b"flip")
    return s.node.send("PATCH", path, b"flap", {**OCTETS, **headers, "Upload-Offset": "0"})


@case("not-found")
def a_blob_that_is_not_there(s: Scene) -> Answer:
    return s.node.ask("GET", f"/v1/blobs/{'3' * 64}")


@case("not-found")
def a_task_of_others(s: Scene) -> Answer:
    stranger = s.other.ask("GET", f"/v1/blobs/{s.node.ask('GET', '/v1/work').read(api.Work).tasks[0].task.digest}")
    return stranger


@case("malformed")
def a_range_that_is_none(s: Scene) -> Answer:
    digest = s.node.ask("GET", "/v1/work").read(api.Work).tasks[0].task.digest
    return s.node.ask("GET", f"/v1/blobs/{digest}", headers={"Range": "bytes=999999999-"})


# answers: for another run or round, and not what was agreed


@case("not-found")
def an_answer_to_nothing(s: Scene) -> Answer:
    return s.node.ask("POST", f"/v1/answers/{'0' * 24}/0", wire.encode(numbers()))


@case("digest")
def an_answer_that_was_never_uploaded(s: Scene) -> Answer:
    told = api.Named(blob=blob_of(b"never"))
    return s.node.ask("POST", s.path(), told, headers={"Atoll-Body": "named"})


# questions


@case("wrong-run")
def a_question_in_a_run_that_is_not_open(s: Scene) -> Answer:
    return submit(s.asker, s.submission(), "closed")


@case("wrong-run")
def a_question_in_somebody_elses_run(s: Scene) -> Answer:
    return submit(s.other, submission(s.other, s.coordinator.folder.key.fingerprint, ("a", "b"), 1))


@case("wrong-run")
def a_question_for_another_run(s: Scene) -> Answer:
    return submit(s.asker, s.submission(name="another"))


@case("wrong-round")
def a_question_with_another_number(s: Scene) -> Answer:
    told = msgspec.structs.replace(s.submission(5), number=1)
    return submit(s.asker, told)


@case("other-question")
def another_question_under_a_number(s: Scene) -> Answer:
    return submit(s.asker, s.submission(0, seed=1))


@case("wrong-federation")
def a_question_for_another_federation(s: Scene) -> Answer:
    return submit(s.asker, s.submission(of="ed25519:other"))


@case("bad-signature")
def a_question_signed_by_somebody_else(s: Scene) -> Answer:
    told = s.submission()
    return submit(s.asker, msgspec.structs.replace(told, signature=s.node.key.sign(signed_text(told.task))))


@case("bad-signature")
def a_question_in_somebody_elses_name(s: Scene) -> Answer:
    return submit(s.asker, s.submission(requester="other"))


@case("digest")
def a_question_with_a_bit_flipped(s: Scene) -> Answer:
    told = s.submission()
    body = bytearray(told.inline or b"")
    body[-1] ^= 1
    return submit(s.asker, msgspec.structs.replace(told, inline=bytes(body)))


@case("expired-task")
def a_question_nobody_waits_for(s: Scene) -> Answer:
    return submit(s.asker, s.submission(expires=time.time() - 1))


@case("not-found")
def a_question_that_was_never_uploaded(s: Scene) -> Answer:
    return submit(s.asker, msgspec.structs.replace(s.submission(), inline=None))


@case("malformed")
def a_question_that_is_noise(s: Scene) -> Answer:
    noise = blob_of(b"noise")
    signature = s.asker.key.sign(signed_text(noise))
    told = msgspec.structs.replace(s.submission(), task=noise, signature=signature, inline=b"noise")
    return submit(s.asker, told)


@case("wrong-run")
def a_run_over_other_nodes(s: Scene) -> Answer:
    return open_run(s.asker, ("a",))


@case("not-found")
def a_run_over_nobody(s: Scene) -> Answer:
    return open_run(s.asker, ("a", "nobody"), "nobody")


@case("malformed")
def a_run_over_a_node_twice(s: Scene) -> Answer:
    return open_run(s.asker, ("a", "a"), "twice")


@case("not-found")
def a_round_that_is_not_there(s: Scene) -> Answer:
    return s.asker.ask("GET", "/v1/runs/run/exchanges/9")


@case("not-found")
def the_state_of_somebody_elses_run(s: Scene) -> Answer:
    return s.other.ask("GET", "/v1/runs/run/exchanges/0")


@case("too-large")
def a_state_that_is_too_large(s: Scene) -> Answer:
    return s.asker.ask("PUT", "/v1/runs/run/state", bytes((1 << 20) + 1))


@case("malformed")
def an_end_that_is_none(s: Scene) -> Answer:
    return s.asker.ask("POST", "/v1/runs/run/end", b'{"state": "gone"}', headers=JSON)


@case("token-unknown")
def a_login_that_is_none(s: Scene) -> Answer:
    return s.node.ask("GET", "/login/" + "00" * 20, signed={})


@case("not-found")
def a_login_that_is_no_number(s: Scene) -> Answer:
    return s.node.ask("GET", "/login/please", signed={})


@case("unauthenticated")
def a_cookie_that_is_none(s: Scene) -> Answer:
    return s.node.ask("GET", "/v1/runs", signed={}, headers={"Cookie": "__Host-atoll=" + "0" * 64})


# bytes that are no request


def talk(s: Scene, data: bytes) -> Answer:
    """Send bytes, and read until the other side closes or has answered."""
    site = urlsplit(s.node.url)
    with (
        socket.create_connection((site.hostname, site.port), timeout=30) as plain,
        tls().wrap_socket(plain) as sock,
    ):
        said = b""
        with contextlib.suppress(OSError):
            sock.sendall(data)
        while b"\r\n\r\n" not in said or len(said.partition(b"\r\n\r\n")[2]) < _length(said):
            try:
                more = sock.recv(1 << 16)
            except (ConnectionError, ssl.SSLError):
                break
            if not more:
                break
            said += more
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body)


def _length(said: bytes) -> int:
    for line in said.partition(b"\r\n\r\n")[0].lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            return int(line[16:])
    return 0


def raw(s: Scene, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return talk(s, f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode() + body)


@case("malformed")
def what_is_not_http(s: Scene) -> Answer:
    return talk(s, b"\x16\x03\x01 hello there\r\n\r\n")


@case("malformed")
def a_request_line_that_is_none(s: Scene) -> Answer:
    return talk(s, b"GET\r\n\r\n")


@case("malformed")
def two_lengths(s: Scene) -> Answer:
    return talk(s, b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc")


@case("malformed")
def a_length_and_chunks(s: Scene) -> Answer:
    head = b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    return talk(s, head + b"0\r\n\r\n")


@case("malformed")
def a_length_that_is_no_number(s: Scene) -> Answer:
    return talk(s, b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n")


@case("malformed")
def a_header_over_two_lines(s: Scene) -> Answer:
    return talk(s, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\x00c\r\n\r\n")


@case("too-large")
def a_head_without_end(s: Scene) -> Answer:
    return talk(s, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * (MAX_HEAD + 10) + b"\r\n\r\n")


@case("too-large")
def a_path_without_end(s: Scene) -> Answer:
    return talk(s, b"GET /" + b"a" * (MAX_HEAD + 10) + b" HTTP/1.1\r\nHost: x\r\n\r\n")


@case("too-large")
def headers_without_number(s: Scene) -> Answer:
    return talk(s, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 8000 + b"\r\n")


@case("malformed")
def a_method_that_is_noise(s: Scene) -> Answer:
    return talk(s, b"EXPLODE /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize("name", CASES)
def test_each_wrong_request_has_its_own_error(scene: Scene, name: str) -> None:
    code, function = CASES[name]
    assert function(scene).code == code


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100


# contributions that are not what the round asks for: the node is named and left out, and the round goes on

WRONG: dict[str, Callable[[], bytes]] = {
    "noise": lambda: b"noise",
    "empty": lambda: b"",
    "cut": lambda: wire.encode(numbers())[:-8],
    "longer": lambda: wire.encode(numbers()) + bytes(8),
    "a-bit-flipped-in-the-head": lambda: bytes([wire.encode(numbers())[0] ^ 1]) + wire.encode(numbers())[1:],
    "no-tree": lambda: wire.encode([1, 2, 3]),
    "another-name": lambda: wire.encode({"totals": np.ones(3), "weight": np.array(1.0)}),
    "a-name-missing": lambda: wire.encode({"total": np.ones(3)}),
    "a-name-too-many": lambda: wire.encode({**numbers(), "rows": np.ones(1000)}),
    "another-shape": lambda: wire.encode(numbers(1.0, 2.0)),
    "more-dimensions": lambda: wire.encode({"total": np.ones((3, 1)), "weight": np.array(1.0)}),
    "float32": lambda: wire.encode({"total": np.ones(3, "f4"), "weight": np.array(1.0)}),
    "integers": lambda: wire.encode({"total": np.ones(3, "i8"), "weight": np.array(1.0)}),
    "text": lambda: wire.encode({"total": np.array(["a", "b", "c"]), "weight": np.array(1.0)}),
    "nan": lambda: wire.encode(numbers(1.0, float("nan"), 3.0)),
    "infinity": lambda: wire.encode(numbers(1.0, float("inf"), 3.0)),
    "weight-below-zero": lambda: wire.encode(numbers(1.0, 2.0, 3.0, weight=-1.0)),
    "weight-beyond-its-bound": lambda: wire.encode(numbers(1.0, 2.0, 3.0, weight=101.0)),
    "weight-nan": lambda: wire.encode(numbers(1.0, 2.0, 3.0, weight=float("nan"))),
    "a-shape-without-end": lambda: huge(),
}


def huge() -> bytes:
    """A message whose array claims to be larger than any memory."""
    data = bytearray(wire.encode(numbers()))
    at = bytes(data).index(b"\x01\x0b") if b"\x01\x0b" in data else 40
    data[at + 2 : at + 10] = b"\xff" * 8
    return bytes(data)


@pytest.fixture(scope="module")
def rounds(scene: Scene) -> Callable[[], tuple[str, int]]:
    """Begins a further round, of the node and another one."""
    open_run(scene.asker, ("a", "b"), "wrong")
    count = iter(range(1000))

    def begin() -> tuple[str, int]:
        number = next(count)
        told = scene.submission(number, name="wrong")
        assert submit(scene.asker, told, "wrong").status == 200
        work = scene.node.ask("GET", "/v1/work").read(api.Work)
        return next(task.exchange for task in work.tasks if (task.run, task.number) == ("wrong", number)), number

    return begin


@pytest.mark.parametrize("upload_first", [False, True], ids=["sent", "uploaded"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_contribution_is_named_and_left_out(
    scene: Scene, rounds: Callable[[], tuple[str, int]], name: str, upload_first: bool
) -> None:
    uid, number = rounds()
    body, path = WRONG[name](), f"/v1/answers/{uid}/0"
    if upload_first:
        named = api.Named(blob=upload(scene.node, body))
        answer = scene.node.ask("POST", path, named, headers={"Atoll-Body": "named"})
    else:
        answer = scene.node.ask("POST", path, body)
    assert answer.code == "contract"
    assert scene.node.ask("POST", path, wire.encode(numbers())).read(api.Ack).state == "closed"
    state = scene.asker.ask("GET", f"/v1/runs/wrong/exchanges/{number}").read(api.State)
    assert state.missing == (1,)


def test_a_round_goes_on_without_the_node_that_was_wrong(scene: Scene, rounds: Callable[[], tuple[str, int]]) -> None:
    uid, number = rounds()
    assert (
        scene.node.ask("POST", f"/v1/answers/{uid}/0", wire.encode(numbers(float("nan"), 1.0, 1.0))).code == "contract"
    )
    assert scene.second.ask("POST", f"/v1/answers/{uid}/1", wire.encode(numbers(2.0, 3.0, 4.0))).status == 200
    state = scene.asker.ask("GET", f"/v1/runs/wrong/exchanges/{number}?wait=60").read(api.State)
    outcome = wire.decode(state.outcome or b"", Outcome)
    assert outcome.accepted == (1,)
    assert "nan" in outcome.refused[0]


def test_a_mistake_of_ours_says_nothing_but_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from atoll.silo.broker import Broker

    def broken(self: Broker) -> None:
        raise ZeroDivisionError("secret")

    with running(tmp_path / "c") as coordinator:
        monkeypatch.setattr(Broker, "runs", broken)
        answer = admin(coordinator).ask("GET", "/v1/runs")
    assert answer.code == "internal"
    assert b"secret" not in answer.body
    number = json.loads(answer.body)["detail"].split("number ")[1].split()[0]
    assert any(number in record.message for record in caplog.records)
    caplog.clear()


def test_a_full_disk_is_told_and_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with running(tmp_path / "c") as coordinator:
        by = admin(coordinator)
        blob = blob_of(b"x" * 1000)
        assert by.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=1000)).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            target = f"/v1/uploads/{blob.digest}"
            assert by.ask("PATCH", target, b"x" * 1000, headers={"Upload-Offset": "0"}).code == "disk-full"
        told = by.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=1000)).read(api.Uploaded)
        assert told.offset == 0
        assert upload(by, b"x" * 1000) == blob
