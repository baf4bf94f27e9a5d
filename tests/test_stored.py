"""Rows in files: mapped, asked about piece by piece, and larger than the memory that a process may have."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from atoll import Federated, Federation
from atoll.datasets import open_rows
from atoll.engines.base import Handover
from atoll.engines.rows import written
from atoll.errors import InvalidData
from atoll.shards import Shard, on_file


def rows(n=60_000, d=8, seed=0):
    """More than one piece per node."""
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n, d))
    return X, X @ np.arange(d) + rng.normal(size=n)


@pytest.fixture
def files(tmp_path):
    X, y = rows()
    for i, part in enumerate(np.array_split(np.arange(len(X)), 3)):
        np.save(tmp_path / f"site-{i}.npy", X[part])
    return tmp_path, X, y


def parquet(path, X, y, **more):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({**{f"x{j}": column for j, column in enumerate(X.T)}, "y": y, **more})
    parquet.write_table(table, path, row_group_size=1000)


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_npy_files(files, engine):
    folder, X, _ = files
    named = {p.stem: p for p in sorted(folder.glob("*.npy"))}
    sites = Federation.from_files(named, engine=engine, n_workers=2)
    assert sites.names == ("site-0", "site-1", "site-2")
    in_memory = Federation.from_shards([np.load(p) for p in named.values()], names=list(named))
    for model in (StandardScaler(), MinMaxScaler(), MaxAbsScaler(), PCA(3), LedoitWolf()):
        over, pooled = Federated(model).fit(sites), Federated(model).fit(in_memory)
        for name, value in vars(pooled._model).items():
            if isinstance(value, np.ndarray):
                assert getattr(over._model, name).tobytes() == value.tobytes(), f"{model}: {name}"
    scaled = Federated(make_pipeline(StandardScaler(), PCA(2))).fit(sites).estimator_
    expected = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    np.testing.assert_allclose(scaled[-1].explained_variance_, expected[-1].explained_variance_, rtol=1e-9)


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_parquet_files(tmp_path, engine):
    X, y = rows(6000)
    halves = np.array_split(np.arange(len(X)), 2)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, part in zip(paths, halves, strict=True):
        parquet(path, X[part], y[part])
    sites = Federation.from_files(paths, target="y", engine=engine, n_workers=2)
    model = Federated(Ridge()).fit(sites)
    np.testing.assert_allclose(model.coef_, Ridge().fit(X, y).coef_, rtol=1e-9)
    assert model.feature_names_in_.tolist() == [f"x{j}" for j in range(X.shape[1])]
    parquet(tmp_path / "c.parquet", X, np.where(y > y.mean(), "high", "low"))
    sites = Federation.from_files([tmp_path / "c.parquet"], target="y")
    assert Federated(GaussianNB()).fit(sites).classes_.tolist() == ["high", "low"]


def test_rows_in_files_are_not_copied_for_workers(files):
    folder, X, _ = files
    whole = np.load(folder / "site-1.npy", mmap_mode="r")
    shards = [
        Shard.of("a", np.load(folder / "site-0.npy", mmap_mode="r")),
        Shard.of("b", whole[100:]),
        Shard.of("c", X),
    ]
    _, held = written(list(shards))
    assert [on_file(s.X) for s in held] == [True, True, False]
    for there, here in zip(held, shards, strict=True):
        assert (there.X == here.X).all()
        assert there.name == here.name


def test_shards_that_are_handed_over_are_given_up_as_they_are_written():
    X, _ = rows(500)
    shards = Handover(Shard.of(f"n{i:02d}", X[i * 25 : (i + 1) * 25].copy()) for i in range(20))
    frames, held = written(shards)
    assert shards == [None] * 20
    assert len(frames) > 4
    assert (np.concatenate([s.X for s in held]) == X).all()


LIMITED = """
import resource, sys
import numpy as np
import atoll
from atoll import Federated, Federation
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

def used():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024

path, limit = sys.argv[1], int(sys.argv[2])
rows = np.load(path, mmap_mode="r")
assert rows.nbytes >= 10 * limit
half = len(rows) // 2
label = np.arange(len(rows)) % 3
models = [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), PCA(), LedoitWolf(), GaussianNB(),
          LinearDiscriminantAnalysis(), LinearRegression(), Ridge()]
small = Federation.from_shards([(np.asarray(rows[:4000]), label[:4000])] * 2)
for model in models:
    Federated(model).fit(small)          # everything is imported
sites = Federation.from_shards([(rows[:half], label[:half]), (rows[half:], label[half:])])
resource.setrlimit(resource.RLIMIT_DATA, (used() + limit, resource.RLIM_INFINITY))
try:
    np.ones(2 * limit // 8)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not bind")
for model in models:
    Federated(model).fit(sites)
print("fitted", len(models))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limit counts memory that is not a file's on Linux"
)
@pytest.mark.timeout(300)
def test_ten_times_the_memory_limit(tmp_path):
    """400 MB of rows, and 40 MB more than a small fit took; every one-pass model is fitted."""
    n, d, limit = 1_000_000, 50, 38 << 20
    X = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float64, shape=(n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 50_000):
        X[start : start + 50_000] = rng.normal(size=(50_000, d))
    X.flush()
    del X
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "rows.npy"), str(limit)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    assert done.stdout == "fitted 9\n"


class TestRefused:
    def test_what_cannot_be_mapped(self, tmp_path):
        np.save(tmp_path / "flat.npy", np.zeros(4))
        np.save(tmp_path / "whole.npy", np.zeros((4, 2), dtype=int))
        np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
        (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
        for name in ("flat.npy", "whole.npy", "objects.npy", "broken.parquet", "rows.csv", "nowhere.npy"):
            with pytest.raises(InvalidData, match=name):
                open_rows(tmp_path / name)
        with pytest.raises(InvalidData, match="target"):
            open_rows(tmp_path / "whole.npy", "y")

    def test_columns_that_are_not_complete_numbers(self, tmp_path):
        X, y = rows(50)
        parquet(tmp_path / "text.parquet", X, y, city=["oslo"] * 50)
        with pytest.raises(InvalidData, match="'city'"):
            open_rows(tmp_path / "text.parquet", "y")
        X[3, 2] = np.nan
        parquet(tmp_path / "gap.parquet", X, y)
        with pytest.raises(InvalidData, match="'x2' has missing"):
            open_rows(tmp_path / "gap.parquet", "y")

    def test_two_files_of_one_name(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            np.save(tmp_path / folder / "rows.npy", np.zeros((3, 2)))
        with pytest.raises(InvalidData, match="same name"):
            Federation.from_files([tmp_path / "a" / "rows.npy", tmp_path / "b" / "rows.npy"])
