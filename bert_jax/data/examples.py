"""A task's examples as a model reads them. N examples, A texts of an example, T tokens."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_jax.data.frames import Encoded, Frame
from bert_jax.data.rows import Batch
from bert_jax.objective_configs import Objective
from bert_jax.settings import to_dict


@dataclasses.dataclass(frozen=True)
class TaskExamples:
  """Labelled examples with special tokens and padding.

  Attributes:
    token_ids, segment_ids: int32 [N, T], or [N, A, T] where an example has several texts.
    attention_mask: bool of that shape, False on padding.
    labels: by name, arrays [N, …]; what there is depends on the objective, see `bert_jax.objectives`.
    token_labels: the same, of tokens: [N, T].
    texts: N, whole, for baselines that read no tokens; () where there are none.
  """

  token_ids: np.ndarray
  segment_ids: np.ndarray
  attention_mask: np.ndarray
  labels: Mapping[str, np.ndarray]
  token_labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  texts: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.token_ids)

  @property
  def classes(self) -> np.ndarray:
    """The class of each example of a classification, int32 [N]."""
    return self.labels["labels"]

  @property
  def lengths(self) -> np.ndarray:
    """Tokens of each example, of its longest text, special ones counted: int64 [N]."""
    lengths = self.attention_mask.sum(axis=-1)
    return lengths if lengths.ndim == 1 else lengths.max(axis=1)

  def batch(self, rows: np.ndarray, width: int | None = None) -> Batch:
    """Some examples; with `width`, of their padding no more is kept than makes them that wide."""
    arrays = {name: getattr(self, name) for name in ("token_ids", "segment_ids", "attention_mask")}
    by_token = {name: array[rows] for name, array in (arrays | dict(self.token_labels)).items()}
    if width is not None:
      padded_left = bool(self.attention_mask[..., -1].all())
      by_token = {n: array[..., -width:] if padded_left else array[..., :width] for n, array in by_token.items()}
    weights = np.ones(len(rows), np.float32)
    return by_token | {name: array[rows] for name, array in self.labels.items()} | {"label_weights": weights}


def padded(encoded: Encoded, frame: Frame, pad_id: int, texts: int | None = None) -> dict[str, Any]:
  """Encoded texts as the arrays of `TaskExamples`, by name; with `texts`, that many of them are an example."""
  width = int(encoded.lengths.max())
  arrays = frame.batch(encoded.token_ids, len(encoded.token_ids), width, pad_id, encoded.segment_ids)
  if texts is None:
    return arrays
  return {name: array.reshape(-1, texts, width) for name, array in arrays.items()}


def padded_labels(
  rows: Sequence[np.ndarray], attention_mask: np.ndarray, fill: int, dtype: type = np.int32
) -> np.ndarray:
  """Labels of the tokens of each text, special ones counted, [N, T]; `fill` on padding."""
  result = np.full(attention_mask.shape, fill, dtype)
  result[attention_mask] = np.concatenate(rows)
  return result


@dataclasses.dataclass(frozen=True)
class Task:
  """Something to fine-tune for.

  Attributes:
    name: for messages and folders.
    objective: what the network is trained for.
    classes: the names of its outputs; () where they have none.
    train: examples to train on.
    test: others, to measure on.
  """

  name: str
  objective: Objective
  classes: tuple[str, ...]
  train: TaskExamples
  test: TaskExamples

  @property
  def fingerprint(self) -> str:
    """A hash of the task's texts, tokens and labels: equal tasks, equal text."""
    hasher = hashlib.sha256("\0".join((self.name, *self.classes, *self.train.texts, *self.test.texts)).encode())
    hasher.update(repr(to_dict(self.objective)).encode())
    for part in (self.train, self.test):
      labels = [array for _, array in sorted({**part.labels, **part.token_labels}.items())]
      for array in (part.token_ids, part.attention_mask, *labels):
        hasher.update(repr(array.shape).encode() + array.tobytes())
    return hasher.hexdigest()[:16]
