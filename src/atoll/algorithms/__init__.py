"""Methods of training in rounds, each a short function that can be held against its paper.

>>> from atoll.algorithms import fedprox
>>> fedprox(mu=0.1)
fedprox(mu=0.1, server_lr=1.0)
"""

from __future__ import annotations

from atoll.algorithms.adaptive import diloco, fedadagrad, fedadam, fedavgm, fedyogi
from atoll.algorithms.asynchronous import fedasync, fedbuff
from atoll.algorithms.averaging import fedavg, fedexp, fednova, fedprox, fedsam, qffl
from atoll.algorithms.base import Algorithm, Done, Drift, Learner, Rate, Told, algorithms
from atoll.algorithms.clusters import ifca
from atoll.algorithms.corrected import feddyn, fedlin, mime, mimelite, proxskip, scaffold
from atoll.algorithms.decentralized import Decentralized, decentralized, dpsgd, extra, gradient_tracking, push_sum
from atoll.algorithms.local import Local, optimizer, own, sgd
from atoll.algorithms.masks import fedbabu, fedbn, fedper, fedrep, lg
from atoll.algorithms.memorizing import knn_per
from atoll.algorithms.personal import apfl, ditto, perfedavg
from atoll.algorithms.schedules import Schedule, constant, cosine, inverse_sqrt, step_decay, warmup

__all__ = [
    "Algorithm",
    "Decentralized",
    "Done",
    "Drift",
    "Learner",
    "Local",
    "Rate",
    "Schedule",
    "Told",
    "algorithms",
    "apfl",
    "constant",
    "cosine",
    "decentralized",
    "diloco",
    "ditto",
    "dpsgd",
    "extra",
    "fedadagrad",
    "fedadam",
    "fedasync",
    "fedavg",
    "fedavgm",
    "fedbabu",
    "fedbn",
    "fedbuff",
    "feddyn",
    "fedexp",
    "fedlin",
    "fednova",
    "fedper",
    "fedprox",
    "fedrep",
    "fedsam",
    "fedyogi",
    "gradient_tracking",
    "ifca",
    "inverse_sqrt",
    "knn_per",
    "lg",
    "mime",
    "mimelite",
    "optimizer",
    "own",
    "perfedavg",
    "proxskip",
    "push_sum",
    "qffl",
    "scaffold",
    "sgd",
    "step_decay",
    "warmup",
]
