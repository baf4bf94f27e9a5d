"""Uploads that stop and go on, and files that are there whole or not at all, and no longer than they are needed."""

from __future__ import annotations

import errno
import os
import threading
from collections import namedtuple

import numpy as np
import pytest

from atoll import wire
from atoll.silo import errors
from atoll.silo.broker import store
from atoll.silo.broker.blobs import DAY
from atoll.silo.tasks import Blob, blob_of
from brokers import Site, upload

DATA = bytes(range(256)) * 40


@pytest.fixture
def site(place):
    site = Site(place / "b", 2)
    yield site
    site.broker.close()


def files(site, folder="blobs"):
    return [p for p in (site.folder / folder).rglob("*") if p.is_file()]


def test_an_upload_goes_on_where_it_stood(site):
    blob = blob_of(DATA)
    assert site.broker.upload("alice", blob) == (0, False)
    assert site.broker.uploads.append("alice", blob.digest, 0, DATA[:1000]) == 1000
    assert not site.broker.finish("alice", blob)
    for offset in (0, 999, 1001, 2000):
        with pytest.raises(errors.Conflict) as raised:
            site.broker.uploads.append("alice", blob.digest, offset, DATA[1000:1010])
        assert raised.value.more == {"offset": 1000}
    site.reopen()
    with pytest.raises(errors.NotFound):
        site.broker.uploads.append("alice", blob.digest, 1000, DATA[1000:])
    assert site.broker.upload("alice", blob) == (1000, False)
    assert site.broker.uploads.append("alice", blob.digest, 1000, memoryview(DATA)[1000:]) == len(DATA)
    assert site.broker.upload("alice", blob) == (len(DATA), True)
    assert site.broker.finish("alice", blob)
    assert [p.read_bytes() for p in files(site)] == [DATA]
    assert files(site, "staging") == []


def test_a_complete_upload_is_finished_after_a_restart(site):
    blob = blob_of(DATA)
    site.broker.upload("alice", blob)
    site.broker.uploads.append("alice", blob.digest, 0, DATA)
    site.reopen()
    assert site.broker.upload("alice", blob) == (blob.size, True)
    assert site.broker.has("alice", blob)
    assert site.reopen().has("alice", blob)


def test_an_empty_upload_needs_no_chunk(site):
    assert site.broker.upload("alice", blob_of(b"")) == (0, True)


@pytest.mark.parametrize("restart", [False, True])
def test_other_bytes_than_announced_are_refused_and_forgotten(site, restart):
    blob = blob_of(DATA)
    site.broker.upload("alice", blob)
    site.broker.uploads.append("alice", blob.digest, 0, DATA[:-1])
    if restart:
        site.reopen()
        (path,) = files(site, "staging")
        path.write_bytes(b"x" + DATA[1:])
        with pytest.raises(errors.Digest):
            site.broker.upload("alice", blob)
    else:
        with pytest.raises(errors.Digest):
            site.broker.uploads.append("alice", blob.digest, len(DATA) - 1, b"x")
    assert files(site, "staging") == []
    assert files(site) == []
    upload(site.broker, "alice", DATA)


def test_what_cannot_be_uploaded(site):
    uploads = site.broker.uploads
    for digest in ("", "0" * 63, "G" * 64, "../" + "0" * 61, "0" * 65):
        with pytest.raises(errors.Malformed):
            uploads.begin("alice", Blob(digest, 5))
    with pytest.raises(errors.Malformed):
        uploads.begin("alice", Blob("0" * 64, -1))
    with pytest.raises(errors.TooLarge):
        uploads.begin("alice", Blob("0" * 64, (1 << 36) + 1))
    uploads.begin("alice", Blob("0" * 64, 5))
    with pytest.raises(errors.Conflict):
        uploads.begin("alice", Blob("0" * 64, 6))
    with pytest.raises(errors.TooLarge):
        uploads.append("alice", "0" * 64, 0, b"123456")
    with pytest.raises(errors.NotFound):
        uploads.append("node-000", "0" * 64, 0, b"1")
    site.reopen()
    with pytest.raises(errors.Conflict):
        site.broker.uploads.begin("alice", Blob("0" * 64, 6))
    assert site.broker.uploads.begin("node-000", Blob("0" * 64, 6)) == 0


def test_unfinished_uploads_are_bounded(site):
    for i in range(256):
        site.broker.uploads.begin("alice", Blob(f"{i:064x}", 5))
    with pytest.raises(errors.Rate):
        site.broker.uploads.begin("alice", Blob("f" * 64, 5))
    assert site.broker.uploads.begin("node-000", Blob("f" * 64, 5)) == 0


