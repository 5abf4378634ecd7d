"""Masked language modelling and next sentence prediction (Devlin et al. 2018, section 3.1).

B batch, K predictions, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bert_jax.models.vocabulary import VocabularyScores

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name → (sum, count), float32 scalars


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
