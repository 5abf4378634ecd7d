"""Masks of several words: ALBERT's n-grams and SpanBERT's spans, for whole batches at once, in numpy.

Each row goes along its places in a random order; a step of the loop takes the next place of all rows that are not done.
B batch, T tokens.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# SpanBERT, section 3.1: lengths in words are geometric.
SPAN_STOP = 0.2

Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # rows, places, most words → uniform in [0, 1)


@dataclasses.dataclass(frozen=True)
class Words:
  """The words of rows; a word reaches from its start to the next start or to what is not maskable.

  Attributes:
    maskable: bool [B, T].
    begins: int64 [B, T], the place where the word of each maskable token begins.
    ends: int64 [B, T], the place after that word.
    left: int64 [B, T], words from that one on, up to the next token that is not maskable.
  """

  maskable: np.ndarray
  begins: np.ndarray
  ends: np.ndarray
  left: np.ndarray

  @classmethod
  def of(cls, maskable: np.ndarray, word_starts: np.ndarray) -> "Words":
    """What stands at the front of a run of maskable tokens starts a word, be it the rest of a word that was cut."""
    places = np.arange(maskable.shape[1])[None]
    starts = maskable & word_starts
    starts[:, 0] = maskable[:, 0]
    starts[:, 1:] |= maskable[:, 1:] & ~maskable[:, :-1]
    begins = np.maximum.accumulate(np.where(starts, places, 0), axis=1)

    def next_place(where: np.ndarray) -> np.ndarray:
      """[B, T]: the first place behind each one where this holds."""
      found = np.where(where, places, where.shape[1])
      found = np.minimum.accumulate(found[:, ::-1], axis=1)[:, ::-1]
      return np.concatenate([found[:, 1:], np.full((len(found), 1), where.shape[1])], axis=1)

    counted = np.cumsum(starts, axis=1)
    last = next_place(~maskable) - 1
    left = np.take_along_axis(counted, last, axis=1) - counted + 1
    return cls(maskable, begins, next_place(starts | ~maskable), left)

  def take(self, rows: np.ndarray) -> "Words":
    return Words(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def ngram_lengths(uniform: np.ndarray, most: np.ndarray) -> np.ndarray:
  """Words of n-grams, from 1 to `most`, with probability in proportion to 1/n (Lan et al. 2019, section 4.1)."""
  weights = 1 / np.arange(1, most.max(initial=1) + 1)
  return _drawn(uniform, np.cumsum(weights), most)


def span_lengths(uniform: np.ndarray, most: np.ndarray) -> np.ndarray:
  """Words of spans, geometric, cut off at `most` (Joshi et al. 2019, section 3.1)."""
  weights = SPAN_STOP * (1 - SPAN_STOP) ** np.arange(most.max(initial=1))
  return _drawn(uniform, np.cumsum(weights), most)


def _drawn(uniform: np.ndarray, totals: np.ndarray, most: np.ndarray) -> np.ndarray:
  """The first number whose total, of weights up to it, exceeds a uniform share of that of `most`."""
  return np.searchsorted(totals, uniform * totals[most - 1], side="right").clip(max=most - 1) + 1


def choose_ngrams(
  order: np.ndarray, words: Words, budget: np.ndarray, longest: int, uniform: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  """Whole words in n-grams: from each word on, in random order, as many as were drawn (create_pretraining_data.py).

  An n-gram that would overshoot loses words at its end; one that still does, or that meets one taken before, is left
  out. None goes beyond what is not maskable.

  Args:
    order: uint64 [B, T], random.
    words: of the rows.
    budget: int64 [B], tokens to take at most.
    longest: words of an n-gram at most.
    uniform: places [N] in the flattened [B × T] → numbers in [0, 1) for each.

  Returns:
    bool [B, T].
  """

  def step(of: Words, taken: np.ndarray, places: np.ndarray, left: np.ndarray, flat: np.ndarray) -> np.ndarray:
    rows = np.arange(len(places))
    most = np.minimum(of.left[rows, places], longest)
    wanted = ngram_lengths(uniform(flat), most)
    end, meets = places.copy(), np.zeros(len(places), bool)
    for number in range(longest):
      last = np.minimum(end, taken.shape[1] - 1)
      after = of.ends[rows, last]
      fits = (number < wanted) & (after - places <= left)
      wanted = np.where(fits, wanted, number)  # nothing after a word that does not fit
      meets |= fits & taken[rows, last]
      end = np.where(fits, after, end)
    columns = np.arange(taken.shape[1])[None]
    return (columns >= places[:, None]) & (columns < end[:, None]) & ~meets[:, None]

  is_start = words.maskable & (words.begins == np.arange(words.maskable.shape[1])[None])
  return _along(order, is_start, words, budget, step)


def choose_spans(
  order: np.ndarray, words: Words, budget: np.ndarray, longest: int, uniform: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  """Spans of whole words, each from the word of a random token on, until the budget is spent (Joshi et al. 2019, 3.1).

  A token that is taken already starts no span; what a span meets of others counts once; the last one may end within a
  word. Arguments and result are those of `choose_ngrams`.
  """

  def step(of: Words, taken: np.ndarray, places: np.ndarray, left: np.ndarray, flat: np.ndarray) -> np.ndarray:
    rows = np.arange(len(places))
    begin = of.begins[rows, places]
    most = np.minimum(of.left[rows, places], longest)
    wanted, end = span_lengths(uniform(flat), most), begin.copy()
    for number in range(longest):
      after = of.ends[rows, np.minimum(end, taken.shape[1] - 1)]
      end = np.where(number < wanted, after, end)
    columns = np.arange(taken.shape[1])[None]
    free = (columns >= begin[:, None]) & (columns < end[:, None]) & ~taken & ~taken[rows, places][:, None]
    return free & (np.cumsum(free, axis=1) <= left[:, None])

  return _along(order, words.maskable, words, budget, step)


def _along(
  order: np.ndarray, places: np.ndarray, words: Words, budget: np.ndarray, step: Callable[..., np.ndarray]
) -> np.ndarray:
  """Goes along these places in random order, adding to each row what `step` finds there, until its budget is spent."""
  num_tokens = order.shape[1]
  ranked = np.argsort(np.where(places, order, np.uint64(2**64 - 1)), axis=1, kind="stable")
  counts = places.sum(axis=1)
  taken, left = np.zeros(order.shape, bool), budget.astype(np.int64)
  for rank in range(num_tokens):
    rows = np.flatnonzero((left > 0) & (rank < counts))
    if not len(rows):
      break
    here = ranked[rows, rank]
    found = step(words.take(rows), taken[rows], here, left[rows], rows * num_tokens + here)
    taken[rows] |= found
    left[rows] -= found.sum(axis=1)
  return taken
