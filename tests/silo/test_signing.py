"""Signed requests: RFC 9421 to the letter, what is altered is told, and nothing is carried out twice."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from hypothesis import example, given
from hypothesis import strategies as st

from atoll.silo import signing
from atoll.silo.errors import BadSignature, Clock, Digest, Malformed, Replayed, SiloError, StaleEpoch, Unauthenticated
from atoll.silo.keys import Key, verify
from atoll.silo.signing import Claim, Signer, Verifier, Windows, content_digest

NOW = 1_790_000_000.0
KEY = Key(bytes(range(32)))
BODY = hashlib.sha256(b'{"hello": "world"}').digest()
TARGET = "/v1/answers/0123abc/3?x=1&y=%20"

# RFC 9421, appendix B.1.4 (test-key-ed25519) and B.2.6 (Signing a Request Using ed25519).
RFC_KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
RFC_BASE = b"""\
"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")\
;created=1618884473;keyid="test-key-ed25519\""""
RFC_SIGNATURE = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="


class Keys(HTTPSignatureKeyResolver):
    """The library's way to ask for keys."""

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return KEY._secret

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        assert key_id == KEY.fingerprint
        return KEY._secret.public_key()


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    others = [(b"host", b"silo.example"), (b"user-agent", b"x"), (b"user-agent", b"y")]
    return [(k.lower().encode(), v.encode()) for k, v in headers.items()] + others


def signer(epoch: float = NOW) -> Signer:
    made = Signer(KEY, lambda: epoch)
    made._clock = lambda: NOW
    return made


def verifier(now: float = NOW) -> Verifier:
    return Verifier({KEY.fingerprint: KEY.public}.get, lambda: now)


def claim(epoch: int, sequence: int, keyid: str = "k") -> Claim:
    return Claim(keyid, epoch, sequence, int(NOW), None)


# The standard


def test_example_b26_of_the_rfc() -> None:
    secret = load_pem_private_key(RFC_KEY, None)
    assert isinstance(secret, Ed25519PrivateKey)
    key = Key(secret.private_bytes_raw())
    assert base64.b64encode(key.public) == b"JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    assert base64.b64encode(key.sign(RFC_BASE)).decode() == RFC_SIGNATURE
    assert verify(key.public, RFC_BASE, base64.b64decode(RFC_SIGNATURE))


def test_the_digest_of_rfc_9530() -> None:
    assert content_digest(BODY) == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_the_signature_base_line_by_line() -> None:
    headers = signer().headers("POST", "/v1/work?wait=3&have=", BODY)
    params = headers["Signature-Input"].removeprefix("atoll=")
    assert params == (
        '("@method" "@path" "@query" "content-digest");created=1790000000;'
        f'keyid="{KEY.fingerprint}";alg="ed25519";nonce="1790000000000000000.1"'
    )
    base = (
        '"@method": POST\n"@path": /v1/work\n"@query": ?wait=3&have=\n'
        f'"content-digest": {content_digest(BODY)}\n"@signature-params": {params}'
    )
    signature = base64.b64decode(headers["Signature"].removeprefix("atoll=:").removesuffix(":"))
    assert verify(KEY.public, base.encode(), signature)


def test_a_query_that_is_not_there_is_a_question_mark() -> None:
    assert b'\n"@query": ?\n' in signing._base("GET", "/v1/about", None, "p")
    assert signing._base("GET", "/a?", None, "p") == signing._base("GET", "/a", None, "p")


