"""Shared parts of baselines: features of a pair, and classifiers of scikit-learn on them."""

import copy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from _newsclippings.errors import MissingDependencyError
from _newsclippings.suite.baseline import Fit, Scorer
from _newsclippings.suite.rows import Bools, Float32s, Floats, Rows

CHUNK: Final = 8_192  # rows whose features are in memory at a time
Features = Callable[[Rows], Float32s]


def require_sklearn() -> None:
    """Raise `MissingDependencyError` if scikit-learn is not installed."""
    if find_spec("sklearn") is None:
        message = "This baseline needs scikit-learn, which is not installed: pip install 'newsclippings[suite]'."
        raise MissingDependencyError(message)


def concatenate(*names: str) -> Features:
    """Make features: the vectors of columns, one after the other."""
    return lambda rows: np.concatenate([rows.vectors(name) for name in names], axis=1)


def interact(*names: str) -> Features:
    """Make features: the product and the absolute difference of picture and caption, then the vectors of columns."""

    def features(rows: Rows) -> Float32s:
        image, text = rows.vectors("image"), rows.vectors("text")
        return np.concatenate([image * text, np.abs(image - text), *map(rows.vectors, names)], axis=1)

    return features


def cosine(one: str, other: str) -> Callable[[Rows], Floats]:
    """Make the cosine of two columns: float64 (N,), 0 for rows that lack one of them."""
    return lambda rows: np.einsum("nk,nk->n", rows.vectors(one), rows.vectors(other)).astype(np.float64)


def network(
    features: Features,
    *,
    hidden: tuple[int, ...] = (),
    rates: Sequence[float] = (1e-3,),
    epochs: int = 30,
    patience: int = 5,
    batch: int = 256,
    decay: float = 1e-4,
    scale: bool = True,
) -> Fit:
    """Make a method that trains a network by Adam; of all epochs and rates, the best on validation is kept.

    Args:
        features: of rows.
        hidden: sizes of its hidden layers, with ReLU; none for a linear classifier.
        rates: learning rates to try.
        epochs: epochs at most.
        patience: epochs without a better accuracy on validation after which it stops.
        batch: rows of a batch.
        decay: L2 penalty of the weights.
        scale: whether each feature is shifted and divided to mean 0 and deviation 1 over the first rows of train.
    """

    def fit(train: Rows, labels: Bools, validation: Rows, truth: Bools, seed: int) -> Scorer:
        scaled = _scale(features, train) if scale else features
        best, top = None, -1.0
        for rate in rates:
            model, accuracy = _train(
                scaled,
                (train, labels, validation, truth),
                seed,
                epochs,
                patience,
                hidden_layer_sizes=hidden,
                learning_rate_init=rate,
                alpha=decay,
                batch_size=batch,
            )
            if accuracy > top:
                best, top = model, accuracy
        return lambda rows: _score(best, scaled, rows)

    return fit


def classifier(features: Features, make: Callable[[int], Any]) -> Fit:
    """Make a method that fits an estimator of scikit-learn on train.

    Args:
        features: of rows.
        make: makes the estimator from a seed.
    """

    def fit(train: Rows, labels: Bools, _: Rows, __: Bools, seed: int) -> Scorer:
        model = make(seed).fit(features(train), labels)
        return lambda rows: _score(model, features, rows)

    return fit


def _score(model: Any, features: Features, rows: Rows) -> Floats:
    """Return the probability of falsified."""
    parts = [np.zeros(0)]
    for start in range(0, len(rows), CHUNK):
        some = rows.take(np.arange(start, min(start + CHUNK, len(rows))))
        parts.append(model.predict_proba(features(some))[:, 1].astype(np.float64))
    return np.concatenate(parts)


def _scale(features: Features, train: Rows) -> Features:
    first = features(train.take(np.arange(min(len(train), CHUNK))))
    mean, deviation = first.mean(0), first.std(0)
    deviation[deviation == 0] = 1
    return lambda rows: (features(rows) - mean) / deviation


def _train(
    features: Features,
    data: tuple[Rows, Bools, Rows, Bools],
    seed: int,
    epochs: int,
    patience: int,
    **options: Any,
) -> tuple[Any, float]:
    """Train one network; return that of the epoch with the best accuracy on validation, and this accuracy."""
    from sklearn.neural_network import MLPClassifier

    train, labels, validation, truth = data
    parts = -(-len(train) // CHUNK)
    options["batch_size"] = min(options["batch_size"], len(train) // parts)
    model = MLPClassifier(random_state=seed, **options)
    random = np.random.default_rng(seed)
    best, top, since = model, -1.0, 0
    for _ in range(epochs):
        for which in np.array_split(random.permutation(len(train)), parts):
            model.partial_fit(features(train.take(which)), labels[which], classes=[False, True])
        accuracy = float(((_score(model, features, validation) > 0.5) == truth).mean())
        if accuracy > top:
            best, top, since = copy.deepcopy(model), accuracy, 0
        elif (since := since + 1) == patience:
            break
    return best, top
