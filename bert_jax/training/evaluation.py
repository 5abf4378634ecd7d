"""Held-out loss and accuracy, with frozen masks; and the line that a model has to leave behind."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.config import Config
from bert_jax.data.batches import Batch, EvalBatches
from bert_jax.data.store import Corpus
from bert_jax.training import sharding
from bert_jax.training.step import eval_step_of


class Evaluator:
  """Measures parameters on two fixed sets of held-out examples.

  The common set is the same for every arm: single segments of one document, as fine-tuning will show them to the
  model. The own set has the arm's own format, and so pairs to measure NSP on.
  """

  def __init__(self, config: Config, corpus: Corpus, mesh: Mesh):
    self._mesh = mesh
    self._step = eval_step_of(config, mesh)
    settings = config.evaluation
    sharding.check_batch_size("evaluation.batch_size", settings.batch_size, mesh)

    def batches(common: bool) -> list[Batch]:
      return list(EvalBatches(corpus, config.data, settings.batch_size, settings.max_examples, common=common))

    self.common = batches(common=True)
    self._own = self.common if config.data.format == "doc_sentences" else batches(common=False)
    self._measures_nsp = config.train.sentence_objective == "nsp"

  def __call__(self, params: Any, should_stop: Callable[[], bool] = lambda: False) -> dict[str, float | None] | None:
    """mlm_loss (nats), mlm_perplexity, mlm_accuracy, own_mlm_loss and nsp_accuracy.

    None stands for what is not finite, and for the accuracy where there is no NSP.

    Args:
      params: of the model.
      should_stop: asked between batches; where it says yes, the result is None.
    """
    common = self._mean(params, self.common, should_stop)
    own = common if self._own is self.common else self._mean(params, self._own, should_stop)
    if common is None or own is None:
      return None
    loss = common["mlm_loss"]
    measures = {
      "mlm_loss": loss,
      "mlm_perplexity": math.exp(loss) if loss < 700 else math.inf,
      "mlm_accuracy": common["mlm_accuracy"],
      "own_mlm_loss": own["mlm_loss"],
      "nsp_accuracy": own["nsp_accuracy"] if self._measures_nsp else math.nan,
    }
    return {name: value if math.isfinite(value) else None for name, value in measures.items()}

  def _mean(self, params: Any, batches: Iterable[Batch], should_stop: Callable[[], bool]) -> dict[str, float] | None:
    totals: dict[str, np.ndarray] = {}
    for batch in batches:
      if should_stop():
        return None
      sums = jax.device_get(self._step(params, sharding.put_batch(batch, self._mesh)))
      for name, pair in sums.items():
        totals[name] = totals.get(name, np.zeros(2)) + np.array(pair, np.float64)
    return {name: float(total / max(count, 1.0)) for name, (total, count) in totals.items()}


def unigram_entropy(corpus: Corpus, config: Config, batches: Iterable[Batch]) -> float:
  """The loss, in nats, of predicting every masked token from word counts alone.

  Counts are those of the training documents, with one added to each token of the vocabulary; the loss is that of the
  evaluation's own masked tokens. A model that has learned no context cannot do better.
  """
  documents = corpus.documents("train", config.data.eval_fraction, 1.0)
  starts = corpus.sentence_offsets[corpus.document_offsets[documents]]
  lengths = corpus.sentence_offsets[corpus.document_offsets[documents + 1]] - starts
  counts = np.ones(corpus.tokenizer.vocab_size, np.float64)
  for part in np.array_split(np.arange(len(documents)), max(1, int(lengths.sum() // 10_000_000))):
    token_ids, _ = corpus.gather(starts[part], lengths[part])
    counts += np.bincount(token_ids, minlength=len(counts))
  nats = -np.log(counts / counts.sum())
  total, number = 0.0, 0.0
  for batch in batches:
    total += float(np.sum(nats[batch["mlm_labels"]] * batch["mlm_weights"]))
    number += float(batch["mlm_weights"].sum())
  return total / max(number, 1.0)
