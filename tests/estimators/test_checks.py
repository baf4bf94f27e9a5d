"""scikit-learn's own contract suite, over every wrapper and every estimator; no check is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.utils import get_tags
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.estimator_checks import parametrize_with_checks

from atoll import Distributed, Federated
from atoll.recipes import supported
from estimators.doubles import FederatedOverSites

EVERY = [next(iter(_construct_instances(kind))) for kind in supported()]
FAMILY = [estimator for estimator in EVERY if get_tags(estimator).input_tags.two_d_array]  # others have no checks


@parametrize_with_checks(
    [Distributed(estimator) for estimator in FAMILY] + [FederatedOverSites(estimator) for estimator in FAMILY]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.thorough
@parametrize_with_checks(
    [Distributed(estimator, n_nodes=2) for estimator in FAMILY] + [Federated(estimator) for estimator in FAMILY]
)
def test_scikit_learn_checks_over_other_nodes(estimator, check):
    check(estimator)
