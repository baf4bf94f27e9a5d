"""scikit-learn's own trained estimators: perceptrons and stochastic gradient descent, in rounds of local training.

By default a round is one epoch on every node, by scikit-learn's own steps, and FedAvg averages what comes of it. What
the optimizer of a perceptron keeps (velocities, moments) is averaged along with the parameters, so that over one node
the training is scikit-learn's own fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import shuffle
from sklearn.utils.class_weight import compute_class_weight

from atoll import models
from atoll.algorithms import Algorithm, Local, own
from atoll.errors import InvalidData, explain
from atoll.learners import Balance, Model, Part, check_balance
from atoll.learners.mlp import layout_of, optimizer_of, views_of
from atoll.recipes.base import TRAINED, Wish, recipe
from atoll.recipes.checks import stand_ins
from atoll.recipes.holding import Held, hold_back
from atoll.recipes.resuming import going_on
from atoll.recipes.seeding import random_state
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.specs import Spec
from atoll.training import Course, Trained, balance_over, check_answers, check_course, class_counts, train_over
from atoll.trees import Array
from atoll.views import codes

__all__ = ["fit_mlp", "fit_sgd"]


def _asked(rounds: Rounds) -> Wish:
    return rounds.wish if isinstance(rounds.wish, Wish) else Wish()


def _check(estimator: Any, wish: Wish, n_nodes: int, local: Local) -> None:
    """What holds for all of them."""
    callbacks = tuple(wish.callbacks or ())
    check_course(Course(wish.algorithm, local, wish.rounds or 1, wish.nodes_per_round, callbacks=callbacks), n_nodes)
    if wish.rounds == 0:
        raise InvalidData(explain("rounds must be a whole number of at least 1, or None", got="0"))
    check_answers(wish.algorithm, type(estimator).__name__, classifies=is_classifier(estimator))
    if wish.balance is not None:
        check_balance(wish.balance)
        if not is_classifier(estimator):
            what = f"classes are balanced, and {type(estimator).__name__} knows none"
            raise InvalidData(explain(what, got=f"balance={wish.balance!r}", hint="leave balance out"))


def _refuse_bent(estimator: Any, algorithm: Algorithm, steps: str) -> InvalidData:
    name = type(estimator).__name__
    what = f"{algorithm.spec.name} bends or counts plain gradient steps, and {name} takes {steps}"
    hint = "give local=sgd(lr=…, batch_size=…): plain gradient steps on the same loss"
    return InvalidData(explain(what, got=f"method={algorithm!r}", hint=hint))


def _refuse_optimizer(estimator: Any, local: Local) -> InvalidData:
    name, expected = type(estimator).__name__, "sgd(…), or own(…) for the estimator's own steps"
    return InvalidData(explain(f"{name} is no torch module", got=f"local={local.optimizer!r}", expected=expected))


def _written(estimator: Any, **params: Any) -> Array:
    """The estimator as data for the nodes, with some parameters changed."""
    unfitted = clone(estimator).set_params(random_state=None, warm_start=False, verbose=0, **params)
    return np.frombuffer(models.to_bytes(unfitted), dtype=np.uint8)


def _dtype(schema: Schema) -> Any:
    return np.dtype(np.float32 if np.dtype(schema.dtype) == np.float32 else np.float64)


_Each = Callable[[float, Trained], bool]


def _followed(each: _Each) -> Callable[[Trained], bool]:
    """A callback that hands on every loss once, also those of rounds that were done before a run was resumed."""
    losses: list[float] = []

    def follow(seen: Trained) -> bool:
        ended = False
        for loss in seen.losses[len(losses) :]:
            losses.append(loss)
            ended = each(loss, seen)
        return ended

    return follow


def _mlp_local(estimator: Any, wish: Wish) -> Local:
    """What nodes do between exchanges; refused where the method cannot go with it."""
    algorithm, asked = wish.algorithm, wish.local
    if asked is not None and asked.optimizer != "own":
        if asked.optimizer != "sgd":
            raise _refuse_optimizer(estimator, asked)
        return asked
    size = 200 if estimator.batch_size == "auto" else int(estimator.batch_size)
    made = (asked or own())._replace(lr=estimator.learning_rate_init, batch_size=size, shuffle=estimator.shuffle)
    if algorithm.plain:
        return made
    momentum = float(estimator.momentum)
    if asked is not None or estimator.solver == "adam":
        raise _refuse_bent(estimator, algorithm, f"the steps of its solver {estimator.solver!r}")
    if momentum and (algorithm.remembers or algorithm.local is not None):
        raise _refuse_bent(estimator, algorithm, f"steps with momentum={momentum:g}")
    return made._replace(optimizer="sgd", momentum=momentum, nesterov=bool(momentum) and estimator.nesterovs_momentum)


def _check_mlp(estimator: Any, wish: Wish, n_nodes: int) -> None:
    if estimator.solver == "lbfgs":
        what = "solver='lbfgs' looks at all rows in every step, and is not trained in rounds of local steps"
        raise InvalidData(explain(what, got=repr(estimator), expected="solver='sgd' or solver='adam'"))
    _check(estimator, wish, n_nodes, _mlp_local(estimator, wish))


@recipe(MLPClassifier, MLPRegressor, method=TRAINED, exact=False, iterative=True, check=_check_mlp)
def fit_mlp(estimator: Any, rounds: Rounds) -> Any:
    """Trained: epochs of scikit-learn's own steps on every node, averaged; over one node it is scikit-learn's fit.

    Velocities (solver ``"sgd"``) or moments (``"adam"``) are averaged along with the parameters, as in Yu, Jin & Yang,
    "On the linear speedup analysis of communication efficient momentum SGD for distributed non-convex optimization",
    ICML 2019. Rates, the end of the training and `loss_curve_` follow from the mean loss of every round, as
    scikit-learn's follow from that of every epoch.
    """
    wish, schema = _asked(rounds), rounds.schema
    _check_mlp(estimator, wish, len(schema.nodes))
    local, seen = _mlp_local(estimator, wish), rounds
    if is_classifier(estimator) and not schema.n_outputs:
        seen = rounds.through(codes(schema.classes))
    layers = _prepared(estimator, rounds)
    model = _beginning(estimator, layers, local)
    held = _mlp_held(estimator, seen) if estimator.early_stopping else None
    if held is not None:
        seen, schema = held.train, held.train.schema
    balance = None if wish.balance is None else _balance(wish.balance, seen, estimator)
    order = None if wish.balance == "sampler" else _pooled_order(estimator, schema, local, held)
    use = "" if order is not None else str(estimator._random_state.randint(2**31 - 1))
    estimator._optimizer = _schedule(estimator, local, model)
    local = _with_rate(local, wish, estimator)
    course = Course(
        wish.algorithm, local, wish.rounds or int(estimator.max_iter), wish.nodes_per_round, order=order,
        mixing=wish.mixing, balance=balance, replayed=held is not None,
        callbacks=[_followed(_epoch(estimator, round(schema.n_rows * local.epochs), held)), *(wish.callbacks or ())],
    )  # fmt: skip
    arrays = {"estimator": _written(estimator, hidden_layer_sizes=tuple(layers[1:-1]))}
    program = Spec("sklearn.mlp", {"layers": layers, "out": estimator.out_activation_, "use": use}, arrays)
    done = train_over(seen, program, model, going_on(seen, wish, model, course))
    return _finished(estimator, done, wish, buffered=bool(model.buffers.size))


def _beginning(estimator: Any, layers: list[int], local: Local) -> Model:
    """The first weights, and what the optimizer keeps, before its first step."""
    flat = np.concatenate([p.ravel() for p in (*estimator.coefs_, *estimator.intercepts_)])
    kept = 0 if local.optimizer != "own" else len(flat) if estimator.solver == "sgd" else 2 * len(flat) + 1
    return Model(flat, np.zeros(kept, dtype=flat.dtype), layout_of(layers))


def _prepared(estimator: Any, rounds: Rounds) -> list[int]:
    """Everything that scikit-learn's `fit` sets before the first epoch; returns the units of every layer."""
    schema, hidden = rounds.schema, estimator.hidden_layer_sizes
    hidden = [int(n) for n in (hidden if hasattr(hidden, "__iter__") else [hidden])]
    if any(n <= 0 for n in hidden):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
    first = not hasattr(estimator, "coefs_") or not estimator.warm_start
    outputs = _labels(estimator, schema, first) if is_classifier(estimator) else max(1, schema.n_outputs)
    layers = [schema.n_features, *hidden, outputs]
    estimator._random_state = random_state(estimator, rounds)
    if first:
        estimator._initialize(np.zeros((1, outputs)), layers, _dtype(schema))
    elif [w.shape[0] for w in estimator.coefs_] != layers[:-1]:
        got, expected = f"layers of {layers}", f"{[w.shape[0] for w in estimator.coefs_]}, as in the fit before"
        raise InvalidData(explain("warm_start goes on with the same layers", got=got, expected=expected))
    estimator.n_outputs_, estimator.n_iter_ = outputs, 0
    size = estimator.batch_size
    if size != "auto" and size > schema.n_rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return layers


