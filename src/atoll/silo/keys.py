"""Keys that say who somebody is, and the certificate of a coordinator.

Everybody has one Ed25519 key, made on the machine where it is used; it leaves that machine never. A key is known by its
fingerprint: 125 bits of the SHA-256 of the public key, in five groups of five letters, short enough to read aloud.
A coordinator has an ordinary TLS certificate besides, over a P-256 key, which every TLS library understands.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from atoll.errors import explain
from atoll.silo.durable import reached
from atoll.silo.errors import Malformed
from atoll.silo.files import read_secret, secret_file, write_whole

if TYPE_CHECKING:  # it takes 6 MB, and nobody but a new coordinator needs it
    from cryptography import x509

__all__ = ["Key", "certificate", "fingerprint", "server_context", "verify"]

_YEARS = 10
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_*]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\Z")


class Key:
    """An Ed25519 key pair. What it shows of itself is public; the secret half is written by `save` only.

    Attributes
    ----------
    public : bytes of length 32
        The public half.
    fingerprint : str
        See `fingerprint`.
    """

    __slots__ = ("_secret", "fingerprint", "public")

    def __init__(self, secret: bytes) -> None:
        """Take the 32 bytes of a secret key; `make` and `load` are the ways to get one."""
        self._secret = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._secret.public_key().public_bytes_raw()
        self.fingerprint = fingerprint(self.public)

    def __repr__(self) -> str:
        return f"Key({self.fingerprint!r})"

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not pickled; write it with save()")

    @classmethod
    def make(cls) -> Key:
        """A new key, from the system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Key:
        """Read a key (PEM, PKCS #8).

        Raises
        ------
        UnsafeFile
            If others may read the file; the message has the command that sets it right.
        NotFound, Malformed
            If it is not there, or holds no Ed25519 key.
        """
        data = read_secret(path)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (TypeError, ValueError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise Malformed(explain("the file holds no Ed25519 key", expected="PEM (PKCS #8), no password", where=path))
        return cls(key.private_bytes_raw())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key so that only its owner may read it (PEM, PKCS #8, mode 0600)."""
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        secret_file(path, self._secret.private_bytes(*form))

    def sign(self, data: bytes) -> bytes:
        """The signature of some bytes (64 bytes, RFC 8032)."""
        return self._secret.sign(data)


def fingerprint(public: bytes) -> str:
    """The name by which a public key is known.

    Parameters
    ----------
    public : bytes
        32 bytes.

    Returns
    -------
    str
        ``"ed25519:"`` and 25 letters and digits in groups of five: the first 125 bits of the SHA-256, base32.
    """
    letters = base64.b32encode(hashlib.sha256(public).digest())[:25].decode().lower()
    return "ed25519:" + "-".join(letters[i : i + 5] for i in range(0, 25, 5))


def verify(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether a signature over some bytes is by the holder of a public key; False for anything that is no key."""
    try:
        _public(bytes(public)).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=8192)
def _public(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def certificate(folder: str | os.PathLike[str], hosts: Sequence[str]) -> tuple[Path, Path, str]:
    """The certificate of a coordinator, made when it is not there: self-signed, EC P-256, valid for ten years.

    One that is there stays, whatever the hosts: nodes have pinned it.

    Parameters
    ----------
    folder : path-like
        A private folder that exists; holds ``tls.crt`` and ``tls.key`` (mode 0600).
    hosts : sequence of str
        Names and addresses under which the coordinator is reached.

    Returns
    -------
    certificate : Path
        PEM.
    key : Path
        PEM.
    fingerprint : str
        SHA-256 of the certificate (DER), 64 hexadecimal digits.

    Raises
    ------
    Malformed
        If a host is neither a name nor an address, or what is in the folder is no certificate.
    UnsafeFile
        If others may read the key that is there.
    """
    shown, secret = Path(folder) / "tls.crt", Path(folder) / "tls.key"
    if shown.exists():
        read_secret(secret)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        made = _signed(key, hosts).public_bytes(serialization.Encoding.PEM)
        secret_file(secret, key.private_bytes(*form))
        reached("coordinator.tls_key.written")
        write_whole(shown, made)
        reached("coordinator.certificate.written")
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(shown.read_bytes())
    except ValueError as error:
        raise Malformed(explain("the coordinator's certificate cannot be read", got=error, where=shown)) from None
    return shown, secret, found.fingerprint(hashes.SHA256()).hex()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server speaks: TLS 1.3 and nothing older."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def _signed(key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> x509.Certificate:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atoll coordinator")])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS + 2))
        .add_extension(x509.SubjectAlternativeName([_host(h) for h in dict.fromkeys(hosts)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if not _HOST.match(host):
        raise Malformed(
            explain("a host is a name or an address", got=repr(host), expected="silo.example.org or 192.0.2.7")
        )
    return x509.DNSName(host)
