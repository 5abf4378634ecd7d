"""Which tokens are predicted, and in which order: XLNet's partial prediction, whole batches at once, in numpy.

As masks are, both are pure functions of (seed, example id, pass). B batch, T tokens, K prediction slots, M tokens
before an example.
"""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from bert_jax.config import DataConfig
from bert_jax.data import random_bits, spans
from bert_jax.data.rows import Batch, Rows
from bert_jax.objective_configs import PermutationConfig

if TYPE_CHECKING:
  from bert_jax.data.tokenizers import Tokenizer

_LAST = np.uint64(2**64 - 1)  # the key of what must not be drawn


def prepare(rows: Rows, seed: int, data: DataConfig, tokenizer: "Tokenizer", settings: PermutationConfig) -> Batch:
  """The batch of a factorization order: rows as they are, the tokens to predict, and the rank of each token.

  Returns:
    token_ids int32 [B, T], segment_ids int32 [B, T], attention_mask bool [B, T]; mlm_positions int32 [B, K], ascending,
    mlm_labels int32 [B, K], the tokens that stand there, and mlm_weights float32 [B, K], 1 for a prediction and 0 for a
    slot that is not used, whose position and label are 0; ranks int32 [B, T], see `draw_ranks`; pair_labels int32 [B];
    and where M is above 0, preceding_ids int32 [B, M] and num_preceding int32 [B], see `Rows`.
  """
  maskable = rows.maskable(tokenizer)
  draws = rows.example_ids, rows.passes, seed, settings
  positions, used = choose_targets(maskable, rows.word_starts, rows.lengths, *draws)
  batch = {
    "token_ids": rows.token_ids,
    "segment_ids": rows.segment_ids,
    "attention_mask": rows.attention_mask,
    "mlm_positions": positions,
    "mlm_labels": np.where(used, np.take_along_axis(rows.token_ids, positions, axis=1), 0),
    "mlm_weights": used.astype(np.float32),
    "ranks": draw_ranks(rows.attention_mask, maskable, positions, used, *draws),
    "pair_labels": rows.pair_labels,
  }
  if data.preceding_tokens:
    batch |= {"preceding_ids": rows.preceding_ids, "num_preceding": rows.num_preceding}
  return batch


