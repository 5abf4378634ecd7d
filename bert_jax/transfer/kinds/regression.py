"""A number for a text or a pair of texts: STS-B."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.model import Model
from bert_jax.inference.predictions import Value
from bert_jax.objective_configs import ClassificationConfig
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
    settings, scale = ClassificationConfig(1, reading.pooling, "regression"), _scale(train)
    return texts.prepared(name, settings, (), train, dev, reading, lambda part: _targets(part, scale))

  def finish(self, model: Model, train: Labelled, dev: Labelled) -> Model:
    """It was trained on standardized numbers; its last layer, which is linear, gives them back as they were."""
    mean, deviation = _scale(train)
    layer = model.params["classifier"]
    given = {"kernel": layer["kernel"] * deviation, "bias": layer["bias"] * deviation + mean}
    classifier = {name: np.asarray(array, np.float32) for name, array in given.items()}
    return dataclasses.replace(model, params={**model.params, "classifier": classifier})

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
    return Units("texts", "regression", list(train.texts), list(dev.texts), _targets(train, _scale(train)))

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    mean, deviation = _scale(train)
    return [Value(float(row[0] * deviation + mean)) for row in outputs]


def _scale(train: Labelled) -> tuple[float, float]:
  """Mean and standard deviation of the numbers. Without them, a new layer first has to find how large they are."""
  return float(np.mean(train.labels)), float(np.std(train.labels))


def _targets(part: Labelled, scale: tuple[float, float]) -> np.ndarray:
  return ((np.array(part.labels) - scale[0]) / scale[1]).astype(np.float32)


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
