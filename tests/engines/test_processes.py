"""Worker processes: what dies is replaced and redone, and nothing is left behind."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from atoll import Distributed, Federation
from atoll.combine import Sum
from atoll.engines import InProcess, close_all, live
from atoll.errors import InvalidData, QuorumNotMet, WorkerDied
from atoll.messages import Rule
from cases import same_bits


@pytest.fixture(autouse=True)
def _ended():
    yield
    close_all()


def federation(n_nodes=6, **settings):
    X, y = load_iris(return_X_y=True)
    return Federation.simulate(X, y, n_nodes=n_nodes, engine="processes", n_workers=2, **settings)


def opened(fed):
    rounds = fed.rounds("test")
    rounds.meet(classes=False)
    return rounds


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_workers_are_reused():
    rounds = opened(federation())
    pids = live("processes", 2).pids()
    opened(federation())
    rounds.round("null.ping", combine=Sum())
    assert live("processes", 2).pids() == pids
    assert len(set(pids)) == 2


def test_a_worker_killed_between_rounds_is_replaced_and_memory_survives():
    rounds = opened(federation())
    assert rounds.round("null.count", combine=Sum())["times"][0] == 6
    for pid in live("processes", 2).pids():
        os.kill(pid, signal.SIGKILL)
    assert rounds.round("null.count", combine=Sum())["times"][0] == 12
    assert sum("was killed by SIGKILL and was replaced" in note for note in rounds.run.notes) >= 1
    assert rounds.round("null.count", combine=Sum())["times"][0] == 18


def test_a_worker_killed_in_the_middle_is_named_and_its_nodes_redone():
    rounds = opened(federation())
    victim = live("processes", 2).pids()[0]
    killer = threading.Timer(0.5, os.kill, (victim, signal.SIGKILL))
    killer.start()
    got = rounds.round("null.sleep", combine=Sum(), settings={"seconds": 0.7})
    killer.join()
    assert got["nodes"][0] == 6
    (note,) = rounds.run.notes
    assert f"(pid {victim})" in note
    assert "redone: node-0" in note
    assert not alive(victim)


def test_a_kill_in_the_middle_changes_no_bit():
    X, y = load_iris(return_X_y=True)
    Q = X + 0.05
    expected = Distributed(KNeighborsClassifier(3)).fit(X, y).kneighbors(Q)
    model = Distributed(KNeighborsClassifier(3), engine="processes", n_workers=2).fit(X, y)
    for turn in range(3):
        os.kill(live("processes", 2).pids()[turn % 2], signal.SIGKILL)
        got = model.kneighbors(Q)
        assert all((a == b).all() for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_kills_in_the_middle_of_a_fit_change_no_bit(seed, monkeypatch):
    """A fit of many rounds; in three of them, drawn at random, a worker is killed as soon as it has its work."""
    X, y = load_iris(return_X_y=True)
    expected = Distributed(NearestCentroid(metric="manhattan"), n_nodes=5).fit(X, y)
    opened(federation())  # the workers are up
    engine, rng = live("processes", 2), np.random.default_rng(seed)
    real, deadly = engine.submit, set(rng.choice(expected.run_.rounds, size=3, replace=False).tolist())

    def submit(key, x):
        pending = real(key, x)
        if x.number in deadly:
            os.kill(engine.pids()[int(rng.integers(2))], signal.SIGKILL)
        return pending

    monkeypatch.setattr(engine, "submit", submit)
    got = Distributed(NearestCentroid(metric="manhattan"), n_nodes=5, engine="processes", n_workers=2).fit(X, y)
    assert got.centroids_.tobytes() == expected.centroids_.tobytes(), f"seed {seed}"
    assert got.deviations_.tobytes() == expected.deviations_.tobytes(), f"seed {seed}"
    assert len(got.run_.notes) == 3, f"seed {seed}"


def test_a_worker_that_always_dies_ends_the_round_with_a_reason(monkeypatch):
    fed = federation()
    rounds = opened(fed)
    engine = live("processes", 2)
    real = engine._hand_over

    def deadly(worker, flight):
        real(worker, flight)
        os.kill(worker.process.pid, signal.SIGKILL)

    monkeypatch.setattr(engine, "_hand_over", deadly)
    with pytest.raises(WorkerDied, match="died 3 times over the same nodes"):
        rounds.round("null.sleep", combine=Sum(), settings={"seconds": 0.2})


def test_a_deadline_ends_a_round_whose_nodes_hang():
    rounds = opened(federation())
    rounds.link.rule = Rule(deadline=0.3, quorum=0.5)
    start = time.monotonic()
    with pytest.raises(QuorumNotMet, match="nodes answered in time, 3 are needed"):
        rounds.round("null.sleep", combine=Sum(), settings={"seconds": 60.0})
    assert time.monotonic() - start < 30, "it did not wait for nodes that sleep for minutes"


def test_warnings_of_nodes_reach_the_caller():
    X = np.eye(8)
    y = np.arange(8) % 2
    model = Distributed(KNeighborsClassifier(2, metric="jaccard", algorithm="brute"), engine="processes", n_workers=2)
    model.fit(X, y)
    with warnings.catch_warnings(record=True) as here:
        warnings.simplefilter("always")
        Distributed(KNeighborsClassifier(2, metric="jaccard", algorithm="brute")).fit(X, y).predict(X)
    with warnings.catch_warnings(record=True) as there:
        warnings.simplefilter("always")
        model.predict(X)
    assert {w.category for w in there} == {w.category for w in here}


def test_large_shards_lie_in_shared_memory_once():
    X = np.random.default_rng(0).normal(size=(40_000, 64))
    fed = Federation.simulate(X, n_nodes=4, engine="processes", n_workers=2)
    opened(fed)
    private = 0
    for pid in live("processes", 2).pids():
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            private += sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty"))
    assert private * 1024 < 2 * 150e6, "workers hold no copies of their rows"


def test_federations_that_are_collected_give_their_shards_back():
    fed = federation()
    opened(fed)
    engine = live("processes", 2)
    assert len(engine._attached) == 1
    del fed
    import gc

    gc.collect()
    assert len(engine._attached) == 0


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2"])
def test_n_workers_is_checked(n_workers):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InvalidData, match="n_workers"):
        Distributed(KNeighborsClassifier(), engine="processes", n_workers=n_workers).fit(X, y)


def test_inside_the_workers_of_joblib_nodes_run_in_process():
    X, y = load_iris(return_X_y=True)
    grid = {"estimator__n_neighbors": [1, 3]}
    model = Distributed(KNeighborsClassifier(), engine="processes", n_workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = GridSearchCV(model, grid, n_jobs=2, refit=False).fit(X, y)
    one = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, refit=False).fit(X, y)
    assert (two.cv_results_["mean_test_score"] == one.cv_results_["mean_test_score"]).all()
    assert live("processes", 2).pids() == [], "no worker was started for this process"


def test_nested_engines_are_in_process():
    code = "from atoll.engines import live; print(type(live('processes', 2)).__name__)"
    script = f"""
        import multiprocessing
        def show():
            {code}
        if __name__ == "__main__":
            p = multiprocessing.get_context("spawn").Process(target=show)
            p.start(); p.join()
        """
    assert run_script(script).stdout.strip() == "InProcess"
    assert isinstance(live("inprocess"), InProcess)


SCRIPT = """
    import sys, time
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.neighbors import KNeighborsClassifier
    from atoll import Distributed
    from atoll.combine import Sum
    from atoll.engines import live
    X, y = load_iris(return_X_y=True)
    model = Distributed(KNeighborsClassifier(3), engine="processes", n_workers=2).fit(X, y)
    print(*live("processes", 2).pids(), model.score(X, y), flush=True)
    """


def write(tmp_path, script):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    return path


def named():
    """Shared memory with a name, but for that of joblib's workers, whose tests run beside this one."""
    return {name for name in os.listdir("/dev/shm") if "loky" not in name and "joblib" not in name}