def _labels(estimator: MLPClassifier, schema: Schema, first: bool) -> int:
    """The classes, and how many outputs tell them apart."""
    if first or not hasattr(estimator, "classes_"):
        estimator._label_binarizer = LabelBinarizer().fit(stand_ins(schema) if schema.n_outputs else schema.classes[0])
        estimator.classes_ = estimator._label_binarizer.classes_
    elif not schema.n_outputs and set(schema.classes[0]) != set(estimator.classes_):
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
            f"got {estimator.classes_}, `y` has {schema.classes[0]}"
        )
    if schema.n_outputs:
        return schema.n_outputs
    return len(estimator.classes_) if len(estimator.classes_) > 2 else 1


def _schedule(estimator: Any, local: Local, model: Model) -> Any:
    """The optimizer by which scikit-learn lowers its rate and ends a training; it makes no step here."""
    if local.optimizer == "own" and estimator.solver == "adam":
        unused = np.zeros(model.buffers.size)
        return optimizer_of(estimator, [], unused, model.layout, estimator.learning_rate_init)
    schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
    return SGDOptimizer(
        [], estimator.learning_rate_init, schedule, estimator.momentum, estimator.nesterovs_momentum, estimator.power_t
    )


def _with_rate(local: Local, wish: Wish, estimator: Any) -> Local:
    """The rate that scikit-learn's schedule has come to, unless one was asked for."""
    asked = wish.local is not None and wish.local.optimizer != "own"
    if asked or estimator.solver == "adam":
        return local
    return local._replace(lr=lambda step: estimator._optimizer.learning_rate)


