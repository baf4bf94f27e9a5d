"""Models as data: what comes back predicts the same bits, and what is not a model is refused by a WireError."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_blobs
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    NearestNeighbors,
    RadiusNeighborsClassifier,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelBinarizer,
    LabelEncoder,
    MultiLabelBinarizer,
    OneHotEncoder,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _tested_estimators
from sklearn.utils._testing import set_random_state
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y

from atoll import models, wire
from atoll.errors import WireError
from atoll.models import Model
from atoll.models.classes import INNER, class_name, find_class, parameter_names

METHODS = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "score_samples", "kneighbors",
    "radius_neighbors",
)  # fmt: skip

TREES = r"tree_ .*\n.*sklearn\.tree\._tree\.Tree"
SEARCH = "write its best_estimator_ instead"
REFUSED = {
    "AdaBoostClassifier": TREES,
    "AdaBoostRegressor": TREES,
    "BaggingClassifier": TREES,
    "BaggingRegressor": TREES,
    "Birch": "_CFNode",
    "BisectingKMeans": "_kmeans_single_lloyd",
    "DecisionTreeClassifier": TREES,
    "DecisionTreeRegressor": TREES,
    "ExtraTreeClassifier": TREES,
    "ExtraTreeRegressor": TREES,
    "ExtraTreesClassifier": TREES,
    "ExtraTreesRegressor": TREES,
    "GradientBoostingClassifier": "_loss .*\n.*HalfMultinomialLoss",
    "GradientBoostingRegressor": "_loss .*\n.*HalfSquaredError",
    "GridSearchCV": SEARCH,
    "HDBSCAN": "an array of dtype .*left_node",
    "HalvingGridSearchCV": SEARCH,
    "HalvingRandomSearchCV": SEARCH,
    "HistGradientBoostingClassifier": "_feature_subsample_rng .*\n.*Generator",
    "HistGradientBoostingRegressor": "_feature_subsample_rng .*\n.*Generator",
    "IsolationForest": TREES,
    "RandomForestClassifier": TREES,
    "RandomForestRegressor": TREES,
    "RandomTreesEmbedding": TREES,
    "RandomizedSearchCV": SEARCH,
    "StackingClassifier": TREES,
    "StackingRegressor": TREES,
    "TunedThresholdClassifierCV": "_curve_scorer .*\n.*_CurveScorer",
    "VotingClassifier": TREES,
    "VotingRegressor": TREES,
}
"""What is refused as scikit-learn's own tests make it, and why. Meta-estimators are refused with trees inside only."""

OTHER_ROWS = {
    "CountVectorizer", "DictVectorizer", "LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer", "SparseCoder",
    "TfidfVectorizer",
}  # fmt: skip
"""What does not fit a table of numbers; tested below."""


def quiet(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **keywords)


def instances() -> list[BaseEstimator]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_tested_estimators())


def short(estimator: BaseEstimator) -> str:
    return type(estimator).__name__


INSTANCES = instances()
FITTING = [e for e in INSTANCES if short(e) not in OTHER_ROWS]
X, Y = make_blobs(n_samples=60, centers=3, n_features=4, cluster_std=2.0, random_state=0)


def fitted(estimator: BaseEstimator) -> tuple[Any, np.ndarray]:
    """A copy of an estimator of scikit-learn's tests, fitted, and rows that it takes."""
    estimator = quiet(copy.deepcopy, estimator)
    set_random_state(estimator, 1)
    rows = _enforce_estimator_tags_X(estimator, X)
    return quiet(estimator.fit, rows, _enforce_estimator_tags_y(estimator, Y)), rows


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, estimators by all that they show; objects that are not data by their class only."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and a.dtype.kind != "O":
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and same(list(a.ravel()), list(b.ravel()))
    if sp.issparse(a):
        return a.shape == b.shape and same([a.data, a.indices, a.indptr], [b.data, b.indices, b.indptr])
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, BaseEstimator):
        return same(shown(a), shown(b))
    plain = isinstance(a, bool | int | float | str | slice | np.generic | np.dtype | type | None)
    return not plain or a == b or a != a


