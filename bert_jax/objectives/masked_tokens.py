"""Masked tokens, and what two segments are to each other (Devlin et al. 2018, 3.1; Lan et al. 2019, 3.1).

B batch, K predictions, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float32, Int

from bert_jax.architectures import DebertaConfig, EncoderConfig
from bert_jax.config import DataConfig
from bert_jax.data.rows import Batch
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.models.span_boundary import SpanBoundaryHead, boundaries
from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.objectives.base import Frozen, Means, Objective, Params, Sums, masked_sum, row_sums
from bert_jax.objectives.cls_last import cls_last
from bert_jax.results import Answer

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus


_ANSWERS = {
  "nsp": Answer("nsp", "NSP", "Next sentence prediction, on held-out pairs: is the second segment the next?"),
  "sop": Answer("sop", "SOP", "Sentence order prediction, on held-out pairs: are the two segments in order?"),
}


@dataclasses.dataclass(frozen=True)
class MaskedTokens(Objective):
  """Masked tokens, alone or beside the label of a pair."""

  settings: MaskedTokensConfig

  @property
  def has_pairs(self) -> bool:
    return self.settings.sentence != "none"

  @property
  def name(self) -> str:
    """Of its network."""
    if self.model.cls_last:  # XLNet without its query stream: the paper's denoising autoencoder (table 6)
      return "permutation_lm"
    if self.has_pairs:
      return "pretraining"
    return "enhanced_masked_lm" if self.settings.enhanced_decoder else "masked_lm"

  @property
  def loss_weights(self) -> dict[str, float]:
    # BERT adds its two losses with equal weight (run_pretraining.py), and so does SpanBERT (section 3.2).
    others = [f"{self.settings.sentence}_loss"] if self.has_pairs else []
    return dict.fromkeys(["mlm_loss", *others, *(["boundary_loss"] if self.settings.boundary else [])], 1.0)

  @property
  def answers(self) -> tuple[Answer, ...]:
    return (_ANSWERS[self.settings.sentence],) if self.has_pairs else ()

  def init(self, key: Array) -> Params:
    params = networks.init(self.network(self.name), self.name, key)
    if self.settings.boundary:
      shape = (1, 1)
      hidden, place = jnp.zeros((*shape, self.model.hidden_size)), jnp.zeros(shape, jnp.int32)
      found = self._boundary_head().init(key, hidden, networks.word_table(params), place, place, place)
      params = {**params, "boundary_head": found["params"]}
    return params

  def _boundary_head(self) -> SpanBoundaryHead:
    return SpanBoundaryHead(**self.network(self.name).settings())

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    found = {"mlm_loss": jnp.sum(batch["mlm_weights"])}
    if self.settings.boundary:
      found["boundary_loss"] = found["mlm_loss"]
    if self.has_pairs:
      found[f"{self.settings.sentence}_loss"] = jnp.sum(batch["pair_labels"] >= 0)
    return found

  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    outputs = self._outputs(params, batch, noise)
    sums = masked_lm(outputs["mlm_scores"], batch["mlm_labels"], batch["mlm_weights"], shards)
    if self.has_pairs:
      found = pair_label(outputs["pair_logits"], batch["pair_labels"].reshape(-1))  # of packed rows [B, S]
      sums |= {f"{self.settings.sentence}_{name}": pair for name, pair in found.items()}
    if self.settings.boundary:
      found = masked_lm(
        self._boundary_scores(params, outputs, batch), batch["mlm_labels"], batch["mlm_weights"], shards
      )
      sums |= {name.replace("mlm", "boundary"): pair for name, pair in found.items()}
    return sums

  def _boundary_scores(
    self, params: Params, outputs: Mapping[str, Any], batch: Mapping[str, Array]
  ) -> VocabularyScores:
    positions = batch["mlm_positions"]
    sides = boundaries(positions, batch["mlm_weights"], batch["token_ids"].shape[1])
    args = outputs["hidden"], networks.word_table(params), positions, *sides
    found: Any = self._boundary_head().apply({"params": params["boundary_head"]}, *args)
    return found

  def _outputs(self, params: Params, batch: Mapping[str, Array], noise: Noise | None) -> dict[str, Any]:
    if self.model.cls_last:
      batch = cls_last(batch)
    inputs, positions = Inputs.of(batch), batch["mlm_positions"]
    return self.network(self.name).apply({"params": params}, inputs, noise, mlm_positions=positions)  # pyright: ignore

  def measure(self, data: DataConfig) -> str:
    return masked_lm_measure(data)

  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    outputs = self._outputs(params, batch, None)
    sums = masked_lm_rows(outputs["mlm_scores"], batch, shards)
    if self.has_pairs:
      sums |= pair_rows(outputs["pair_logits"], batch["pair_labels"], self.settings.sentence)
    if self.settings.boundary:
      nats, _ = self._boundary_scores(params, outputs, batch).predictions(batch["mlm_labels"], shards)
      sums["boundary_loss"] = row_sums(nats, batch["mlm_weights"])
    return sums

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """See `masked_lm_measures`.

    Beside them SENTENCE_accuracy and SENTENCE_balanced_accuracy, such as nsp_accuracy, and boundary_loss: nats at all
    predicted places from the tokens beside the masked ones, which are mostly single tokens in the evaluation.
    """
    found, own, sentence = masked_lm_measures(means, data), means["own"], self.settings.sentence
    if self.has_pairs:
      found[f"{sentence}_accuracy"] = own[f"{sentence}_accuracy"]
      found[f"{sentence}_balanced_accuracy"] = (own[f"{sentence}_recall_0"] + own[f"{sentence}_recall_1"]) / 2
    if self.settings.boundary:
      found["boundary_loss"] = means["common"]["boundary_loss"]
    return found

  def trivial(self, corpus: "Corpus", data: DataConfig, sets: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    found = super().trivial(corpus, data, sets)
    labels = np.concatenate([batch["pair_labels"] for batch in sets["own"]])
    labels = labels[labels >= 0]
    if self.has_pairs:
      found[f"{self.settings.sentence}_majority"] = float(max(np.mean(labels), 1 - np.mean(labels)))
    return found

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    """The network; with the enhanced decoder, which other libraries have not, also its encoder by itself."""
    kept = {name: part for name, part in params.items() if name != "boundary_head"}
    if not self.settings.enhanced_decoder:
      return {self.name: (self.model, kept)}
    encoder = dict(kept["encoder"])
    if not cast(DebertaConfig, self.model).input_positions:  # the decoder alone read them
      del encoder["positions"]
    return {self.name: (self.model, kept), "encoder": (self.model, {"encoder": encoder})}


# ---- masked tokens ------------------------------------------------------------------------------------------


def masked_lm(
  scores: VocabularyScores, labels: Int[Array, "B K"], weights: Float32[Array, "B K"], shards: int = 1
) -> Sums:
  """Cross-entropy and accuracy of the predicted tokens.

  Args:
    scores: of [B, K, V].
    labels: the tokens that were masked.
    weights: 0 on unused prediction slots.
    shards: devices over which the rows are spread; it divides B.

  Returns:
    `mlm_loss` in nats and `mlm_accuracy`, each with the number of predictions.
  """
  nats, right = scores.cross_entropy(labels, weights, shards)
  count = jnp.sum(weights)
  return {"mlm_loss": (nats, count), "mlm_accuracy": (right, count)}


def masked_lm_rows(scores: VocabularyScores, batch: Mapping[str, Array], shards: int = 1) -> Sums:
  """The same of each example, float32 [B], without a gradient.

  Returns:
    `mlm_loss` (nats) and `mlm_accuracy` over all predictions; `mask_loss` and `mask_accuracy` over those whose place
    shows [MASK], where nothing can be copied (the batch's `mask_weights`, float32 [B, K]).
  """
  nats, right = scores.predictions(batch["mlm_labels"], shards)
  sums: Sums = {}
  for name, weights in (("mlm", batch["mlm_weights"]), ("mask", batch["mask_weights"])):
    sums[f"{name}_loss"] = row_sums(nats, weights)
    sums[f"{name}_accuracy"] = row_sums(right, weights)
  return sums


def masked_lm_measure(data: DataConfig) -> str:
  """The loss at [MASK], where nothing can be copied; a model that never sees [MASK] is not measured there."""
  return "mask_loss" if data.masking.mask_prob > 0 else "mlm_loss"


def masked_lm_measures(means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
  """What is reported of masked tokens.

  Args:
    means: of the sets `common`, the same for every arm, and `own`, cut as the arm trains.
    data: whether training shows [MASK] is read.

  Returns:
    mask_loss (nats) and mask_accuracy at the places that show [MASK]; mlm_loss, mlm_accuracy and mlm_perplexity over
    all predicted places; own_mask_loss on the own set. Those at [MASK] are NaN where training never shows it.
  """
  seen = means["common"]
  loss = seen["mlm_loss"]
  found = {
    "mask_loss": seen["mask_loss"],
    "mask_accuracy": seen["mask_accuracy"],
    "mlm_loss": loss,
    "mlm_perplexity": math.exp(loss) if loss < 700 else math.inf,
    "mlm_accuracy": seen["mlm_accuracy"],
    "own_mask_loss": means["own"]["mask_loss"],
  }
  if masked_lm_measure(data) != "mask_loss":
    found |= dict.fromkeys(("mask_loss", "mask_accuracy", "own_mask_loss"), math.nan)
  return found


# ---- pairs ------------------------------------------------------------------------------------------


def pair_label(logits: Float32[Array, "B 2"], labels: Int[Array, " B"]) -> Sums:
  """Cross-entropy and accuracy of "is B the text after A", or of "are they in order".

  Args:
    labels: 0 is next or in order, 1 is random or swapped, -1 is no pair and does not count.

  Returns:
    `loss` in nats and `accuracy`, each with the number of pairs.
  """
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
  right = jnp.argmax(logits, axis=-1) == labels
  return {"loss": masked_sum(nats, labels >= 0), "accuracy": masked_sum(right, labels >= 0)}


def pair_rows(logits: Float32[Array, "B 2"], labels: Int[Array, " B"], sentence: str) -> Sums:
  """Of each example, float32 [B]: SENTENCE_accuracy, and its shares among pairs of label 0 and of label 1."""
  right = jnp.argmax(logits, axis=-1) == labels
  counted = {"accuracy": labels >= 0, "recall_0": labels == 0, "recall_1": labels == 1}
  return {f"{sentence}_{name}": row_sums(right, which) for name, which in counted.items()}
