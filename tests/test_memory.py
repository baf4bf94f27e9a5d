"""What nodes keep: in memory up to a bound, on disk beyond it; the same either way."""

from __future__ import annotations

import gc
import os
import tracemalloc

import numpy as np
import pytest

from atoll import memory
from atoll.memory import Store

KB = 1024


def tree(seed: int, n: int = KB // 8) -> dict[str, np.ndarray]:
    return {"w": np.random.default_rng(seed).standard_normal(n)}


def odd(seed: int) -> dict[str, np.ndarray]:
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
        assert a[name].dtype == b[name].dtype
        assert a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes()


class TestAsItLies:
    def test_what_comes_together_may_stay_together(self):
        """Slots of one large array: copies of their parts, or the parts as they are; the same on the way to disk."""
        whole = np.arange(3 * 128, dtype=np.float64)
        for limit in (None, KB):
            lies, copied = Store(limit), Store(limit)
            for node in range(3):
                part = whole[128 * node : 128 * (node + 1)]
                lies.write(node, 1, -1, {"c": {"w": part, "t": part.reshape(8, 16).T}}, as_it_lies=True)
                copied.write(node, 1, -1, {"c": {"w": part, "t": part.reshape(8, 16).T}})
            for node in range(3):
                same(lies.read(node, 1)["c"], copied.read(node, 1)["c"])
                assert not lies.read(node, 1)["c"]["w"].flags.writeable
            assert (lies.held, lies.spilled) == (copied.held, copied.spilled)
            if limit is None:
                assert np.shares_memory(lies.read(0, 1)["c"]["w"], whole)
                assert not np.shares_memory(copied.read(0, 1)["c"]["w"], whole)
        assert whole.flags.writeable, "what was given is left as it was"


class TestSpilling:
    def test_a_small_store_opens_no_file(self):
        store = Store(10 * KB)
        for node in range(10):
            store.write(node, 1, -1, {"c": tree(node)})
        assert (store.held, store.spilled, store.files) == (10 * KB, 0, 0)

    def test_what_does_not_fit_goes_to_one_file_per_slot_and_block_of_nodes(self):
        store, n = Store(10 * KB), 2 * memory.NODES_PER_FILE
        for node in range(0, n, 64):
            store.write(node, 1, -1, {"c": tree(node), "d": tree(-node % 97)})
        assert store.held <= 10 * KB
        assert store.held + store.spilled == 2 * (n // 64) * KB
        assert store.files == 4
        for node in range(0, n, 64):
            same(store.read(node, 1)["c"], tree(node))

    @pytest.mark.parametrize("limit", [0, 300, 1 << 30])
    def test_every_array_comes_back_as_it_was(self, limit):
        store = Store(limit)
        for node in range(20):
            store.write(node, 1, -1, {"s": odd(node)})
        for node in range(20):
            back = store.read(node, 1)["s"]
            same(back, odd(node))
            assert all(a.flags.c_contiguous and not a.flags.writeable for a in back.values())

    @pytest.mark.parametrize("seed", range(5))
    def test_the_same_with_and_without_spilling(self, seed):
        print("seed", seed)
        rng, stores = np.random.default_rng(seed), [Store(limit) for limit in (0, 3000, 1 << 30)]
        base = dict.fromkeys(range(12), -1)
        for number in range(300):
            node, slot = int(rng.integers(12)), f"s{rng.integers(2)}"
            keep = {slot: tree(number, int(rng.integers(1, 90)))}
            seen = [store.read(node, base[node]) for store in stores]
            for one in seen:
                assert one.keys() == seen[0].keys()
                for name in one:
                    same(one[name], seen[0][name])
            for store in stores:
                store.write(node, number, base[node], keep)
            if rng.random() < 0.7:
                base[node] = number
        assert stores[0].held == 0
        assert stores[1].held <= 3000
        assert stores[2].spilled == 0

    def test_thousands_of_control_variates_do_not_grow_memory(self):
        nodes, limit, size = 2000, 64 * KB, 16 * KB
        tracemalloc.start()
        try:
            store = Store(limit)
            for number in range(2):
                for node in range(nodes):
                    seen = store.read(node, number - 1)
                    assert number == 0 or seen["c"]["w"][0] == node
                    store.write(node, number, number - 1, {"c": {"w": np.full(size // 8, float(node + number))}})
                    assert store.held <= limit
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        kept = 2 * nodes * size
        assert store.held + store.spilled == kept, "the version that was read, and the one that may be accepted"
        assert peak < kept / 10

    def test_views_do_not_keep_what_they_were_cut_from(self):
        whole = np.zeros(1 << 20)
        store = Store()
        store.write(0, 1, -1, {"c": {"w": whole[:4]}})
        assert store.read(0, 1)["c"]["w"].base.nbytes == 32

    def test_what_is_given_back_cannot_be_changed(self):
        for limit in (0, 1 << 20):
            store = Store(limit)
            store.write(0, 1, -1, {"c": tree(0)})
            with pytest.raises(ValueError, match="read-only"):
                store.read(0, 1)["c"]["w"][0] = 1.0


class TestFiles:
    def test_space_of_what_is_dropped_is_used_again(self):
        store = Store(0)
        for number in range(50):
            for node in range(30):
                store.read(node, number - 1)
                store.write(node, number, number - 1, {"c": tree(node)})
        (file,) = store._files.values()
        assert file.used == 60 * KB
        assert os.fstat(file._file.fileno()).st_size <= 60 * KB

    def test_a_file_with_more_holes_than_rows_is_packed(self, monkeypatch):
        monkeypatch.setattr(memory, "_WASTE", 0)
        store, rng = Store(0), np.random.default_rng(0)
        sizes = [int(rng.integers(1, 400)) for _ in range(400)]
        for number, n in enumerate(sizes):
            node = number % 10
            store.read(node, number - 10)
            store.write(node, number, number - 10, {"c": tree(number, n)})
        (file,) = store._files.values()
        assert os.fstat(file._file.fileno()).st_size <= 2 * file.used
        for number in range(390, 400):
            same(store.read(number % 10, number)["c"], tree(number, sizes[number]))

    def test_files_have_no_name_and_are_gone_with_the_store(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        store = Store(0)
        store.write(0, 1, -1, {"c": tree(0), "d": tree(1)})
        assert store.files == 2
        assert not list(tmp_path.iterdir())
        opened = [file._file for file in store._files.values()]
        del store
        gc.collect()
        assert all(file.closed for file in opened)


class TestVersions:
    def test_slots_that_versions_share_are_counted_once(self):
        store = Store()
        store.write(0, 1, -1, {"a": tree(0), "b": tree(1)})
        store.write(0, 2, 1, {"b": tree(2)})
        assert store.held == 3 * KB
        store.read(0, 2)
        assert store.held == 2 * KB
        same(store.read(0, 2)["a"], tree(0))

    @pytest.mark.parametrize("limit", [0, 1 << 20])
    def test_a_version_that_is_written_again_takes_the_place_of_the_first(self, limit):
        store = Store(limit)
        store.write(0, 1, -1, {"a": tree(0)})
        store.write(0, 1, -1, {"a": tree(1)})
        assert store.held + store.spilled == KB
        same(store.read(0, 1)["a"], tree(1))

    @pytest.mark.parametrize("limit", [0, 1 << 20])
    def test_a_version_built_on_itself(self, limit):
        store = Store(limit)
        store.write(0, 1, -1, {"a": tree(0)})
        store.write(0, 1, 1, {"b": tree(1)})
        same(store.read(0, 1)["a"], tree(0))
        same(store.read(0, 1)["b"], tree(1))
