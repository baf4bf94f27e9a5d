"""A coordinator from its folder: keys, certificate, broker, one port, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
import uvloop

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.broker import Broker
from atoll.silo.durable import reached
from atoll.silo.errors import Conflict, Malformed, NotFound
from atoll.silo.files import private_folder, write_whole
from atoll.silo.home import Profile
from atoll.silo.keys import Key, certificate, server_context
from atoll.silo.server.app import App
from atoll.silo.server.connection import Reading
from atoll.silo.server.people import new_login
from atoll.silo.server.service import FAILURES, Service, Settings

__all__ = ["ADMIN", "PORT", "Coordinator", "Folder"]

ADMIN = "admin"
"""Name of the member whose key lies in the coordinator's own folder."""

PORT = 8443
"""Where a coordinator listens that was never told."""

_KEEP = 75  # seconds that a connection may be idle between requests
_PATIENCE = 10  # seconds for requests to end when the coordinator does
_BACKLOG = 4096
_FILES = 65536
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104


class Folder:
    """What lies in a coordinator's folder besides what its broker knows.

    Parameters
    ----------
    path : path-like
        Made when missing, with keys and certificate.
    hosts : tuple of str
        Names for the certificate, if it is made now.

    Attributes
    ----------
    path : Path
        The folder.
    key : Key
        The coordinator's signing key.
    certificate, tls_key : Path
        For TLS.
    fingerprint : str
        SHA-256 of the certificate, hexadecimal.
    admin : Key
        Of the member `ADMIN`.
    """

    def __init__(self, path: str | os.PathLike[str], hosts: tuple[str, ...] = ()) -> None:
        self.path = private_folder(path)
        self.key = _key(self.path / "signing.key")
        names = tuple(dict.fromkeys((*hosts, "localhost", "127.0.0.1", "::1")))
        self.certificate, self.tls_key, self.fingerprint = certificate(self.path, names)
        self.admin = _key(private_folder(self.path / "admin") / "key")

    @property
    def settings(self) -> Settings | None:
        """How members reach the coordinator, as it was at its last start; None before the first."""
        try:
            url = (self.path / "address").read_text("utf-8").strip()
            pinned = Profile(self.path / "admin").certificate
        except (FileNotFoundError, NotFound):
            return None
        return Settings(self.key, url, pinned, behind_proxy=pinned is None)

    @property
    def last_port(self) -> int:
        """Where it listened last; `PORT` before the first start."""
        try:
            return int((self.path / "port").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return PORT

    def open_broker(self, *, lost_after: float = 60.0) -> Broker:
        """What the coordinator knows; its admin is a member of it.

        Raises
        ------
        Conflict
            If a coordinator runs in this folder.
        """
        broker = Broker(self.path, federation=self.key.fingerprint, lost_after=lost_after)
        broker.add_member(ADMIN, "admin", self.admin.public)
        return broker


class Coordinator:
    """A coordinator that is about to run.

    Parameters
    ----------
    folder : path-like
        Where it keeps everything; made when missing.
    host : str, default="127.0.0.1"
        Address to listen at.
    port : int, optional
        0: any free one; None: that of the last start, or `PORT`.
    url : str, optional
        Where members reach it; by default this machine, at the port.
    behind_proxy : bool, default=False
        Whether a reverse proxy ends TLS; plain HTTP is spoken, at a loopback address only.
    lost_after : float, default=60.0
        Seconds that a node may be away before open questions go on without it.
    failures : int, default=600
        Times a minute that one address may fail to say who it is; 0: any number.
    forwarded : bool, default=False
        Whether the proxy writes the caller's address as the last one in ``X-Forwarded-For``.

    Attributes
    ----------
    url, local_url : str
        Where members, and this machine, reach it.
    login : Login
        What opens the dashboard once, as the admin; there once it runs.

    Raises
    ------
    Malformed
        If the URL is none, has a path, a proxy is announced at an address that others reach, or what it forwards is
        trusted without one.
    Conflict
        If another coordinator uses the folder or the port.
    """

    login: api.Login

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        url: str | None = None,
        behind_proxy: bool = False,
        lost_after: float = 60.0,
        failures: int = FAILURES,
        forwarded: bool = False,
    ) -> None:
        _checked(url, host, behind_proxy=behind_proxy, forwarded=forwarded)
        self._behind_proxy, self._failures, self._forwarded = behind_proxy, failures, forwarded
        seen, scheme = _seen_as(host), "http" if behind_proxy else "https"
        self.folder = Folder(folder, tuple(filter(None, (url and urlsplit(url).hostname, seen))))
        with contextlib.ExitStack() as stack:
            self._broker = self.folder.open_broker(lost_after=lost_after)
            stack.callback(self._broker.close)
            self._socket = stack.enter_context(_bound(host, self.folder.last_port if port is None else port))
            self._open = stack.pop_all()
        port = self._socket.getsockname()[1]
        self.local_url = f"{scheme}://{_bracketed('127.0.0.1' if host in _EVERYWHERE else host)}:{port}"
        self.url = (url or f"{scheme}://{_bracketed(seen)}:{port}").rstrip("/")
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: Service | None = None
        self._ready = threading.Event()

    @property
    def pinned(self) -> str | None:
        """SHA-256 of the certificate that members see; None behind a proxy, which shows its own."""
        return None if self._behind_proxy else self.folder.fingerprint

    def run(self, started: Callable[[Coordinator], None] | None = None) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; whoever waits is told to come back, and what was taken in is kept.

        Parameters
        ----------
        started : callable, optional
            Called with the coordinator once it answers.
        """
        with self._open, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(started))

    def stop(self) -> None:
        """End `run`; from any thread, at any time."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._end)

    def wait(self, seconds: float = 30.0) -> bool:
        """Wait in another thread until requests are answered; whether they are."""
        return self._ready.wait(seconds)

    async def _serve(self, started: Callable[[Coordinator], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        _raise_limit()
        _keep_memory()
        settings = Settings(
            self.folder.key,
            self.url,
            self.pinned,
            self._behind_proxy,
            longest_poll=50.0 if self._behind_proxy else 120.0,
            failures=self._failures,
            forwarded=self._forwarded,
        )
        service = self._service = Service(self._broker, settings)
        try:
            self._write_down()
            self.login = await new_login(service, ADMIN)
            self._server = _Server(self._config(App(service)), lambda: self._started(started))
            with self._signals():
                await self._server.serve(sockets=[self._socket])
        finally:
            await service.close()

    def _started(self, started: Callable[[Coordinator], None] | None) -> None:
        self._ready.set()
        if started is not None:
            started(self)

    def _end(self) -> None:
        if self._service is not None:
            self._service.topics.close()
        if self._server is not None:
            self._server.should_exit = True

    def _write_down(self) -> None:
        """Where it is: for people and programs, and for the admin's own requests."""
        folder = self.folder
        write_whole(folder.path / "port", f"{self._socket.getsockname()[1]}\n".encode())
        reached("coordinator.port.written")
        Profile.create(
            folder.path / "admin", url=self.local_url, name=ADMIN, role="admin", federation=folder.key.fingerprint,
            signing_key=folder.key.public, certificate=self.pinned, key=folder.admin,
        )  # fmt: skip
        reached("coordinator.admin.written")
        write_whole(folder.path / "address", f"{self.url}\n".encode())
        reached("coordinator.address.written")

    def _config(self, app: App) -> uvicorn.Config:
        tls = None if self._behind_proxy else server_context(self.folder.certificate, self.folder.tls_key)
        more: dict[str, Any] = {"http": Reading}  # a BufferedProtocol, which uvicorn's own type does not name
        if tls is not None:
            more["ssl_context_factory"] = lambda config, default: tls
        return uvicorn.Config(
            app, ws="none", lifespan="off", interface="asgi3", loop="none", log_config=None,
            access_log=False, proxy_headers=False, server_header=False, date_header=True, backlog=_BACKLOG,
            timeout_keep_alive=_KEEP, timeout_graceful_shutdown=_PATIENCE, **more,
        )  # fmt: skip

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT end the coordinator, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        for number in wanted:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us and tells when it has begun."""

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun = begun

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()


def _key(path: Path) -> Key:
    if path.exists():
        return Key.load(path)
    key = Key.make()
    key.save(path)
    reached("coordinator.key.written")
    return key


def _checked(url: str | None, host: str, *, behind_proxy: bool, forwarded: bool) -> None:
    if forwarded and not behind_proxy:
        raise Malformed(explain("without a proxy, anybody could write X-Forwarded-For", hint="--behind-proxy"))
    if behind_proxy and host not in ("127.0.0.1", "::1", "localhost"):
        hint = "a proxy on this machine connects to 127.0.0.1; without TLS nothing else may"
        raise Malformed(explain("behind a proxy, only this machine may connect", got=host, hint=hint))
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Malformed(
            explain("this is no URL for a coordinator", got=url, expected="https://name or https://name:port")
        )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where, hint = f"{host}:{port}", "name another port (-p), or 0 for any free one"
        raise Conflict(
            explain("the coordinator cannot listen there", got=error.strerror, where=where, hint=hint)
        ) from None


def _seen_as(host: str) -> str:
    """The address under which others see this machine, as far as it knows itself."""
    if host not in _EVERYWHERE:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # nothing is sent
        try:
            sock.connect(("192.0.2.1", 9))
            return str(sock.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _raise_limit() -> None:
    """As many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


def _keep_memory() -> None:
    """Have the allocator keep up to 16 MiB that it has mapped, instead of giving them back after every record.

    Decryption allocates 256 KiB for each 16 KiB that it reads. With the allocator's own limits the kernel maps and
    clears these pages again and again, which takes more of its time than all the rest of an upload.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((_TRIM_THRESHOLD, 16 << 20), (_MMAP_THRESHOLD, 4 << 20), (_TOP_PAD, 1 << 20)):
            set_option(option, value)
