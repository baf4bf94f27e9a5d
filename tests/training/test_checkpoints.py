"""A training that ended goes on with the same bits from a file; files that do not fit are refused with the reason."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors import safe_open
from safetensors.numpy import save_file

from atoll.algorithms import (
    constant,
    cosine,
    diloco,
    dpsgd,
    fedadam,
    fedavg,
    fedavgm,
    fedbuff,
    fedexp,
    fedprox,
    mimelite,
    scaffold,
    sgd,
    warmup,
)
from atoll.clock import devices
from atoll.errors import InvalidData
from atoll.learners import Model, Part
from atoll.selection import oort, power_of_choice
from atoll.training import Course, checkpoint, load_checkpoint
from atoll.training.checkpoints import read_checkpoint, resumed, write_checkpoint
from training.quadratics import begin, drawn, federation, trained

LOCAL = sgd(lr=0.05, steps=3, batch_size=2)
COPIES = [3, 5, 2, 4]


def gone(folder, algorithm=None, rounds=4, every=1, keep=None, **more):
    """A training over uneven nodes, written after its rounds."""
    save = checkpoint(folder, every=every, keep=keep)
    sites = federation(*drawn(), copies=COPIES)
    return trained(sites, algorithm or fedavg(), LOCAL, rounds, callbacks=[save], **more)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        (fedavg(), {}),
        (fedavg(), {"nodes_per_round": 2}),
        (fedavg(), {"nodes_per_round": 2, "selection": power_of_choice(d=3)}),
        (fedavg(), {"nodes_per_round": 2, "selection": oort()}),
        (fedavg(), {"nodes_per_round": 3, "pace": devices(dropout=0.3)}),
        (fedavgm(), {"nodes_per_round": 2}),
        (fedadam(server_lr=cosine(0.1, rounds=6)), {}),
        (fedprox(mu=0.5), {}),
        (fedexp(), {}),
        (mimelite(), {"nodes_per_round": 2}),
        (diloco(), {}),
    ],
    ids=lambda v: v.spec.name if hasattr(v, "spec") else "-".join(v) or "all",
)
def test_it_goes_on_with_the_same_bits_from_every_round(tmp_path, algorithm, more):
    whole = gone(tmp_path, algorithm, 6, **more)
    for step in range(1, 6):
        found = read_checkpoint(tmp_path / f"round-{step:05d}.safetensors", begin(5))
        sites = federation(*drawn(), copies=COPIES)
        rest = trained(sites, found.algorithm, found.local, 6, start=found.at, **more)
        np.testing.assert_array_equal(rest.model.w, whole.model.w)
        assert rest.losses == whole.losses
        assert rest.now == whole.now
        assert rest.state.keys() == whole.state.keys()
        assert all(np.array_equal(rest.state[name], whole.state[name]) for name in whole.state)
        course = resumed(found, Course(algorithm, LOCAL, 6, **more), sites.plan, rest.run)
        assert course.start is found.at
        assert rest.run.notes == [f"goes on after round {step}"]


def test_a_file_says_how_it_was_trained(tmp_path):
    gone(tmp_path, fedprox(mu=0.5), 2)
    with safe_open(tmp_path / "round-00002.safetensors", framework="np") as stored:
        facts = json.loads(stored.metadata()["atoll"])
        assert sorted(stored.keys()) == ["buffers", "losses", "model/x"]
    assert facts["algorithm"]["name"] == "fedprox"
    assert facts["algorithm"]["settings"]["mu"] == 0.5
    assert (facts["local"]["lr"], facts["local"]["batch_size"]) == (0.05, 2)
    assert (facts["step"], facts["rounds"], facts["seed"], facts["nodes"]) == (2, 2, 0, 4)
    assert facts["versions"]["numpy"] == np.__version__


def test_schedules_come_back_and_other_functions_do_not(tmp_path):
    rate = warmup(cosine(0.1, rounds=9), rounds=3)
    sites = federation(*drawn())
    trained(sites, fedavg(server_lr=constant(0.5)), sgd(lr=rate), 1, callbacks=[checkpoint(tmp_path / "a")])
    found = read_checkpoint(tmp_path / "a", begin(5))
    assert found.local == sgd(lr=rate)
    assert found.algorithm.spec == fedavg(server_lr=constant(0.5)).spec
    trained(sites, fedavg(server_lr=lambda t: 0.5), sgd(lr=lambda t: 0.1), 1, callbacks=[checkpoint(tmp_path / "b")])
    found = read_checkpoint(tmp_path / "b", begin(5))
    assert (found.algorithm, found.local) == (None, None)


class TestFiles:
    def test_the_newest_are_kept(self, tmp_path):
        gone(tmp_path, rounds=5, keep=2)
        assert names(tmp_path) == ["round-00004.safetensors", "round-00005.safetensors"]

    def test_some_rounds_and_the_last(self, tmp_path):
        gone(tmp_path / "deep" / "er", rounds=5, every=2)
        assert [name[6:11] for name in names(tmp_path / "deep" / "er")] == ["00002", "00004", "00005"]

    def test_a_folder_with_later_rounds_is_not_begun_anew(self, tmp_path):
        gone(tmp_path, rounds=3)
        with pytest.raises(InvalidData, match=r"round-00003\.safetensors after round 1"):
            gone(tmp_path, rounds=2)
        assert len(names(tmp_path)) == 3

    def test_other_files_of_the_folder_are_left_alone(self, tmp_path):
        (tmp_path / "round-1.txt").write_text("mine")
        (tmp_path / "best.safetensors").write_text("mine")
        gone(tmp_path, rounds=3, keep=1)
        assert names(tmp_path) == ["best.safetensors", "round-00003.safetensors", "round-1.txt"]

    def test_what_cannot_be_written_leaves_what_was_there(self, tmp_path, monkeypatch):
        done = gone(tmp_path, rounds=1)
        path = tmp_path / "round-00001.safetensors"
        before = path.read_bytes()

        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(InvalidData, match="No space left"):
            write_checkpoint(path, done)
        assert path.read_bytes() == before
        assert names(tmp_path) == [path.name]

    @pytest.mark.parametrize("settings", [{"every": 0}, {"keep": 0}, {"every": 1.5}], ids=["every", "keep", "half"])
    def test_settings_out_of_range_are_refused(self, tmp_path, settings):
        with pytest.raises(InvalidData):
            checkpoint(tmp_path, **settings)


class TestForeignFiles:
    @pytest.fixture
    def file(self, tmp_path):
        gone(tmp_path, fedavgm(), 2)
        return tmp_path / "round-00002.safetensors"

    def refused(self, path, model=None):
        with pytest.raises(InvalidData) as caught:
            read_checkpoint(path, model or begin(5))
        return str(caught.value)

    def changed(self, file, **facts):
        """The file, with other facts or arrays."""
        with safe_open(file, framework="np") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            was = json.loads(stored.metadata()["atoll"])
        own = {name: value for name, value in facts.items() if isinstance(value, np.ndarray)}
        told = {name: value for name, value in facts.items() if name not in own}
        arrays = {**arrays, **{name.replace("__", "/"): value for name, value in own.items()}}
        save_file(arrays, file, metadata={"atoll": json.dumps({**was, **told})})
        return file

    def test_nothing_there(self, tmp_path):
        assert "there is no checkpoint" in self.refused(tmp_path)
        assert "there is no checkpoint" in self.refused(tmp_path / "nowhere")

    def test_a_pickle_is_not_loaded(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return pytest.fail, ("it was unpickled",)

        path = tmp_path / "round-00001.safetensors"
        path.write_bytes(pickle.dumps(Trap()))
        assert "no checkpoint, or it is damaged" in self.refused(path)

    def test_weights_of_somebody_else(self, tmp_path):
        save_file({"model/x": np.zeros(5)}, tmp_path / "a.safetensors")
        assert "no checkpoint of Atoll" in self.refused(tmp_path / "a.safetensors")

    def test_another_model(self, file):
        other = Model(np.zeros(5), np.zeros(0), (Part("y", 0, (5,)),))
        assert "no model/y, a foreign model/x" in self.refused(file, other)
        assert "(5,), F64" in self.refused(file, begin(6))
        assert "float32" in self.refused(file, begin(5)._replace(w=np.zeros(5, np.float32)))
        assert "buffers has another shape" in self.refused(file, begin(5)._replace(buffers=np.zeros(2)))

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            ({"format": 2}, "format 1"), ({"step": -1}, "does not say"), ({"step": True}, "does not say"),
            ({"seed": "0"}, "does not say"), ({"seed": 1 << 70}, "does not say"),
            ({"block": "many"}, "does not say"), ({"now": None}, "does not say"),
            ({"algorithm": {"name": "fedtorch", "settings": {}}}, "method that is not there"),
            ({"algorithm": {"name": "fedavg", "settings": {"mood": 1}}}, "method that is not there"),
            ({"local": {"lr": 0.1}}, "other local settings"), ({"losses": np.zeros(3)}, "losses has another shape"),
            ({"more": np.zeros(1)}, "a foreign more"),
        ],
        ids=["format", "step", "truth", "seed", "large", "block", "now", "method", "setting", "local", "losses",
             "array"],
    )  # fmt: skip
    def test_facts_that_cannot_be(self, file, facts, said):
        assert said in self.refused(self.changed(file, **facts))

    def test_damage_is_refused_or_seen_in_numbers_alone(self, file):
        """Whatever byte is changed or missing: no other error, and no other shapes."""
        data, rng = file.read_bytes(), np.random.default_rng(0)
        cut = [data[:n] for n in (0, 1, 7, 8, 20, len(data) // 2, len(data) - 1)]
        flipped = [bytearray(data) for _ in range(150)]
        for each in flipped:
            each[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        for damaged in [*cut, *flipped, data + b"\0", (1 << 62).to_bytes(8, "little") + data[8:]]:
            file.write_bytes(bytes(damaged))
            try:
                found = read_checkpoint(file, begin(5))
            except InvalidData:
                continue
            assert found.at.model.w.shape == (5,)
            assert len(found.at.losses) == found.at.step


class TestGoingOn:
    def asked(self, folder, algorithm, rounds=9, **settings):
        found = read_checkpoint(folder, begin(5))
        sites = federation(*drawn(), **settings)
        run = sites.rounds("").run
        resumed(found, Course(algorithm, LOCAL, rounds), sites.plan, run)
        return run.notes[1:]

    @pytest.mark.parametrize(
        ("algorithm", "settings", "said"),
        [
            (scaffold(), {}, "journal"),
            (fedavg(), {"topology": "ring"}, "topology='star'"),
            (fedavg(), {"topology": "gossip"}, "topology='star'"),
            (fedavgm(), {}, "another method"),
            (fedbuff(), {}, "another method"),
        ],
        ids=["kept", "ring", "gossip", "method", "arrivals"],
    )
    def test_what_a_file_does_not_hold_is_refused(self, tmp_path, algorithm, settings, said):
        gone(tmp_path, scaffold() if algorithm.remembers else fedavg(), 1)
        with pytest.raises(InvalidData, match=said):
            self.asked(tmp_path, algorithm, **settings)

    def test_arrivals_are_refused(self, tmp_path):
        sites = federation(*drawn())
        trained(sites, fedbuff(buffer=2), LOCAL, 1, pace=devices(), callbacks=[checkpoint(tmp_path)])
        with pytest.raises(InvalidData, match="know more"):
            self.asked(tmp_path, fedbuff(buffer=2))

    def test_a_round_after_the_last(self, tmp_path):
        gone(tmp_path, rounds=3)
        with pytest.raises(InvalidData, match="later round"):
            self.asked(tmp_path, fedavg(), rounds=2)

    def test_a_server_that_kept_something_else(self, tmp_path):
        done = gone(tmp_path, fedavgm(), 1)
        path = tmp_path / "round-00001.safetensors"
        write_checkpoint(path, done._replace(state={"v": np.zeros(4)}))
        with pytest.raises(InvalidData, match="what the server keeps"):
            self.asked(tmp_path, fedavgm())

    def test_other_settings_are_said(self, tmp_path):
        gone(tmp_path, fedprox(mu=0.5), 1)
        (said,) = self.asked(tmp_path, fedprox(mu=0.1))
        assert said.startswith("algorithm was {'name': 'fedprox', 'settings': {'mu': 0.5")

    def test_without_a_server_the_mean_is_written(self, tmp_path):
        sites = federation(*drawn(), topology="gossip")
        done = trained(sites, fedavg(), LOCAL._replace(batch_size=None), 2, mixing=dpsgd(),
                       callbacks=[checkpoint(tmp_path)])  # fmt: skip
        np.testing.assert_array_equal(read_checkpoint(tmp_path, begin(5)).at.model.w, done.model.w)


class TestModules:
    """By `atoll.train`."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def net(self, torch):
        torch.manual_seed(3)
        n = torch.nn
        return n.Sequential(n.Linear(4, 6), n.BatchNorm1d(6), n.ReLU(), n.Dropout(0.2), n.Linear(6, 3))

    def train(self, torch, sites, *args, **more):
        import atoll

        return atoll.train(self.net(torch), torch.nn.CrossEntropyLoss(), sites, *args, **more)

    def sites(self, **settings):
        from atoll import Federation
        from cases import data

        X, y = data("iris")
        return Federation.simulate(X.astype(np.float32), y, n_nodes=5, partition="dirichlet(alpha=1.0)", **settings)

    @pytest.mark.parametrize("engine", ["inprocess", "processes"])
    def test_a_module_goes_on_with_the_same_bits(self, torch, tmp_path, engine):
        how = {"local": sgd(lr=cosine(0.1, rounds=4), momentum=0.5), "nodes_per_round": 3, "random_state": 11}
        settings = {} if engine == "inprocess" else {"engine": engine, "n_workers": 2}
        whole = self.train(torch, self.sites(), fedavgm(), rounds=4, **how)
        self.train(torch, self.sites(), fedavgm(), rounds=2, callbacks=[checkpoint(tmp_path)], **how)
        rest = self.train(torch, self.sites(**settings), rounds=4, nodes_per_round=3, resume=tmp_path)
        for name, tensor in whole.module.state_dict().items():
            if tensor.is_floating_point():
                assert torch.equal(rest.module.state_dict()[name], tensor), name
        assert rest.losses == whole.losses
        assert rest.run_.seed == 11
        assert rest.run_.notes[0] == "goes on after round 2"
        assert [row.round for row in rest.run_.training] == [3, 4]

    def test_the_module_of_a_file(self, torch, tmp_path):
        net = self.net(torch)
        done = self.train(torch, self.sites(), rounds=2, callbacks=[checkpoint(tmp_path)])
        again = load_checkpoint(tmp_path, net)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), done.module.parameters(), strict=True))
        assert torch.equal(again[1].running_mean, done.module[1].running_mean)
        assert not torch.equal(net[0].weight, again[0].weight), "what was given is not touched"

    def test_another_seed_is_refused(self, torch, tmp_path):
        self.train(torch, self.sites(), rounds=1, random_state=5, callbacks=[checkpoint(tmp_path)])
        with pytest.raises(InvalidData, match="with its seed"):
            self.train(torch, self.sites(), rounds=2, random_state=6, resume=tmp_path)

    def test_a_function_has_to_be_given_again(self, torch, tmp_path):
        local = sgd(lr=lambda step: 0.1)
        whole = self.train(torch, self.sites(), local=local, rounds=2, callbacks=[checkpoint(tmp_path, keep=None)])
        with pytest.raises(InvalidData, match="local is a function"):
            self.train(torch, self.sites(), rounds=2, resume=tmp_path / "round-00001.safetensors")
        rest = self.train(torch, self.sites(), local=local, rounds=2, resume=tmp_path / "round-00001.safetensors")
        assert rest.losses == whole.losses

    def test_nodes_that_keep_something_go_on_by_a_journal(self, torch, tmp_path):
        self.train(torch, self.sites(), scaffold(), rounds=1, callbacks=[checkpoint(tmp_path)])
        with pytest.raises(InvalidData, match="give the federation a journal"):
            self.train(torch, self.sites(), rounds=2, resume=tmp_path)
