"""What the best predictor without context reaches on the evaluation's own masks: the line to leave behind.

A tenth of the predicted places show the token itself and a tenth a random one, so much of the usual loss is won by
copying. This predictor knows how frequent each token is and which token its place shows, and nothing of the text
around it.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bert_jax.config import DataConfig, MaskingConfig
from bert_jax.data.batches import EVAL_MASKING
from bert_jax.data.rows import Batch

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus

TOKENS_AT_ONCE = 10_000_000


def token_counts(corpus: "Corpus", eval_fraction: float) -> np.ndarray:
  """How often each token stands in all training documents, plus 1; 0 for what is never masked. float64 [V]."""
  documents = corpus.documents("train", eval_fraction, 1.0)
  starts = corpus.sentence_offsets[corpus.document_offsets[documents]]
  lengths = corpus.sentence_offsets[corpus.document_offsets[documents + 1]] - starts
  tokenizer = corpus.tokenizer
  counts = np.ones(tokenizer.vocab_size, np.float64)
  for part in np.array_split(np.arange(len(documents)), max(1, int(lengths.sum() // TOKENS_AT_ONCE))):
    token_ids, _ = corpus.gather(starts[part], lengths[part])
    counts += np.bincount(token_ids, minlength=len(counts))
  counts[[tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id]] = 0
  return counts


class ContextFree:
  """P(token | shown token), by Bayes' rule from token frequencies and the masking rule; V vocabulary.

  With frequencies q, a place shows [MASK] with probability m whatever its token is, so P(x | [MASK]) = q(x). It shows
  the ordinary token w with probability r / U (random, U ordinary tokens) or, where w is its own token, k more:
  P(x | w) = (q(x) r / U + k q(w) [x = w]) / (r / U + k q(w)).
  """

  def __init__(self, counts: np.ndarray, mask_id: int, special_ids: np.ndarray, masking: MaskingConfig = EVAL_MASKING):
    """Takes float [V] counts, the [MASK] id, the ids that no random token is drawn from, and the masking rule."""
    self._frequencies = counts / counts.sum()
    self._mask_id = mask_id
    self._by_chance = np.full(len(counts), masking.random_prob / (len(counts) - len(special_ids)))
    self._by_chance[special_ids] = 0
    self._kept = round(1 - masking.mask_prob - masking.random_prob, 12)  # 1 - 0.8 - 0.2 is a little below 0

  def predict(self, shown: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-log P(label | shown) in nats, and whether the label is the likeliest token; of integers of one shape."""
    frequencies = self._frequencies
    with np.errstate(divide="ignore", invalid="ignore"):  # a token that the masking rule never shows
      by_chance, kept = self._by_chance[shown], self._kept * frequencies[shown]
      given_token = (frequencies[labels] * by_chance + kept * (labels == shown)) / (by_chance + kept)
      nats = -np.log(np.where(shown == self._mask_id, frequencies[labels], given_token))
    commonest = int(np.argmax(frequencies))
    copies = kept + by_chance * frequencies[shown] > by_chance * frequencies[commonest]
    likeliest = np.where((shown == self._mask_id) | ~copies, commonest, shown)
    return nats, likeliest == labels


@functools.lru_cache(maxsize=1)
def predictor(corpus: "Corpus", eval_fraction: float) -> ContextFree:
  """The predictor of a corpus; the last one is kept, as a run asks for it several times."""
  tokenizer = corpus.tokenizer
  return ContextFree(token_counts(corpus, eval_fraction), tokenizer.mask_id, tokenizer.special_ids)


def rows(corpus: "Corpus", data: DataConfig, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
  """`mlm_loss`, `mlm_accuracy`, `mask_loss` and `mask_accuracy` example by example: float64 [N, 2], (sum, count)."""
  predict = predictor(corpus, data.eval_fraction).predict
  found: dict[str, list[np.ndarray]] = {}
  for batch in batches:
    shown = np.take_along_axis(batch["token_ids"], batch["mlm_positions"], axis=1)
    nats, right = predict(shown, batch["mlm_labels"])
    for places in ("mlm", "mask"):
      used = batch[f"{places}_weights"] > 0
      for name, values in ((f"{places}_loss", nats), (f"{places}_accuracy", right)):
        pair = np.stack([np.where(used, values, 0).sum(axis=1), used.sum(axis=1)], axis=1)
        found.setdefault(name, []).append(pair)
  return {name: np.concatenate(parts) for name, parts in found.items()}


def trivial(corpus: "Corpus", data: DataConfig, sets: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
  """What the predictor reaches on the held-out examples.

  Returns:
    context_free_mask_loss, context_free_mask_accuracy, context_free_mlm_loss and context_free_mlm_accuracy on the
    common set, context_free_own_mask_loss on the own one.
  """
  totals = {name: pairs.sum(axis=0) for name, pairs in rows(corpus, data, sets["common"]).items()}
  total, count = rows(corpus, data, sets["own"])["mask_loss"].sum(axis=0)
  totals["own_mask_loss"] = np.array([total, count])
  return {
    f"context_free_{name}": float(total / count) if count else math.nan for name, (total, count) in totals.items()
  }
