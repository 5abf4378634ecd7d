"""Answers to questions, as spans of a passage (google-research/bert, run_squad.py). T tokens of a window."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bert_jax.data import passages
from bert_jax.data.frames import Encoded, frame_of
from bert_jax.data.passages import Passages, Window
from bert_jax.inference import scores

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

# As run_squad.py has them.
BEST = 20
MAX_ANSWER_TOKENS = 30


class Answer(NamedTuple):
  """Where a passage answers a question.

  Attributes:
    text: the answer; "" where the model finds that there is none.
    start, stop: of it, in the passage's characters; both 0 where there is none.
    probability: of its start and its end, in its window.
    null_margin: how much the score of no answer lies above that of the best span. `Model.null_threshold` says from
      where on the answer is "".
  """

  text: str
  start: int
  stop: int
  probability: float
  null_margin: float


def predict(model: "Model", pairs: Sequence[Any], batch_size: int) -> list[Answer]:
  """The best answer of each (question, passage)."""
  for number, pair in enumerate(pairs):
    if not isinstance(scores.checked(pair, number), tuple):
      raise ValueError(f"text {number} must be a tuple of a question and a passage. Got {pair!r:.80}")
  most = model.max_tokens or model.config.length_within(384)
  read = passages.read(pairs, frame_of(model.config), model.require_tokenizer(), most)
  encoded = Encoded([w.token_ids for w in read.windows], [w.segment_ids for w in read.windows], 0)
  logits = scores.of_encoded(model, encoded, batch_size)
  return best(pairs, read, logits, model.null_threshold)


def best(
  pairs: Sequence[tuple[str, str]], read: Passages, logits: Sequence[np.ndarray], null_threshold: float | None
) -> list[Answer]:
  """The answers that windows' logits give.

  Args:
    pairs: questions and passages.
    read: their windows.
    logits: of each window, float32 [T, 2].
    null_threshold: a `null_margin` above it is no answer; None: there always is one.
  """
  found: list[tuple[float, float, int, int]] = [(-np.inf, 0.0, 0, 0)] * len(pairs)  # score, probability, tokens
  nothing = np.full(len(pairs), np.inf)
  for window, row in zip(read.windows, logits, strict=True):
    nothing[window.example] = min(nothing[window.example], float(row[window.cls].astype(np.float64).sum()))
    candidate = _best_of(window, row)
    if candidate is not None and candidate[0] > found[window.example][0]:
      found[window.example] = candidate
  answers = []
  for (_, passage), offsets, (score, chance, first, last), null in zip(
    pairs, read.offsets, found, nothing, strict=True
  ):
    margin = float(null - score)
    if score == -np.inf or (null_threshold is not None and margin > null_threshold):
      answers.append(Answer("", 0, 0, 0.0 if score == -np.inf else chance, margin))
      continue
    start, stop = int(offsets[first, 0]), int(offsets[last, 1])
    answers.append(Answer(passage[start:stop], start, stop, chance, margin))
  return answers


def _best_of(window: Window, logits: np.ndarray) -> tuple[float, float, int, int] | None:
  """Score, probability, first and last token in the passage of a window's best span; None where none may be.

  Of the best `BEST` starts and ends: the start where it has most context, the end not before it, at most
  `MAX_ANSWER_TOKENS` tokens, and both in the passage.
  """
  start, end = logits.astype(np.float64).T
  inside = np.arange(window.place, window.place + window.count)
  starts = [
    i for i in np.argsort(-start, kind="stable")[:BEST] if i in inside and window.most_context[i - window.place]
  ]
  ends = [i for i in np.argsort(-end, kind="stable")[:BEST] if i in inside]
  spans = [(i, j) for i in starts for j in ends if i <= j < i + MAX_ANSWER_TOKENS]
  if not spans:
    return None
  i, j = max(spans, key=lambda span: start[span[0]] + end[span[1]])
  chance = np.exp(start[i] - _log_sum(start) + end[j] - _log_sum(end))
  first = window.first - window.place
  return float(start[i] + end[j]), float(chance), int(first + i), int(first + j)


def _log_sum(values: np.ndarray) -> float:
  """The logarithm of the sum of exponentials."""
  return float(np.logaddexp.reduce(values))
