"""What a run keeps on a node: as `atoll.memory.Store` does, but on disk."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from atoll.memory import Store
from atoll.silo import durable
from atoll.silo.errors import DiskFull, Malformed
from atoll.silo.files import write_whole
from atoll.silo.node import memory as module
from atoll.silo.node.memory import KEPT, DiskMemory, of_run, tidy


def tree(seed, n=16):
    return {"w": np.random.default_rng(seed).standard_normal(n)}


def odd(seed):
    rng = np.random.default_rng(seed)
    return {
        "F": np.asfortranarray(rng.standard_normal((3, 5))),
        "f4": rng.standard_normal(7).astype(np.float32)[::2],
        "empty": np.zeros((0, 4)),
        "scalar": np.array(rng.standard_normal()),
        "flags": rng.random(5) < 0.5,
        "text": np.array(["a", "bcd", "é"]),
        "count": np.array([seed], dtype=np.int64),
    }


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape)
        assert a[name].tobytes() == b[name].tobytes()


@pytest.fixture(params=["store", "disk", "disk, opened anew each time"])
def memory(request, tmp_path):
    if request.param == "store":
        return Store()
    if request.param == "disk":
        return DiskMemory(tmp_path / "memory" / "run")

    class Anew:
        def __getattr__(self, name):
            return getattr(DiskMemory(tmp_path / "memory" / "run"), name)

    return Anew()


class TestLikeAStore:
    def test_nothing_before_the_first(self, memory):
        assert dict(memory.read(0, -1)) == {}
        assert dict(memory.read(0, 5)) == {}
        memory.write(0, 1, -1, {"a": tree(0)})
        assert dict(memory.read(0, -1)) == {}

    def test_every_array_comes_back_as_it_was(self, memory):
        memory.write(3, 1, -1, {"s": odd(0)})
        back = memory.read(3, 1)["s"]
        same(back, odd(0))
        assert all(a.flags.c_contiguous and not a.flags.writeable for a in back.values())

    def test_a_version_is_built_on_the_one_that_was_read(self, memory):
        memory.write(0, 1, -1, {"a": tree(0), "b": tree(1)})
        memory.write(0, 2, 1, {"b": tree(2)})
        same(memory.read(0, 2)["a"], tree(0))
        same(memory.read(0, 2)["b"], tree(2))

    def test_what_was_not_accepted_leaves_no_trace(self, memory):
        memory.write(0, 1, -1, {"a": tree(0)})
        memory.write(0, 2, 1, {"a": tree(1), "b": tree(1)})
        memory.write(0, 3, 1, {"a": tree(2)})
        found = memory.read(0, 3)
        assert found.keys() == {"a"}
        same(found["a"], tree(2))
        assert dict(memory.read(0, 2)) == {}

    def test_a_version_that_is_written_again_takes_the_place_of_the_first(self, memory):
        memory.write(0, 1, -1, {"a": tree(0)})
        memory.write(0, 1, -1, {"a": tree(1)})
        same(memory.read(0, 1)["a"], tree(1))

    def test_a_version_built_on_itself(self, memory):
        memory.write(0, 1, -1, {"a": tree(0)})
        memory.write(0, 1, 1, {"b": tree(1)})
        same(memory.read(0, 1)["a"], tree(0))
        same(memory.read(0, 1)["b"], tree(1))

    def test_nodes_are_apart(self, memory):
        memory.write(0, 1, -1, {"a": tree(0)})
        memory.write(1, 1, -1, {"a": tree(1)})
        same(memory.read(0, 1)["a"], tree(0))
        same(memory.read(1, 1)["a"], tree(1))


@pytest.mark.parametrize("seed", range(5))
def test_random_histories(tmp_path, seed):
    print("seed", seed)
    rng, stores = np.random.default_rng(seed), [Store(), DiskMemory(tmp_path / "m" / "r")]
    base = dict.fromkeys(range(3), -1)
    for number in range(60):
        node, slot = int(rng.integers(3)), f"s{rng.integers(2)}"
        seen = [store.read(node, base[node]) for store in stores]
        assert seen[0].keys() == seen[1].keys()
        for name in seen[0]:
            same(seen[0][name], seen[1][name])
        for store in stores:
            store.write(node, number, base[node], {slot: tree(number)})
        if rng.random() < 0.7:
            base[node] = number


class TestDisk:
    def test_what_cannot_be_read_again_is_deleted(self, tmp_path):
        memory = DiskMemory(tmp_path / "m" / "r")
        for number in range(30):
            memory.read(0, number - 1)
            memory.write(0, number, number - 1, {"c": tree(number), "d": tree(-number % 7)})
        assert len(list(memory.folder.rglob("*.tree"))) == 4
        assert len(list(memory.folder.rglob("*.json"))) == 2

    def test_a_kill_at_every_step_leaves_a_version_whole_or_not_at_all(self, tmp_path):
        steps = []
        stop = durable.watch(steps.append)
        DiskMemory(tmp_path / "m" / "dry").write(0, 2, 1, {"a": tree(5), "b": tree(6)})
        stop()
        assert steps == ["node.memory.slot", "node.memory.slot", "node.memory.version"]
        for at in range(len(steps)):
            memory = DiskMemory(tmp_path / "m" / f"r{at}")
            memory.write(0, 1, -1, {"a": tree(0), "b": tree(1)})
            left = iter(range(at, -1, -1))

            def kill(step, left=left):
                if next(left) == 0:
                    raise KeyboardInterrupt

            stop = durable.watch(kill)
            with pytest.raises(KeyboardInterrupt):
                memory.write(0, 2, 1, {"a": tree(5), "b": tree(6)})
            stop()
            again = DiskMemory(memory.folder)
            same(again.read(0, 1)["a"], tree(0))
            assert again.read(0, 2).keys() in (set(), {"a", "b"})
            again.write(0, 2, 1, {"a": tree(5), "b": tree(6)})
            same(again.read(0, 2)["b"], tree(6))
            assert len(list(memory.folder.rglob("*.tree"))) == 2

    def test_a_full_disk_leaves_the_versions_as_they_were(self, tmp_path, monkeypatch):
        memory = DiskMemory(tmp_path / "m" / "r")
        memory.write(0, 1, -1, {"a": tree(0)})

        def full(path, data, **more):
            if str(path).endswith(".json"):
                raise DiskFull("no room")
            write_whole(path, data, **more)

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_whole", full)
            with pytest.raises(DiskFull):
                memory.write(0, 2, 1, {"a": tree(1)})
        same(memory.read(0, 1)["a"], tree(0))
        assert dict(memory.read(0, 2)) == {}

    def test_a_file_that_was_altered_is_an_error(self, tmp_path):
        memory = DiskMemory(tmp_path / "m" / "r")
        memory.write(0, 1, -1, {"a": tree(0)})
        (memory.folder / "0" / "1.json").write_text("{")
        with pytest.raises(Malformed):
            memory.read(0, 1)

    def test_runs_and_owners_are_apart_whatever_their_names(self, tmp_path):
        names = ["a", "a/..", "..", "", "é", "x" * 400, "a b"]
        folders = {of_run(tmp_path, key, run).folder for key in ("k", "k a") for run in names}
        assert len(folders) == 2 * len(names)
        assert {f.parent for f in folders} == {tmp_path}

    def test_old_ones_are_tidied_away(self, tmp_path):
        of_run(tmp_path / "m", "k", "old").write(0, 1, -1, {"a": tree(0)})
        of_run(tmp_path / "m", "k", "new").write(0, 1, -1, {"a": tree(0)})
        old = of_run(tmp_path / "m", "k", "old").folder
        now = random.Random(0).uniform(1, 2) + KEPT
        for path in [*old.rglob("*"), old]:
            os.utime(path, (0, 0))
        assert tidy(tmp_path / "m", now) == 1
        assert not old.exists()
        assert tidy(tmp_path / "none") == 0
