"""One kept-open connection to a coordinator, which knows whom it speaks to and waits for nothing without an end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from atoll.errors import explain
from atoll.silo.errors import Malformed, WrongCertificate

__all__ = ["CONNECT", "PIECE", "STALL", "Connection"]

CONNECT = 10.0
"""Seconds for a connection and its TLS handshake."""

STALL = 30.0
"""Seconds for a piece of a body, either way."""

PIECE = 1 << 20
"""Bytes of a body that are sent or read at a time."""


_BODY = 1 << 16  # bytes from which on what is read is a body


class _Ending:
    """A socket every operation of which ends by a time that is set for all of them together."""

    until: float = float("inf")
    beat: float = 0.0

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the other side takes too long")
        return min(left, 3600.0)

    def recv_into(self, *args: Any, **more: Any) -> int:
        while True:
            left = self._left()
            pause = min(left, self.beat or left)
            self.settimeout(pause)  # type: ignore[attr-defined]
            try:
                return super().recv_into(*args, **more)  # type: ignore[misc,no-any-return]
            except TimeoutError:
                if pause == left:
                    raise
            self.send(b"\r\n")  # an empty line before the next request, which means nothing in HTTP

    def send(self, *args: Any, **more: Any) -> int:
        self.settimeout(self._left())  # type: ignore[attr-defined]
        return super().send(*args, **more)  # type: ignore[misc,no-any-return]


class _Tls(_Ending, ssl.SSLSocket):
    """Reads a piece of a body as a whole: TLS gives 16 KiB at a time, and every layer of Python above costs each."""

    _sslobj: Any

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Where the other side hangs up before the handshake, `wrap_socket` asks this, raises, and loses the socket."""
        try:
            return super().recv(buflen, flags)
        except OSError:
            if self._sslobj is None:
                self.close()
            raise

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        n = super().recv_into(buffer, nbytes, flags)
        view = memoryview(buffer)[: nbytes or None]
        return n + self._more(view[n:]) if n and view.nbytes >= _BODY else n

    def _more(self, view: memoryview) -> int:
        n, more = 0, 1
        with contextlib.suppress(TimeoutError):  # whoever reads on learns of it
            while more and n < view.nbytes:
                left = self._left()
                if (self.gettimeout() or left) > left + 1.0:
                    self.settimeout(left)
                more = int(self.read(view.nbytes - n, view[n:]))
                n += more
        return n


class _Plain(_Ending, socket.socket):
    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view.nbytes:
            view = view[self.send(view, flags) :]


class Connection(http.client.HTTPConnection):
    """One connection, made when it is first used.

    Parameters
    ----------
    url : str
        Of the coordinator.
    certificate : str or None
        SHA-256 of the certificate that it must show, hexadecimal; None: one that this machine trusts for its name.

    Raises
    ------
    Malformed
        If the URL is none.
    """

    def __init__(self, url: str, certificate: str | None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise Malformed(explain("this is no URL of a coordinator", got=url, expected="https://host:port"))
        self._secure = parts.scheme == "https"
        super().__init__(parts.hostname, port or (443 if self._secure else 80))
        self.base = parts.path.rstrip("/")
        self._pinned = certificate
        self.used = 0
        self.sock: Any = None
        self._line: Any = None  # outlives `sock` where an answer is the last one

    def connect(self) -> None:
        """Connect, and make sure whom to.

        Raises
        ------
        WrongCertificate
            If the coordinator shows another certificate than the pinned one, or one that this machine does not trust.
        OSError
            If there is no connection.
        """
        self.used = 0
        plain = socket.create_connection((self.host, self.port), CONNECT)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._line = self.sock = self._wrapped(plain)
        except BaseException:
            plain.close()
            raise

    def _wrapped(self, plain: socket.socket) -> Any:
        if not self._secure:
            return _Plain(plain.family, plain.type, plain.proto, plain.detach())
        context = _context(pinned=self._pinned is not None)
        plain.getpeername()  # an error where the other side has gone: `wrap_socket` would lose the socket then
        try:
            secure = context.wrap_socket(plain, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            what = "this machine does not trust the certificate of the coordinator"
            raise WrongCertificate(explain(what, got=error.verify_message, where=self.host)) from None
        try:
            shown = secure.getpeercert(binary_form=True) or b""
        except OSError:  # the other side hung up before the handshake began
            secure.close()
            raise
        if self._pinned is not None and (found := hashlib.sha256(shown).hexdigest()) != self._pinned:
            secure.close()
            what = "the coordinator shows another certificate than the pinned one"
            raise WrongCertificate(
                explain(what, got=found, expected=self._pinned, where=self.host, hint=WrongCertificate.hint)
            )
        return secure

    def limit(self, seconds: float) -> None:
        """Whatever follows ends in so many seconds."""
        if self._line is not None:
            self._line.until = time.monotonic() + seconds

    def beat(self, seconds: float) -> None:
        """Whoever waits for an answer from now on sends an empty line every so many seconds; 0: not any more."""
        if self._line is not None:
            self._line.beat = seconds

    def __del__(self) -> None:
        """A thread that ended leaves its connection behind."""
        with contextlib.suppress(Exception):
            self.close()

    def abort(self) -> None:
        """End whatever waits on this connection in another thread."""
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


_contexts: dict[bool, ssl.SSLContext] = {}


def _context(*, pinned: bool) -> ssl.SSLContext:
    """TLS 1.3 alone; a pinned certificate is compared by who connects, any other one is checked as usual."""
    if pinned not in _contexts:
        # where the certificate is pinned, the authorities that this machine trusts are not read: that takes a while
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if pinned else ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslsocket_class = _Tls
        if pinned:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _contexts[pinned] = context
    return _contexts[pinned]