def shown(estimator: Any) -> dict[str, Any]:
    """Parameters and public attributes."""
    return {key: value for key, value in sorted(vars(estimator).items()) if not key.startswith("_")}


def check(estimator: Any, *rows: Any) -> Any:
    """Send an estimator through the wire; it must show, answer and encode the same afterwards."""
    data = models.to_bytes(estimator)
    back = quiet(models.from_bytes, data)
    assert same(estimator, back)
    assert models.to_bytes(back) == data
    for name in METHODS:
        if hasattr(estimator, name):
            for some in rows:
                before, after = (answer(getattr(one, name), some) for one in (estimator, back))
                assert same(before, after), name
    return back


def answer(method: Callable[..., Any], rows: Any) -> Any:
    try:
        return quiet(method, copy.copy(rows))
    except (AttributeError, ValueError) as error:  # what some of scikit-learn's instances say to any rows
        return str(error)


# -- every estimator -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [e for e in FITTING if short(e) not in REFUSED], ids=short)
def test_a_fitted_estimator_comes_back(estimator):
    one, rows = fitted(estimator)
    back = check(one, rows[:20], rows)
    assert sum(name.endswith("_") for name in shown(back)) == sum(name.endswith("_") for name in shown(one))


@pytest.mark.parametrize("estimator", [e for e in FITTING if short(e) in REFUSED], ids=short)
def test_what_is_not_data_is_refused_by_name(estimator):
    with pytest.raises(WireError, match=REFUSED[short(estimator)]):
        models.encode(fitted(estimator)[0])


def test_the_lists_name_what_exists():
    names = {short(e) for e in INSTANCES}
    assert names >= REFUSED.keys() | OTHER_ROWS
    assert {name for name, _ in all_estimators()} - names == {"FrozenEstimator"}


@pytest.mark.parametrize("estimator", INSTANCES, ids=short)
def test_an_unfitted_estimator_comes_back(estimator):
    back = quiet(models.from_bytes, models.to_bytes(estimator))
    assert same(estimator.get_params(), back.get_params())
    assert same(vars(estimator), vars(back))


@pytest.mark.parametrize("kind", [kind for _, kind in all_estimators()], ids=lambda kind: kind.__name__)
def test_a_class_is_found_by_its_public_name(kind):
    name = class_name(kind)
    assert name.startswith("sklearn.")
    assert "._" not in name
    assert find_class(name) is kind
    assert sorted(parameter_names(kind)) == kind._get_param_names()


@pytest.mark.parametrize("name", sorted(INNER))
def test_inner_classes_exist(name):
    assert class_name(find_class(name)) == name


# -- what scikit-learn's own instances do not show -----------------------------------------------------------------

IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = load_iris().target_names[SPECIES]
TEXTS = ["the cat sat", "the dog sat down", "a bird"]


def of_other_rows() -> Iterator[tuple[str, Any, Any]]:
    for one in (CountVectorizer(), TfidfVectorizer(), HashingVectorizer(), CountVectorizer(vocabulary=["cat", "dog"])):
        yield type(one).__name__, one.fit(TEXTS), TEXTS
    yield "DictVectorizer", DictVectorizer().fit([{"a": 1, "b": "x"}]), [{"a": 2.0}, {"b": "x"}]
    yield "LabelEncoder", LabelEncoder().fit(["b", "a"]), ["a", "b"]
    yield "LabelEncoder of objects", LabelEncoder().fit(np.array(["b", "a"], object)), np.array(["a"], object)
    yield "LabelBinarizer", LabelBinarizer().fit([3, 1, 2]), [1, 3]
    yield "MultiLabelBinarizer", MultiLabelBinarizer().fit([["a"], ["a", "b"]]), [["b"], []]


