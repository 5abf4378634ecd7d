"""Tasks over whole texts and pairs of texts: how their tables are read, and their examples encoded."""

from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax.data import labelled
from bert_jax.data.examples import Task, TaskExamples, padded
from bert_jax.data.frames import encode
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.objective_configs import Objective
from bert_jax.transfer.kinds.base import Prepared, Reading, cut_note, text_fields


def read(path: epath.PathLike, columns: Columns, label_of: Callable[[str], Any]) -> Labelled:
  """Texts, or pairs of texts, with a label each; `label_of` reads one, and raises ValueError where it cannot.

  Raises:
    ValueError: see `labelled.rows`; a label is not what it should be, with its line.
  """
  texts: list[Any] = []
  labels: list[Any] = []
  for values, line in labelled.rows(path, columns):
    *parts, label = values
    texts.append(tuple(parts) if columns.pair else parts[0])
    try:
      labels.append(label_of(label))
    except ValueError as error:
      raise ValueError(f"{path}, line {line}: {columns.label}={label!r:.80} {error}") from error
  return Labelled(str(path), tuple(texts), tuple(labels))


def prepared(
  name: str,
  settings: Objective,
  classes: tuple[str, ...],
  train: Labelled,
  dev: Labelled,
  reading: Reading,
  labels_of: Callable[[Labelled], np.ndarray],
) -> Prepared:
  """The task of such examples, whose labels `labels_of` gives as arrays; what is in both parts is said."""
  labelled.warn_of_shared(train, dev)
  cut, parts = 0, []
  for part in (train, dev):
    encoded = encode(part.texts, reading.frame, reading.tokenizer, reading.max_tokens)
    cut += encoded.cut
    arrays = padded(encoded, reading.frame, reading.tokenizer.pad_id)
    plain = tuple("\n".join(text_fields(text)) for text in part.texts)
    parts.append(TaskExamples(**arrays, labels={"labels": labels_of(part)}, texts=plain))
  notes = cut_note(cut, len(train) + len(dev), reading.max_tokens)
  for note in notes:
    logging.warning("%s", note)
  return Prepared(Task(name, settings, classes, *parts), notes)
