"""Keys, their names, and a coordinator's certificate."""

from __future__ import annotations

import copy
import datetime
import hashlib
import ipaddress
import pickle
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.silo.errors import Malformed, NotFound, UnsafeFile
from atoll.silo.files import secret_file
from atoll.silo.keys import Key, certificate, fingerprint, server_context, verify

# RFC 8032, section 7.1, TEST 3: secret, public, message, signature.
RFC8032 = (
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc02"
    "7beceea1ec40a",
)
HOSTS = ["silo.example.org", "localhost", "127.0.0.1", "::1", "[2001:db8::7]", "localhost"]


def test_the_vector_of_the_rfc() -> None:
    secret, public, message, signature = map(bytes.fromhex, RFC8032)
    key = Key(secret)
    assert key.public == public
    assert key.sign(message) == signature
    assert verify(public, message, signature)


def test_only_the_signature_of_these_bytes_by_this_key_fits() -> None:
    key, other = Key.make(), Key.make()
    signature = key.sign(b"rows")
    assert verify(key.public, b"rows", signature)
    assert not verify(key.public, b"row", signature)
    assert not verify(other.public, b"rows", signature)
    assert not verify(key.public, b"rows", signature[:-1])
    assert not verify(key.public, b"rows", b"")
    assert not verify(key.public[:-1], b"rows", signature)
    assert not verify(b"", b"rows", signature)
    for i in range(0, 64, 7):
        bent = bytearray(signature)
        bent[i] ^= 1
        assert not verify(key.public, b"rows", bytes(bent))


def test_a_key_is_known_by_25_letters() -> None:
    key = Key.make()
    assert key.fingerprint == fingerprint(key.public)
    kind, _, letters = key.fingerprint.partition(":")
    assert kind == "ed25519"
    assert [len(group) for group in letters.split("-")] == [5] * 5
    bits = "".join(f"{'abcdefghijklmnopqrstuvwxyz234567'.index(c):05b}" for c in letters.replace("-", ""))
    assert bits == f"{int.from_bytes(hashlib.sha256(key.public).digest()):0256b}"[:125]
    assert len({Key.make().fingerprint for _ in range(50)}) == 50


def test_a_key_is_saved_privately_and_comes_back(tmp_path: Path) -> None:
    key = Key.make()
    key.save(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert Key.load(tmp_path / "key").sign(b"x") == key.sign(b"x")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(UnsafeFile, match=f"chmod 600 {tmp_path / 'key'}"):
        Key.load(tmp_path / "key")


@pytest.mark.parametrize("kind", ["empty", "text", "other", "public"])
def test_a_file_that_holds_no_such_key(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    if kind == "other":
        certificate(tmp_path, ["h"])
        path = tmp_path / "tls.key"
    else:
        secret_file(path, {"empty": b"", "text": b"secret", "public": Key.make().public}[kind])
    with pytest.raises(Malformed, match="no Ed25519 key"):
        Key.load(path)
    with pytest.raises(NotFound):
        Key.load(tmp_path / "nothing")


def test_a_key_shows_and_copies_nothing_secret() -> None:
    key = Key.make()
    assert repr(key) == str(key) == f"Key('{key.fingerprint}')"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret key"):
            way(key)


def test_a_certificate(tmp_path: Path) -> None:
    shown, secret, digest = certificate(tmp_path, HOSTS)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    cert = x509.load_pem_x509_certificate(shown.read_bytes())
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown.read_text())).hexdigest() == digest
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["silo.example.org", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a.strip("[]")) for a in HOSTS[2:5]]
    assert cert.issuer == cert.subject
    cert.verify_directly_issued_by(cert)
    public = cert.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    now = datetime.datetime.now(datetime.UTC)
    assert cert.not_valid_before_utc < now
    assert datetime.timedelta(days=3650) < cert.not_valid_after_utc - now < datetime.timedelta(days=3653)
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_certificate_stays_since_nodes_have_pinned_it(tmp_path: Path) -> None:
    first = certificate(tmp_path, ["one.example"])
    assert certificate(tmp_path, ["two.example"]) == first
    (tmp_path / "tls.key").chmod(0o640)
    with pytest.raises(UnsafeFile, match="chmod 600"):
        certificate(tmp_path, ["one.example"])


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    certificate(tmp_path, ["one.example"])
    (tmp_path / "tls.crt").write_text("nonsense")
    with pytest.raises(Malformed, match=r"tls\.crt"):
        certificate(tmp_path, ["one.example"])


def test_a_certificate_whose_writing_was_cut_is_made_anew(tmp_path: Path) -> None:
    certificate(tmp_path, ["h"])
    (tmp_path / "tls.crt").unlink()
    shown, secret, _ = certificate(tmp_path, ["h"])
    server_context(shown, secret)


@pytest.mark.parametrize("host", ["", "a b", "http://x", "a" * 64 + ".org", "h:1", "ä.org", "x/y", "-a"])
def test_what_is_no_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(Malformed, match="a name or an address"):
        certificate(tmp_path, [host])
    assert not (tmp_path / "tls.crt").exists()
    assert not (tmp_path / "tls.key").exists()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str | None, bytes | None]:
    here, there = socket.socketpair()
    here.settimeout(10)
    there.settimeout(10)

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as s:
                s.recv(1)
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=host) as s:
            return s.version(), s.getpeercert(binary_form=True)
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("host", ["silo.example.org", "127.0.0.1", "::1"])
def test_tls_13_and_nothing_older(tmp_path: Path, host: str) -> None:
    shown, secret, digest = certificate(tmp_path, HOSTS)
    server, client = server_context(shown, secret), ssl.create_default_context(cafile=str(shown))
    version, cert = handshake(server, client, host)
    assert version == "TLSv1.3"
    assert cert is not None
    assert hashlib.sha256(cert).hexdigest() == digest
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(server, client, host)


def test_another_name_is_not_certified(tmp_path: Path) -> None:
    shown, secret, _ = certificate(tmp_path, HOSTS)
    client = ssl.create_default_context(cafile=str(shown))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(shown, secret), client, "other.example.org")
