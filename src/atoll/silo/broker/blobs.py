"""Blobs on disk by the name of their content, who needs them, and which bytes are on their way in.

A blob is a file that is written elsewhere, synced, linked to its name, and only then recorded: so a recorded blob is
whole. It stays as long as something refers to it (`refs`); its file goes after the commit that took the last reference.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll.errors import explain
from atoll.silo.broker.store import Store, full, room
from atoll.silo.broker.types import Found
from atoll.silo.durable import reached
from atoll.silo.errors import Conflict, Digest, Malformed, NotFound, Rate, SiloError, TooLarge
from atoll.silo.files import private_folder
from atoll.silo.tasks import Blob, blob_of

__all__ = ["DAY", "Blobs", "Uploads"]

DAY = 86400.0

_STAGED = 256
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK = 1 << 20
_AHEAD = 1 << 22  # bytes after which the disk begins with them, so that the last sync is short
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE
_libc = ctypes.CDLL(None)


class _Staged:
    """One upload: how much of it has arrived, and the hash of that."""

    def __init__(self, path: Path, blob: Blob) -> None:
        self.path, self.blob = path, blob
        self.lock = threading.Lock()
        self.hash = hashlib.sha256()
        self.offset, self.sound = 0, False

    def catch_up(self) -> None:
        """Hash what an earlier process received."""
        with open(self.path, "rb") as file:
            while chunk := file.read(_CHUNK):
                self.hash.update(chunk)
                self.offset += len(chunk)


class Uploads:
    """Bytes on their way in, staged per member; `begin` and `append` may be called from any thread.

    A staged upload is a file of its own; what of it has arrived is its length, so nothing else needs to be stored.

    Parameters
    ----------
    folder : Path
        Where they are staged.
    most : int
        Bytes that one may have.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._staged: dict[tuple[str, str], _Staged] = {}
        self._lock = threading.Lock()

    def begin(self, member: str, blob: Blob) -> int:
        """Bytes that have arrived already; `blob.size` when all have. Any thread.

        Raises
        ------
        TooLarge
            If the blob is larger than the broker's limit.
        Conflict
            If the same digest is being uploaded with another size.
        Rate
            If too many uploads of this member are unfinished.
        DiskFull
            If there is no room for it.
        """
        if not _DIGEST.match(blob.digest) or blob.size < 0:
            raise Malformed(explain("a blob is named by its SHA-256 and its size", got=blob.digest[:80]))
        if blob.size > self._most:
            raise TooLarge(explain("an upload is too large", got=blob.size, expected=f"at most {self._most} bytes"))
        staged = self._entry(member, blob)
        with staged.lock:
            if not staged.path.exists():
                try:
                    self._make(member, staged)
                except SiloError:  # what was refused is not remembered, however often it is announced
                    self.drop(member, blob.digest)
                    raise
            elif not staged.offset and staged.path.stat().st_size:
                staged.catch_up()
                if staged.offset > blob.size:
                    staged.path.unlink()
                    self._make(member, staged)
            return staged.offset

    def _entry(self, member: str, blob: Blob) -> _Staged:
        with self._lock:
            staged = self._staged.get((member, blob.digest))
            if staged is None:
                path = self._folder / member / f"{blob.digest}.{blob.size}"
                other = next(iter(path.parent.glob(f"{blob.digest}.*")), path)
                if other != path:
                    raise Conflict(explain("this digest is being uploaded with another size", got=blob.size))
                staged = self._staged[member, blob.digest] = _Staged(path, blob)
            if staged.blob.size != blob.size:
                raise Conflict(explain("this digest is being uploaded with another size", got=blob.size))
            return staged

    def _make(self, member: str, staged: _Staged) -> None:
        """An empty file for a new upload, if there is room."""
        folder = staged.path.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        if len(os.listdir(folder)) >= _STAGED:
            raise Rate(explain("too many uploads are unfinished", expected=f"at most {_STAGED}"), more={"seconds": 60})
        room(self._folder, staged.blob.size)
        with _told():
            staged.path.touch(mode=0o600)
            reached("coordinator.upload.begun")
        staged.hash, staged.offset, staged.sound = hashlib.sha256(), 0, False

    def append(self, member: str, digest: str, offset: int, chunk: bytes | memoryview) -> int:
        """Write a chunk at an offset, hashing it; returns the new offset. Any thread.

        When this completes the upload, its hash is checked and the file is on disk for good; `Broker.finish` makes it
        a blob.

        Raises
        ------
        NotFound
            If no such upload was begun since the broker started; begin it again.
        Conflict
            If the offset is not where the upload stands; `more["offset"]` says where it does.
        TooLarge
            If the chunk reaches beyond the announced size.
        Digest
            If all bytes are there and do not have the hash; the staged file is deleted.
        DiskFull
            If there is no room; the upload stands where it stood.
        """
        staged = self._staged.get((member, digest))
        if staged is None:
            raise NotFound(explain("no such upload was begun", got=digest[:80]))
        with staged.lock:
            if offset != staged.offset:
                more = {"offset": staged.offset}
                raise Conflict(
                    explain("an upload goes on where it stands", got=offset, expected=staged.offset), more=more
                )
            size = memoryview(chunk).nbytes
            if offset + size > staged.blob.size:
                raise TooLarge(explain("an upload is longer than announced", expected=f"{staged.blob.size} bytes"))
            self._write(staged, chunk)
            if staged.offset == staged.blob.size:
                self._verify(staged)
            reached("coordinator.upload.appended")
            return staged.offset

    def _write(self, staged: _Staged, chunk: bytes | memoryview) -> None:
        """All of a chunk, or nothing of it."""
        view, at = memoryview(chunk).cast("B"), staged.offset
        room(self._folder, view.nbytes)
        try:
            with _told(), open(staged.path, "r+b", buffering=0) as file:
                try:
                    while view.nbytes:
                        done = os.pwrite(file.fileno(), view, at)
                        view, at = view[done:], at + done
                    if at // _AHEAD > staged.offset // _AHEAD:
                        _begin_writing(file.fileno())
                    if at == staged.blob.size:
                        os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), staged.offset)
                    raise
        except FileNotFoundError:
            raise NotFound(explain("this upload was given up", hint="begin it again")) from None
        staged.hash.update(chunk)
        staged.offset = at

    def _verify(self, staged: _Staged) -> None:
        if staged.hash.hexdigest() != staged.blob.digest:
            got, name = staged.hash.hexdigest(), staged.blob.digest
            staged.path.unlink(missing_ok=True)
            staged.hash, staged.offset = hashlib.sha256(), 0
            raise Digest(explain("an upload has other bytes than announced", got=got, expected=name))
        staged.sound = True

    def complete(self, member: str, blob: Blob) -> Path | None:
        """The staged file, if all of it has arrived and has its hash; None while bytes are missing.

        Raises
        ------
        Digest
            If it does not; it is deleted then.
        """
        if self.begin(member, blob) != blob.size:
            return None
        staged = self._entry(member, blob)
        with staged.lock:
            if not staged.sound:
                self._verify(staged)
                with open(staged.path, "rb") as file:
                    os.fsync(file.fileno())
            return staged.path

    def drop(self, member: str, digest: str) -> None:
        """Forget an upload and delete its file."""
        with self._lock:
            staged = self._staged.pop((member, digest), None)
        if staged is not None:
            staged.path.unlink(missing_ok=True)

    def sweep(self, before: float) -> None:
        """Delete what nobody has written to since a time; Unix seconds of the file system."""
        for path in list(self._folder.glob("*/*")):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    self.drop(path.parent.name, path.name.split(".")[0])
                    path.unlink(missing_ok=True)

    def drop_all(self, member: str) -> None:
        """Delete everything that a member has staged."""
        for path in list((self._folder / member).glob("*")):
            self.drop(member, path.name.split(".")[0])
            path.unlink(missing_ok=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (told := full(error)) is not None:
            raise told from error
        raise


class Blobs(Store):
    """A store that keeps blobs too.

    Parameters
    ----------
    folder : Path
        Made when missing, private to its owner.
    max_blob : int
        Largest upload in bytes.
    clock : callable
        Unix seconds.
    """

    def __init__(self, folder: Path, max_blob: int, clock: Callable[[], float]) -> None:
        super().__init__(private_folder(folder), clock)
        self._blobs, self._folds = folder / "blobs", folder / "folds"
        for made in (self._blobs, self._folds, folder / "staging"):
            made.mkdir(mode=0o700, exist_ok=True)
        self.uploads = Uploads(folder / "staging", max_blob)
        self._clean()

    def _clean(self) -> None:
        """Delete files that a killed process left behind: half sums, unrecorded blobs, staged ones that are recorded.

        A staged file is recorded if it is still linked to its name, or if its member has such a blob.
        """
        for path in self._folds.iterdir():
            path.unlink()
        known = {digest for (digest,) in self._all("SELECT digest FROM blobs")}
        for path in self._blobs.glob("??/*"):
            if path.name not in known:
                path.unlink()
        for path in (self.folder / "staging").glob("*/*"):
            sql = "SELECT 1 FROM refs WHERE digest = ? AND kind = 'upload' AND holder = ?"
            if path.stat().st_nlink > 1 or self._one(sql, path.name.split(".")[0], path.parent.name):
                path.unlink()

    def path(self, digest: str) -> Path:
        """Where a blob lies, or would."""
        return self._blobs / digest[:2] / digest

    def upload(self, member: str, blob: Blob) -> tuple[int, bool]:
        """Begin or resume an upload: bytes that have arrived, and whether it is a blob already.

        The same as `has`, then `Uploads.begin`, then `finish`; large staged files are hashed again after a restart,
        which takes time: a server calls the three itself, the second one in another thread.
        """
        if self.has(member, blob):
            return blob.size, True
        offset = self.uploads.begin(member, blob)
        return offset, offset == blob.size and self.finish(member, blob)

    def has(self, member: str, blob: Blob) -> bool:
        """Whether this member uploaded this blob, and it is there still."""
        sql = "SELECT size FROM refs JOIN blobs USING (digest) WHERE digest = ? AND kind = 'upload' AND holder = ?"
        return bool(self._one(sql, blob.digest, member) == (blob.size,))

    def finish(self, member: str, blob: Blob) -> bool:
        """Make a complete upload a blob; idempotent; False while bytes are missing.

        Raises
        ------
        Digest
            If the bytes are all there, and others than announced.
        """
        if self.has(member, blob):
            return True
        staged = self.uploads.complete(member, blob)
        if staged is None:
            return False
        with self._writing("upload.finished"):
            self._adopt(staged, blob, "upload", member)
            self._after.append(lambda: self.uploads.drop(member, blob.digest))
        return True

    def _adopt(self, made: Path, blob: Blob, kind: str, holder: str) -> None:
        """Give a synced file the name of its content, and record what needs it; the file itself stays too."""
        path = self.path(blob.digest)
        if self._one("SELECT 1 FROM blobs WHERE digest = ?", blob.digest) is None:
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                _sync(self._blobs)
            path.unlink(missing_ok=True)
            os.link(made, path)
            _sync(path.parent)
            reached("coordinator.blob.placed")
            self._run("INSERT INTO blobs (digest, size) VALUES (?, ?)", *blob)
        self._refer(blob.digest, kind, holder)

    def _keep(self, data: bytes, kind: str, holder: str) -> Blob:
        """Make a blob of some bytes."""
        blob, made = blob_of(data), self._folds / f"kept-{kind}"
        try:
            with _told(), open(made, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._adopt(made, blob, kind, holder)
        finally:
            made.unlink(missing_ok=True)
        return blob

    def _refer(self, digest: str, kind: str, holder: str) -> None:
        sql = "INSERT OR REPLACE INTO refs (digest, kind, holder, made) VALUES (?, ?, ?, ?)"
        self._run(sql, digest, kind, holder, self._clock())

    def _release(self, kind: str, holder: str, digest: str | None = None) -> None:
        """Something is no longer needed for this; files that nothing needs any more go after the commit."""
        sql = "SELECT digest FROM refs WHERE kind = ? AND holder = ? AND digest = coalesce(?, digest)"
        for (found,) in self._all(sql, kind, holder, digest):
            self._run("DELETE FROM refs WHERE digest = ? AND kind = ? AND holder = ?", found, kind, holder)
            if self._one("SELECT 1 FROM refs WHERE digest = ?", found) is None:
                self._run("DELETE FROM blobs WHERE digest = ?", found)
                self._after.append(lambda digest=found: self._remove(digest))  # type: ignore[misc]

    def _remove(self, digest: str) -> None:
        """Delete the file of a blob, unless it is needed again since."""
        if self._one("SELECT 1 FROM blobs WHERE digest = ?", digest) is None:
            self.path(digest).unlink(missing_ok=True)
            reached("coordinator.blob.removed")

    def find(self, member: str, digest: str) -> Found:
        """A blob that this member may read; raises `NotFound` where there is none for it.

        Tasks and what is for single positions are for those asked and for who asks, as long as the exchange is open;
        sums and states of runs are for who asks. An answer is for nobody.
        """
        for kind, sql in _READERS.items():
            row = self._one(sql, digest, member, member)
            if row is not None:
                size, inline = row
                return Found(None if inline is not None else self.path(digest), inline, size, kind)
        raise NotFound(explain("there is no such blob for you", got=digest[:80]))

    def _sweep_uploads(self, now: float) -> None:
        self.uploads.sweep(now - DAY)
        for (member,) in self._all("SELECT DISTINCT holder FROM refs WHERE kind = 'upload' AND made < ?", now - DAY):
            sql = "SELECT digest FROM refs WHERE kind = 'upload' AND holder = ? AND made < ?"
            for (digest,) in self._all(sql, member, now - DAY):
                self._release("upload", member, digest)


_READERS = {
    "task": """
        SELECT x.task_size, x.task_inline FROM exchanges x JOIN runs r ON r.id = x.run
        WHERE x.task = ?1 AND x.state IN ('open', 'closing') AND (r.owner = ?2
            OR EXISTS (SELECT 1 FROM asked a WHERE a.exchange = x.id AND a.node = ?3 AND a.state = 'open')) LIMIT 1""",
    "each": """
        SELECT a.own_size, NULL FROM exchanges x JOIN runs r ON r.id = x.run JOIN asked a ON a.exchange = x.id
        WHERE a.own = ?1 AND x.state IN ('open', 'closing') AND (r.owner = ?2 OR (a.node = ?3 AND a.state = 'open'))
        LIMIT 1""",
    "merged": """
        SELECT x.merged_size, x.merged_inline FROM exchanges x JOIN runs r ON r.id = x.run
        WHERE x.merged = ?1 AND r.owner = ?2 AND ?3 IS NOT NULL LIMIT 1""",
    "state": """
        SELECT saved_size, saved_inline FROM runs WHERE saved = ?1 AND owner = ?2 AND ?3 IS NOT NULL LIMIT 1""",
}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begin_writing(descriptor: int) -> None:
    """Have the kernel send to the disk what was written to a file, without waiting, where it has such a call."""
    call = getattr(_libc, "sync_file_range", None)
    if call is not None:
        call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_BEGIN))
