"""The best span of a passage, against every span tried in turn (google-research/bert, run_squad.py)."""

import numpy as np
import pytest

from bert_jax.data.passages import Passages, Window, most_context, spans
from bert_jax.inference import answers


def passages_of(draw: np.random.Generator, length: int, size: int, stride: int, question: int) -> Passages:
  windows, parts = [], spans(length, size, stride)
  for (first, count), most in zip(parts, most_context(parts), strict=True):
    row = np.zeros(question + 2 + count + 1, np.int32)
    windows.append(Window(0, row, row, first, question + 2, count, 0, most))
  return Passages(windows, [np.stack([np.arange(length) * 3, np.arange(length) * 3 + 2], axis=1)])


def brute_force(read: Passages, logits: list[np.ndarray]) -> tuple[float, int, int]:
  """Score, first and last token of the passage."""
  best = (-np.inf, 0, 0)
  for window, row in zip(read.windows, logits, strict=True):
    starts, ends = (set(np.argsort(-row[:, side], kind="stable")[: answers.BEST]) for side in range(2))
    for i in range(window.count):
      for j in range(i, min(window.count, i + answers.MAX_ANSWER_TOKENS)):
        a, b = window.place + i, window.place + j
        if a in starts and b in ends and window.most_context[i] and row[a, 0] + row[b, 1] > best[0]:
          best = (float(row[a, 0] + row[b, 1]), window.first + i, window.first + j)
  return best


@pytest.mark.parametrize("seed", range(20))
def test_the_best_span_is_that_of_all_spans_tried_in_turn(seed: int) -> None:
  draw = np.random.default_rng(seed)
  read = passages_of(draw, int(draw.integers(1, 120)), 31, 11, int(draw.integers(1, 9)))
  logits = [draw.normal(size=(len(window.token_ids), 2)) for window in read.windows]
  text = "".join(f"{i % 100:02d} " for i in range(120))
  (found,) = answers.best([("?", text)], read, logits, None)
  score, first, last = brute_force(read, logits)
  if score == -np.inf:
    assert found.text == ""
    return
  assert (found.start, found.stop) == (3 * first, 3 * last + 2)
  assert found.text == text[found.start : found.stop]
  null = min(float(row[0].sum()) for row in logits)
  assert found.null_margin == pytest.approx(null - score)
  assert 0 < found.probability < 1
  # Where no answer is an answer, the threshold decides.
  for threshold, empty in ((found.null_margin - 1e-6, True), (found.null_margin + 1e-6, False)):
    (again,) = answers.best([("?", text)], read, logits, threshold)
    assert (again.text == "") == empty


def test_an_answer_is_not_longer_than_thirty_tokens_nor_outside_the_passage() -> None:
  draw = np.random.default_rng(0)
  read = passages_of(draw, 80, 90, 50, 5)
  (window,) = read.windows
  logits = np.full((len(window.token_ids), 2), -5.0)
  logits[window.place, 0] = logits[window.place + 30, 1] = 9.0  # 31 tokens
  logits[window.place + 29, 1] = 3.0
  logits[3, 0] = logits[3, 1] = 20.0  # in the question
  (found,) = answers.best([("?", "x" * 400)], read, [logits], None)
  assert (found.start, found.stop) == (0, 29 * 3 + 2)
