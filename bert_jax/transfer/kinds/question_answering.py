"""Answers as spans of a passage: SQuAD 1.1 and 2.0 (google-research/bert, run_squad.py)."""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax import foreign
from bert_jax.data import labelled, passages, squad
from bert_jax.data.examples import Task, TaskExamples, padded, padded_labels
from bert_jax.data.frames import Encoded
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.data.squad import Question
from bert_jax.inference.answers import Answer
from bert_jax.inference.model import Model
from bert_jax.objective_configs import QuestionAnsweringConfig
from bert_jax.transfer import metrics, squad_metrics
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores, windows_note


class QuestionAnswering(Kind):
  name = "question_answering"
  main = "f1"
  reads = frozenset()
  predictions = "predictions.json"
  max_tokens = 384  # as run_squad.py

  def read(self, path: epath.PathLike, columns: Columns, training: bool) -> Labelled:
    found = squad.read(path, training)
    pairs = tuple((question.question, question.context) for question in found.questions)
    # Questions about one passage stay on one side of a split.
    return Labelled(found.origin, pairs, found.questions, tuple(question.context for question in found.questions))

  def prepare(self, name: str, train: Labelled, dev: Labelled, reading: Reading) -> Prepared:
    labelled.warn_of_shared(train, dev)
    parts, notes = [], ()
    for part in (train, dev):
      read = passages.read(part.texts, reading.frame, reading.tokenizer, reading.max_tokens)
      several = sum(
        1 for window in read.windows if window.first == 0 and window.count < len(read.offsets[window.example])
      )
      notes += windows_note(several, part, reading.max_tokens)
      encoded = Encoded([w.token_ids for w in read.windows], [w.segment_ids for w in read.windows], 0)
      arrays = padded(encoded, reading.frame, reading.tokenizer.pad_id)
      starts, ends = (
        padded_labels(rows, arrays["attention_mask"], 0, bool)
        for rows in passages.labels(read, [_span(question) for question in part.labels])
      )
      parts.append(TaskExamples(**arrays, labels={}, token_labels={"starts": starts, "ends": ends}))
    if any(question.impossible for question in dev.labels):
      notes += (f"the threshold of no answer was picked on {os.path.basename(dev.origin)} itself, for the best F1",)
    for note in notes:
      logging.warning("%s", note)
    return Prepared(Task(name, QuestionAnsweringConfig(), (), *parts), notes)

  def finish(self, model: Model, train: Labelled, dev: Labelled) -> Model:
    """Questions without an answer get the threshold that is best on `dev`, as the official evaluation finds it."""
    if not any(question.impossible for question in dev.labels):
      return model
    always: list[Answer] = dataclasses.replace(model, null_threshold=None).predict(list(dev.texts))
    margins = {question.id: answer.null_margin for question, answer in zip(dev.labels, always, strict=True)}
    texts = {question.id: answer.text for question, answer in zip(dev.labels, always, strict=True)}
    return dataclasses.replace(model, null_threshold=squad_metrics.best_threshold(dev.labels, texts, margins))

  def answers_in(self, path: epath.PathLike, examples: Labelled, column: str) -> Sequence[Answer]:
    """Those of a JSON object {id: text}; a question that it lacks counts as answered wrongly, and is said."""
    path = epath.Path(path)
    content = foreign.read_object(path.parent, path.name)
    for name, text in content.items():
      if not isinstance(text, str):
        raise ValueError(f"{path}: {name}={text!r:.40} must be a text; an empty one says that there is no answer")
    lacking = sum(question.id not in content for question in examples.labels)
    if lacking:
      logging.warning(
        "%s answers %d of %d questions; the others count as wrong", path, len(examples) - lacking, len(examples)
      )
    nothing = "\0"  # equal to no answer, not even to none
    return [Answer(content.get(question.id, nothing), 0, 0, 1.0, 0.0) for question in examples.labels]

  def score(self, examples: Labelled, answers: Sequence[Answer]) -> Scores:
    texts = {question.id: answer.text for question, answer in zip(examples.labels, answers, strict=True)}
    found = squad_metrics.score(examples.labels, texts)
    return {"f1": found["f1"], **found}

  def interval(self, examples: Labelled, answers: Sequence[Answer], measure: str) -> tuple[float, float] | None:
    texts = {question.id: answer.text for question, answer in zip(examples.labels, answers, strict=True)}
    values = squad_metrics.per_question(examples.labels, texts)[measure]
    return metrics.bootstrap(lambda chosen: float(values[chosen].mean()), len(values))

  def table(self, examples: Labelled, answers: Sequence[Answer]) -> Iterable[tuple[str, str]]:
    yield from ((question.id, answer.text) for question, answer in zip(examples.labels, answers, strict=True))

  def write(self, path: epath.Path, examples: Labelled, answers: Sequence[Answer]) -> None:
    path.write_text(json.dumps(dict(self.table(examples, answers)), ensure_ascii=False, indent=1) + "\n")

  def trivial(self, train: Labelled, dev: Labelled) -> dict[str, Sequence[Any]]:
    length = int(np.median([len(q.answers[0][0].split()) for q in train.labels if q.answers] or [1]))
    first = [Answer(" ".join(passage.split()[:length]), 0, 0, 1.0, 0.0) for _, passage in dev.texts]
    found: dict[str, Sequence[Any]] = {f"the passage's first {length} words": first}
    if any(question.impossible for question in dev.labels):
      found["no answer"] = [Answer("", 0, 0, 1.0, 0.0)] * len(dev)
    return found


def _span(question: Question) -> tuple[int, int] | None:
  """Where the first of a question's answers stands."""
  if question.impossible or not question.answers:
    return None
  text, start = question.answers[0]
  return start, start + len(text)