TARGETS = ["/v1/about", "/v1/work?wait=30", "/", "/v1/runs/a%20b/exchanges/3?wait=1.5&x=%2F", "/a?b=c?d"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", [None, BODY], ids=["bare", "body"])
def test_the_library_accepts_what_is_signed_here(target: str, body: bytes | None) -> None:
    headers = Signer(KEY).headers("POST", target, body)
    message = SimpleNamespace(method="POST", url=f"https://silo.example:8443{target}", headers=headers)
    library = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    needed = ("@method", "@path", "@query", *(["content-digest"] if body else []))
    told = library.verify(message, max_age=datetime.timedelta(seconds=300), require_components=needed)
    assert len(told) == 1
    if body:
        assert library.verify(message, body=b'{"hello": "world"}')[0].body == b'{"hello": "world"}'


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", [None, BODY], ids=["bare", "body"])
def test_what_the_library_signs_is_accepted_here(target: str, body: bytes | None) -> None:
    headers = {} if body is None else {"Content-Digest": content_digest(body)}
    message = SimpleNamespace(method="PUT", url=f"https://silo.example{target}", headers=headers)
    library = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    over = ("@method", "@path", "@query", *(["content-digest"] if body else []))
    created = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    extra: dict[str, Any] = {"use_existing_digest": True} if body else {}
    library.sign(message, key_id=KEY.fingerprint, nonce="7.9", created=created, covered_component_ids=over, **extra)
    told = verifier().check("PUT", target, raw(headers), body)
    assert told == Claim(KEY.fingerprint, 7, 9, int(NOW), body)


# What is altered


@pytest.mark.parametrize("body", [None, BODY], ids=["bare", "body"])
def test_a_sound_request(body: bytes | None) -> None:
    s = signer()
    for sequence in (1, 2, 3):
        told = verifier().check("POST", TARGET, raw(s.headers("POST", TARGET, body)), body)
        assert told == Claim(KEY.fingerprint, int(NOW) * 10**9, sequence, int(NOW), body)


def test_the_digest_is_known_before_the_body() -> None:
    headers = raw(signer().headers("POST", TARGET, BODY))
    assert verifier().check("POST", TARGET, headers).digest == BODY
    with pytest.raises(Digest, match="not the one that was signed"):
        verifier().check("POST", TARGET, headers, bytes(32))
    with pytest.raises(Digest):
        verifier().check("POST", TARGET, raw(signer().headers("POST", TARGET)), BODY)


def altered(change: Callable[[dict[str, str]], object]) -> list[tuple[bytes, bytes]]:
    headers = signer().headers("POST", TARGET, BODY)
    change(headers)
    return raw(headers)


def swap(field: str, old: str, new: str) -> Callable[[dict[str, str]], object]:
    def change(headers: dict[str, str]) -> None:
        assert old in headers[field]
        headers[field] = headers[field].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", TARGET), ("POST", TARGET + "0"), ("POST", TARGET.replace("/3", "/4")), ("POST", TARGET.partition("?")[0])],
)
def test_another_method_path_or_query(method: str, target: str) -> None:
    with pytest.raises(BadSignature, match="does not fit"):
        verifier().check(method, target, raw(signer().headers("POST", TARGET, BODY)), BODY)


@pytest.mark.parametrize(
    "change",
    [swap("Signature-Input", ".1\"", ".2\""), swap("Signature-Input", "created=179", "created=178"),
     swap("Signature-Input", "17900000000000", "17900000000001"), swap("Content-Digest", "X48E", "Y48E"),
     lambda h: h.pop("Content-Digest"), swap("Signature-Input", ' "content-digest"', ""),
     swap("Signature-Input", f';keyid="{KEY.fingerprint}";alg="ed25519"', f';alg="ed25519";keyid="{KEY.fingerprint}"')],
    ids=["sequence", "created", "epoch", "digest", "no digest", "digest not signed", "order"],
)  # fmt: skip
def test_an_altered_field(change: Callable[[dict[str, str]], object]) -> None:
    with pytest.raises(BadSignature):
        verifier().check("POST", TARGET, altered(change))


