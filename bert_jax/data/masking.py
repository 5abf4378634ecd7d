"""Which tokens are predicted, and what the model sees in their place: whole batches at once, in numpy.

A mask is a pure function of (seed, example id, pass): every draw is a hash of these, the place and the use, so
neither the batch an example is in nor its neighbours matter. B batch, T tokens, K prediction slots.
"""

from typing import TYPE_CHECKING

import numpy as np

from bert_jax.config import MaskingConfig
from bert_jax.data import draws

if TYPE_CHECKING:
  from bert_jax.data.tokenizers import Tokenizer

_POSITION = np.uint64(0xFFFF)  # lower bits of a sorting key that hold the position; the others are random
_LAST = np.uint64(2**64 - 1)  # the sorting key of what must not be drawn


def mask_pass(epoch: int, masking: MaskingConfig) -> int:
  """Which mask of an example an epoch shows: a new one each epoch, or `duplicates` of them in turn."""
  return epoch % masking.duplicates if masking.policy == "static" else epoch


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Chooses tokens to predict and hides them.

  How many: rate × length (special tokens counted, as BERT and fairseq do), to the nearest integer with halves to
  the even one (BERT), or rounded down after adding a uniform draw (fairseq); at least 1, at most `num_slots` and
  the maskable tokens there are. Which: without replacement, uniformly among the maskable tokens, or BERT's
  whole words: in random order, each that does not overshoot the number (so fewer, even none, where no word fits).
  Each chosen token alone becomes [MASK] with `mask_prob`, a random token with `random_prob`, and stays otherwise.
  Random tokens are uniform over the ids that are not special, as in fairseq; BERT's code draws special ones too.

  Args:
    token_ids: int32 [B, T].
    maskable: bool [B, T], tokens that may be predicted: text, not [CLS], [SEP] or padding.
    word_starts: bool [B, T], first tokens of words; read for whole words only, may be None otherwise. What stands
      at the front of a run of maskable tokens starts a word too, be it the rest of a word that was cut.
    lengths: integers [B], tokens of each example, special tokens counted.
    example_ids: integers [B], the same for an example wherever it appears.
    passes: integers [B], which of an example's masks (see `mask_pass`).
    seed: of all masks.
    masking: unit, rate, rounding, mask_prob, random_prob are read.
    num_slots: K.
    tokenizer: its mask_id, vocab_size and special_ids are read.

  Returns:
    masked_ids int32 [B, T]; mlm_positions int32 [B, K], ascending; mlm_labels int32 [B, K], the tokens that stood
    there; mlm_weights float32 [B, K], 1 for a prediction and 0 for a slot that is not used, whose position and
    label are 0.
  """
  num_tokens = token_ids.shape[1]
  assert num_tokens <= int(_POSITION), num_tokens
  ids, passes = example_ids[:, None], passes[:, None]

  wanted = masking.rate * lengths
  if masking.rounding == "nearest":
    wanted = np.rint(wanted)
  else:
    wanted = np.floor(wanted + draws.uniform(draws.bits(seed, draws.MASK_COUNT, ids, passes))[:, 0])
  budget = np.minimum(np.maximum(wanted.astype(np.int64), 1), np.minimum(num_slots, maskable.sum(axis=1)))

  order = draws.bits(seed, draws.MASK_ORDER, ids, passes, np.arange(num_tokens)[None])
  order = order & ~_POSITION | np.arange(num_tokens, dtype=np.uint64)
  if masking.unit == "token":
    chosen = _choose_tokens(order, maskable, budget, num_slots)
  else:
    assert word_starts is not None
    chosen = _choose_words(order, maskable, word_starts, budget)

  rows, columns = np.nonzero(chosen)
  counts = chosen.sum(axis=1)
  slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
  positions = np.zeros((len(token_ids), num_slots), np.int32)
  weights = np.zeros((len(token_ids), num_slots), np.float32)
  labels = np.zeros_like(positions)
  positions[rows, slots] = columns
  labels[rows, slots] = originals = token_ids[rows, columns]
  weights[rows, slots] = 1

  parts = example_ids[rows], passes[rows, 0], columns
  kind = draws.uniform(draws.bits(seed, draws.MASK_KIND, *parts))
  random_ids = _ordinary_ids(draws.bits(seed, draws.MASK_TOKEN, *parts), tokenizer)
  masked_ids = token_ids.copy()
  masked_ids[rows, columns] = np.where(
    kind < masking.mask_prob,
    tokenizer.mask_id,
    np.where(kind < masking.mask_prob + masking.random_prob, random_ids, originals),
  )
  return masked_ids, positions, labels, weights


def _choose_tokens(order: np.ndarray, maskable: np.ndarray, budget: np.ndarray, num_slots: int) -> np.ndarray:
  """bool [B, T]: the `budget` maskable tokens that come first in the random order."""
  keys = np.where(maskable, order, _LAST)
  if num_slots < keys.shape[1]:
    keys = np.partition(keys, num_slots - 1, axis=1)[:, :num_slots]
  keys.sort(axis=1)
  rows, ranks = np.nonzero(np.arange(keys.shape[1]) < budget[:, None])
  chosen = np.zeros_like(maskable)
  chosen[rows, (keys[rows, ranks] & _POSITION).astype(np.int64)] = True
  return chosen


def _choose_words(order: np.ndarray, maskable: np.ndarray, word_starts: np.ndarray, budget: np.ndarray) -> np.ndarray:
  """bool [B, T]: BERT's greedy choice of whole words, for all rows at once, one rank of the order after the other."""
  starts = maskable.copy()
  starts[:, 1:] &= word_starts[:, 1:] | ~maskable[:, :-1]
  # Words are numbered over the whole batch; a maskable token belongs to the last word that started.
  word_of = np.cumsum(starts.ravel()) - 1
  lengths = np.bincount(word_of[maskable.ravel()], minlength=int(starts.sum()))

  keys = np.where(starts, order, _LAST)
  keys.sort(axis=1)
  words_in_row = starts.sum(axis=1)
  rows, ranks = np.nonzero(np.arange(keys.shape[1]) < words_in_row[:, None])
  words = np.zeros((keys.shape[1], len(keys)), np.int64)  # [rank, row]: a step of the loop reads one line
  words[ranks, rows] = word_of.reshape(maskable.shape)[rows, (keys[rows, ranks] & _POSITION).astype(np.int64)]
  sizes = np.full(words.shape, keys.shape[1] + 1)  # no word: never fits
  sizes[ranks, rows] = lengths[words[ranks, rows]]

  taken = np.zeros(len(lengths) + 1, bool)
  left = budget.copy()
  for rank in range(int(words_in_row.max(initial=0))):
    fits = sizes[rank] <= left
    taken[words[rank, fits]] = True
    left -= sizes[rank] * fits
    if not left.any():
      break
  return taken[word_of].reshape(maskable.shape) & maskable


def _ordinary_ids(random_bits: np.ndarray, tokenizer: "Tokenizer") -> np.ndarray:
  """Ids that are not special, uniform, one for each element of `random_bits`."""
  special = np.asarray(tokenizer.special_ids)
  ids = draws.below(random_bits, tokenizer.vocab_size - len(special))
  # The n-th special id is stepped over by every id that is at least its value less the n special ids before it.
  return (ids + np.searchsorted(special - np.arange(len(special)), ids, side="right")).astype(np.int32)