def num_slots(num_tokens: int, settings: PermutationConfig) -> int:
  """Prediction slots of one sequence: what is predicted of a full one, rounded up."""
  return -int(-num_tokens // settings.tokens_per_target)


def choose_targets(
  maskable: np.ndarray,
  word_starts: np.ndarray,
  lengths: np.ndarray,
  example_ids: np.ndarray,
  passes: np.ndarray,
  seed: int,
  settings: PermutationConfig,
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses spans of tokens to predict (xlnet, data_utils.py, _sample_mask).

  How many: length / `tokens_per_target` of a row's tokens, special ones counted, to the nearest integer; at least 1,
  and at most all but one, so that the first in the order has something to look at.
  Which: from left to right, a span of n tokens somewhere among `tokens_per_target` × n others, beginning at the next
  word's start. It may end within a word: both the code and the paper count tokens. What is then left over is filled
  with single tokens, uniformly.

  Args:
    maskable: bool [B, T], tokens that may be predicted; what a span covers of others is not.
    word_starts: bool [B, T], first tokens of words.
    lengths: integers [B], tokens of each row.
    example_ids, passes, seed: what the draws depend on.

  Returns:
    positions int32 [B, K], ascending, and bool [B, K], which of these slots are used; the others come last and have
    position 0.
  """
  count, num_tokens = maskable.shape
  slots, each = num_slots(num_tokens, settings), np.arange(count)
  wanted = np.maximum(np.rint(lengths / settings.tokens_per_target).astype(np.int64), 1)
  budget = np.minimum(wanted, np.minimum(slots, np.maximum(maskable.sum(axis=1) - 1, 0)))

  # Of each place: the next one at which a span may begin, T where there is none; and the maskable tokens before it.
  begins = np.full((count, num_tokens + 1), num_tokens)
  begins[:, :-1] = np.where(maskable & word_starts, np.arange(num_tokens), num_tokens)
  begins = np.minimum.accumulate(begins[:, ::-1], axis=1)[:, ::-1]
  before = np.concatenate([np.zeros((count, 1), np.int64), np.cumsum(maskable, axis=1)], axis=1)
  longest = np.full(count, settings.longest_span)
  edges = np.zeros((count, num_tokens + 1), np.int64)  # 1 where a span begins, -1 where one has ended
  here, left, active = np.ones(count, np.int64), budget.copy(), budget > 0
  for number in itertools.count():
    if not active.any():
      break
    draws = [
      random_bits.uniform(random_bits.bits(seed, stream, example_ids, passes, number))
      for stream in (random_bits.TARGET_LENGTH, random_bits.TARGET_PLACE)
    ]
    span = np.minimum(spans.ngram_lengths(draws[0], longest), left)
    others = np.floor(settings.tokens_per_target * span)
    skipped = np.floor(draws[1] * others).astype(np.int64)
    begin = begins[each, np.minimum(here + skipped, num_tokens)]
    end = begin + span
    active &= end <= lengths  # a span that does not fit is the end
    rows = np.flatnonzero(active)
    edges[rows, begin[rows]] += 1
    edges[rows, end[rows]] -= 1
    left[rows] -= before[rows, end[rows]] - before[rows, begin[rows]]
    here = end + others.astype(np.int64) - skipped
    active &= left > 0

  in_spans = (np.cumsum(edges, axis=1)[:, :-1] > 0) & maskable
  fill = random_bits.bits(
    seed, random_bits.TARGET_FILL, example_ids[:, None], passes[:, None], np.arange(num_tokens)[None]
  )
  keys = np.where(in_spans, np.uint64(0), np.where(maskable, fill | np.uint64(1), _LAST))
  chosen = np.argsort(keys, axis=1, kind="stable")[:, :slots]
  used = np.arange(slots) < budget[:, None]
  positions = np.sort(np.where(used, chosen, num_tokens), axis=1)
  return np.where(used, positions, 0).astype(np.int32), used


def draw_ranks(
  attention_mask: np.ndarray,
  maskable: np.ndarray,
  positions: np.ndarray,
  used: np.ndarray,
  example_ids: np.ndarray,
  passes: np.ndarray,
  seed: int,
  settings: PermutationConfig,
) -> np.ndarray:
  """Draws the factorization order (xlnet, data_utils.py, _local_perm).

  The tokens, read as `text <sep> text <sep> <cls>`, are put in order within windows, by the same permutation in each,
  and the windows follow each other. Targets and special tokens keep their rank in this order; the other tokens are
  known from the beginning. There, a row is ordered in two parts, of which the first does not see the second, so that
  its states serve as memory; here a row is one part.

  Args:
    attention_mask: bool [B, T] of `<cls> text <sep> text <sep>` and padding.
    maskable: bool [B, T], text that may be predicted.
    positions, used: see `choose_targets`.
    example_ids, passes, seed: what the draws depend on.

  Returns:
    int32 [B, T], -1 for what is known from the beginning and for padding.
  """
  count, num_tokens = attention_mask.shape
  window = min(settings.window or num_tokens, num_tokens)
  key = random_bits.bits(
    seed, random_bits.FACTORIZATION, example_ids[:, None], passes[:, None], np.arange(window)[None]
  )
  within = np.argsort(key, axis=1, kind="stable")
  # Without <cls>, which goes from the front to the end, each token is read one place earlier.
  read = np.broadcast_to(np.arange(num_tokens) - 1, (count, num_tokens)).copy()
  read[:, 0] = attention_mask.sum(axis=1) - 1
  ranks = read // window * window + np.take_along_axis(within, read % window, axis=1)
  is_target = np.zeros((count, num_tokens + 1), bool)
  np.put_along_axis(is_target, np.where(used, positions, num_tokens), True, axis=1)
  in_order = attention_mask & (is_target[:, :-1] | ~maskable)
  return np.where(in_order, ranks, -1).astype(np.int32)
