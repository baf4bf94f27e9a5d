"""The journal: what was answered is not asked again, and nothing else is ever answered for it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from atoll import Federated, Federation
from atoll.combine import Mean, Sum
from atoll.engines.inprocess import InProcess
from atoll.errors import InvalidData, JournalMismatch, WireError
from cases import data

X, y = data("iris")


def opened(folder, rows=X, **settings):
    rounds = Federation.simulate(rows, y, n_nodes=4, journal=folder, **settings).rounds("test")
    rounds.meet(classes=False)
    return rounds


@pytest.fixture
def asked(monkeypatch):
    seen, real = [], InProcess.submit

    def submit(self, key, x):
        seen.append(x.op)
        return real(self, key, x)

    monkeypatch.setattr(InProcess, "submit", submit)
    return seen


def test_what_was_answered_is_not_asked_again(tmp_path, asked):
    first = opened(tmp_path).round("statistics.sums", combine=Mean())
    count = len(asked)
    again = opened(tmp_path).round("statistics.sums", combine=Mean())
    assert len(asked) == count
    assert again["x"].tobytes() == first["x"].tobytes()


def test_another_question_under_the_same_number_is_an_error(tmp_path):
    opened(tmp_path).round("statistics.sums", combine=Mean())
    with pytest.raises(JournalMismatch, match=r"(?s)exchange 1 of run 'run' was another question.*another name"):
        opened(tmp_path).round("statistics.extrema", combine=Sum())


def test_another_name_is_another_run(tmp_path, asked):
    opened(tmp_path).round("statistics.sums", combine=Mean())
    opened(tmp_path, run="second").round("null.ping", combine=Sum())
    assert asked[-1] == "null.ping"


def test_a_script_with_several_fits_finds_each_again(tmp_path, asked):
    def script():
        sites = Federation.simulate(X, y, n_nodes=4, journal=tmp_path, run="july")
        return [Federated(model).fit(sites) for model in (GaussianNB(), StandardScaler(), GaussianNB())]

    first = script()
    assert [model.run_.name for model in first] == ["july", "july.2", "july.3"]
    count = len(asked)
    again = script()
    assert len(asked) == count
    assert again[1].mean_.tobytes() == first[1].mean_.tobytes()


def test_a_fit_that_did_not_end_is_taken_up_under_its_name(tmp_path, monkeypatch):
    sites = Federation.simulate(X, y, n_nodes=4, journal=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "submit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Federated(GaussianNB()).fit(sites)
    assert Federated(GaussianNB()).fit(sites).run_.name == "run"
    assert Federated(GaussianNB()).fit(sites).run_.name == "run.2"


def test_a_journal_belongs_to_its_rows(tmp_path):
    opened(tmp_path)
    with pytest.raises(JournalMismatch, match="belongs to other rows"):
        opened(tmp_path, rows=X + 1)


def test_memory_of_nodes_is_rebuilt_on_replay(tmp_path):
    def count(rounds, times):
        return [int(rounds.round("null.count", combine=Sum())["times"][0]) for _ in range(times)]

    assert count(opened(tmp_path), 2) == [4, 8]
    assert count(opened(tmp_path), 4) == [4, 8, 12, 16]


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:40] + bytes([b[40] ^ 255]) + b[41:], lambda b: b""])
def test_a_damaged_entry_is_refused_not_believed(tmp_path, damage):
    opened(tmp_path).round("statistics.sums", combine=Mean())
    path = tmp_path / "run" / "00000001.atoll"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((WireError, JournalMismatch)):
        opened(tmp_path).round("statistics.sums", combine=Mean())


def test_a_kill_while_writing_leaves_no_half_entry(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    rounds = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError, match="No space"):
            rounds.round("statistics.sums", combine=Mean())
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["00000000.atoll"]
    assert opened(tmp_path).round("statistics.sums", combine=Mean())["x"] == pytest.approx(X.mean(axis=0), rel=1e-12)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".."])
def test_a_run_is_named_like_a_file(tmp_path, name):
    with pytest.raises(InvalidData, match="plain file name"):
        opened(tmp_path, run=name)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="folder cannot be made"):
        opened(tmp_path / "file" / "below")


def test_replayed_rounds_are_recorded_like_others(tmp_path):
    first, again = opened(tmp_path), opened(tmp_path)
    assert [r._replace(seconds=0) for r in first.run] == [r._replace(seconds=0) for r in again.run]
    assert np.isfinite(again.run.seconds)


def long(rounds, steps, stop=None):
    """A recipe that sums column sums over and over, saving as it goes."""
    first, state = rounds.saved() or (0, {"total": np.zeros(4)})
    for step in range(first, steps):
        if step == stop:
            return None
        got = rounds.round("statistics.sums", combine=Sum(), step=step)
        state = {"total": state["total"] + got["x"]}
        rounds.save(step + 1, state)
    return state["total"]


def test_a_long_run_starts_where_it_saved(tmp_path, asked):
    assert long(opened(tmp_path), 6, stop=4) is None
    asked.clear()
    rounds = opened(tmp_path)
    again = long(rounds, 6)
    assert again.tobytes() == long(opened(tmp_path / "other"), 6).tobytes()
    assert [r.step for r in rounds.run] == [0, 4, 5], "round 0, and what was left to do"
    assert asked[:2] == ["statistics.sums"] * 2


def test_what_is_saved_without_a_journal_stays_with_the_run():
    rounds = Federation.simulate(X, y, n_nodes=4).rounds("test")
    rounds.meet(classes=False)
    assert rounds.saved() is None
    long(rounds, 3)
    assert rounds.saved()[0] == 3


def test_where_nodes_remember_everything_is_replayed(tmp_path):
    def count(rounds):
        first, _ = rounds.saved() or (0, {})
        for step in range(first, 3):
            times = rounds.round("null.count", combine=Sum(), step=step)["times"][0]
            rounds.save(step + 1, {})
        return int(times)

    assert count(opened(tmp_path)) == 12
    assert count(opened(tmp_path)) == 12