@pytest.mark.parametrize(("name", "estimator", "rows"), list(of_other_rows()))
def test_other_rows_come_back(name, estimator, rows):
    check(estimator, rows)


@pytest.mark.parametrize("y", [SPECIES, NAMES, NAMES.astype(object), np.c_[NAMES, NAMES[::-1]], SPECIES * 0.5])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_neighbors_come_back(y, algorithm):
    if y.dtype == float:
        one: Any = KNeighborsRegressor(n_neighbors=3, weights="distance", algorithm=algorithm).fit(IRIS, y)
    else:
        one = KNeighborsClassifier(n_neighbors=3, algorithm=algorithm).fit(IRIS, y)
    back = check(one, IRIS + 0.05)
    assert same(vars(one) | {"_tree": None}, vars(back) | {"_tree": None})


@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        (KNeighborsClassifier(algorithm="kd_tree"), sp.csr_matrix(IRIS)),
        (KNeighborsClassifier(metric="precomputed"), IRIS @ IRIS.T),
        (KNeighborsClassifier(metric="minkowski", p=3, metric_params={"w": np.arange(1.0, 5.0)}), IRIS),
        (KNeighborsClassifier(metric="seuclidean", metric_params={"V": IRIS.var(axis=0)}), IRIS),
        (RadiusNeighborsClassifier(radius=0.5, outlier_label="most_frequent"), np.asfortranarray(IRIS)),
        (NearestNeighbors(leaf_size=3), IRIS.astype(np.float32)),
        (LocalOutlierFactor(novelty=True), IRIS),
        (KernelDensity(bandwidth="scott", kernel="epanechnikov"), IRIS),
        (SVC(probability=True, random_state=0), IRIS),
        (SVC(kernel="linear"), sp.csr_matrix(IRIS)),
        (SVC(kernel="precomputed"), IRIS @ IRIS.T),
        (SVR(), sp.csr_array(IRIS)),
        (SplineTransformer(extrapolation="periodic", degree=2), IRIS),
        (GaussianProcessRegressor(ConstantKernel(2.0) * RBF([1.0] * 4) + WhiteKernel(0.1), optimizer=None), IRIS),
        (GaussianProcessClassifier(Matern(nu=1.5), optimizer=None), IRIS),
        (CalibratedClassifierCV(GaussianNB(), method="isotonic"), IRIS),
        (AdaBoostClassifier(LogisticRegression(), n_estimators=3), IRIS),
        (BaggingRegressor(Ridge(), n_estimators=3, random_state=0), IRIS),
        (VotingClassifier([("a", GaussianNB()), ("b", KNeighborsClassifier())], voting="soft"), IRIS),
        (StackingClassifier([("a", GaussianNB()), ("b", "drop")], final_estimator=LogisticRegression()), IRIS),
        (FeatureUnion([("k", SelectKBest(k=2)), ("s", StandardScaler())]), IRIS),
        (Pipeline([("scale", StandardScaler()), ("none", "passthrough"), ("knn", KNeighborsClassifier())]), IRIS),
        (FrozenEstimator(GaussianNB().fit(IRIS, SPECIES)), IRIS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_more_estimators_come_back(estimator, rows):
    one = quiet(copy.deepcopy(estimator).fit, rows, SPECIES)
    check(one, rows[:30])


def test_columns_of_a_frame_come_back():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [20.0, 30.0, 41.0, 55.0], "town": ["Ulm", "Bonn", "Ulm", "Köln"], "n": [1, 2, 3, 4]})
    columns = ColumnTransformer(
        [("number", StandardScaler(), ["age"]), ("town", OneHotEncoder(handle_unknown="ignore"), ["town"])],
        remainder="passthrough",
    )
    one = make_pipeline(columns, LogisticRegression()).fit(frame, ["yes", "no", "yes", "no"])
    back = check(one, frame)
    assert list(back[:-1].get_feature_names_out()) == list(one[:-1].get_feature_names_out())
    scaler = check(StandardScaler().set_output(transform="pandas").fit(frame[["age"]]))
    assert list(scaler.transform(frame[["age"]]).columns) == ["age"]