def _mlp_held(estimator: Any, seen: Rounds) -> Held:
    """Rows to stop early by: over one node those that scikit-learn holds back, unless it looks at classes for them."""
    schema, share = seen.schema, estimator.validation_fraction
    if is_classifier(estimator) and schema.n_outputs:
        hint = "leave early_stopping out: tol and n_iter_no_change then look at the training loss"
        what = f"{type(estimator).__name__} of several labels holds back no rows over nodes"
        raise InvalidData(explain(what, got="early_stopping=True", hint=hint))
    numbers = None
    if len(schema.nodes) == 1 and not (is_classifier(estimator) and estimator.n_outputs_ == 1):
        rows = np.arange(schema.n_rows)
        numbers = train_test_split(rows, random_state=estimator._random_state, test_size=share)
    return hold_back(seen, share, seen.run.seed, numbers)


def _balance(kind: str, seen: Rounds, estimator: Any) -> Balance:
    if is_classifier(estimator) and seen.schema.n_outputs:
        what = "classes of one target are balanced, and here there are several labels"
        raise InvalidData(explain(what, got=f"balance={kind!r}", hint="leave balance out"))
    return balance_over(seen, kind, len(estimator.classes_))


def _pooled_order(
    estimator: Any, schema: Schema, local: Local, held: Held | None
) -> Callable[[int, int], Array] | None:
    """Over one node the order of rows that scikit-learn's own fit would draw, from what drew the first weights."""
    first = None if held is None else held.order
    if len(schema.nodes) > 1 or local.batch_size is None or not (local.shuffle or first is not None):
        return None
    epochs = max(1, int(local.epochs))
    orders: list[Array] = [np.arange(schema.n_rows)]

    def order(step: int, node: int) -> Array:
        while len(orders) <= (step + 1) * epochs:
            orders.append(shuffle(orders[-1], random_state=estimator._random_state) if local.shuffle else orders[-1])
        drawn = np.stack(orders[1 + step * epochs : 1 + (step + 1) * epochs])
        return drawn if first is None else first[drawn]

    return order


def _epoch(estimator: Any, n_rows: int, held: Held | None) -> _Each:
    """What scikit-learn does after every epoch; whether it ends there."""

    def each(loss: float, seen: Trained) -> bool:
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        estimator.t_ += n_rows
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if held is None:
            estimator._update_no_improvement_count(False, None, None, None)
        else:
            _scored(estimator, held, seen)
        estimator._optimizer.iteration_ends(estimator.t_)
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Training loss" if held is None else "Validation score"
        told = f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} epochs."
        ended = bool(estimator._optimizer.trigger_stopping(told, estimator.verbose))
        estimator._no_improvement_count = estimator._no_improvement_count if ended else 0
        return ended

    return each


