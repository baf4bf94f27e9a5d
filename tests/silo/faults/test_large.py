"""Megabytes over a network that resets in the middle: what is there stays there, and nothing is half written."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from atoll.silo import api
from atoll.silo import client as client_module
from atoll.silo.client import Client
from atoll.silo.errors import Unreachable
from atoll.silo.home import Profile
from atoll.silo.tasks import Blob
from silo.faults.silos import NAMES, Silos, eventually, silos
from silo.proxy import Faults, Proxy, Relay, Repeats

SIZE = 6_000_000


def driver(network: Silos, patience: float = 60.0) -> Client:
    return Client(Profile.find(home=network.home), patience=patience)


def kept(client: Client, data: bytes) -> Blob:
    """Bring bytes, as the state of a run, which makes them readable."""
    found = client.upload(data)
    client.put("/v1/runs/large", api.Opened, api.RunOpening(purpose="keeping", data="iris", nodes=NAMES))
    client.put("/v1/runs/large/state", api.Named, api.Named(blob=found), {"Atoll-Body": "named"})
    return found


def blob(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(SIZE)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CHUNK", 1 << 20)


@pytest.mark.parametrize(
    "faults",
    [Faults(cut=(1_100_000, 2_500_000), way="up"), Faults(cut=(600_000, 2_000_000), way="up", share=0.8),
     Faults(latency=(0.0, 0.005), cut=(1_200_000, 3_000_000))],
    ids=["in every chunk", "some connections", "and late"],
)  # fmt: skip
def test_an_upload_goes_on_where_it_was_cut(tmp_path: Path, faults: Faults) -> None:
    with silos(tmp_path) as network:
        assert isinstance(network.driver, Proxy)
        network.driver.begin(faults)
        data, client = blob(1), driver(network)
        found = kept(client, data)
        assert found.digest == hashlib.sha256(data).hexdigest()
        assert network.driver.done["cut"] >= 2
        network.driver.begin(Faults())
        assert client.download(found) == data
        client.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_download_goes_on_where_it_was_cut(tmp_path: Path, seed: int) -> None:
    with silos(tmp_path, seed=seed) as network:
        data, client = blob(2), driver(network)
        found = kept(client, data)
        assert isinstance(network.driver, Proxy)
        network.driver.begin(Faults(cut=(300_000, 3_000_000), way="down"))
        assert client.download(found) == data
        assert client.download(found, tmp_path / "kept") == data
        assert (tmp_path / "kept").read_bytes() == data
        assert not list(tmp_path.glob(".kept*"))
        assert network.driver.done["cut"] >= 3
        client.close()


@pytest.mark.parametrize("told", ["first", "second", "neither"])
def test_chunks_that_come_twice(tmp_path: Path, told: str) -> None:
    with silos(tmp_path, Repeats(share=0.3, told=told)) as network:  # type: ignore[arg-type]
        data, client = blob(3), driver(network)
        found = kept(client, data)
        assert client.download(found) == data
        client.close()
        assert isinstance(network.driver, Relay)
        assert network.driver.done["copies"] >= 1
        assert network.driver.done["copies"] == network.driver.done["copy 401"]


def test_two_processes_bring_the_same_bytes_at_once(tmp_path: Path) -> None:
    """Both are cut now and then, and one goes on where the other stands."""
    with silos(tmp_path) as network:
        assert isinstance(network.driver, Proxy)
        network.driver.begin(Faults(cut=(1_100_000, 3_000_000), way="up"))
        data, found = blob(4), []
        threads = [threading.Thread(target=lambda: found.append(driver(network).upload(data))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [b.digest for b in found] == [hashlib.sha256(data).hexdigest()] * 2
        assert not list((tmp_path / "coordinator" / "staging").rglob("*.part*"))


def test_a_file_is_not_half_written_when_patience_ends(tmp_path: Path) -> None:
    with silos(tmp_path) as network:
        data, client = blob(5), driver(network)
        found = kept(client, data)
        client.patience = 1.0
        assert isinstance(network.driver, Proxy)
        network.driver.begin(Faults(cut=(5000, 20_000), way="down"))
        timer = threading.Timer(0.5, network.driver.set, [Faults(refused=True)])
        timer.start()
        try:
            with pytest.raises(Unreachable):
                client.download(found, tmp_path / "kept")
        finally:
            timer.join()
        assert not (tmp_path / "kept").exists()
        assert not list(tmp_path.glob(".kept*"))
        client.close()
        network.driver.begin(Faults())
        eventually(lambda: driver(network).download(found) == data)


def test_patience_begins_again_with_every_byte_that_comes(tmp_path: Path) -> None:
    """A blob that takes longer than anybody's patience, over a network that never holds for long, comes."""
    with silos(tmp_path) as network:
        data, client = blob(6), driver(network)
        found = kept(client, data)
        client.patience = 1.0
        assert isinstance(network.driver, Proxy)
        network.driver.begin(Faults(cut=(200_000, 800_000), way="down", rate=2_000_000.0))
        assert client.download(found) == data
        assert network.driver.done["cut"] >= 8
        client.close()