def test_weighted_density_comes_back():
    one = KernelDensity().fit(IRIS, sample_weight=np.arange(1.0, 151.0))
    check(one, IRIS[:9])


def test_a_node_without_a_class_comes_back():
    labels = np.c_[SPECIES == 0, np.ones(150)].astype(int)
    check(quiet(OneVsRestClassifier(LogisticRegression()).fit, IRIS, labels), IRIS)


@pytest.mark.parametrize(
    "estimator",
    [
        SGDClassifier(loss="modified_huber", random_state=0),
        MLPClassifier(5, random_state=0, max_iter=3),
        MLPClassifier(5, solver="sgd", random_state=0, max_iter=3),
        MiniBatchKMeans(3, random_state=0),
        GaussianNB(),
    ],
    ids=lambda e: f"{short(e)} {getattr(e, 'solver', '')}",
)
def test_training_goes_on_as_if_nothing_had_happened(estimator):
    classes = {} if isinstance(estimator, MiniBatchKMeans) else {"classes": [0, 1, 2]}
    one = quiet(copy.deepcopy(estimator).partial_fit, IRIS, SPECIES, **classes)
    back = models.from_bytes(models.to_bytes(one))
    for each in (one, back):
        quiet(each.partial_fit, IRIS, SPECIES)
    assert same(one, back)


def test_arrays_are_copies_in_the_same_order():
    one = LinearRegression().fit(IRIS, np.c_[SPECIES, SPECIES])
    one.coef_ = np.asfortranarray(one.coef_)
    back = models.decode(models.encode(one))
    assert back.coef_.flags.f_contiguous
    assert back.coef_.flags.writeable
    assert not np.shares_memory(back.coef_, one.coef_)


# -- what does not travel ------------------------------------------------------------------------------------------


class Mine(Ridge):
    """A class of the user's own."""


