"""``atoll login``, ``atoll runs`` and ``atoll run --at``: what somebody types who asks nodes elsewhere."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from atoll import Federated, Federation, models
from atoll.engines import close_all
from atoll.shards import Shard
from atoll.silo import api, engine
from atoll.silo.client import Client
from silo.serving import admin, joined, running
from silo.twin import Twin, login

X, Y = load_iris(return_X_y=True)
URL = "https://silo.example.org"


@pytest.fixture
def twin(monkeypatch, tmp_path):
    close_all()
    made = Twin({"iris": [Shard.of(name, X[i::2], Y[i::2]) for i, name in enumerate(["accra", "berlin"])]})
    monkeypatch.setattr(engine, "Client", made.client)
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    login(tmp_path / "home")
    yield made
    close_all()


def experiment(path, text):
    path.write_text(text)
    return str(path)


LOGISTIC = 'estimator = "linear_model.LogisticRegression"\ndata = "iris"\n[set]\ntol = 0.05\n'


def test_an_experiment_is_run_over_silos(atoll, twin, tmp_path):
    file = experiment(tmp_path / "experiment.toml", f'save = "model.atoll"\n{LOGISTIC}')
    said = atoll("run", file, "--at", URL, "--name", "study", "--json")
    assert said.status == 0, said.err
    data = said.data()
    assert (data["run"], data["nodes"], data["rows"]) == ("study", ["accra", "berlin"], [75, 75])
    assert data["evaluation"]["metrics"]["accuracy"]["all"] > 0.9
    assert {one["op"] for one in data["left"]} >= {"describe.schema"}
    here = Federation.from_shards([(X[i::2], Y[i::2]) for i in (0, 1)], names=["accra", "berlin"], random_state=42)
    model = Federated(LogisticRegression(tol=0.05)).fit(here).estimator_
    found = models.from_bytes((tmp_path / "model.atoll").read_bytes())
    assert found.coef_.tobytes() == model.coef_.tobytes()
    assert twin.runs["study"].state == "done"
    asked = len(twin.tasks)
    again = atoll("run", file, "--at", URL, "--name", "study")
    assert again.status == 0
    assert len(twin.tasks) == asked + 1, "only the rows were counted again"
    assert "LogisticRegression over 150 rows of 2 nodes: accra, berlin" in again.out
    assert "what left each node:" in again.out


def test_neighbours_are_judged_on_rows_of_ones_own(atoll, twin, iris, tmp_path):
    text = 'estimator = "neighbors.KNeighborsClassifier"\nat = "https://silo.example.org"\n'
    said = atoll("run", experiment(tmp_path / "knn.toml", text))
    assert said.status == 0, said.err
    assert "is judged on rows of your own" in said.out
    own = np.column_stack([X[::5], Y[::5]])
    np.savetxt(tmp_path / "own.csv", own, delimiter=",", header="a,b,c,d,species", comments="", fmt=["%g"] * 4 + ["%d"])
    text += 'file = "own.csv"\ntarget = "species"\n'
    said = atoll("run", experiment(tmp_path / "knn.toml", text), "--json")
    assert said.data()["score"] > 0.9
    assert atoll("run", experiment(tmp_path / "k.toml", text + 'save = "m"\n')).status != 0


def test_a_run_that_fails_exits_with_the_reason(atoll, twin, tmp_path):
    file = experiment(tmp_path / "experiment.toml", LOGISTIC)
    twin.away = {"berlin"}
    said = atoll("run", file, "--at", URL)
    assert said.status == 1
    assert "the node is away" in said.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--at", URL, "--engine", "processes"], "nodes that keep their rows are where they are"),
        (["--at", URL, "--data", "irsi"], "no node offers 'irsi'"),
        (["--at", URL, "--sites", "berlni"], "did you mean 'berlin'"),
        (["--at", "https://elsewhere.example.org"], "no login for this coordinator"),
        (["--sites", "berlin"], "is for nodes that keep their rows"),
    ],
    ids=["engine", "data", "sites", "login", "no-at"],
)
def test_what_cannot_be_is_said(atoll, twin, tmp_path, words, reason):
    said = atoll("run", experiment(tmp_path / "experiment.toml", 'estimator = "decomposition.PCA"\n'), *words)
    assert said.status == 2
    assert reason in said.err


def test_an_experiment_without_a_table_needs_nodes(atoll, tmp_path):
    said = atoll("run", experiment(tmp_path / "experiment.toml", 'estimator = "decomposition.PCA"\n'))
    assert (said.status, "names no table" in said.err) == (2, True)


def test_logging_in_and_looking_after_runs(atoll, tmp_path, monkeypatch):
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    with running(tmp_path / "coordinator") as coordinator:
        by = admin(coordinator)
        joined(by, "accra")
        told = by.ask("POST", "/v1/invites", api.Invite(name="ada", role="researcher")).read(api.Invitation)
        url = coordinator.local_url
        said = atoll("login", url, told.token)
        assert said.status == 0, said.err
        assert "ada, researcher" in said.out
        assert atoll("login", url, told.token, "--json").data()["name"] == "ada", "the same key may repeat it"
        assert atoll("runs").out == "no runs yet\n"
        e = engine.Silos()
        profile = engine.Profile.find(url)
        client = e._client(profile, 10.0)
        opening = api.RunOpening(purpose="KMeans", data="iris", nodes=("accra",))
        client.put("/v1/runs/study", api.Opened, opening)
        for words in (["runs"], ["runs", "list", "--at", url], ["runs", "--at", url]):
            said = atoll(*words)
            assert said.status == 0, said.err
            assert "KMeans" in said.out
        assert "state: running" in atoll("runs", "show", "study").out
        assert atoll("runs", "show", "study", "--json").data()["nodes"] == ["accra"]
        said = atoll("runs", "show", "studi")
        assert "did you mean 'study'" in said.err
        assert "given up" in atoll("runs", "end", "study").out
        assert json.loads(atoll("runs", "--json").out)["runs"][0]["state"] == "failed"
        counting = "attach-0123456789abcdef"
        client.put(f"/v1/runs/{counting}", api.Opened, opening)
        assert counting not in atoll("runs", "list").out
        assert [run["name"] for run in atoll("runs", "list", "--all", "--json").data()["runs"]] == [counting, "study"]
        said = atoll("runs", "forget", counting)
        assert (said.status, "--yes to give it up" in said.err) == (2, True)
        assert "deleted with its 0 sums" in atoll("runs", "forget", counting, "--yes").out
        said = atoll("runs", "forget", "study", "--owner", "accra")
        assert (said.status, "accra has no run 'study'" in said.err) == (2, True)
        assert atoll("runs", "forget", "study", "--json").data()["forgotten"][0]["name"] == "study"
        assert atoll("runs", "list", "--all").out == "no runs yet\n"
        e.close()
        by.close()


def test_a_token_is_looked_at_before_anything_is_sent(atoll, tmp_path, monkeypatch):
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    said = atoll("login", "https://127.0.0.1:1", "atoll_mistyped")
    assert said.status == 1
    assert "mistyped" in said.err
    assert "the token is missing" in atoll("login", "https://127.0.0.1:1").err


def test_rounds_are_shown_with_who_did_not_answer(atoll, twin, monkeypatch):
    from atoll.cli import runs

    done = api.Round(
        number=0, step=0, op="train.local", state="closed", asked=2, accepted=1, bytes=8, submitted=0.0, closed=0.25,
        deadline=None, discloses=("x",), refused={"berlin": "NotApproved: the owner\nhas not allowed this"},
        metrics={"loss": 0.125, "validation_loss": 0.5},
    )  # fmt: skip
    status = api.RunStatus(
        name="study", owner="ada", purpose="PCA", data="iris", nodes=("accra", "berlin"), state="running", exchanges=1,
        started=0.0, changed=0.0,
    )  # fmt: skip
    monkeypatch.setattr(runs, "_runs", lambda client: [status])
    waiting = msgspec.structs.replace(
        done, number=1, state="open", closed=None, refused={}, missing=("berlin",), metrics={}
    )
    asked = []

    def get(client, path, kind):
        asked.append(path)
        return [seen for seen in (done, waiting) if seen.number > int(path.partition("after=")[2] or -1)]

    monkeypatch.setattr(Client, "get", get)
    said = atoll("runs", "show", "study")
    assert said.status == 0, said.err
    assert asked[0] == "/v1/runs/ada/study/rounds"
    for words in ("train.local", "1/2", "0.250", "0.125", "validation loss", "berlin: NotApproved: the owner"):
        assert words in said.out
    assert "waits for berlin" in said.out
    assert atoll("runs", "show", "study", "--last", "1", "--json").data()["rounds"][0]["number"] == 1
    assert atoll("runs", "show", "study", "--json").data()["rounds"][0]["metrics"]["loss"] == 0.125
