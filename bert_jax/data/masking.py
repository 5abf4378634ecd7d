"""Which tokens are predicted, and what the model sees in their place: whole batches at once, in numpy.

A mask is a pure function of (seed, example id, pass): every draw is a hash of these, the place and the use, so
neither the batch an example is in nor its neighbours matter. B batch, T tokens, K prediction slots.
"""

from typing import TYPE_CHECKING

import numpy as np

from bert_jax.config import DataConfig, MaskingConfig, num_prediction_slots
from bert_jax.data import random_bits, spans
from bert_jax.data.rows import Batch, Rows

if TYPE_CHECKING:
  from bert_jax.data.tokenizers import Tokenizer

# Sorting keys: random bits above, then the size where words are sorted, and the position in the lowest 16 bits.
_POSITION, _SIZE_AND_POSITION = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_LAST = np.uint64(2**64 - 1)  # the key of what must not be drawn


def mask_pass(epoch: int, masking: MaskingConfig) -> int:
  """Which mask of an example an epoch shows: a new one each epoch, or `duplicates` of them in turn."""
  return epoch % masking.duplicates if masking.policy == "static" else epoch


def mask(rows: Rows, seed: int, data: DataConfig, tokenizer: "Tokenizer") -> Batch:
  """The batch of masked tokens: rows with some tokens hidden, and what was hidden.

  Returns:
    token_ids int32 [B, T], segment_ids int32 [B, T], attention_mask bool [B, T]; mlm_positions int32 [B, K], mlm_labels
    int32 [B, K] and mlm_weights float32 [B, K], see `apply`; pair_labels int32 [B] (0 in order, 1 out of order, -1 no
    pair).
  """
  masked_ids, positions, labels, weights = apply(
    rows.token_ids,
    rows.maskable(tokenizer),
    rows.word_starts if data.masking.unit != "token" else None,
    rows.lengths,
    rows.example_ids,
    rows.passes,
    seed,
    data.masking,
    num_prediction_slots(data),
    tokenizer,
    rows.copies,
  )
  return {
    "token_ids": masked_ids,
    "segment_ids": rows.segment_ids,
    "attention_mask": rows.attention_mask,
    "mlm_positions": positions,
    "mlm_labels": labels,
    "mlm_weights": weights,
    "pair_labels": rows.pair_labels,
  }


