"""Held-out measures, with frozen masks, beside what the trivial reaches.

Arms are compared on a set of held-out examples that all of them share. What is measured there, the objective says.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.config import Config
from bert_jax.data.batches import EVAL_SEED, EvalBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.rows import Batch
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen, RowSums
from bert_jax.results import ByDocument, Measures
from bert_jax.training.layout import Layout
from bert_jax.training.step import eval_step_of


class Evaluator:
  """Measures parameters on fixed sets of held-out examples.

  Attributes:
    sets: name → batches, each example in one of them once; of each batch, this process's part.
  """

  def __init__(self, config: Config, layout: Layout, sets: Mapping[str, Sequence[Batch]], frozen: Frozen | None = None):
    self.sets, self._config, self._layout, self._frozen = sets, config, layout, frozen
    self._step = eval_step_of(config, layout)

  def __call__(self, params: Any, should_stop: Callable[[], bool] = lambda: False) -> Measures | None:
    """What the objective reports; None stands for what is not finite or not measured.

    Args:
      params: of the objective.
      should_stop: asked between batches; where it says yes, the result is None.
    """
    found: dict[int, RowSums | None] = {}  # sets that are the same object are measured once
    for batches in self.sets.values():
      if id(batches) not in found:
        found[id(batches)] = self.rows(params, batches, should_stop)
      if found[id(batches)] is None:
        return None
    means = {name: mean(found[id(batches)] or {}) for name, batches in self.sets.items()}
    return _finite(objective_of(self._config).measures(means, self._config.data))

  def rows(
    self, params: Any, batches: Sequence[Batch], should_stop: Callable[[], bool] = lambda: False
  ) -> RowSums | None:
    """The sums of each example; None where `should_stop` says yes between batches."""
    parts: dict[str, list[np.ndarray]] = {}
    first_row = 0
    for batch in batches:
      if should_stop():
        return None
      sums = self._step(params, self._frozen, self._layout.put(batch), jnp.uint32(EVAL_SEED), jnp.uint32(first_row))
      for name, pair in jax.device_get(sums).items():
        parts.setdefault(name, []).append(np.stack(pair, axis=1).astype(np.float64))
      first_row += len(next(iter(sums.values()))[0])
    return {name: np.concatenate(pairs) for name, pairs in parts.items()}


def _finite(measures: Mapping[str, float]) -> Measures:
  return {name: value if math.isfinite(value) else None for name, value in measures.items()}


def mean(rows: RowSums) -> dict[str, float]:
  """Each measure over all examples: the sum of its sums by the sum of its counts; NaN without any."""
  totals = {name: pairs.sum(axis=0) for name, pairs in rows.items()}
  return {name: float(total / count) if count else math.nan for name, (total, count) in totals.items()}


# ---- pretraining -------------------------------------------------------------------------------------------------


class HeldOut(Evaluator):
  """An evaluator on held-out text.

  The set `common` is the same for every arm: single segments of one document, as fine-tuning will show them to the
  model. The set `own` has the arm's own format, and so pairs to label.

  Attributes:
    num_examples: examples of the common set that are used, N.
    num_held_out: examples of the common set that there are.
  """

  def __init__(self, config: Config, corpus: Corpus, layout: Layout, frozen: Frozen | None = None):
    settings = config.evaluation
    layout.check_batch_size("evaluation.batch_size", settings.batch_size)

    def batches(common: bool, part: tuple[int, int] = (0, 1)) -> EvalBatches:
      return EvalBatches(corpus, config.data, settings.batch_size, settings.max_examples, common, *part)

    def sets(part: tuple[int, int]) -> dict[str, list[Batch]]:
      common = list(batches(True, part))
      return {"common": common, "own": common if is_one else list(batches(False, part))}

    part, is_one = layout.process_slice(settings.batch_size), config.data.format == "doc_sentences"
    shared = batches(common=True)
    self._documents, self.num_examples, self.num_held_out = shared.documents, shared.num_examples, shared.num_held_out
    self._corpus = corpus
    super().__init__(config, layout, sets(part), frozen)
    # What is computed on the host is of whole batches; of one process they are those that it evaluates.
    self._whole = (lambda: self.sets) if part == (0, 1) else functools.cache(lambda: sets((0, 1)))

  @property
  def whole_sets(self) -> Mapping[str, Sequence[Batch]]:
    """The sets of all processes together."""
    return self._whole()

  def trivial(self) -> Measures:
    """What the trivial reaches on these sets; None stands for what is not measured."""
    return _finite(objective_of(self._config).trivial(self._corpus, self._config.data, self.whole_sets))

  def by_document(self, params: Any) -> ByDocument:
    """The sums of parameters, document by document."""
    objective, data = objective_of(self._config), self._config.data
    ours = self.rows(params, self.sets["common"])
    theirs = objective.trivial_rows(self._corpus, data, self.whole_sets["common"])
    assert ours is not None
    measure = objective.measure(data)
    documents, places = np.unique(self._documents, return_inverse=True)

    def summed(values: np.ndarray) -> tuple[float, ...]:
      return tuple(np.bincount(places, values[: len(places)], len(documents)).tolist())  # the rows beyond are padding

    return ByDocument(
      tuple(documents.tolist()),
      tuple(int(count) for count in summed(ours[measure][:, 1])),
      summed(ours[measure][:, 0]),
      summed(theirs[measure][:, 0]),
    )