@pytest.mark.parametrize(
    "change",
    [swap("Signature-Input", "ed25519\";", "rsa-pss-sha512\";"), swap("Signature-Input", ";created=1790000000", ""),
     swap("Signature-Input", '"@method" ', ""), swap("Signature-Input", '"@query"', '"@authority"'),
     swap("Signature-Input", "atoll=", "sig1="), swap("Signature", "atoll=", "sig1="), swap("Signature", "=:", "="),
     swap("Signature-Input", ";created", ";expires=1;created"), swap("Signature-Input", ".1\"", ".0\""),
     swap("Signature-Input", ".1\"", ".01\""), swap("Signature-Input", ".1\"", ".9999999999999999999\""),
     swap("Signature-Input", ".1\"", ".9223372036854775808\""), swap("Signature-Input", ".1\"", "\""),
     swap("Signature-Input", "created=1790000000", "created=\"1790000000\""),
     swap("Signature-Input", "created=1790000000", "created=-5"),
     swap("Signature-Input", "created=1790000000", "created=1;created=1"),
     swap("Content-Digest", "sha-256", "sha-512"), swap("Content-Digest", "=:", "=: "),
     lambda h: h.update({"Content-Digest": h["Content-Digest"] + ", " + h["Content-Digest"]}),
     lambda h: h.update({"Signature": h["Signature"] + ", b" + h["Signature"][5:]}),
     lambda h: h.update({"Signature-Input": h["Signature-Input"] * 2}),
     lambda h: h.update({"Signature-Input": ""}), lambda h: h.update({"Signature": "atoll=::"}),
     lambda h: h.update({"Signature-Input": h["Signature-Input"] + ";a=1" * 1000})],
    ids=["algorithm", "no created", "no method", "authority", "label", "other label", "no bytes", "expires", "zero",
         "leading zero", "20 digits", "64 bits", "no sequence", "text", "negative", "twice", "sha-512", "space",
         "two digests", "two signatures", "two inputs", "empty", "no signature", "long"],
)  # fmt: skip
def test_a_field_of_another_form(change: Callable[[dict[str, str]], object]) -> None:
    with pytest.raises(Malformed):
        verifier().check("POST", TARGET, altered(change))


