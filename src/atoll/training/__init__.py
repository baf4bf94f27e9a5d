"""Training in rounds, over nodes that have met."""

from __future__ import annotations

from atoll.training.allreduce import goes_round, train_round_the_ring
from atoll.training.api import TrainedModule, train
from atoll.training.balancing import balance_over, class_counts
from atoll.training.callbacks import mlflow, tensorboard
from atoll.training.checkpoints import checkpoint, load_checkpoint
from atoll.training.gossip import check_gossip, gossip_over
from atoll.training.loop import Callback, Course, Judged, Trained, check_answers, check_course
from atoll.training.start import train_over
from atoll.training.stopping import early_stopping
from atoll.training.sweeps import Sweep, sweep

__all__ = [
    "Callback",
    "Course",
    "Judged",
    "Sweep",
    "Trained",
    "TrainedModule",
    "balance_over",
    "check_answers",
    "check_course",
    "check_gossip",
    "checkpoint",
    "class_counts",
    "early_stopping",
    "goes_round",
    "gossip_over",
    "load_checkpoint",
    "mlflow",
    "sweep",
    "tensorboard",
    "train",
    "train_over",
    "train_round_the_ring",
]
