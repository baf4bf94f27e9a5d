"""Real processes over TLS: the bits of shards that are here."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from atoll import Federated, Federation
from atoll.algorithms import sgd
from atoll.engines import close_all
from atoll.errors import NodeFailed
from atoll.silo.local import federation
from atoll.silo.node.folder import Folder
from atoll.silo.node.policy import START
from atoll.silo.node.requests import approve, open_requests
from cases import data
from silo.processes import atoll

COLUMNS = ["a", "b", "c", "d", "species"]
X, Y = pd.DataFrame(data("iris")[0], columns=COLUMNS[:-1]), data("iris")[1]
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
PARTS = dict(
    zip(["berlin", "accra", "cusco"], np.split(np.random.default_rng(5).permutation(150), [30, 90]), strict=True)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("silos")
    files = {}
    for name, rows in PARTS.items():
        with open(place / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([*X.iloc[i].tolist(), NAMES[i]] for i in rows)
        files[name] = f"iris={place / f'{name}.csv'}:species"
    with federation(place, files) as made:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ATOLL_HOME", str(made.home))
            yield made
        close_all()


def here():
    return Federation.from_shards([(X.iloc[i], NAMES[i]) for i in PARTS.values()], names=list(PARTS))


def there(site, **settings):
    return Federation.connect(site.url, "iris", verbose=0, **settings)


def test_nodes_are_those_of_shards(site):
    sites = there(site)
    assert sites.names == here().names
    assert sites.remote.rows == (60, 30, 60)


def test_neighbours_are_bit_equal(site):
    ours, theirs = (Federated(KNeighborsClassifier(3)).fit(f) for f in (here(), there(site)))
    for a, b in zip(ours.kneighbors(X.iloc[::3]), theirs.kneighbors(X.iloc[::3]), strict=True):
        assert a.tobytes() == b.tobytes()
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()
    assert ours.predict_proba(X).tobytes() == theirs.predict_proba(X).tobytes()


def test_a_logistic_regression_is_bit_equal(site):
    ours, theirs = (Federated(LogisticRegression(max_iter=500)).fit(f) for f in (here(), there(site)))
    assert ours.estimator_.coef_.tobytes() == theirs.estimator_.coef_.tobytes()
    assert ours.estimator_.intercept_.tobytes() == theirs.estimator_.intercept_.tobytes()
    assert ours.predict_proba(X).tobytes() == theirs.predict_proba(X).tobytes()
    assert ours.run_.bytes_up == theirs.run_.bytes_up


def test_the_coordinator_knows_what_rounds_of_training_came_to(site):
    net = MLPClassifier((4,), random_state=1)
    fitted = Federated(net, rounds=3, local=sgd(lr=0.1, batch_size=10)).fit(there(site, run="trained"))
    rows = fitted.run_.rows
    shown = json.loads(atoll(site.home, "runs", "show", "trained", "--json"))["rounds"]
    assert [(seen["number"], seen["op"], seen["bytes"]) for seen in shown] == [
        (r.number, r.op, r.bytes_up) for r in rows
    ]
    assert [seen["metrics"] for seen in shown] == [row.metrics for row in rows]
    assert sum("loss" in seen["metrics"] for seen in shown) == 3
    assert "loss" in atoll(site.home, "runs", "show", "trained")


SCRIPT = """
import sys
from sklearn.linear_model import LogisticRegression
from atoll import Federated, Federation
from atoll.silo.durable import watch
import os, signal
left = int(sys.argv[2])
def reached(step):
    global left
    left -= step == "driver.outcome"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
watch(reached)
sites = Federation.connect(sys.argv[1], "iris", run="study", verbose=0)
print(Federated(LogisticRegression(max_iter=500)).fit(sites).estimator_.coef_.tobytes().hex())
"""


def test_a_driver_that_is_killed_goes_on_under_the_name_of_its_run(site):
    def ran(left):
        words = [sys.executable, "-c", SCRIPT, site.url, str(left)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    for left in (0, 5, 9):
        assert ran(left).returncode == -9
    done = ran(10**6)
    assert done.returncode == 0, done.stderr
    whole = Federated(LogisticRegression(max_iter=500)).fit(here()).estimator_
    assert done.stdout.strip() == whole.coef_.tobytes().hex()


def test_what_was_not_allowed_is_asked_again_under_the_name_of_its_run(site):
    policy = site.home / "nodes" / "accra" / "policy.toml"
    whole = policy.read_text()
    policy.write_text(whole.replace('operations = ["*"]', 'operations = ["describe.*"]'))
    try:
        with pytest.raises(NodeFailed, match="accra"):
            Federated(LogisticRegression(max_iter=500)).fit(there(site, run="allowed-later"))
    finally:
        policy.write_text(whole)
    fitted = Federated(LogisticRegression(max_iter=500)).fit(there(site, run="allowed-later"))
    ours = Federated(LogisticRegression(max_iter=500)).fit(here())
    assert fitted.estimator_.coef_.tobytes() == ours.estimator_.coef_.tobytes()


def test_owners_approve_once_what_a_model_asks(site):
    folders = [Folder(site.home / "nodes" / name) for name in PARTS]
    whole = [folder.policy.read_text() for folder in folders]
    try:
        for folder in folders:
            folder.policy.write_text(START)
            (folder / "requests.json").unlink(missing_ok=True)
        with pytest.raises(NodeFailed, match="NotApproved"):
            there(site, models=[KNeighborsClassifier()])
        for folder in folders:
            (request,) = open_requests(folder)
            assert approve(folder, request.id).operations == ("describe.rows", "describe.schema", "neighbors.nearest")
        ours, theirs = (Federated(KNeighborsClassifier(3)).fit(f) for f in (here(), there(site)))
        assert ours.predict(X).tolist() == theirs.predict(X).tolist()
        assert not any(map(open_requests, folders))
    finally:
        for folder, text in zip(folders, whole, strict=True):
            folder.policy.write_text(text)


def test_logs_verify(site):
    for name in PARTS:
        atoll(site.home, "node", "log", "--verify", "--folder", str(site.home / "nodes" / name))