def apply(
  token_ids: np.ndarray,
  maskable: np.ndarray,
  word_starts: np.ndarray | None,
  lengths: np.ndarray,
  example_ids: np.ndarray,
  passes: np.ndarray,
  seed: int,
  masking: MaskingConfig,
  num_slots: int,
  tokenizer: "Tokenizer",
  copies: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Chooses tokens to predict and hides them.

  How many: rate × length (special tokens counted, as BERT and fairseq do), to the nearest integer with halves to
  the even one (BERT), or rounded down after adding a uniform draw (fairseq); at least 1, at most `num_slots` and
  the maskable tokens there are. Which: without replacement, uniformly among the maskable tokens, or BERT's
  whole words: in random order, each that does not overshoot the number (so fewer, even none, where no word fits); or
  runs of words, see `spans.py`.
  Each chosen token alone becomes [MASK] with `mask_prob`, a random token with `random_prob`, and stays otherwise; of
  spans, all tokens of a run of chosen ones have the same fate (Joshi et al. 2019, section 3.1).
  Random tokens are uniform over the ids that are not special, as in fairseq; BERT's code draws special ones too.
  With a `prediction_rate` below `rate`, only so many of the chosen tokens are predicted, at random, and the others are
  hidden alone. With one that is a multiple of it, an example stands in the batch as often, in copies whose masks have
  no token in common (Wettig et al. 2022, section 5).

  Args:
    token_ids: int32 [B, T].
    maskable: bool [B, T], tokens that may be predicted: text, not [CLS], [SEP] or padding.
    word_starts: bool [B, T], first tokens of words; read for whole words only, may be None otherwise. What stands
      at the front of a run of maskable tokens starts a word too, be it the rest of a word that was cut.
    lengths: integers [B], tokens of each example, special tokens counted.
    example_ids: integers [B], the same for an example wherever it appears.
    passes: integers [B], which of an example's masks (see `mask_pass`).
    seed: of all masks.
    masking: all but the policy is read.
    num_slots: K.
    tokenizer: its mask_id, vocab_size and special_ids are read.
    copies: integers [B], which copy of its example each row is, from 0; None: there are none.

  Returns:
    masked_ids int32 [B, T]; mlm_positions int32 [B, K], ascending; mlm_labels int32 [B, K], the tokens that stood
    there; mlm_weights float32 [B, K], 1 for a prediction and 0 for a slot that is not used, whose position and
    label are 0.
  """
  num_tokens = token_ids.shape[1]
  assert num_tokens < int(_POSITION), num_tokens
  ids, passes = example_ids[:, None], passes[:, None]

  def number(rate: float) -> np.ndarray:
    """Tokens of each row, int64 [B], at least 1."""
    if masking.rounding == "nearest":
      wanted = np.rint(rate * lengths)
    else:
      draws = random_bits.uniform(random_bits.bits(seed, random_bits.MASK_COUNT, ids, passes))[:, 0]
      wanted = np.floor(rate * lengths + draws)
    return np.maximum(wanted.astype(np.int64), 1)

  predicts_fewer = masking.prediction_rate is not None and masking.prediction_rate < masking.rate
  most = num_tokens if predicts_fewer else num_slots  # of what is hidden
  budget = np.minimum(number(masking.rate), np.minimum(most, maskable.sum(axis=1)))

  order = random_bits.bits(seed, random_bits.MASK_ORDER, ids, passes, np.arange(num_tokens)[None])
  if masking.unit == "token":
    before = np.zeros_like(budget) if copies is None else copies * budget
    chosen = _choose_tokens(order, maskable, before, budget)
  elif masking.unit == "whole_word":
    assert word_starts is not None
    chosen = _choose_words(order, maskable, word_starts, budget, most)
  else:
    assert word_starts is not None

    def uniform(places: np.ndarray) -> np.ndarray:
      parts = example_ids[places // num_tokens], passes[places // num_tokens, 0], places % num_tokens
      return random_bits.uniform(random_bits.bits(seed, random_bits.MASK_LENGTH, *parts))

    choose = spans.choose_ngrams if masking.unit == "ngram" else spans.choose_spans
    words = spans.Words.of(maskable, word_starts)
    chosen = np.flatnonzero(choose(order, words, budget, masking.max_words, uniform))

  predicted = chosen
  if predicts_fewer:
    assert masking.prediction_rate is not None
    again = random_bits.bits(seed, random_bits.MASK_PREDICTED, ids, passes, np.arange(num_tokens)[None])
    hidden = np.zeros(maskable.shape, bool)
    hidden.ravel()[chosen] = True
    fewer = np.minimum(number(masking.prediction_rate), np.minimum(num_slots, hidden.sum(axis=1)))
    predicted = _choose_tokens(again, hidden, np.zeros_like(fewer), fewer)

  rows, columns = predicted // num_tokens, predicted % num_tokens
  counts = np.bincount(rows, minlength=len(lengths))
  slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
  positions = np.zeros((len(lengths), num_slots), np.int32)
  weights = np.zeros((len(lengths), num_slots), np.float32)
  labels = np.zeros_like(positions)
  positions[rows, slots] = columns
  labels[rows, slots] = token_ids[rows, columns]
  weights[rows, slots] = 1

  rows, columns = chosen // num_tokens, chosen % num_tokens
  originals = token_ids[rows, columns]
  parts = example_ids[rows], passes[rows, 0], columns
  places = columns if masking.unit != "span" else _run_starts(chosen) % num_tokens
  kind = random_bits.uniform(random_bits.bits(seed, random_bits.MASK_KIND, *parts[:2], places))
  random_ids = _ordinary_ids(random_bits.bits(seed, random_bits.MASK_TOKEN, *parts), tokenizer)
  masked_ids = token_ids.copy()
  masked_ids[rows, columns] = np.where(
    kind < masking.mask_prob,
    tokenizer.mask_id,
    np.where(kind < masking.mask_prob + masking.random_prob, random_ids, originals),
  )
  return masked_ids, positions, labels, weights


def _run_starts(chosen: np.ndarray) -> np.ndarray:
  """For each of these ascending numbers, the first of the run of successive ones that it is in."""
  begins = np.diff(chosen, prepend=-2) != 1
  return np.maximum.accumulate(np.where(begins, chosen, 0))


def _choose_tokens(order: np.ndarray, maskable: np.ndarray, before: np.ndarray, budget: np.ndarray) -> np.ndarray:
  """Places, in the flattened [B × T], of the `budget` maskable tokens that follow `before` others in a random order.

  Ascending; fewer where there are not so many. A sorting key holds random bits above and the position below, so what is
  sorted is the answer itself.
  """
  num_tokens = maskable.shape[1]
  keys = np.where(maskable, order & ~_POSITION | np.arange(num_tokens, dtype=np.uint64), _LAST)
  end = np.minimum(before + budget, maskable.sum(axis=1))
  keys = _smallest(keys, max(1, int(end.max(initial=1))))
  ranks = np.arange(keys.shape[1])
  rows, ranks = np.nonzero((ranks >= before[:, None]) & (ranks < end[:, None]))
  return np.sort(rows * num_tokens + (keys[rows, ranks] & _POSITION).astype(np.int64))


def _choose_words(
  order: np.ndarray, maskable: np.ndarray, word_starts: np.ndarray, budget: np.ndarray, num_slots: int
) -> np.ndarray:
  """The same for whole words, by BERT's greedy choice. A key holds random bits, the word's size, its position."""
  num_tokens = maskable.shape[1]
  edges = ~maskable  # a word reaches from its start to the next edge
  edges[:, 1:] |= word_starts[:, 1:] | edges[:, :-1]
  edges[:, 0] = True
  begins = np.flatnonzero(edges)
  sizes = np.diff(begins, append=edges.size)
  are_words = maskable.ravel()[begins]
  begins, sizes = begins[are_words], sizes[are_words]

  keys = np.full(maskable.shape, _LAST)  # no word: of a size that never fits
  low = (sizes << 16 | begins % num_tokens).astype(np.uint64)
  keys.ravel()[begins] = order.ravel()[begins] & ~_SIZE_AND_POSITION | low
  # As many words as there are slots nearly always fill the budget; where they do not, all the words have a try.
  first = _smallest(keys, num_slots)
  taken, left = _take_fitting(first, budget)
  begins, sizes = _decode(first[taken], np.nonzero(taken)[0] * num_tokens)
  if num_slots < num_tokens and (left > 0).any():
    again = np.flatnonzero(left > 0)
    all_words = np.sort(keys[again], axis=1)
    retaken, _ = _take_fitting(all_words, budget[again])
    kept = left[begins // num_tokens] == 0
    more = _decode(all_words[retaken], again[np.nonzero(retaken)[0]] * num_tokens)
    begins, sizes = np.concatenate([begins[kept], more[0]]), np.concatenate([sizes[kept], more[1]])
  in_order = np.argsort(begins)
  begins, sizes = begins[in_order], sizes[in_order]
  return np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())


def _smallest(keys: np.ndarray, count: int) -> np.ndarray:
  """[B, count]: the smallest keys of each row, ascending."""
  if count < keys.shape[1]:
    keys = np.partition(keys, count - 1, axis=1)[:, :count]
  return np.sort(keys, axis=1)


def _take_fitting(keys: np.ndarray, budget: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Goes along the words of all rows at once, takes each that does not overshoot: bool as `keys`, budget left."""
  sizes = (keys >> np.uint64(16) & _POSITION).astype(np.int64).T.copy()  # [rank, row]: a line a step
  taken = np.zeros(sizes.shape, bool)
  left = budget.copy()
  for rank in range(len(sizes)):
    np.less_equal(sizes[rank], left, out=taken[rank])
    left -= sizes[rank] * taken[rank]
    if not left.any():
      break
  return taken.T, left


def _decode(keys: np.ndarray, row_begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where words begin in the flattened batch, and their sizes."""
  return row_begins + (keys & _POSITION).astype(np.int64), (keys >> np.uint64(16) & _POSITION).astype(np.int64)


def _ordinary_ids(bits: np.ndarray, tokenizer: "Tokenizer") -> np.ndarray:
  """Ids that are not special, uniform, one for each element of `bits`."""
  special = np.asarray(tokenizer.special_ids)
  ids = random_bits.below(bits, tokenizer.vocab_size - len(special))
  # The n-th special id is stepped over by every id that is at least its value less the n special ids before it.
  return (ids + np.searchsorted(special - np.arange(len(special)), ids, side="right")).astype(np.int32)