def _scored(estimator: Any, held: Held, seen: Trained) -> None:
    """scikit-learn's own look at the rows that are held back, whose score the nodes tell."""
    parts = views_of(seen.model.w, seen.model.layout)
    half = len(parts) // 2
    estimator.coefs_, estimator.intercepts_ = parts[:half], parts[half:]
    score = held.score(estimator)
    estimator._score = lambda X, y, sample_weight=None: score
    try:
        estimator._update_no_improvement_count(True, None, None, None)
    finally:
        del estimator._score
    if seen.run is not None:
        seen.run.measure(seen.step, validation_score=score)


def _finished(estimator: Any, done: Trained, wish: Wish, *, buffered: bool) -> Any:
    """The estimator with what was learnt, so that scikit-learn can go on from there by `partial_fit`."""
    parts = [part.copy() for part in views_of(done.model.w, done.model.layout)]
    half = len(parts) // 2
    estimator.coefs_, estimator.intercepts_ = parts[:half], parts[half:]
    if estimator.early_stopping and estimator.validation_scores_:
        estimator.coefs_, estimator.intercepts_ = estimator._best_coefs, estimator._best_intercepts
    if not all(np.isfinite(part).all() for part in parts):
        raise ValueError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            "preprocessed."
        )
    made = estimator._optimizer
    if buffered:
        lr = made.learning_rate if estimator.solver == "sgd" else estimator.learning_rate_init
        made = optimizer_of(estimator, parts, done.model.buffers.copy(), done.model.layout, lr)
        estimator._optimizer = made
    else:
        made.velocities = [np.zeros_like(part) for part in parts]
    if isinstance(made, SGDOptimizer):
        made.learning_rate_init, made.power_t = estimator.learning_rate_init, estimator.power_t
        made.lr_schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
    ended = estimator._no_improvement_count > estimator.n_iter_no_change
    if wish.rounds is None and estimator.n_iter_ == estimator.max_iter and not ended:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return estimator


def _sgd_local(estimator: Any, wish: Wish) -> Local:
    """What nodes do between exchanges; refused where the method cannot go with it."""
    asked = wish.local
    if asked is not None and asked.optimizer != "own":
        if asked.optimizer != "sgd":
            raise _refuse_optimizer(estimator, asked)
        return asked
    if not wish.algorithm.plain:
        raise _refuse_bent(estimator, wish.algorithm, "scikit-learn's own steps, row by row")
    return (asked or own())._replace(lr=estimator.eta0, batch_size=1, shuffle=estimator.shuffle)


def _check_sgd(estimator: Any, wish: Wish, n_nodes: int) -> None:
    if estimator.average:
        hint = "leave average out: what nodes learnt is averaged in every round"
        what = f"{type(estimator).__name__} over nodes keeps no second, averaged model"
        raise InvalidData(explain(what, got=f"average={estimator.average!r}", hint=hint))
    _check(estimator, wish, n_nodes, _sgd_local(estimator, wish))
    if wish.balance == "logits" and estimator.loss != "log_loss":
        what = f"logits are adjusted in the loss 'log_loss', and {type(estimator).__name__} has {estimator.loss!r}"
        raise InvalidData(explain(what, got="balance='logits'", hint="use balance='reweight' or 'sampler'"))


@recipe(SGDClassifier, SGDRegressor, Perceptron, method=TRAINED, exact=False, iterative=True, check=_check_sgd)
def fit_sgd(estimator: Any, rounds: Rounds) -> Any:
    """Trained: epochs of scikit-learn's own loop over the rows on every node, averaged.

    The rates go on from round to round as over a node of mean size, so that over one node they are scikit-learn's. It
    ends by the objective of the model that a round begins with, from the second on, a mean over the classes
    (scikit-learn: by that of the steps, which it keeps to itself). A round over N nodes takes the N-th part of an
    epoch's steps one after the other, and is asked for the N-th part of `tol`.
    """
    wish, schema, seen = _asked(rounds), rounds.schema, rounds
    estimator._more_validate_params()
    _check_sgd(estimator, wish, len(schema.nodes))
    local, of_class = _sgd_local(estimator, wish), np.zeros(0)
    if is_classifier(estimator):
        seen = rounds.through(codes(schema.classes))
        of_class = _class_weights(estimator, seen)
    B, d = (len(of_class) if len(of_class) > 2 else 1), schema.n_features
    layout = (Part("coef_", 0, (B, d)), Part("intercept_", B * d, (B,)))
    use = str(random_state(estimator, rounds).randint(2**31 - 1))
    held = hold_back(seen, estimator.validation_fraction, int(use)) if estimator.early_stopping else None
    if held is not None:
        seen, schema = held.train, held.train.schema
    balance = None if wish.balance is None else balance_over(seen, wish.balance, len(of_class))
    rate = [float(estimator.eta0)]
    if local.optimizer == "own":
        local = local._replace(lr=lambda step: rate[0])
    each = _pass(estimator, B, rate, local.epochs / len(schema.nodes), held)
    course = Course(
        wish.algorithm, local, wish.rounds or int(estimator.max_iter), wish.nodes_per_round, mixing=wish.mixing,
        balance=balance, replayed=held is not None, callbacks=[_followed(each), *(wish.callbacks or ())],
    )  # fmt: skip
    settings = {"n_features": d, "per_epoch": schema.n_rows / len(schema.nodes), "use": use}
    plain = {"class_weight": None, "n_jobs": None} if is_classifier(estimator) else {}
    arrays = {"estimator": _written(estimator, **plain), "class_weight": of_class}
    start = Model(_first(estimator, B, d, schema), np.zeros(0), layout)
    done = train_over(seen, Spec("sklearn.sgd", settings, arrays), start, going_on(seen, wish, start, course))
    return _told(estimator, done, wish, schema)


