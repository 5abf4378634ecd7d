"""Held-out loss and accuracy, with frozen masks, beside what is reached without context.

Arms are compared by their loss at the places that show [MASK], where nothing can be copied. The loss over all predicted
places, a fifth of which show a token, stands beside it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.config import Config
from bert_jax.data.batches import Batch, EvalBatches
from bert_jax.data.store import Corpus
from bert_jax.training import context_free, sharding
from bert_jax.training.step import eval_step_of

Rows = Mapping[str, np.ndarray]  # name → float64 [N, 2], (sum, count) of each example


def measure_of(config: Config) -> str:
  """What the best checkpoint of a run is best by: a model that never sees [MASK] is not measured there."""
  return "mask_loss" if config.data.masking.mask_prob > 0 else "mlm_loss"


@dataclasses.dataclass(frozen=True)
class ByDocument:
  """The common set, document by document: what the sampling error of held-out text is computed from. M documents.

  Attributes:
    documents: numbers of the documents in the corpus, ascending.
    count: predictions whose place shows [MASK].
    mask_nats: their loss, summed.
    context_free_nats: the same of the best predictor without context.
  """

  documents: list[int]
  count: list[int]
  mask_nats: list[float]
  context_free_nats: list[float]


class Evaluator:
  """Measures parameters on two fixed sets of held-out examples.

  The common set is the same for every arm: single segments of one document, as fine-tuning will show them to the
  model. The own set has the arm's own format, and so pairs to measure NSP on.

  Attributes:
    common: the batches of the common set.
    own: those of the own set; the same object where the two sets are one.
    num_examples: examples of the common set that are used, N.
    num_held_out: examples of the common set that there are.
  """

  def __init__(self, config: Config, corpus: Corpus, mesh: Mesh):
    self._mesh = mesh
    self._step = eval_step_of(config, mesh)
    settings = config.evaluation
    sharding.check_batch_size("evaluation.batch_size", settings.batch_size, mesh)

    def batches(common: bool) -> EvalBatches:
      return EvalBatches(corpus, config.data, settings.batch_size, settings.max_examples, common=common)

    common = batches(common=True)
    self.common, self._documents = list(common), common.documents
    self.num_examples, self.num_held_out = common.num_examples, common.num_held_out
    self.own = self.common if config.data.format == "doc_sentences" else list(batches(common=False))
    self._config, self._corpus = config, corpus

  def __call__(self, params: Any, should_stop: Callable[[], bool] = lambda: False) -> dict[str, float | None] | None:
    """mask_loss (nats) and mask_accuracy at the places that show [MASK]; mlm_loss, mlm_accuracy and mlm_perplexity over
    all predicted places; own_mask_loss on the own set; nsp_accuracy, and nsp_balanced_accuracy: the mean of its shares
    among next and among random pairs, 0.5 for any answer that ignores the pair.

    None stands for what is not finite or not measured: NSP where there is none, [MASK] where training never shows it.

    Args:
      params: of the model.
      should_stop: asked between batches; where it says yes, the result is None.
    """
    common = self.rows(params, self.common, should_stop)
    own = common if self.own is self.common else self.rows(params, self.own, should_stop)
    if common is None or own is None:
      return None
    seen, of_own = mean(common), mean(own)
    loss = seen["mlm_loss"]
    measures = {
      "mask_loss": seen["mask_loss"],
      "mask_accuracy": seen["mask_accuracy"],
      "mlm_loss": loss,
      "mlm_perplexity": math.exp(loss) if loss < 700 else math.inf,
      "mlm_accuracy": seen["mlm_accuracy"],
      "own_mask_loss": of_own["mask_loss"],
      "nsp_accuracy": math.nan,
      "nsp_balanced_accuracy": math.nan,
    }
    if measure_of(self._config) != "mask_loss":
      measures |= dict.fromkeys(("mask_loss", "mask_accuracy", "own_mask_loss"), math.nan)
    if self._config.train.sentence_objective == "nsp":
      measures["nsp_accuracy"] = of_own["nsp_accuracy"]
      measures["nsp_balanced_accuracy"] = (of_own["nsp_next_recall"] + of_own["nsp_random_recall"]) / 2
    return {name: value if math.isfinite(value) else None for name, value in measures.items()}

  def rows(self, params: Any, batches: list[Batch], should_stop: Callable[[], bool] = lambda: False) -> Rows | None:
    """The sums of each example; None where `should_stop` says yes between batches."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
      if should_stop():
        return None
      sums = jax.device_get(self._step(params, sharding.put_batch(batch, self._mesh)))
      for name, pair in sums.items():
        parts.setdefault(name, []).append(np.stack(pair, axis=1).astype(np.float64))
    return {name: np.concatenate(pairs) for name, pairs in parts.items()}

  def trivial(self) -> dict[str, float]:
    """What the best predictor without context reaches here, and the majority among the pairs.

    Returns:
      context_free_mask_loss, context_free_mask_accuracy, context_free_mlm_loss and context_free_mlm_accuracy on the
      common set, context_free_own_mask_loss on the own one (see `context_free.py`); nsp_majority, the share of the own
      set's pairs that the more frequent answer gets right, where there are pairs.
    """
    common = mean(context_free.measures(self._context_free, self.common))
    found = {f"context_free_{name}": value for name, value in common.items()}
    found["context_free_own_mask_loss"] = mean(context_free.measures(self._context_free, self.own))["mask_loss"]
    labels = np.concatenate([batch["nsp_labels"] for batch in self.own])
    labels = labels[labels >= 0]
    if len(labels):
      found["nsp_majority"] = float(max(np.mean(labels), 1 - np.mean(labels)))
    return found

  def by_document(self, params: Any) -> ByDocument:
    """The sums of parameters, document by document."""
    ours = self.rows(params, self.common)
    assert ours is not None
    theirs = context_free.measures(self._context_free, self.common)
    documents, places = np.unique(self._documents, return_inverse=True)

    def summed(values: np.ndarray) -> list[float]:
      return np.bincount(places, values[: len(places)], len(documents)).tolist()  # the rows beyond are padding

    return ByDocument(
      documents.tolist(),
      [int(count) for count in summed(ours["mask_loss"][:, 1])],
      summed(ours["mask_loss"][:, 0]),
      summed(theirs["mask_loss"][:, 0]),
    )

  @functools.cached_property
  def _context_free(self) -> context_free.ContextFree:
    tokenizer = self._corpus.tokenizer
    counts = context_free.token_counts(self._corpus, self._config.data)
    return context_free.ContextFree(counts, tokenizer.mask_id, tokenizer.special_ids)


def mean(rows: Rows) -> dict[str, float]:
  """Each measure over all examples: the sum of its sums by the sum of its counts; NaN without any."""
  totals = {name: pairs.sum(axis=0) for name, pairs in rows.items()}
  return {name: float(total / count) if count else math.nan for name, (total, count) in totals.items()}
