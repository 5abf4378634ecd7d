"""Linear models over fixed features: what frozen encoders, counted words and word vectors are compared by.

U units, D features, C outputs.
"""

import dataclasses
from typing import Any

import numpy as np

from bert_jax.data.tasks import require_sklearn
from bert_jax.objective_configs import Problem

STRENGTHS = (0.01, 0.1, 1.0)  # inverse, as scikit-learn's C; a part of the training units picks one
_PICKING_SHARE = 0.2
_MOST_TO_PICK = 20_000  # units that the choice is made on


@dataclasses.dataclass(frozen=True)
class Linear:
  """A layer.

  Attributes:
    kernel: float64 [D, C].
    bias: float64 [C].
  """

  kernel: np.ndarray
  bias: np.ndarray

  def __call__(self, features: Any) -> np.ndarray:
    """Outputs [U, C] of features [U, D], which may be sparse."""
    return np.asarray(features @ self.kernel) + self.bias[None]


def fit(problem: Problem, features: np.ndarray, targets: np.ndarray) -> Linear:
  """Logistic or ridge regression on standardized dense features, with the best of `STRENGTHS`.

  Means and deviations go into the layer, so that it reads features as they are.

  Raises:
    ValueError: scikit-learn is not installed.
  """
  center, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
  scaled = (features - center) / spread
  found = _fit(problem, scaled, targets, _best(problem, scaled, targets))
  kernel = found.kernel / spread[:, None]
  return Linear(kernel, found.bias - center @ kernel)


def fit_sparse(problem: Problem, features: Any, targets: np.ndarray) -> Linear:
  """The same on counts, which are not standardized, with scikit-learn's own strength."""
  return _fit(problem, features, targets, 1.0)


def classify(train: Any, targets: np.ndarray, test: Any, strength: float) -> np.ndarray:
  """The class of each test unit by logistic regression, int [U].

  Where training units are fewer than features, it is fitted in the space that they span, which the penalty keeps it in
  anyway: the same model in a fraction of the time.

  Args:
    train: features, which may be sparse, as those of `test`.
    targets: classes of `train`, integers.
    strength: inverse, as scikit-learn's C.

  Raises:
    ValueError: scikit-learn is not installed.
  """
  if train.shape[0] < train.shape[1]:
    values, vectors = np.linalg.eigh(_dense(train @ train.T).astype(np.float64))
    spans = (values > 1e-9 * values[-1]) | (values == values[-1])  # rounding is no direction
    values, vectors = np.sqrt(np.maximum(values[spans], 1e-300)), vectors[:, spans]
    train, test = vectors * values[None], _dense(test @ train.T) @ vectors / values[None]
  return np.unique(targets)[_fit("single_label", train, targets, strength)(test).argmax(axis=1)]


def _dense(products: Any) -> np.ndarray:
  return products.toarray() if hasattr(products, "toarray") else products


def _best(problem: Problem, features: np.ndarray, targets: np.ndarray) -> float:
  """The strength that fits a part that was left out best."""
  usual = STRENGTHS[1]
  order = np.random.default_rng(0).permutation(len(targets))[:_MOST_TO_PICK]
  cut = int(len(order) * _PICKING_SHARE)
  test, train = order[:cut], order[cut:]
  if cut < 2 or (problem == "single_label" and set(targets[test]) - set(targets[train])):
    return usual  # where a class has too few units for both parts
  if problem == "single_label":  # of the classes there, for that is what is fitted
    targets = np.searchsorted(np.unique(targets[train]), targets)
  return max(
    STRENGTHS,
    key=lambda c: _fitness(problem, _fit(problem, features[train], targets[train], c)(features[test]), targets[test]),
  )


def _fitness(problem: Problem, outputs: np.ndarray, targets: np.ndarray) -> float:
  if problem == "single_label":
    return float(np.mean(outputs.argmax(axis=1) == targets))
  if problem == "multi_label":
    return float(np.mean((outputs > 0) == (targets > 0)))
  return -float(np.mean(np.square(outputs[:, 0] - targets)))


def _fit(problem: Problem, features: Any, targets: np.ndarray, strength: float) -> Linear:
  require_sklearn()
  from sklearn.linear_model import LogisticRegression, Ridge

  if problem == "regression":
    ridge = Ridge(alpha=1 / strength).fit(features, targets)
    return Linear(np.reshape(ridge.coef_, (-1, 1)), np.reshape(ridge.intercept_, (1,)))

  def logistic(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels)
    return np.asarray(model.coef_).T, np.asarray(model.intercept_)

  if problem == "multi_label":
    parts = [logistic(column) if 0 < column.mean() < 1 else _constant(features, column) for column in targets.T]
    return Linear(np.concatenate([kernel for kernel, _ in parts], axis=1), np.concatenate([bias for _, bias in parts]))
  kernel, bias = logistic(targets)
  if kernel.shape[1] == 1:  # of two classes, those of the second alone
    kernel, bias = np.concatenate([-kernel / 2, kernel / 2], axis=1), np.concatenate([-bias / 2, bias / 2])
  return Linear(kernel, bias)


def _constant(features: Any, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Of a label that all units have, or none."""
  return np.zeros((features.shape[1], 1)), np.full(1, 10.0 if column.all() else -10.0)