def _class_weights(estimator: Any, seen: Rounds) -> Array:
    """scikit-learn's weight of each class."""
    (classes,) = seen.schema.classes
    if len(classes) < 2:
        raise ValueError(f"The number of classes has to be greater than one; got {len(classes)} class")
    counts = classes
    if estimator.class_weight == "balanced":
        counts = np.repeat(classes, class_counts(seen, len(classes)))
    estimator.classes_ = classes
    estimator._expanded_class_weight = compute_class_weight(estimator.class_weight, classes=classes, y=counts)
    return np.asarray(estimator._expanded_class_weight, dtype=np.float64)


def _first(estimator: Any, B: int, d: int, schema: Schema) -> Array:
    """Where training begins: zeros, or where the fit before ended."""
    flat = np.zeros(B * d + B, dtype=_dtype(schema))
    if estimator.warm_start and getattr(estimator, "coef_", None) is not None:
        if np.size(estimator.coef_) != B * d:
            raise ValueError("Provided ``coef_`` does not match dataset. ")
        flat[: B * d], flat[B * d :] = np.ravel(estimator.coef_), estimator.intercept_
    return flat


def _pass(estimator: Any, B: int, rate: list[float], share: float, held: Held | None) -> _Each:
    """What scikit-learn does after every epoch; whether it ends there. It may lower the rate."""
    best, idle, seen = [np.inf], [0], [0]
    tol = -np.inf if estimator.tol is None else estimator.tol * share

    def each(loss: float, trained: Trained) -> bool:
        seen[0] += 1
        if seen[0] == 1 and held is None:
            return False  # nothing had been learnt yet
        objective = loss / B if held is None else -_linear_score(estimator, held, trained)
        idle[0] = idle[0] + 1 if tol > -np.inf and objective > best[0] - tol else 0
        best[0] = min(best[0], objective)
        if idle[0] < estimator.n_iter_no_change:
            return False
        if estimator.learning_rate == "adaptive" and rate[0] > 1e-6:
            rate[0], idle[0] = rate[0] / 5, 0
            return False
        return True

    return each


def _linear_score(estimator: Any, held: Held, seen: Trained) -> float:
    """The score of the model so far on the rows that are held back."""
    _put(estimator, seen)
    score = held.score(estimator)
    if seen.run is not None:
        seen.run.measure(seen.step, validation_score=score)
    return score


def _put(estimator: Any, done: Trained) -> None:
    coef, intercept = views_of(done.model.w, done.model.layout)
    estimator.coef_ = coef.copy() if is_classifier(estimator) else coef.ravel().copy()
    estimator.intercept_ = intercept.copy()


def _told(estimator: Any, done: Trained, wish: Wish, schema: Schema) -> Any:
    """The estimator with what was learnt, and scikit-learn's warnings."""
    _put(estimator, done)
    estimator.n_iter_ = done.step
    estimator.t_ = 1.0 + done.step * schema.n_rows
    if is_classifier(estimator):
        estimator._loss_function_ = estimator._get_loss_function(estimator.loss)
    if estimator.tol is not None and wish.rounds is None and done.step == estimator.max_iter:
        what = (
            "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the fit."
        )
        warnings.warn(what, ConvergenceWarning, stacklevel=2)
    if estimator.power_t < 0:
        warnings.warn(
            "Negative values for `power_t` are deprecated in version 1.8 and will raise an error in 1.10. Use values "
            "in the range [0.0, inf) instead.",
            FutureWarning,
            stacklevel=2,
        )
    return estimator
