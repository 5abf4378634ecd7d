"""Measures of tasks, by scikit-learn, scipy and seqeval; the first of each is the one that its task is about.

N examples, Q queries.
"""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bert_jax.data.tasks import require_sklearn

Scores = dict[str, float]


def classification(
  labels: Sequence[str], predicted: Sequence[str], counts: np.ndarray | None = None, only: str | None = None
) -> Scores:
  """accuracy, macro_f1 (the mean of the classes' F1) and matthews; of two classes f1 too, of the second as sorted.

  That is GLUE's F1 of MRPC and QQP, whose second class is 1.

  Args:
    counts: how often each pair of label and answer comes up, int64 [N]; once where that is not given.
    only: the measure to compute, where not all are wanted.
  """
  require_sklearn()
  from sklearn import metrics

  classes, numbers = np.unique([*labels, *predicted], return_inverse=True)  # scikit-learn takes long over texts
  true, answered = np.split(numbers, [len(labels)])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # of a resample with one class only, whose Matthews is 0
    f1 = functools.partial(metrics.f1_score, true, answered, sample_weight=counts, zero_division=0)  # pyright: ignore
    measures: dict[str, Callable[[], Any]] = {
      "accuracy": lambda: metrics.accuracy_score(true, answered, sample_weight=counts),
      "macro_f1": lambda: f1(average="macro"),
      "matthews": lambda: metrics.matthews_corrcoef(true, answered, sample_weight=counts),
    }
    if len(classes) == 2:
      measures["f1"] = f1
    return {name: float(measure()) for name, measure in measures.items() if only in (None, name)}


def multi_label(labels: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
  """micro_f1, macro_f1 (over the labels that come up) and exact_match, the share of examples with the right set."""
  require_sklearn()
  from sklearn import metrics
  from sklearn.preprocessing import MultiLabelBinarizer

  names = sorted({name for row in (*labels, *predicted) for name in row})
  exact = float(np.mean([set(a) == set(b) for a, b in zip(labels, predicted, strict=True)]))
  if not names:  # nobody says anything, and rightly
    return {"micro_f1": 1.0, "macro_f1": 1.0, "exact_match": exact}
  binarizer = MultiLabelBinarizer(classes=names)
  true, found = (binarizer.fit_transform(rows) for rows in (labels, predicted))

  def f1(average: Any) -> float:
    return float(metrics.f1_score(true, found, average=average, zero_division=0))  # pyright: ignore

  return {"micro_f1": f1("micro"), "macro_f1": f1("macro"), "exact_match": exact}


def regression(labels: Sequence[float], predicted: Sequence[float]) -> Scores:
  """pearson, spearman and rmse; a correlation with what never changes is 0."""
  from scipy import stats

  true, found = np.asarray(labels, np.float64), np.asarray(predicted, np.float64)
  rmse = float(np.sqrt(np.mean(np.square(true - found))))
  if len(true) < 2 or np.ptp(true) == 0 or np.ptp(found) <= 1e-7 * max(1.0, float(np.abs(found).max())):
    return {"pearson": 0.0, "spearman": 0.0, "rmse": rmse}
  pearson, spearman = stats.pearsonr(true, found), stats.spearmanr(true, found)
  return {"pearson": float(pearson[0]), "spearman": float(spearman[0]), "rmse": rmse}  # pyright: ignore


def entities(labels: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
  """f1, precision and recall of whole entities, as conlleval has them, by seqeval.

  Raises:
    ValueError: seqeval is not installed.
  """
  require_seqeval()
  from seqeval import metrics

  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # a type that is never predicted has no precision, and counts as 0
    rows = [list(row) for row in labels], [list(row) for row in predicted]
    names = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
    return {name: float(score(*rows)) for name, score in names.items()}  # pyright: ignore


def require_seqeval() -> None:
  """Raises ValueError where seqeval is not installed."""
  try:
    import seqeval  # noqa: F401  # pyright: ignore[reportUnusedImport]
  except ImportError as error:
    raise ValueError('the F1 of entities needs seqeval: pip install "bert_jax[demo]"') from error


def words(labels: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
  """accuracy: the share of words with the right tag."""
  pairs = zip(itertools.chain.from_iterable(labels), itertools.chain.from_iterable(predicted), strict=True)
  return {"accuracy": float(np.mean([a == b for a, b in pairs]))}


def ranking(scores: Sequence[Sequence[float]], relevant: Sequence[Sequence[float]]) -> dict[str, np.ndarray]:
  """mrr and ndcg of each of Q queries, float64 [Q], of all that was ranked; each query has something relevant.

  mrr is 1 / the rank of the first that is relevant; of equal scores, what is not relevant comes first, so
  that saying the same of everything is worth nothing. ndcg is scikit-learn's, which shares ties out.
  """
  require_sklearn()
  from sklearn.metrics import ndcg_score

  reciprocal, gains = [], []
  for given, true in zip(scores, relevant, strict=True):
    found, wanted = np.asarray(given, np.float64), np.asarray(true, np.float64)
    best = found[wanted > 0].max()
    above = int(np.sum(found[wanted <= 0] >= best))
    reciprocal.append(1 / (1 + above))
    gains.append(float(ndcg_score(wanted[None], found[None])) if len(found) > 1 else 1.0)
  return {"mrr": np.array(reciprocal), "ndcg": np.array(gains)}


def means(values: dict[str, np.ndarray]) -> Scores:
  """Those over all queries."""
  return {name: float(np.mean(array)) for name, array in values.items()}


def bootstrap(
  score: Callable[[np.ndarray], float], number: int, seed: int = 0, rounds: int = 1000
) -> tuple[float, float] | None:
  """A 95 % interval over examples, by percentiles of resamples.

  Args:
    score: indices of examples, int64 [N], some several times → their score.
    number: N.

  Returns:
    (low, high); None where resamples do not differ, or there are fewer than two examples.
  """
  if number < 2:
    return None
  draw = np.random.default_rng(seed)
  found = np.array([score(draw.integers(0, number, number)) for _ in range(rounds)])
  low, high = np.nanpercentile(found, [2.5, 97.5])
  return None if low == high else (float(low), float(high))
