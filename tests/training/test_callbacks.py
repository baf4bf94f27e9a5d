"""What is seen of a training while it runs: callbacks, validation, Ctrl-C, and memory said beforehand."""

from __future__ import annotations

import math
import os
import signal
import sys
from types import ModuleType

import numpy as np
import pytest

from atoll import Federation
from atoll.algorithms import dpsgd, fedadam, fedavg, fedbuff, scaffold, sgd
from atoll.clock import devices
from atoll.errors import InvalidData, MissingExtra, NotEnoughMemory
from atoll.specs import Spec
from atoll.training import Course, early_stopping, forecast, mlflow, tensorboard, train_over
from atoll.training.validation import Validation
from training.quadratics import begin, drawn, federation, trained

LOCAL = sgd(lr=0.05, steps=3, batch_size=None)
WAYS = {
    "star": ({}, fedavg(), {}),
    "ring": ({"topology": "ring"}, fedavg(), {}),
    "gossip": ({"topology": "gossip"}, fedavg(), {"mixing": dpsgd()}),
    "arrivals": ({}, fedbuff(buffer=2), {"pace": devices()}),
}


class Writer:
    """Stands in for torch's writer of event files."""

    made: list[Writer] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.scalars, self.flushed = folder, purge_step, [], 0
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        self.flushed += 1


def test_tensorboard_is_told_every_metric_of_every_round(monkeypatch, tmp_path):
    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setattr(Writer, "made", [])
    done = trained(federation(*drawn()), fedavg(), LOCAL, 3, callbacks=[tensorboard(tmp_path)])
    (writer,) = Writer.made
    assert writer.folder == os.fspath(tmp_path)
    assert (writer.purge_step, writer.flushed) == (1, 3)
    assert [(value, step) for name, value, step in writer.scalars if name == "loss"] == [
        (loss, i + 1) for i, loss in enumerate(done.losses)
    ]
    moved = [value for name, value, _ in writer.scalars if name == "megabytes"]
    assert moved == sorted(moved)
    assert moved[-1] == (done.run.bytes_up + done.run.bytes_down) / 1e6


def test_mlflow_is_told_settings_once_and_metrics_of_every_round(monkeypatch):
    library, told = ModuleType("mlflow"), []
    library.log_params = lambda params, **where: told.append(("params", params, where))
    library.log_metrics = lambda metrics, **where: told.append(("metrics", metrics, where))
    monkeypatch.setitem(sys.modules, "mlflow", library)
    done = trained(federation(*drawn()), fedavg(), LOCAL, 2, callbacks=[mlflow(run_id="abc")])
    assert [kind for kind, *_ in told] == ["params", "metrics", "metrics"]
    settings = told[0][1]
    assert settings["algorithm"] == "fedavg(server_lr=1.0)"
    assert (settings["local.lr"], settings["nodes"], settings["seed"]) == (0.05, 4, 0)
    assert [where for *_, where in told[1:]] == [{"step": 1, "run_id": "abc"}, {"step": 2, "run_id": "abc"}]
    assert [metrics["loss"] for _, metrics, _ in told[1:]] == list(done.losses)


@pytest.mark.parametrize(
    ("module", "make"),
    [("torch.utils.tensorboard", lambda: tensorboard("x")), ("mlflow", mlflow)],
    ids=["tb", "mlflow"],
)
def test_what_is_not_installed_is_said_at_once(monkeypatch, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match="pip install"):
        make()


