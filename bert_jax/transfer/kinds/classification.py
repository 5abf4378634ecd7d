"""One of several classes for a text or a pair of texts: CoLA, SST-2, MNLI, intents, topics."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.data import labelled
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference import scores
from bert_jax.inference.predictions import Prediction
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.transfer import metrics
from bert_jax.transfer.kinds import texts
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, text_columns, text_fields


class Classification(Kind):
  name = "classification"
  main = "accuracy"

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    return texts.read(path, columns, str.strip)

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    labelled.check_classes(train, dev, train.labels, dev.labels)
    classes = labelled.classes_of(train.labels)
    settings = ClassificationConfig(len(classes), reading.pooling)
    return texts.prepared(name, settings, classes, train, dev, reading, lambda part: _indices(part, classes))

  def answer_in(self, cell: str) -> Prediction:
    return Prediction(cell, 1.0, np.ones(1, np.float32))

  def score(self, examples: Labelled, answers: Sequence[Prediction]) -> Scores:
    return metrics.classification(list(examples.labels), [answer.label for answer in answers])

  def interval(self, examples: Labelled, answers: Sequence[Prediction], measure: str) -> tuple[float, float] | None:
    pairs = [(label, answer.label) for label, answer in zip(examples.labels, answers, strict=True)]
    if measure == "accuracy":
      right = np.array([label == found for label, found in pairs], np.float64)
      return metrics.bootstrap(lambda chosen: float(right[chosen].mean()), len(pairs), rounds=self.rounds)
    # scikit-learn takes milliseconds for each resample, and more the longer it is: of many examples it has few pairs.
    cells = sorted(set(pairs))
    number = {cell: place for place, cell in enumerate(cells)}
    cell_of = np.array([number[pair] for pair in pairs])

    def score(chosen: np.ndarray) -> float:
      found, counts = np.unique(cell_of[chosen], return_counts=True)
      labels, predicted = zip(*(cells[i] for i in found), strict=True)
      # Of a resample with one class only there is no F1.
      return metrics.classification(labels, predicted, counts, measure).get(measure, math.nan)

    return metrics.bootstrap(score, len(pairs), rounds=self.rounds)

  def table(self, examples: Labelled, answers: Sequence[Prediction]) -> Iterable[Sequence[Any]]:
    yield [*text_columns(examples), "label", "predicted", "probability"]
    for text, label, answer in zip(examples.texts, examples.labels, answers, strict=True):
      yield [*text_fields(text), label, answer.label, f"{answer.probability:.6f}"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    # Of the texts to measure on: the most that not reading can reach.
    label = Counter(dev.labels).most_common(1)[0][0]
    return {"the majority class": [Prediction(label, 1.0, np.ones(1, np.float32))] * len(dev)}

  def units(self, train: Labelled, dev: Labelled) -> Units:
    classes = labelled.classes_of(train.labels)
    return Units("texts", "single_label", list(train.texts), list(dev.texts), _indices(train, classes))

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    classes, chances = labelled.classes_of(train.labels), scores.softmax(outputs)
    return [Prediction(classes[i], float(row[i]), row) for i, row in zip(chances.argmax(axis=1), chances, strict=True)]


def _indices(part: Labelled, classes: tuple[str, ...]) -> np.ndarray:
  number = {name: place for place, name in enumerate(classes)}
  return np.array([number[label] for label in part.labels], np.int32)
