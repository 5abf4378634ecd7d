"""Which of several texts goes on from a text, or answers it: SWAG, HellaSwag, RACE."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax.data import labelled
from bert_jax.data.examples import Task, TaskExamples, padded
from bert_jax.data.frames import encode
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.inference import scores
from bert_jax.inference.predictions import Choice
from bert_jax.objective_configs import MultipleChoiceConfig
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, Units, cut_note


class MultipleChoice(Kind):
  name = "multiple_choice"
  main = "accuracy"
  reads = frozenset(("text", "choices", "label"))

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    number = len(columns.choices)
    if number < 2:
      raise ValueError("multiple choice needs the columns of the texts to choose from: --choices=ending0,ending1,…")
    texts, labels = [], []
    for (text, *choices, label), line in labelled.rows(path, columns):
      texts.append([(text, choice) for choice in choices])
      try:
        labels.append(_index(label.strip(), columns.choices))
      except ValueError as error:
        raise ValueError(f"{path}, line {line}: {columns.label}={label!r:.80} {error}") from error
    return Labelled(str(path), tuple(texts), tuple(labels))

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    labelled.warn_of_shared(train, dev)
    number, cut, parts = len(train.texts[0]), 0, []
    for part in (train, dev):
      encoded = encode(_flat(part), reading.frame, reading.tokenizer, reading.max_tokens)
      cut += encoded.cut
      arrays = padded(encoded, reading.frame, reading.tokenizer.pad_id, number)
      parts.append(TaskExamples(**arrays, labels={"labels": np.array(part.labels, np.int32)}))
    notes = cut_note(cut, number * (len(train) + len(dev)), reading.max_tokens)
    for note in notes:
      logging.warning("%s", note)
    return Prepared(Task(name, MultipleChoiceConfig(), (), *parts), notes)

  def shown(self, text: list[tuple[str, str]]) -> list[str]:
    return [text[0][0]]

  def answer_in(self, cell: str) -> Choice:
    if not cell.isdecimal():
      raise ValueError("must be the number of a text, from 0")
    return _choice(int(cell), int(cell) + 1)

  def score(self, examples: Labelled, answers: Sequence[Choice]) -> Scores:
    right = [answer.index == label for answer, label in zip(answers, examples.labels, strict=True)]
    return {"accuracy": float(np.mean(right))}

  def table(self, examples: Labelled, answers: Sequence[Choice]) -> Iterable[Sequence[Any]]:
    yield ["text", *(f"choice{i}" for i in range(len(examples.texts[0]))), "label", "predicted", "probability"]
    for choices, label, answer in zip(examples.texts, examples.labels, answers, strict=True):
      fields = [choices[0][0], *(choice for _, choice in choices)]
      yield [*fields, label, answer.index, f"{answer.probability:.6f}"]

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    number = len(dev.texts[0])
    place = Counter(dev.labels).most_common(1)[0][0]
    longest = [int(np.argmax([len(choice) for _, choice in choices])) for choices in dev.texts]
    return {
      "the commonest place": [_choice(place, number)] * len(dev),
      "the longest text": [_choice(index, number) for index in longest],
    }

  def units(self, train: Labelled, dev: Labelled) -> Units:
    number = len(train.texts[0])
    targets = np.array([index == label for label in train.labels for index in range(number)], np.float32)
    return Units("texts", "multi_label", _flat(train), _flat(dev), targets[:, None])

  def answers(self, outputs: np.ndarray, train: Labelled, dev: Labelled) -> Sequence[Any]:
    rows = scores.softmax(outputs.reshape(len(dev), -1))
    return [Choice(int(row.argmax()), float(row.max()), row) for row in rows]


def _index(label: str, choices: tuple[str, ...]) -> int:
  letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
  if label.isdecimal() and int(label) < len(choices):
    return int(label)
  if label in choices:
    return choices.index(label)
  if len(label) == 1 and label.upper() in letters:
    return letters.index(label.upper())
  raise ValueError(f"must be a number from 0 to {len(choices) - 1}, a letter from A to {letters[-1]}, or a column")


def _flat(part: Labelled) -> list[tuple[str, str]]:
  return [choice for choices in part.texts for choice in choices]


def _choice(index: int, number: int) -> Choice:
  return Choice(index, 1.0, np.eye(number, dtype=np.float32)[index])
