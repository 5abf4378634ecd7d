"""Masked language modelling and next sentence prediction (Devlin et al. 2018, section 3.1).

B batch, K predictions, V vocabulary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name → (sum, count), float32 scalars


def masked_lm(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Sums:
  """Cross-entropy and accuracy of the predicted tokens.

  Args:
    logits: float32 [B, K, V].
    labels: int [B, K], the tokens that were masked.
    weights: float32 [B, K], 0 on unused prediction slots.

  Returns:
    `mlm_loss` in nats and `mlm_accuracy`, each with the number of predictions.
  """
  nats = cross_entropy(logits, labels)
  # The label's logit is the largest: the maximum is there already for the loss, and an argmax would be another pass.
  right = _chosen(logits, labels) >= jnp.max(logits, axis=-1)
  count = jnp.sum(weights)
  return {"mlm_loss": (jnp.sum(nats * weights), count), "mlm_accuracy": (jnp.sum(right * weights), count)}


def next_sentence(logits: jax.Array, labels: jax.Array) -> Sums:
  """Cross-entropy and accuracy of "is B the text after A".

  Args:
    logits: float32 [B, 2].
    labels: int [B]: 0 is next, 1 is random, -1 is no pair and does not count.

  Returns:
    `nsp_loss` in nats and `nsp_accuracy`, each with the number of pairs.
  """
  weights = (labels >= 0).astype(jnp.float32)
  nats = cross_entropy(logits, jnp.maximum(labels, 0))
  right = jnp.argmax(logits, axis=-1) == labels
  count = jnp.sum(weights)
  return {"nsp_loss": (jnp.sum(nats * weights), count), "nsp_accuracy": (jnp.sum(right * weights), count)}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """-log softmax at the label, in nats: float32 [..., V], int [...] → float32 [...]."""
  # Logits below their maximum: a difference of large numbers would lose the digits that they share.
  below = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  return jnp.log(jnp.sum(jnp.exp(below), axis=-1)) - _chosen(below, labels)


def _chosen(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The logit of each label."""
  return jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]


def pretraining_sums(outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Sums:
  """All sums of a pretraining batch; those of the pairs where the model has the head and the batch pairs."""
  sums = masked_lm(outputs["mlm_logits"], batch["mlm_labels"], batch["mlm_weights"])
  if "nsp_logits" in outputs:
    sums |= next_sentence(outputs["nsp_logits"], batch["nsp_labels"])
  return sums
