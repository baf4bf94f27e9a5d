"""How rows are written for local workers."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.engines.channel import Opened, Segment, share
from atoll.engines.rows import written
from atoll.shards import Shard


def on_files(folder, n, files):
    """Shards of two rows each, in turn over some files, mapped."""
    for i in range(files):
        np.save(folder / f"{i}.npy", np.arange(n * 6, dtype=np.float32).reshape(n * 2, 3) + i)
    mapped = [np.load(folder / f"{i}.npy", mmap_mode="r") for i in range(files)]
    return [Shard.of(f"n{i:04d}", mapped[i % files][2 * i : 2 * i + 2], np.arange(2)) for i in range(n)]


@pytest.mark.parametrize("files", [1, 3, 40])
def test_shards_that_lie_in_files_are_held_as_they_are(tmp_path, files):
    shards = on_files(tmp_path, 200, files)
    frames, held = written(shards)
    assert [h.name for h in held] == [s.name for s in shards]
    assert all((h.X == s.X).all() and (h.y == s.y).all() for h, s in zip(held, shards, strict=True))
    assert all(1 <= sum(isinstance(blob, Opened) for blob in frame) <= 12 for frame in frames)


def test_many_nodes_of_one_file_take_few_messages(tmp_path):
    """Each message has the file open once more."""
    frames, _ = written(on_files(tmp_path, 500, 1))
    assert len(frames) <= 10


def test_a_segment_holds_its_parts_one_after_the_other():
    """More of them than the kernel takes at once, and empty ones among them."""
    parts = [memoryview(bytes([i % 251]) * (i % 7)) for i in range(3000)]
    assert bytes(Segment(parts).view) == b"".join(parts)


def test_what_is_shared_reads_as_it_was_written():
    array = np.arange(10_000.0)
    segment = share({"a": array})
    assert isinstance(segment, Segment)
    assert segment.size == len(segment.view)
    assert array.tobytes() in bytes(segment.view)
