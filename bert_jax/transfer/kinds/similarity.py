"""How alike two texts are, each encoded by itself: a bi-encoder (Reimers and Gurevych 2019), for similarity and search.

With labels it learns the similarity that they say, and is measured by how the cosines order the pairs. Without, the
second text of a pair is what the first asks for, and it is measured by how high it comes among all second texts.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath
from scipy import sparse

from bert_jax.data import labelled
from bert_jax.data.examples import Task, TaskExamples, padded
from bert_jax.data.frames import encode
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.model import Model
from bert_jax.inference.predictions import Value
from bert_jax.objective_configs import SimilarityConfig
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds import texts
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, cut_note, text_columns, text_fields
from bert_jax.transfer.kinds.regression import number_in


class Similarity(Kind):
  name = "similarity"
  main = "spearman"
  pooling = "mean"
  compares = True

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    _need_pairs(columns)
    return texts.read(path, columns, number_in)

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    low, high = min(train.labels), max(train.labels)
    if low == high:
      raise ValueError(f"{train.origin} has one value only, {low:g}; there is nothing to be learned")
    # Cosines of sentences are hardly ever negative: 0 to 1 is what sentence-transformers learns for STS-B.
    return _prepared(
      name, SimilarityConfig(reading.pooling, "cosine"), train, dev, reading,
      lambda part: {"labels": ((np.array(part.labels) - low) / (high - low)).astype(np.float32)},
    )  # fmt: skip

  def finish(self, model: Model, train: Labelled, dev: Labelled) -> Model:
    return _embedding(model)

  def answer_in(self, cell: str) -> Value:
    return Value(number_in(cell))

  def score(self, examples: Labelled, answers: Sequence[Value]) -> Scores:
    found = metrics.regression(list(examples.labels), [answer.value for answer in answers])
    return {"spearman": found["spearman"], "pearson": found["pearson"]}

  def table(self, examples: Labelled, answers: Sequence[Value]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "label", "predicted"]
    for text, true, answer in zip(examples.texts, examples.labels, answers, strict=True):
      yield [*text_fields(text), f"{true:g}", f"{answer.value:.6f}"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    return {"shared words": [Value(_shared(*pair)) for pair in dev.texts]}

  def compared(self, one: Any, other: Any) -> Sequence[Value]:
    products = one.multiply(other) if sparse.issparse(one) else one * other
    return [Value(float(cosine)) for cosine in np.asarray(products.sum(axis=1)).ravel()]


class Retrieval(Kind):
  name = "retrieval"
  main = "mrr"
  reads = frozenset(("text", "pair", "pooling"))
  pooling = "mean"
  compares = True

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    _need_pairs(columns)
    pairs = [values for values, _ in labelled.rows(path, dataclasses.replace(columns, label=None))]
    return Labelled(str(path), tuple((one, other) for one, other in pairs), (1.0,) * len(pairs))

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    return _prepared(name, SimilarityConfig(reading.pooling, "in_batch"), train, dev, reading, lambda part: {})

  def finish(self, model: Model, train: Labelled, dev: Labelled) -> Model:
    return _embedding(model)

  def predict(self, model: Model, examples: Labelled) -> list[np.ndarray]:
    """Of each first text, its cosines with all second texts: float32 [N]."""
    one, other = (model.embed([pair[i] for pair in examples.texts], normalize=True, long="cut") for i in range(2))
    return list(one @ other.T)

  def score(self, examples: Labelled, answers: Sequence[np.ndarray]) -> Scores:
    return metrics.means(_ranked(examples, answers))

  def interval(self, examples: Labelled, answers: Sequence[np.ndarray], measure: str) -> tuple[float, float] | None:
    """Over other first texts; what they are compared with stays."""
    values = _ranked(examples, answers)[measure]
    return metrics.bootstrap(lambda chosen: float(values[chosen].mean()), len(values))

  def table(self, examples: Labelled, answers: Sequence[np.ndarray]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "rank", "first"]
    for place, (text, row) in enumerate(zip(examples.texts, answers, strict=True)):
      rank = 1 + int(np.sum(row > row[place]))
      yield [*text_fields(text), rank, examples.texts[int(row.argmax())][1]]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    second = [set(pair[1].lower().split()) for pair in dev.texts]
    first = [set(pair[0].lower().split()) for pair in dev.texts]
    draw = np.random.default_rng(0)
    return {
      "a random order": list(draw.random((len(dev), len(dev)))),
      "shared words": [np.array([len(a & b) / max(1, len(a | b)) for b in second]) for a in first],
    }

  def compared(self, one: Any, other: Any) -> Sequence[np.ndarray]:
    cosines = one @ other.T
    return list(cosines.toarray() if sparse.issparse(cosines) else cosines)


def _ranked(examples: Labelled, answers: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  second = np.array([pair[1] for pair in examples.texts])
  return metrics.ranking([row.tolist() for row in answers], [(second == text).tolist() for text in second])


def _need_pairs(columns: Columns) -> None:
  if columns.pair is None:
    raise ValueError("pairs of texts are compared: name the column of the second texts by --pair")


def _prepared(
  name: str, settings: SimilarityConfig, train: Labelled, dev: Labelled, reading: Reading, labels_of: Any
) -> Prepared:
  labelled.warn_of_shared(train, dev)
  cut, parts = 0, []
  for part in (train, dev):
    flat = reading.prompts.before([text for pair in part.texts for text in pair], None)  # as `Model.embed` has them
    encoded = encode(flat, reading.frame, reading.tokenizer, reading.max_tokens)
    cut += encoded.cut
    parts.append(TaskExamples(**padded(encoded, reading.frame, reading.tokenizer.pad_id, 2), labels=labels_of(part)))
  notes = cut_note(cut, 2 * (len(train) + len(dev)), reading.max_tokens)
  for note in notes:
    logging.warning("%s", note)
  return Prepared(Task(name, settings, (), *parts), notes)


def _embedding(model: Model) -> Model:
  """A bi-encoder that embeds as it was trained to."""
  return dataclasses.replace(model, embedding=dataclasses.replace(model.embedding, max_tokens=model.max_tokens))


def _shared(one: str, other: str) -> float:
  """The words that two texts share, by those that either has."""
  a, b = set(one.lower().split()), set(other.lower().split())
  return len(a & b) / max(1, len(a | b))