def run_script(script, tmp_path=None):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "script.py")
        with open(path, "w") as file:
            file.write(textwrap.dedent(script))
        return subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=True)


def test_a_script_needs_no_main_guard_and_leaves_nobody():
    done = run_script(SCRIPT)
    *pids, score = done.stdout.split()
    assert float(score) == 0.96
    assert done.stderr == ""
    assert wait_until(lambda: not any(alive(int(p)) for p in pids))


SLOW = (
    SCRIPT
    + """
    federation = model._federation
    rounds = federation.rounds("slow")
    rounds.meet(classes=False)
    rounds.round("null.sleep", combine=Sum(), settings={"seconds": 30})
    """
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_driver_even_in_the_middle(tmp_path, how):
    process = subprocess.Popen(
        [sys.executable, write(tmp_path, SLOW)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    pids = [int(p) for p in process.stdout.readline().split()[:2]]
    time.sleep(0.5)
    assert all(alive(p) for p in pids)
    process.send_signal(how)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert wait_until(lambda: not any(alive(p) for p in pids)), "a worker outlived its driver"


def test_ctrl_c_in_a_terminal_leaves_nobody_and_no_shared_memory(tmp_path):
    before = named()
    process = subprocess.Popen(
        [sys.executable, write(tmp_path, SLOW)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    pids = [int(p) for p in process.stdout.readline().split()[:2]]
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1, "workers stay silent"
    assert wait_until(lambda: not any(alive(p) for p in pids))
    assert named() <= before


def test_an_interrupted_round_leaves_a_usable_engine():
    rounds = opened(federation())
    engine = live("processes", 2)
    interrupt = threading.Timer(0.3, _thread.interrupt_main)
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        rounds.round("null.sleep", combine=Sum(), settings={"seconds": 1.0})
    interrupt.join()
    assert rounds.round("null.ping", combine=Sum())["nodes"][0] == 6
    assert len(engine.pids()) == 2


def test_after_a_fork_the_child_starts_its_own():
    rounds = opened(federation())
    first = rounds.round("null.ping", combine=Sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            ok = live("processes", 2).pids() == []
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same_bits(rounds.round("null.ping", combine=Sum()), first)
