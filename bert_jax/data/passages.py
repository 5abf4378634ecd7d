"""Questions and passages as a model reads them: in windows, where a passage is too long (google-research/bert,
run_squad.py). T tokens of a row, P tokens of a passage.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_jax.data.frames import Frame
from bert_jax.data.tokenizers import Tokenizer

# As run_squad.py has them; --doc_stride is 128.
STRIDE = 128
MAX_QUESTION_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class Window:
  """`[CLS] question [SEP] part of the passage [SEP]`.

  Attributes:
    example: which question.
    token_ids, segment_ids: int32 [T].
    first: of the passage's tokens, the first that is in the window.
    place: where in the row that token stands.
    count: how many of the passage's tokens are in the window.
    cls: where [CLS] stands.
    most_context: bool [count], whether a token has more context here than in any other window.
  """

  example: int
  token_ids: np.ndarray
  segment_ids: np.ndarray
  first: int
  place: int
  count: int
  cls: int
  most_context: np.ndarray


@dataclasses.dataclass(frozen=True)
class Passages:
  """Questions with their passages.

  Attributes:
    windows: those of each question, one after the other.
    offsets: of each passage, int32 [P, 2]: where in the text each of its tokens begins and ends.
  """

  windows: list[Window]
  offsets: list[np.ndarray]

  @property
  def lengths(self) -> np.ndarray:
    """Tokens of each window, special ones counted, int64."""
    return np.array([len(window.token_ids) for window in self.windows], np.int64)


def read(
  pairs: Sequence[tuple[str, str]], frame: Frame, tokenizer: Tokenizer, max_tokens: int, stride: int = STRIDE
) -> Passages:
  """Pairs of a question and a passage in windows of at most `max_tokens`, special ones counted.

  A question is cut after `MAX_QUESTION_TOKENS`, and where it would leave no room for the passage.
  """
  passages = list(dict.fromkeys(passage for _, passage in pairs))  # many questions share one
  located = dict(zip(passages, tokenizer.encode_with_offsets(passages), strict=True))
  questions = tokenizer.encode([question for question, _ in pairs])
  marks, windows, offsets = 2 + frame.separators_between, [], []
  for example, ((ids, _), (_, passage)) in enumerate(zip(questions, pairs, strict=True)):
    of_passage = located[passage]
    offsets.append(of_passage.offsets)
    question = ids[: min(MAX_QUESTION_TOKENS, (max_tokens - marks) // 2)]
    parts = spans(len(of_passage.ids), max_tokens - marks - len(question), stride)
    for (first, count), most in zip(parts, most_context(parts), strict=True):
      row, segments = frame.pair(question, of_passage.ids[first : first + count], tokenizer)
      place = frame.second_place(len(question))
      cls = len(row) - 1 if frame.cls_last else 0
      windows.append(Window(example, row, segments, first, place, count, cls, most))
  return Passages(windows, offsets)


def spans(length: int, size: int, stride: int) -> list[tuple[int, int]]:
  """(first, count) of windows over `length` tokens; each begins `stride` after the one before, the last ends there."""
  stride, found, first = min(stride, size), [], 0
  while True:
    count = min(size, length - first)
    found.append((first, count))
    if first + count >= length:
      return found
    first += stride


def most_context(parts: Sequence[tuple[int, int]]) -> list[np.ndarray]:
  """Of each window, bool [count]: whether a token has more context there than in any other; the first of equals wins.

  A token's context is the smaller of its numbers of neighbours before and after it, and a hundredth of the window's
  length (run_squad.py, _check_is_max_context).
  """
  stop = max((first + count for first, count in parts), default=0)
  best, owner = np.full(stop, -1.0), np.zeros(stop, np.int64)
  for number, (first, count) in enumerate(parts):
    places = np.arange(count)
    context = np.minimum(places, count - 1 - places) + 0.01 * count
    better = context > best[first : first + count]
    best[first : first + count][better] = context[better]
    owner[first : first + count][better] = number
  return [owner[first : first + count] == number for number, (first, count) in enumerate(parts)]


def token_span(offsets: np.ndarray, start: int, stop: int) -> tuple[int, int] | None:
  """The first and the last token with a character between `start` and `stop`; None where there is none."""
  inside = np.flatnonzero((offsets[:, 0] < stop) & (offsets[:, 1] > start))
  return (int(inside[0]), int(inside[-1])) if len(inside) else None


def labels(passages: Passages, answers: Sequence[tuple[int, int] | None]) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Where the answer starts and ends in each window, bool [T] each; at [CLS] where it is not wholly in the window.

  Args:
    answers: of each question, (start, stop) in the passage's characters; None where it has no answer.
  """
  starts, ends = [], []
  for window in passages.windows:
    answer, places = answers[window.example], (window.cls, window.cls)
    if answer is not None:
      found = token_span(passages.offsets[window.example], *answer)
      if found and window.first <= found[0] and found[1] < window.first + window.count:
        places = (window.place + found[0] - window.first, window.place + found[1] - window.first)
    for rows, place in ((starts, places[0]), (ends, places[1])):
      rows.append(np.arange(len(window.token_ids)) == place)
  return starts, ends