def test_uploads_that_are_refused_are_not_remembered(site):
    for i in range(256):
        site.broker.uploads.begin("alice", Blob(f"{i:064x}", 5))
    for i in range(256, 300):
        with pytest.raises(errors.Rate):
            site.broker.uploads.begin("alice", Blob(f"{i:064x}", 5))
    assert len(site.broker.uploads._staged) == 256


def test_two_members_upload_the_same_bytes_each_for_itself(site):
    blob = blob_of(DATA)
    upload(site.broker, "alice", DATA)
    assert not site.broker.has("node-000", blob)  # or one would learn what others have sent
    assert site.broker.upload("node-000", blob) == (0, False)
    upload(site.broker, "node-000", DATA)
    assert len(files(site)) == 1
    site.broker.revoke("alice", "admin")
    assert len(files(site)) == 1
    site.broker.revoke("node-000", "admin")
    assert files(site) == []


def test_an_upload_is_read_by_nobody(site):
    blob = upload(site.broker, "node-000", DATA)
    for member in ("alice", "node-000", "node-001"):
        with pytest.raises(errors.NotFound):
            site.broker.find(member, blob.digest)


def test_equal_answers_of_two_nodes_are_one_file_and_count_twice(site):
    site.open()
    x = site.question({"x": np.zeros(20_000)})
    site.ask(x)
    data = wire.encode({"x": np.ones(20_000)})
    site.answer(x, 0, data)
    assert len(files(site)) == 1
    site.answer(x, 1, data)
    site.fold()
    assert site.outcome(x)[1]["x"].tolist() == [2.0] * 20_000
    assert len(files(site)) == 1
    for member in ("node-000", "alice"):
        with pytest.raises(errors.NotFound):
            site.broker.find(member, blob_of(data).digest)


def test_what_is_old_is_swept(site):
    kept, staged = upload(site.broker, "alice", DATA), blob_of(b"abc")
    site.broker.upload("node-000", staged)
    site.broker.uploads.append("node-000", staged.digest, 0, b"a")
    (path,) = files(site, "staging")
    os.utime(path, (site.clock(), site.clock()))
    site.broker.sweep(site.clock() + DAY - 1)
    assert (len(files(site)), len(files(site, "staging"))) == (1, 1)
    site.broker.sweep(site.clock() + DAY + 1)
    assert (files(site), files(site, "staging")) == ([], [])
    assert not site.broker.has("alice", kept)
    with pytest.raises(errors.NotFound):
        site.broker.uploads.append("node-000", staged.digest, 1, b"b")
    assert site.broker.upload("node-000", staged) == (0, False)


def test_what_a_kill_left_behind_is_cleaned(site):
    upload(site.broker, "alice", DATA)
    (site.folder / "blobs" / "00").mkdir(exist_ok=True)
    (site.folder / "blobs" / "00" / ("0" * 64)).write_bytes(b"nobody's")
    (site.folder / "folds" / "1-0-8").write_bytes(b"half")
    site.reopen()
    assert (len(files(site)), files(site, "folds")) == (1, [])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_an_upload_where_it_stood(site, monkeypatch, code):
    blob = blob_of(DATA)
    site.broker.upload("alice", blob)
    site.broker.uploads.append("alice", blob.digest, 0, DATA[:100])
    real, calls = os.pwrite, []

    def fails(file, data, offset):
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(code, "no room")
        return real(file, data[:50], offset)

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(errors.DiskFull):
        site.broker.uploads.append("alice", blob.digest, 100, DATA[100:])
    monkeypatch.undo()
    (path,) = files(site, "staging")
    assert path.stat().st_size == 100
    assert site.broker.uploads.append("alice", blob.digest, 100, DATA[100:]) == len(DATA)
    assert site.broker.finish("alice", blob)


def test_no_upload_begins_without_room_for_it(site, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(1, 1, (1 << 26) + 100))
    with pytest.raises(errors.DiskFull):
        site.broker.uploads.begin("alice", Blob("0" * 64, 101))
    assert site.broker.uploads.begin("alice", Blob("1" * 64, 100)) == 0
    assert len(files(site, "staging")) == 1


def test_uploads_of_many_threads(site):
    """The same and other blobs of several members at once; chunks that come twice are told where the upload stands."""
    rng = np.random.default_rng(0)
    wanted = [(m, rng.bytes(50_000)) for m in ("alice", "node-000", "node-001") for _ in range(3)]
    uploads = site.broker.uploads

    def send(member, data):
        blob = blob_of(data)
        offset = uploads.begin(member, blob)
        while offset < blob.size:
            try:
                offset = uploads.append(member, blob.digest, offset, data[offset : offset + 777])
            except errors.Conflict as error:
                offset = error.more["offset"]

    threads = [threading.Thread(target=send, args=w) for w in wanted for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(site.broker.finish(member, blob_of(data)) for member, data in wanted)
    assert sorted(p.read_bytes() for p in files(site)) == sorted(data for _, data in wanted)
