"""A number for a text or a pair of texts: STS-B."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.config import ClassificationConfig
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.predictions import Value
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds import texts
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, text_columns, text_fields


class Regression(Kind):
  name = "regression"
  main = "pearson"

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    return texts.read(path, columns, number_in)

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    if len(set(train.labels)) < 2:
      raise ValueError(f"{train.origin} has one value only, {train.labels[0]:g}; there is nothing to be learned")
    settings = ClassificationConfig(1, reading.pooling, "regression")
    return texts.prepared(name, settings, (), train, dev, reading, lambda part: np.array(part.labels, np.float32))

  def answer_in(self, cell: str) -> Value:
    return Value(number_in(cell))

  def score(self, examples: Labelled, answers: Sequence[Value]) -> Scores:
    return metrics.regression(list(examples.labels), [answer.value for answer in answers])

  def table(self, examples: Labelled, answers: Sequence[Value]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "label", "predicted"]
    for text, true, answer in zip(examples.texts, examples.labels, answers, strict=True):
      yield [*text_fields(text), f"{true:g}", f"{answer.value:.6f}"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    return {"the training texts' mean": [Value(float(np.mean(train.labels)))] * len(dev)}

  def units(self, train: Labelled, dev: Labelled) -> Units:
    return Units("texts", "regression", list(train.texts), list(dev.texts), np.array(train.labels, np.float64))

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    return [Value(float(row[0])) for row in outputs]


def number_in(value: str) -> float:
  """The number of a cell.

  Raises:
    ValueError: there is none, or it is not finite.
  """
  try:
    number = float(value)
  except ValueError as error:
    raise ValueError("is no number") from error
  if not math.isfinite(number):
    raise ValueError("must be finite")
  return number