@pytest.mark.parametrize("way", WAYS)
def test_every_round_is_told_with_its_row(way):
    settings, algorithm, more = WAYS[way]
    seen = []
    sites = federation(*drawn(), **settings)
    done = trained(sites, algorithm, LOCAL, 4, callbacks=[lambda t: seen.append((t.step, t.metrics["loss"]))], **more)
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    if way != "arrivals":  # whose loss is that of all groups that are counted in a step
        np.testing.assert_allclose([loss for _, loss in seen], done.losses, rtol=1e-12)
    assert {row.round for row in done.run.training} == {1, 2, 3, 4}


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_leaves_the_model_of_the_last_round(way):
    settings, algorithm, more = WAYS[way]
    whole = []
    trained(federation(*drawn(), **settings), algorithm, LOCAL, 5,
            callbacks=[lambda t: whole.append(t.model.w)], **more)  # fmt: skip
    sites = federation(*drawn(), **settings)
    run = sites.rounds("quadratic")
    run.meet(classes=False)
    asked, plain = [], run.round

    def interrupted(op, *args, **kwargs):
        if op in ("train.local", "train.replica", "gossip.step"):
            asked.append(op)
            if len(asked) == 4:
                signal.raise_signal(signal.SIGINT)
        return plain(op, *args, **kwargs)

    run.round = interrupted
    done = train_over(run, Spec("test.quadratic", {"steps": None, "exact": False}), begin(5),
                      Course(algorithm, LOCAL, 5, **more))  # fmt: skip
    assert 1 <= done.step <= 3
    np.testing.assert_array_equal(done.model.w, whole[done.step - 1])
    assert len(done.losses) == done.step
    assert any(note == f"interrupted after {done.step} of 5 rounds" for note in done.run.notes)
    assert done.judge(False).rows == 4, "the nodes can be asked"


@pytest.mark.parametrize("way", ["star", "ring", "gossip", "arrivals"])
def test_ctrl_c_in_a_callback_keeps_the_round(way):
    settings, algorithm, more = WAYS[way]

    def press(t):
        if t.step == 2:
            signal.raise_signal(signal.SIGINT)

    done = trained(federation(*drawn(), **settings), algorithm, LOCAL, 5, callbacks=[press], **more)
    assert (done.step, len(done.losses)) == (2, 2)


class TestValidation:
    def run(self, every=1, rounds=5, held_out=None, callbacks=(), **settings):
        sites = federation(*drawn(), **settings)
        validation = Validation(held_out or federation(*drawn()), every)
        program = Spec("test.quadratic", {"steps": None, "exact": False})
        validation.begin(program, begin(5), Course(fedavg(), LOCAL, rounds))
        return validation, trained(sites, fedavg(), LOCAL, rounds, callbacks=[validation, *callbacks])

    def test_rows_have_what_the_nodes_with_held_out_rows_say(self):
        seen = []
        validation, done = self.run(callbacks=[lambda t: seen.append((t.judge(False).loss, t.metrics))])
        rows = done.run.training
        assert [row.metrics["validation_loss"] for row in rows] == [loss for loss, _ in seen]
        assert [metrics["validation_loss"] for _, metrics in seen] == [loss for loss, _ in seen]
        assert validation.run.rows[-1].op == "train.judge"
        assert done.run.history.to_frame()["validation_loss"].notna().sum() == 5

    def test_only_some_rounds_and_the_last(self):
        validation, done = self.run(every=2)
        assert [row.round for row in done.run.training if "validation_loss" in row.metrics] == [2, 4, 5]
        assert sum(row.op == "train.judge" for row in validation.run.rows) == 3

    def test_over_a_ring(self):
        _, done = self.run(topology="ring")
        assert [row.round for row in done.run.training if "validation_loss" in row.metrics] == [1, 2, 3, 4, 5]

    def test_the_model_is_what_it_is_without(self):
        plain = trained(federation(*drawn()), fedavg(), LOCAL, 5)
        np.testing.assert_array_equal(self.run()[1].model.w, plain.model.w)

    def test_it_can_end_a_training(self):
        stop = early_stopping(patience=2, min_delta=0.5, on="validation_loss")
        assert self.run(rounds=50, every=3, callbacks=[stop])[1].step < 50

    @pytest.mark.parametrize("held_out", [np.zeros((3, 2)), "rows", (1, 2, 3)], ids=["X", "text", "three"])
    def test_what_is_no_rows_is_refused(self, held_out):
        with pytest.raises(InvalidData, match="validate"):
            Validation(held_out, 1)

    def test_every_is_a_number_of_rounds(self):
        with pytest.raises(InvalidData, match="every"):
            Validation((np.zeros((3, 2)), np.zeros(3)), 0)


