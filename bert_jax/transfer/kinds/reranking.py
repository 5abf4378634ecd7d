"""How well a passage answers a query, read together: a cross-encoder that orders the passages of each query.

Nogueira and Cho 2019, Passage Re-ranking with BERT: one output, a sigmoid.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.predictions import Labels
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds import texts
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, text_columns, text_fields
from bert_jax.transfer.kinds.regression import number_in

RELEVANT = "relevant"


class Reranking(Kind):
  name = "reranking"
  main = "mrr"

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    if columns.pair is None:
      raise ValueError("reranking reads queries and passages: name the passages' column by --pair")
    found = texts.read(path, columns, _relevance)
    return Labelled(found.origin, found.texts, found.labels, tuple(query for query, _ in found.texts))

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    for part in (train, dev):
      if len(set(part.labels)) < 2:
        raise ValueError(f"{part.origin} has no passage that is relevant, or none that is not; both are needed")
    settings = ClassificationConfig(1, reading.pooling, "multi_label")
    return texts.prepared(name, settings, (RELEVANT,), train, dev, reading, _targets)

  def answer_in(self, cell: str) -> Labels:
    return Labels((), np.array([number_in(cell)], np.float32))

  def score(self, examples: Labelled, answers: Sequence[Labels]) -> Scores:
    return metrics.means(_ranked(examples, answers))

  def interval(self, examples: Labelled, answers: Sequence[Labels], measure: str) -> tuple[float, float] | None:
    """Over other queries; the passages of each stay together."""
    values = _ranked(examples, answers)[measure]
    return metrics.bootstrap(lambda chosen: float(values[chosen].mean()), len(values))

  def table(self, examples: Labelled, answers: Sequence[Labels]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "label", "predicted"]
    for text, true, answer in zip(examples.texts, examples.labels, answers, strict=True):
      yield [*text_fields(text), f"{true:g}", f"{answer.probabilities[0]:.6f}"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    chances = np.random.default_rng(0).random((len(dev), 1)).astype(np.float32)
    shared = [_shared(query, passage) for query, passage in dev.texts]
    return {
      "a random order": [Labels((), row) for row in chances],
      "shared words": [Labels((), np.array([share], np.float32)) for share in shared],
    }

  def units(self, train: Labelled, dev: Labelled) -> Units:
    return Units("texts", "multi_label", list(train.texts), list(dev.texts), _targets(train))

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    return [Labels((), row) for row in outputs]


def _ranked(examples: Labelled, answers: Sequence[Labels]) -> dict[str, np.ndarray]:
  queries: dict[str, list[int]] = defaultdict(list)
  for place, (query, _) in enumerate(examples.texts):
    queries[query].append(place)
  given = [float(answer.probabilities[0]) for answer in answers]
  ranked = [places for places in queries.values() if any(examples.labels[i] for i in places)]
  return metrics.ranking([[given[i] for i in p] for p in ranked], [[examples.labels[i] for i in p] for p in ranked])


def _relevance(value: str) -> float:
  number = number_in(value)
  if number not in (0, 1):
    raise ValueError("must be 0 (not relevant) or 1 (relevant)")
  return number


def _targets(part: Labelled) -> np.ndarray:
  return np.array(part.labels, np.float32)[:, None]


def _shared(query: str, passage: str) -> float:
  """The share of a query's words that a passage has."""
  words = set(query.lower().split())
  return len(words & set(passage.lower().split())) / max(1, len(words))