def loop() -> BaseEstimator:
    pipeline = Pipeline([])
    pipeline.steps = [("again", pipeline)]
    return pipeline


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (FunctionTransformer(func=np.log1p), r"FunctionTransformer\.func .*\n.*log1p\n.*code does not travel"),
        (KNeighborsClassifier(weights=lambda d: d), r"KNeighborsClassifier\.weights .*\n.*<lambda>"),
        (SGDClassifier(random_state=np.random.RandomState(0)), r"random_state .*\n.*RandomState\n.*seed"),
        (KMeans(random_state=np.random.default_rng(0)), r"random_state .*\n.*Generator\n.*seed"),
        (make_pipeline(StandardScaler(), KMeans(random_state=np.random.RandomState(0))), r"\.steps.*random_state"),
        (Mine(), r"test_models\.Mine\n.*only public estimators"),
        (Pipeline([("mine", Mine())]), r"Pipeline\.steps\S* cannot be written"),
        (Ridge(alpha=object()), r"Ridge\.alpha .*\n.*builtins\.object"),
        (Ridge(alpha={1}), "builtins.set"),
        (OneHotEncoder(dtype=Mine), "the code of Mine"),
        (LogisticRegression(C=np.zeros(1, "M8[s]")), "datetime64"),
        (loop(), "holds itself"),
        (np.zeros(3), "an array of dtype float64"),
        (GridSearchCV(GaussianNB(), {}).fit(IRIS, SPECIES), SEARCH),
        (RandomForestClassifier(1).fit(IRIS, SPECIES), TREES),
        (VotingClassifier([("t", DecisionTreeClassifier())]).fit(IRIS, SPECIES), TREES),
        (BisectingKMeans(2).fit(IRIS), "code does not travel"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_code_is_refused(estimator, why):
    with pytest.raises(WireError, match=why):
        models.encode(estimator)


def test_a_few_functions_of_scikit_learn_travel_by_name():
    back = models.from_bytes(models.to_bytes(SelectKBest(f_regression)))
    assert back.score_func is f_regression


# -- hostile messages ----------------------------------------------------------------------------------------------


def message(name: str, params: Any = None, fitted: Any = None) -> Model:
    return Model(name, sklearn.__version__, params or {}, fitted or {})


def changed(estimator: Any, **attributes: Any) -> Model:
    model = models.encode(estimator)
    return model._replace(fitted=model.fitted | attributes)


def refused(model: Model, why: str | None = None) -> None:
    """The message is refused, whether it has been on the wire or not."""
    for one in (model, wire.decode(wire.encode(model), Model)):
        with pytest.raises(WireError, match=why):
            models.decode(one)


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "builtins.eval", "subprocess.Popen", "numpy.ndarray", "Ridge", "", ".", "sklearn", "sklearn.Ridge",
        "sklearn.linear_model", "sklearn.linear_model.", "sklearn.linear_model.Ridgeling",
        "sklearn.linear_model._ridge.Ridge", "sklearn.linear_model.ridge_regression", "sklearn.linear_model.np",
        "sklearn.linear_model.__class__", "sklearn.linear_model._base.LinearModel", "sklearn.base.BaseEstimator",
        "sklearn.pipeline.BaseEstimator", "sklearn.ensemble.BaseEnsemble", "sklearn.datasets.load_iris",
        "sklearn.model_selection.KFold", "sklearn.externals.array_api_compat.numpy", "sklearn.utils.Bunch",
        "sklearn.tree._tree.Tree", "sklearn.linear_model.Ridge.fit", "sklearn.gaussian_process.kernels.Kernel",
        "sklearn.compose.TransformedTargetRegressor.__init__", "sklearn.linear_model\x00.Ridge",
    ],
)  # fmt: skip
def test_other_classes_are_refused(name):
    refused(message(name), "class that is not accepted")


@pytest.mark.parametrize(
    "attribute",
    [
        "__class__", "__dict__", "__reduce__", "__getattr__", "__sklearn_tags__", "predict", "fit", "get_params",
        "set_fit_request", "_repr_html_",
        "alpha", "_parameter_constraints", "coef_ ", "a.b", "1st", "", "score",
    ],
)  # fmt: skip
def test_other_attributes_are_refused(attribute):
    refused(message("sklearn.linear_model.Ridge", fitted={attribute: 1}), "cannot have this attribute")


@pytest.mark.parametrize("parameter", ["alhpa", "self", "__class__", "coef_", ""])
def test_other_parameters_are_refused(parameter):
    refused(message("sklearn.linear_model.Ridge", {parameter: 1}), "has no parameter")


