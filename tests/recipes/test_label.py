"""Encoders of labels over nodes: the union of the classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData
from recipes.compared import same_fit

LABELS = {
    "whole": np.array([3, 1, 2, 1, 3, 3]),
    "two": np.array([1, 0, 1, 1, 0, 1], dtype=np.int8),
    "one": np.array([7, 7, 7]),
    "text": np.array(["b", "a", "b", "long"]),
    "objects": np.array(["b", "a", "b", "long"], dtype=object),
    "list": ["b", "a", "b", "long"],
    "series": pd.Series(["b", "a", "b", "long"]),
    "truth": np.array([True, False, True]),
    "column": np.array([[2.0], [1.0], [2.0]]).ravel(),
    "several": np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]),
    "sparse": sp.csr_matrix([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]),
}


@pytest.mark.parametrize("kind", [k for k in LABELS if k not in ("several", "sparse")])
@pytest.mark.parametrize("encoder", [LabelEncoder(), LabelBinarizer(), LabelBinarizer(neg_label=-2, pos_label=4)])
def test_equal_to_pooled(encoder, kind):
    y = LABELS[kind]
    pooled, model = clone(encoder).fit(y), Distributed(encoder, n_nodes=3).fit(y)
    fitted = model.estimator_
    assert not hasattr(model, "n_features_in_")
    same_fit(fitted.classes_, pooled.classes_)
    same_fit(model.transform(y), pooled.transform(y))
    same_fit(model.inverse_transform(model.transform(y)), pooled.inverse_transform(pooled.transform(y)))
    same_fit(Distributed(encoder, n_nodes=2).fit_transform(y), pooled.transform(y))


@pytest.mark.parametrize("kind", ["several", "sparse"])
@pytest.mark.parametrize("binarizer", [LabelBinarizer(), LabelBinarizer(sparse_output=True)])
def test_several_labels_per_row(binarizer, kind):
    y = LABELS[kind]
    pooled, model = clone(binarizer).fit(y), Distributed(binarizer, n_nodes=3).fit(y)
    assert vars(model.estimator_).keys() >= vars(pooled).keys()
    assert (model.y_type_, model.sparse_input_) == (pooled.y_type_, pooled.sparse_input_)
    same_fit(model.classes_, pooled.classes_)
    same_fit(model.transform(y), pooled.transform(y))
    same_fit(model.inverse_transform(pooled.transform(y)), pooled.inverse_transform(pooled.transform(y)))


def test_sites_whose_labels_differ():
    X = np.zeros((2, 4))
    sites = Federation.from_shards([(X, ["b", "b"]), (X, ["a", "c"]), (X[:1], ["b"])])
    for encoder in (LabelEncoder(), LabelBinarizer()):
        assert Federated(encoder).fit(sites).classes_.tolist() == ["a", "b", "c"]
    assert Federated(LabelBinarizer()).fit(sites).y_type_ == "multiclass"


def test_sites_without_labels_are_refused():
    with pytest.raises(InvalidData, match="these nodes have none"):
        Federated(LabelEncoder()).fit(Federation.from_shards([np.zeros((2, 4))]))


@pytest.mark.parametrize(
    ("encoder", "y", "words"),
    [
        (LabelBinarizer(neg_label=2, pos_label=1), [0, 1], "must be strictly less than"),
        (LabelBinarizer(), [], "y has 0 samples"),
        (LabelBinarizer(), [0.5, 1.5], "Unknown label type"),
        (LabelEncoder(), np.zeros((2, 2)), "y should be a 1d array"),
        (LabelEncoder(), [None, "a"], "labels of mixed type"),
    ],
)
def test_nonsense_is_refused(encoder, y, words):
    with pytest.raises(ValueError, match=words):
        Distributed(encoder, n_nodes=1).fit(y)


def test_unseen_labels_are_refused_when_they_come():
    model = Distributed(LabelEncoder(), n_nodes=2).fit(["a", "b"])
    with pytest.raises(ValueError, match="y contains previously unseen labels"):
        model.transform(["c"])
