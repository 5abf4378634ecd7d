"""Masked language modelling and next sentence prediction (Devlin et al. 2018, section 3.1).

B batch, K predictions, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bert_jax.models.vocabulary import VocabularyScores

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name → (sum, count), float32; scalars, or [B] where it says so


def masked_lm(scores: VocabularyScores, labels: jax.Array, weights: jax.Array, num_shards: int = 1) -> Sums:
  """Cross-entropy and accuracy of the predicted tokens.

  Args:
    scores: of [B, K, V].
    labels: int [B, K], the tokens that were masked.
    weights: float32 [B, K], 0 on unused prediction slots.
    num_shards: devices over which the rows are spread; it divides B.

  Returns:
    `mlm_loss` in nats and `mlm_accuracy`, each with the number of predictions.
  """
  nats, right = scores.cross_entropy(labels, weights, num_shards)
  count = jnp.sum(weights)
  return {"mlm_loss": (nats, count), "mlm_accuracy": (right, count)}


def next_sentence(logits: jax.Array, labels: jax.Array) -> Sums:
  """Cross-entropy and accuracy of "is B the text after A".

  Args:
    logits: float32 [B, 2].
    labels: int [B]: 0 is next, 1 is random, -1 is no pair and does not count.

  Returns:
    `nsp_loss` in nats and `nsp_accuracy`, each with the number of pairs.
  """
  weights = (labels >= 0).astype(jnp.float32)
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
  right = jnp.argmax(logits, axis=-1) == labels
  count = jnp.sum(weights)
  return {"nsp_loss": (jnp.sum(nats * weights), count), "nsp_accuracy": (jnp.sum(right * weights), count)}


def pretraining_sums(outputs: Mapping[str, Any], batch: Mapping[str, jax.Array], num_shards: int = 1) -> Sums:
  """All sums of a pretraining batch; those of the pairs where the model has the head and the batch pairs."""
  sums = masked_lm(outputs["mlm_scores"], batch["mlm_labels"], batch["mlm_weights"], num_shards)
  if "nsp_logits" in outputs:
    sums |= next_sentence(outputs["nsp_logits"], batch["nsp_labels"])
  return sums


def evaluation_sums(outputs: Mapping[str, Any], batch: Mapping[str, jax.Array], num_shards: int = 1) -> Sums:
  """What held-out examples are measured by, example by example: float32 [B].

  Returns:
    `mlm_loss` (nats) and `mlm_accuracy` over all predictions; `mask_loss` and `mask_accuracy` over those whose place
    shows [MASK], where nothing can be copied (the batch's `mask_weights`, float32 [B, K]). For pairs, where the model
    has the head: `nsp_accuracy`, and its shares among the pairs that are next (`nsp_next_recall`) and those that are
    random (`nsp_random_recall`).
  """
  nats, right = outputs["mlm_scores"].predictions(batch["mlm_labels"], num_shards)
  sums: Sums = {}
  for name, weights in (("mlm", batch["mlm_weights"]), ("mask", batch["mask_weights"])):
    count = jnp.sum(weights, axis=1)
    sums[f"{name}_loss"] = (jnp.sum(nats * weights, axis=1), count)
    sums[f"{name}_accuracy"] = (jnp.sum(right * weights, axis=1), count)
  if "nsp_logits" in outputs:
    labels = batch["nsp_labels"]
    right = jnp.argmax(outputs["nsp_logits"], axis=-1) == labels
    for name, counted in (
      ("nsp_accuracy", labels >= 0),
      ("nsp_next_recall", labels == 0),
      ("nsp_random_recall", labels == 1),
    ):
      sums[name] = ((right & counted).astype(jnp.float32), counted.astype(jnp.float32))
  return sums