@pytest.mark.parametrize(
    "value",
    [
        {}, {"tuple": [], "dict": []}, {"eval": "1"}, {"tuple": 3}, {"tuple": None}, {"dict": [["a"]]},
        {"dict": [[[], 1]]},
        {"dict": [[np.zeros(2), 1]]}, {"dict": "ab"}, {"bunch": [[1, 2]]}, {"slice": [1, 2, 3, 4]}, {"slice": 3},
        {"fortran": "x"}, {"objects": [[2], [1]]}, {"objects": [["a"], [1]]}, {"objects": [[-1, -1], [1]]},
        {"objects": [[10**12, 0], [1]]}, {"objects": 0}, {"scalar": 3}, {"scalar": np.zeros(2)}, {"sparse": []},
        {"sparse": ["dok_matrix", [1, 1], np.ones(1), np.zeros(1, int), np.array([0, 1])]},
        {"sparse": ["csr_matrix", [1, 1], np.ones(1), np.array([5]), np.array([0, 1])]},
        {"sparse": ["csr_matrix", [1, 1], np.ones(1), np.array([-1]), np.array([0, 1])]},
        {"sparse": ["csr_matrix", [2, 1], np.ones(1), np.array([0]), np.array([0, 2, 1])]},
        {"sparse": ["csr_matrix", [10**9, 1], np.ones(1), np.array([0]), np.array([0, 1])]},
        {"sparse": ["csr_matrix", [1, 1], np.ones(1), np.zeros(1), np.array([0, 1])]},
        {"sparse": ["csr_matrix", ["x", 1], np.ones(1), np.array([0]), np.array([0, 1])]},
        {"dtype": "O,O"}, {"dtype": "M8[s]"}, {"dtype": 3}, {"dtype": "<f3"}, {"type": "Ridge"}, {"type": []},
        {"function": "system"}, {"function": "eval"}, {"function": ["mean"]}, {"random_state": []},
        {"random_state": [np.zeros(624, np.uint32), 625, 0, 0.0]},
        {"random_state": [np.zeros(624, np.uint32), -1, 0, 0.0]},
        {"random_state": [np.zeros(3, np.uint32), 0, 0, 0.0]}, {"model": []}, {"model": "sklearn.linear_model.Ridge"},
        {"model": ["os.system", {}, {}]}, {"model": ["sklearn.linear_model.Ridge", {"x": 1}, {}]},
        {"model": ["sklearn.linear_model.Ridge", {}, {"predict": 1}]},
        {"model": ["sklearn.linear_model.Ridge", [], {}]},
        {"model": ["sklearn.linear_model.Ridge", {}, {1: 1}]}, {"model": [3, {}, {}]}, {"model": [None, {}, {}]},
        b"bytes", [{"model": []}], {"tuple": [{"list": []}]},
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_values_of_no_kind_are_refused(value):
    refused(message("sklearn.linear_model.Ridge", {"alpha": value}))
    refused(message("sklearn.linear_model.Ridge", fitted={"coef_": value}))


def test_depth_is_refused():
    value: Any = 1
    for _ in range(450):
        value = {"tuple": [value]}
    with pytest.raises(WireError):
        models.decode(wire.decode(wire.encode(message("sklearn.linear_model.Ridge", {"alpha": value})), Model))


VECTORS = SVC().fit(IRIS, SPECIES)
SPARSE_VECTORS = SVC().fit(sp.csr_matrix(IRIS), SPECIES)
PRECOMPUTED = SVC(kernel="precomputed").fit(IRIS @ IRIS.T, SPECIES)


@pytest.mark.parametrize(
    ("estimator", "attributes"),
    [
        (VECTORS, {"_n_support": np.array([10**6, 1, 1], np.int32)}),
        (VECTORS, {"_n_support": np.array([-5, len(VECTORS.support_) + 4, 1], np.int32)}),
        (VECTORS, {"_n_support": VECTORS._n_support[:2]}),
        (VECTORS, {"_dual_coef_": VECTORS._dual_coef_[:1]}),
        (VECTORS, {"_intercept_": np.zeros(1)}),
        (VECTORS, {"_probA": np.zeros(1)}),
        (VECTORS, {"support_vectors_": VECTORS.support_vectors_[:, :3]}),
        (VECTORS, {"n_features_in_": 9}),
        (VECTORS, {"_n_support": "abc"}),
        (SPARSE_VECTORS, {"_effective_probability": True}),
        (SPARSE_VECTORS, {"_dual_coef_": models.encode(VECTORS).fitted["_dual_coef_"]}),
        (PRECOMPUTED, {"support_": PRECOMPUTED.support_ + 10**6}),
        (PRECOMPUTED, {"n_features_in_": 10**6}),
    ],
)
def test_sizes_that_libsvm_trusts_are_checked(estimator, attributes):
    refused(changed(estimator, **attributes), "does not fit the others|not a sklearn.svm.SVC")


def test_sizes_that_k_means_trusts_are_checked():
    one = MiniBatchKMeans(3, random_state=0).fit(IRIS)
    refused(changed(one, cluster_centers_=np.zeros((3, 2))), "does not fit the others")
    refused(changed(one, cluster_centers_=np.zeros((0, 4))), "does not fit the others")
    refused(changed(one, _counts=np.zeros(2)), "does not fit the others")
    refused(changed(one, n_features_in_=400), "does not fit the others")
    many = models.decode(changed(one, _n_threads=10**9))
    assert many._n_threads < 10**5
    assert same(many.predict(IRIS), one.predict(IRIS))


@pytest.mark.parametrize("labels", [SPECIES, SPECIES == 0], ids=["three", "two"])
@pytest.mark.parametrize(
    "estimator",
    [SGDClassifier(average=True), SGDClassifier(), SGDRegressor(average=True), SGDOneClassSVM(average=True)],
)
def test_sizes_that_descent_trusts_are_checked(estimator, labels):
    one = quiet(copy.deepcopy(estimator).set_params(random_state=0).fit, IRIS, labels)
    check(one, IRIS)
    refused(changed(one, coef_=one.coef_[..., :2]), "does not fit the others")
    refused(changed(one, n_features_in_=3), "does not fit the others")
    if estimator.average:
        refused(changed(one, _average_coef=one.coef_[..., :2]), "does not fit the others")
        refused(changed(one, _average_intercept=np.zeros(9)), "does not fit the others")


def test_neighbors_are_fitted_again_so_nothing_is_trusted():
    one = KNeighborsClassifier().fit(IRIS, SPECIES)
    refused(changed(one, _y=np.full(150, 10**6)), "not a sklearn.neighbors.KNeighborsClassifier")
    refused(changed(one, _y=np.zeros(3, int)), "not a sklearn.neighbors.KNeighborsClassifier")
    refused(changed(one, n_samples_fit_=10**6), "follow from the training rows")
    refused(changed(one, _tree=None), "follow from the training rows")
    refused(
        message("sklearn.neighbors.KNeighborsClassifier", fitted={"classes_": np.arange(2)}), "follow from the training"
    )


def test_state_of_an_optimizer_is_checked():
    one = quiet(MLPClassifier(3, max_iter=2, random_state=0).fit, IRIS, SPECIES)
    refused(changed(one, _optimizer={"dict": [["update_params", 1]]}), "an optimizer has other state")


def test_only_expected_classes_are_built():
    data = models.to_bytes(make_pipeline(StandardScaler(), Ridge()).fit(IRIS, SPECIES))
    assert models.from_bytes(data, allow=[Pipeline, StandardScaler, Ridge]).predict(IRIS).shape == (150,)
    with pytest.raises(WireError, match=r"not expected\n.*Ridge\n.*Pipeline, StandardScaler"):
        models.from_bytes(data, allow={Pipeline, StandardScaler})


def test_parts_of_an_expected_class_are_expected():
    one = CalibratedClassifierCV(GaussianNB()).fit(IRIS, SPECIES)
    back = models.decode(models.encode(one), allow=[CalibratedClassifierCV, GaussianNB])
    assert same(back.predict_proba(IRIS), one.predict_proba(IRIS))


def test_another_version_is_warned_of():
    model = models.encode(VarianceThreshold().fit(IRIS))._replace(version="0.1")
    with pytest.warns(InconsistentVersionWarning, match=r"0\.1"):
        back = models.decode(model)
    assert same(back.transform(IRIS), IRIS)
    with pytest.warns(InconsistentVersionWarning), pytest.raises(WireError, match=r"scikit-learn 0\.1 wrote it"):
        models.decode(model._replace(fitted={"x": {"tuple": 3}}))


def test_bytes_that_are_no_model_are_refused():
    data = models.to_bytes(Ridge().fit(IRIS, SPECIES))
    for end in range(0, len(data), 7):
        with pytest.raises(WireError):
            models.from_bytes(data[:end])
    with pytest.raises(WireError, match="too long"):
        models.from_bytes(data, limits=wire.Limits(max_bytes=100))