class TestMemory:
    def rounds(self, **settings):
        rounds = federation(*drawn(), **settings).rounds("quadratic")
        rounds.meet(classes=False)
        return rounds

    @pytest.mark.parametrize(
        ("course", "expected"),
        [
            (Course(fedavg(), sgd(), 1, way="sequential"), 5 + 5),
            (Course(fedavg(), sgd(momentum=0.9), 1, way="sequential"), 5 + 6),
            (Course(fedadam(), sgd(), 1, way="sequential"), 5 + 2 * 2 + 5),
            (Course(fedavg(), sgd(), 1, way="stacked", block=2), 5 + 3 + 2 * 2),
            (Course(fedavg(), sgd(), 1, way="stacked", block=32), 5 + 3 + 4 * 2),
            (Course(scaffold(), sgd(), 1, way="sequential"), 5 + 2 * 1 + 5 + 4 + 4),
            (Course(scaffold(), sgd(), 1, nodes_per_round=2, way="sequential"), 5 + 2 * 1 + 5 + 2 + 4),
        ],
        ids=["plain", "momentum", "server", "block", "cohort", "kept", "fewer"],
    )  # fmt: skip
    def test_what_is_counted(self, course, expected):
        """In models, over four nodes in one process."""
        found = forecast.forecast(self.rounds(), begin(1000), course)
        assert found.model == 8000
        assert found.total / found.model == expected

    def test_what_lies_on_another_device_is_not_counted(self):
        course = Course(fedavg(), sgd(), 1, way="stacked", block=4)
        assert forecast.forecast(self.rounds(), begin(1000), course, "cuda:0").total == 8 * 8000

    def test_every_worker_counts(self):
        course = Course(fedavg(), sgd(), 1, way="sequential")
        found = forecast.forecast(self.rounds(engine="processes", n_workers=2), begin(1000), course)
        assert (found.workers, found.total / found.model) == (2, 5 + 2 * 5)

    def test_too_much_is_refused_with_the_numbers_before_round_0(self, monkeypatch):
        monkeypatch.setattr(forecast, "available", lambda: 30_000)
        course = Course(scaffold(), sgd(), 1, way="stacked", block=4)
        with pytest.raises(NotEnoughMemory) as caught:
            forecast.check_memory(self.rounds(), begin(1000), course)
        said = str(caught.value)
        assert "30.0 kB, which is free here" in said
        assert "model of 8.00 kB" in said
        assert "block (now 4)" in said
        assert "nodes_per_round (now 4)" in said
        assert isinstance(caught.value, MemoryError)

    def test_where_the_system_does_not_say_nothing_is_refused(self, monkeypatch):
        monkeypatch.setattr(forecast, "available", lambda: None)
        forecast.check_memory(self.rounds(), begin(1000), Course(fedavg(), sgd(), 1))

    def test_the_machine_says_what_is_free(self):
        free = forecast.available()
        assert free is None or 1 << 20 < free < 1 << 50

    def test_a_control_group_bounds_it(self, monkeypatch, tmp_path):
        (tmp_path / "memory.max").write_text("1000000\n")
        (tmp_path / "memory.current").write_text("900000\n")
        (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000\n")
        group = (tmp_path, "memory.max", "memory.current")
        monkeypatch.setattr(forecast, "_groups", lambda: [group])
        assert forecast.available() == 101_000
        (tmp_path / "memory.max").write_text("max\n")
        assert forecast.available() == forecast._of_machine() or forecast.available() > 101_000

    def test_a_training_is_refused(self, monkeypatch):
        torch = pytest.importorskip("torch")
        import atoll

        monkeypatch.setattr("atoll.training.forecast.available", lambda: 100)
        sites = Federation.simulate(np.eye(6, dtype=np.float32), np.arange(6) % 2, n_nodes=2)
        with pytest.raises(NotEnoughMemory):
            atoll.train(torch.nn.Linear(6, 2), torch.nn.CrossEntropyLoss(), sites, rounds=1)


def test_a_round_without_anybody_has_no_row():
    done = trained(federation(*drawn()), fedavg(), LOCAL, 2)
    done.run.measure(9, validation_loss=1.0)
    assert all("validation_loss" not in row.metrics for row in done.run.rows)
    assert done._replace(step=9).metrics == {}
    assert math.isfinite(done.metrics["loss"])