def test_bytes_have_one_form_only() -> None:
    """The last letter before ``==`` has four bits that belong to no byte."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    headers = signer().headers("GET", "/")
    last = headers["Signature"][-4]
    other = letters[letters.index(last) + 1]
    headers["Signature"] = headers["Signature"][:-4] + other + "==:"
    with pytest.raises(Malformed, match="not base64"):
        verifier().check("GET", "/", raw(headers))


@pytest.mark.parametrize("field", ["Signature", "Signature-Input", "Content-Digest"])
def test_a_field_that_is_there_twice(field: str) -> None:
    headers = signer().headers("POST", TARGET, BODY)
    twice = [*raw(headers), (field.lower().encode(), headers[field].encode())]
    with pytest.raises(Malformed, match="twice"):
        verifier().check("POST", TARGET, twice)


@pytest.mark.parametrize("field", ["Signature", "Signature-Input"])
def test_a_request_that_is_not_signed(field: str) -> None:
    with pytest.raises(Unauthenticated, match="not signed"):
        verifier().check("POST", TARGET, altered(lambda h: h.pop(field)))


@pytest.mark.parametrize("target", ["", "v1", "https://x/y", "/ä", "/a b", "/a\n", "/a\r\nx: y", "/" + "a" * 8192])
def test_what_is_no_path(target: str) -> None:
    with pytest.raises((Malformed, BadSignature)):
        verifier().check("POST", target, raw(signer().headers("POST", "/a", BODY)))
    with pytest.raises(Malformed, match="not a path"):
        signer().headers("POST", target, BODY)


def test_an_unknown_key_and_one_that_is_refused() -> None:
    headers = raw(Signer(Key.make(), lambda: NOW).headers("GET", "/v1/work"))
    with pytest.raises(Unauthenticated, match="not known"):
        verifier().check("GET", "/v1/work", headers)

    def refuse(_: str) -> bytes:
        raise Replayed

    with pytest.raises(Replayed):
        Verifier(refuse, lambda: NOW).check("GET", "/v1/work", headers)


def test_a_newcomer_shows_its_key() -> None:
    key = Key.make()
    headers = raw(Signer(key, lambda: NOW).headers("POST", "/v1/join", BODY))
    assert verifier().check("POST", "/v1/join", headers, public=key.public).keyid == key.fingerprint
    with pytest.raises(BadSignature, match="the key that is shown"):
        verifier().check("POST", "/v1/join", headers, public=KEY.public)
    with pytest.raises(BadSignature):
        verifier().check("POST", "/v1/join", headers, public=b"short")


@pytest.mark.parametrize("off", [-3600, -301, 301, 3600, 1e12])
def test_a_clock_that_is_wrong_is_told_with_both_times(off: float) -> None:
    headers = raw(signer().headers("GET", "/v1/work"))
    with pytest.raises(Clock, match="2026-09-21 14:13:20 UTC") as told:
        verifier(NOW + off).check("GET", "/v1/work", headers)
    assert told.value.more == {"sender": int(NOW), "receiver": int(NOW + off)}


@pytest.mark.parametrize("off", [-299, 0, 299])
def test_a_clock_that_is_nearly_right_will_do(off: float) -> None:
    assert verifier(NOW + off).check("GET", "/v1/work", raw(signer().headers("GET", "/v1/work")))


TEXT = st.text(st.characters(codec="latin-1"), max_size=300)
PIECES = st.sampled_from(
    ["atoll=", '("@method" "@path" "@query")', '("@method" "@path" "@query" "content-digest")', ";created=", '"', ":",
     "1790000000", ';keyid="', KEY.fingerprint, ';alg="ed25519"', ';nonce="', "1.1", "sha-256=:", "A" * 43 + "=:",
     "A" * 86 + "==:"]
)  # fmt: skip
VALUES = TEXT | st.lists(PIECES | TEXT, max_size=12).map("".join)
NAMES = st.sampled_from([b"signature", b"signature-input", b"content-digest"]) | st.binary(max_size=20)


@given(
    st.lists(st.tuples(NAMES, VALUES.map(lambda v: v.encode("latin-1"))), max_size=6), st.sampled_from(TARGETS) | TEXT
)
@example(
    [
        (b"signature", b"a=:" + b"A" * 86 + b"==:"),
        (b"signature-input", b'a=("@method" "@path" "@query")' + b';a="x"' * 160),
    ],
    "/",
)
def test_any_fields_are_refused_with_a_code(headers: list[tuple[bytes, bytes]], target: str) -> None:
    with pytest.raises(SiloError):
        verifier().check("POST", target, headers)


# The sender's side


def number(headers: dict[str, str]) -> tuple[int, int]:
    found = re.search(r'nonce="(\d+)\.(\d+)"', headers["Signature-Input"])
    assert found is not None
    return int(found[1]), int(found[2])


def test_a_new_epoch_after_a_refusal_once_for_all_threads() -> None:
    s = signer()
    one, two = s.headers("GET", "/"), s.headers("GET", "/")
    s.renew(one)
    after = number(s.headers("GET", "/"))
    assert after == (number(one)[0] + 1, 1)
    s.renew(two)
    assert number(s.headers("GET", "/")) == (after[0], 2)


def test_a_new_epoch_is_above_what_the_receiver_knows_within_reason() -> None:
    s = signer()
    known = int((NOW + 500) * 1e9)
    s.renew(s.headers("GET", "/"), known)
    assert number(s.headers("GET", "/")) == (known + 1, 1)
    s.renew(s.headers("GET", "/"), 2**63 - 1)
    assert number(s.headers("GET", "/"))[0] == known + 2


def test_a_clock_that_was_set_back_costs_one_refusal() -> None:
    windows = Windows()
    for i in range(17):
        windows.accept(verifier().check("GET", "/", raw(signer(NOW + i).headers("GET", "/"))))
    s = signer(NOW - 100)
    headers = s.headers("GET", "/")
    with pytest.raises(StaleEpoch) as told:
        windows.accept(verifier().check("GET", "/", raw(headers)))
    epoch = told.value.more["epoch"]
    assert isinstance(epoch, int)
    s.renew(headers, epoch)
    assert windows.accept(verifier().check("GET", "/", raw(s.headers("GET", "/")))) is not None


def test_threads_never_share_a_number() -> None:
    s, numbers = signer(), []

    def work() -> None:
        for _ in range(100):
            numbers.append(number(s.headers("GET", "/")))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(n for _, n in numbers) == list(range(1, 401))


def test_neither_side_shows_a_secret() -> None:
    secret = bytes(range(32))
    for thing in (repr(signer()), repr(verifier()), repr(Windows()), str(signer().headers("GET", "/"))):
        assert secret.hex() not in thing
        assert base64.b64encode(secret).decode() not in thing
