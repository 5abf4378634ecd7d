"""Any number of labels for a text or a pair of texts."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.data import labelled
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference.predictions import Labels
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds import texts
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, text_columns, text_fields

SEPARATOR = "|"


class MultiLabel(Kind):
  name = "multi_label"
  main = "micro_f1"

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    return texts.read(path, columns, labels_in)

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    labelled.check_classes(train, dev, _all(train), _all(dev))
    classes = labelled.classes_of(_all(train))
    settings = ClassificationConfig(len(classes), reading.pooling, "multi_label")
    return texts.prepared(name, settings, classes, train, dev, reading, lambda part: _matrix(part, classes))

  def answer_in(self, cell: str) -> Labels:
    return Labels(labels_in(cell), np.ones(1, np.float32))

  def score(self, examples: Labelled, answers: Sequence[Labels]) -> Scores:
    return metrics.multi_label([list(row) for row in examples.labels], [list(answer.labels) for answer in answers])

  def table(self, examples: Labelled, answers: Sequence[Labels]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "label", "predicted"]
    for text, true, answer in zip(examples.texts, examples.labels, answers, strict=True):
      yield [*text_fields(text), SEPARATOR.join(true) or "none", SEPARATOR.join(answer.labels) or "none"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    counts = Counter(_all(dev))
    often = [label for label, count in counts.items() if 2 * count > len(dev)] or [counts.most_common(1)[0][0]]
    return {"the commonest labels": [Labels(tuple(often), np.ones(1, np.float32))] * len(dev)}

  def units(self, train: Labelled, dev: Labelled) -> Units:
    targets = _matrix(train, labelled.classes_of(_all(train)))
    return Units("texts", "multi_label", list(train.texts), list(dev.texts), targets)

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    classes = labelled.classes_of(_all(train))
    chances = 1 / (1 + np.exp(-outputs))
    return [Labels(tuple(classes[i] for i in np.flatnonzero(row > 0.5)), row) for row in chances]


def labels_in(value: str) -> tuple[str, ...]:
  """The labels of a cell, each once, sorted.

  Raises:
    ValueError: it begins like a JSON list and is none of texts.
  """
  if value.lstrip().startswith("["):
    try:
      found = json.loads(value)
    except ValueError as error:
      raise ValueError(f"is no JSON list: {error}") from error
    if not all(isinstance(label, str) for label in found):
      raise ValueError("must be a list of texts")
  else:
    found = [] if value.strip() == "none" else value.split(SEPARATOR)
  return tuple(sorted({label.strip() for label in found} - {""}))


def _all(part: Labelled) -> list[str]:
  return [label for row in part.labels for label in row]


def _matrix(part: Labelled, classes: tuple[str, ...]) -> np.ndarray:
  number = {name: place for place, name in enumerate(classes)}
  result = np.zeros((len(part), len(classes)), np.float32)
  for row, labels in enumerate(part.labels):
    result[row, [number[label] for label in labels]] = 1
  return result
